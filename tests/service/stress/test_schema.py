"""schemathesis against a running service: no undocumented answer and no 5xx."""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.pictures import encode, form, make_picture
from tests.service.stress.conftest import Start

pytestmark = pytest.mark.stress

SCENES = "/batches/{id}/scenes/{number}"


@pytest.mark.parametrize(
    "part",
    [
        # Forms with files that are wrong on purpose break schemathesis 4.32;
        # test_hostile_uploads.py sends such.
        ("--include-path", "/reconstruct", "--include-path", SCENES, "--mode", "positive"),
        ("--exclude-path", "/reconstruct", "--exclude-path", SCENES),
    ],
    ids=["uploads", "everything else"],
)
def test_nothing_undocumented_is_ever_answered(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: tuple[str, ...]
) -> None:
    nowhere = ("--fetch-urls", "--fetch-hosts", "http://127.0.0.1:9")
    _, url = start("--max-images", "4", "--upload-timeout", "5", *nowhere)
    answer = httpx.post(
        f"{url}/reconstruct", files=form(encode(make_picture())), trust_env=False, timeout=60
    )
    assert answer.status_code == 200
    (tmp_path / "schemathesis.toml").write_text("")
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{url}/openapi.json",
        *part,
    ]
    command += ["--continue-on-failure", "--no-color", "--seed", "1"]
    command += ["--max-examples", "100", "--request-timeout", "60"]
    command += ["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]
    command += ["--checks", "response_headers_conformance,response_schema_conformance"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    with capsys.disabled():
        print("\n" + "\n".join(finished.stdout.splitlines()[-25:]))
    assert finished.returncode == 0, finished.stdout[-8000:]


NUMBERS = (
    0.0, -0.0, -1.0, 0.5, 5e-324, 1e-300, 1e-38, 1e-7, 1e9, 2.0**53, 1e38, 1e300, -1e300,
    math.nan, math.inf, -math.inf, 2**31, 2**63, -(2**63), 10**30, 10**400,
)  # fmt: skip
POINT = {"picture": 0, "x": 10.0, "y": 20.0}
CAMERA = {
    "extrinsic": [[1.0, 0, 0, 0.5], [0, 1.0, 0, 0], [0, 0, 1.0, 0]],
    "intrinsic": [[100.0, 0, 60], [0, 100.0, 45], [0, 0, 1]],
}
SOUND: dict[str, Any] = {
    "known_distance": {"a": POINT, "b": {**POINT, "x": 100.0}, "metres": 1.5},
    "cameras": [
        CAMERA,
        {**CAMERA, "extrinsic": [[1.0, 0, 0, 0.7], [0, 1.0, 0, 0], [0, 0, 1.0, 0]]},
    ],
    "query_points": [[10.0, 20.0]],
    "manifest": ["picture-0.png"],
    "frames": "0",
    "fps": 2.0,
    "refine_pixels": 256,
    "refine_seconds": 5.0,
    "confidence": 10.0,
    "max_points": 100,
    "voxel_size": 0.1,
    "depth_edge": 0.1,
    "timeout": 60.0,
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where numbers lie in plain data."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))
    else:
        yield path


def with_number(value: Any, path: tuple[Any, ...], number: float) -> Any:
    if not path:
        return number
    changed = value.copy()
    changed[path[0]] = with_number(value[path[0]], path[1:], number)
    return changed


@pytest.mark.parametrize("option", SOUND)
def test_no_number_in_an_option_is_answered_by_a_fault_of_the_service(
    start: Start, option: str
) -> None:
    _, url = start("--queue-limit", "64")
    files = form(encode(make_picture()), encode(make_picture(seed=1)))
    sweep = [path for path in places(SOUND[option]) if path[:1] != (1,)]  # one camera is enough
    with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
        for path, number in itertools.product(sweep, NUMBERS):
            value = json.dumps(with_number(SOUND[option], path, number))
            answer = client.post("/reconstruct", files=files, data={option: value})
            assert answer.status_code < 500 or answer.status_code == 504, (value, answer.text)
            if answer.status_code == 200 and option in ("known_distance", "cameras"):
                for link in ("points", "scene_glb", "colmap", "npz"):
                    given = client.get(answer.json()["links"][link])
                    assert given.status_code == 200, (value, given.text)


def test_no_number_in_an_address_is_answered_by_a_fault_of_the_service(start: Start) -> None:
    _, url = start()
    with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
        found = client.post("/reconstruct", files=form(encode(make_picture()))).json()
        asked = 0
        for path, operations in client.get("/openapi.json").json()["paths"].items():
            for parameter in operations.get("get", {}).get("parameters", []):
                if parameter["name"] == "id" or parameter["in"] == "header":
                    continue
                for number in NUMBERS:
                    text = json.dumps(number)
                    index = text if parameter["in"] == "path" else "0"
                    address = path.replace("{id}", found["id"])
                    address = re.sub(r"\{\w+\}", index, address)
                    query = {parameter["name"]: text} if parameter["in"] == "query" else {}
                    answer = client.get(address, params=query)
                    assert answer.status_code < 500, (address, query, answer.text)
                    asked += 1
        for header in ("Prefer", "Range", "Last-Event-ID", "If-None-Match", "Idempotency-Key"):
            for number in NUMBERS:
                text = json.dumps(number)
                forms = {"Prefer": f"wait={text}", "Range": f"bytes={text}-{text}"}
                value = forms.get(header, text)
                for address in (f"/reconstructions/{found['id']}", found["links"]["points"]):
                    answer = client.get(address, headers={header: value})
                    assert answer.status_code < 500, (address, header, value, answer.text)
                    asked += 1
    assert asked > 500
