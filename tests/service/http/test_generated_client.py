"""A client that `openapi-python-client` makes of /openapi.json, used against a running service."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from service.keys import add_key
from tests.service.pictures import encode, make_picture
from tests.service.running import Running, Serve

_GENERATOR = (
    Path(__file__).parents[3] / "build" / "openapi-client" / "bin" / "openapi-python-client"
)
# Binary files for which the generator knows no type are read as bytes.
_BINARY = ("application/zip", "image/jpeg", "image/png", "image/x-exr", "model/gltf-binary")
_PROGRAM = """
import json, sys, time
from pathlib import Path

from made.api.batches import create_batch, get_batch
from made.api.files import download_depth_preview, download_points
from made.api.reconstruct import reconstruct
from made.api.reconstructions import get_reconstruction, list_reconstructions
from made.client import AuthenticatedClient
from made.models import (
    BatchDocument, CreateBatchBody, Problem, ReconstructBody, ReconstructionDocument,
    StatusDocument,
)
from made.types import File

url, token, *pictures = sys.argv[1:]
client = AuthenticatedClient(url, token, httpx_args={"trust_env": False})
images = [File(Path(each).open("rb"), Path(each).name, "image/png") for each in pictures]
accepted = reconstruct.sync(
    client=client, body=ReconstructBody(images=images), prefer="respond-async"
)
assert isinstance(accepted, StatusDocument), accepted
result = accepted
while isinstance(result, StatusDocument):
    time.sleep(0.02)
    result = get_reconstruction.sync(accepted.id, client=client)
assert isinstance(result, ReconstructionDocument), result
points = download_points.sync(result.id, client=client, confidence=0.0).payload.read()
preview = download_depth_preview.sync(result.id, 0, client=client).payload.read()
listed = list_reconstructions.sync(client=client)
refused = reconstruct.sync(client=client, body=ReconstructBody())
assert isinstance(refused, Problem), refused
table = CreateBatchBody.from_dict({"scenes": [{"name": "kitchen"}]})
batch = create_batch.sync(client=client, body=table)
assert isinstance(batch, BatchDocument), batch
assert get_batch.sync(batch.id, client=client).scenes[0].name == "kitchen"
missing = get_reconstruction.sync("0" * 32, client=client)
print(json.dumps({
    "result": result.to_dict(), "points": points[:3].decode(), "preview": preview[1:4].decode(),
    "listed": [each.id for each in listed.reconstructions],
    "refused": refused.type_, "missing": missing.type_,
}))
"""


@pytest.fixture(scope="module")
def service(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> tuple[Running, str]:
    """A service that wants a key, and the key."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    token = add_key(keys, "generated")
    return serve(api_keys=keys), token


@pytest.fixture(scope="module")
def openapi(service: tuple[Running, str]) -> dict[str, Any]:
    found: dict[str, Any] = service[0].client.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def folder(openapi: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the generated package `made` lies; a warning of the generator fails."""
    if not _GENERATOR.exists():
        pytest.skip(
            "there is no generator; `make build/openapi-client/bin/openapi-python-client` "
            "installs one"
        )
    folder = tmp_path_factory.mktemp("client")
    description, config = folder / "openapi.json", folder / "config.json"
    description.write_text(json.dumps(openapi))
    overrides = dict.fromkeys(_BINARY, "application/octet-stream")
    config.write_text(json.dumps({"content_type_overrides": overrides, "post_hooks": []}))
    command = [_GENERATOR, "generate", "--path", description, "--config", config, "--meta", "none"]
    finished = subprocess.run(
        [*command, "--output-path", folder / "made", "--fail-on-warning"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return folder


def test_every_operation_has_a_function_in_the_generated_client(
    openapi: dict[str, Any], folder: Path
) -> None:
    made = {path.stem for path in (folder / "made" / "api").glob("*/*.py")} - {"__init__"}
    ids = [
        operation["operationId"]
        for item in openapi["paths"].values()
        for operation in item.values()
    ]
    assert made == {re.sub("([A-Z])", r"_\1", id).lower() for id in ids}


def test_the_generated_client_submits_and_reads_the_same_result_as_a_plain_request(
    service: tuple[Running, str], folder: Path, tmp_path: Path
) -> None:
    pictures = [tmp_path / "left.png", tmp_path / "right.png"]
    for seed, path in enumerate(pictures):
        path.write_bytes(encode(make_picture(seed=seed)))
    running, token = service
    python = _GENERATOR.with_name("python")
    finished = subprocess.run(
        [python, "-c", _PROGRAM, f"http://127.0.0.1:{running.port}", token, *pictures],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout.replace("+00:00", "Z"))
    result = found.pop("result")
    assert [picture["filename"] for picture in result["pictures"]] == ["left.png", "right.png"]
    plain = running.client.get(
        f"/reconstructions/{result['id']}", headers={"Authorization": f"Bearer {token}"}
    )
    assert result == plain.json()
    assert found == {
        "points": "ply", "preview": "PNG", "listed": [result["id"]],
        "refused": "/problems/no-pictures", "missing": "/problems/not-found",
    }  # fmt: skip
