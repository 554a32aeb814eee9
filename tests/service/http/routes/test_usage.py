from __future__ import annotations

from pathlib import Path

import pytest

from service.keys import Quota, add_key
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Running, Serve, problem


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    full = Quota(per_hour=5, megapixels_per_day=3.0, stored_bytes=1)
    return path, add_key(path, "alice", full), add_key(path, "bob")


@pytest.fixture(scope="module")
def service(serve: Serve, keys: tuple[Path, str, str]) -> Running:
    """Alice has sent one picture of 1 megapixel."""
    service = serve(api_keys=keys[0])
    picture = form(encode(make_picture(1250, 800), "JPEG"))
    answer = service.client.post("/reconstruct", files=picture, headers=asking(keys[1]))
    assert answer.status_code == 200
    return service


def asking(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_key_reads_what_it_has_used_and_may_use(
    service: Running, keys: tuple[Path, str, str]
) -> None:
    usage = service.client.get("/usage", headers=asking(keys[1])).json()
    stored = usage.pop("stored_bytes")
    assert stored["used"] > 1000
    assert stored["limit"] == 1
    assert usage == {
        "name": "alice",
        "per_hour": {"used": 1, "limit": 5},
        "megapixels_per_hour": {"used": 1.0, "limit": None},
        "megapixels_per_day": {"used": 1.0, "limit": 3.0},
    }
    other = service.client.get("/usage", headers=asking(keys[2])).json()
    assert other["per_hour"] == {"used": 0, "limit": None}
    problem(service.client.get("/usage"), 401, "key-required")


def test_results_that_take_too_much_are_removed_before_new_ones_are_made(
    service: Running, keys: tuple[Path, str, str]
) -> None:
    files = form(encode(make_picture(seed=1)))
    refused = service.client.post("/reconstruct", files=files, headers=asking(keys[1]))
    assert problem(refused, 429, "quota-exceeded")["stored_bytes"] == 1
    listed = service.client.get("/reconstructions", headers=asking(keys[1])).json()
    for each in listed["reconstructions"]:
        assert service.client.delete(each["link"], headers=asking(keys[1])).status_code == 204
    again = service.client.post("/reconstruct", files=files, headers=asking(keys[1]))
    assert again.status_code == 200


def test_metrics_name_whose_key_used_how_much_and_no_key(
    service: Running, keys: tuple[Path, str, str]
) -> None:
    assert service.metric('quantvggt_key_megapixels_day{key="alice"}') >= 1.0
    assert service.metric('quantvggt_key_reconstructions_hour{key="bob"}') == 0
    assert service.metric('quantvggt_key_stored_bytes{key="alice"}') > 1000
    text = service.client.get("/metrics").text
    assert keys[1] not in text
    assert keys[2] not in text


def test_without_keys_nobodys_use_is_counted(serve: Serve) -> None:
    open = serve()
    problem(open.client.get("/usage"), 404, "not-found")
    assert "quantvggt_key_" not in "".join(
        line for line in open.client.get("/metrics").text.splitlines() if not line.startswith("#")
    )
