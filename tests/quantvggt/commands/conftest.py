from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantvggt.client import Client
from tests.quantvggt.service_process import ServiceProcess, start
from tests.service.pictures import encode, make_picture


@pytest.fixture
def pictures(tmp_path: Path) -> list[str]:
    """Two pictures, the second one portrait."""
    paths = [tmp_path / "a.png", tmp_path / "b.jpg"]
    paths[0].write_bytes(encode(make_picture(120, 90, 0)))
    paths[1].write_bytes(encode(make_picture(90, 120, 1), "JPEG"))
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def process(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A true ``serve`` process, its settings half flags and half environment."""
    scratch = tmp_path_factory.mktemp("scratch")
    process = start(
        "serve", "--port", "0", "--json", QUANTVGGT_ARTIFACT=str(artifact), TMPDIR=str(scratch)
    )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    Client(url).wait_until_ready(60)
    yield ServiceProcess(process, url, scratch)
    process.kill()
    process.communicate()
