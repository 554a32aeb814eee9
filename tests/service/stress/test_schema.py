"""schemathesis against a running service: no undocumented answer and no 5xx."""

from __future__ import annotations

import itertools
import json
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


@pytest.mark.parametrize(
    "part",
    [
        # Forms with files that are wrong on purpose break schemathesis 4.32;
        # test_hostile_uploads.py sends such.
        ("--include-path", "/reconstruct", "--mode", "positive"),
        ("--exclude-path", "/reconstruct"),
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


NUMBERS = (0.0, -1.0, 5e-324, 1e-300, 1e-38, 1e-7, 1e9, 2.0**53, 1e38, 1e300, -1e300)
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
    with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
        for path, number in itertools.product(places(SOUND[option]), NUMBERS):
            value = json.dumps(with_number(SOUND[option], path, number))
            answer = client.post("/reconstruct", files=files, data={option: value})
            assert answer.status_code < 500 or answer.status_code == 504, (value, answer.text)
            if answer.status_code == 200 and option in ("known_distance", "cameras"):
                for link in ("points", "scene_glb", "colmap", "npz"):
                    given = client.get(answer.json()["links"][link])
                    assert given.status_code == 200, (value, given.text)
