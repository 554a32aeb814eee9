"""Whose results are whose where there are no API keys."""

from __future__ import annotations

import httpx
import pytest

from tests.service.pictures import encode, form, make_picture
from tests.service.running import Running, Serve, problem

MINE, YOURS = ({"Owner-Token": letter * 32} for letter in "ab")


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


def post(service: Running, seed: int, headers: dict[str, str] | None = None) -> str:
    pictures = form(encode(make_picture(seed=seed)))
    answer = service.client.post("/reconstruct", files=pictures, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def listed(service: Running, headers: dict[str, str] | None = None) -> list[str]:
    found = service.client.get("/reconstructions", headers=headers).json()["reconstructions"]
    return [line["id"] for line in found]


def test_each_token_lists_its_own_and_a_script_without_one_those_made_without(
    serve: Serve,
) -> None:
    service = serve()
    mine, yours, plain = post(service, 1, MINE), post(service, 2, YOURS), post(service, 3)
    assert listed(service, MINE) == [mine]
    assert listed(service, YOURS) == [yours]
    assert listed(service) == [plain]
    assert service.client.get("/capabilities").json()["gallery"] == "owner"


def test_the_same_pictures_of_another_owner_are_done_anew(service: Running) -> None:
    assert post(service, 4, MINE) == post(service, 4, MINE)
    assert post(service, 4, MINE) != post(service, 4, YOURS)


@pytest.mark.parametrize("headers", [YOURS, {}], ids=["another token", "none"])
def test_who_knows_an_id_may_look_but_not_touch(service: Running, headers: dict[str, str]) -> None:
    mine = post(service, 5, MINE)
    address = f"/reconstructions/{mine}"
    assert service.client.get(address, headers=headers).json()["id"] == mine
    assert service.client.get(f"{address}/points.ply", headers=headers).status_code == 200
    problem(service.client.delete(address, headers=headers), 403, "not-yours")
    renamed = service.client.patch(address, json={"name": "a"}, headers=headers)
    problem(renamed, 403, "not-yours")
    assert service.client.get(address).status_code == 200


def test_in_a_shared_gallery_tokens_change_nothing(serve: Serve) -> None:
    service = serve(shared_gallery=True)
    mine, plain = post(service, 6, MINE), post(service, 7)
    assert listed(service, YOURS) == listed(service) == [plain, mine]
    assert service.client.delete(f"/reconstructions/{mine}", headers=YOURS).status_code == 204
    assert service.client.get("/capabilities").json()["gallery"] == "shared"


def name_of(service: Running, id: str) -> str | None:
    lines = service.client.get("/reconstructions").json()["reconstructions"]
    return next(line["name"] for line in lines if line["id"] == id)


def rename(service: Running, id: str, name: str | None) -> httpx.Response:
    return service.client.patch(f"/reconstructions/{id}", json={"name": name})


def test_a_name_stays_until_it_is_changed_and_goes_with_its_result(service: Running) -> None:
    id = post(service, 8)
    assert name_of(service, id) is None
    for name in ("kitchen", " garden "):
        assert rename(service, id, name).status_code == 204
        assert name_of(service, id) == name.strip()
    assert rename(service, id, None).status_code == 204
    assert name_of(service, id) is None
    rename(service, id, "gone")
    service.client.delete(f"/reconstructions/{id}")
    assert service.application.store.names([id]) == {}


@pytest.mark.parametrize("name", ["x" * 121, "two\nlines", 7, "\x1b[31m"], ids=repr)
def test_a_bad_name_is_refused(service: Running, name: object) -> None:
    id = post(service, 9)
    problem(rename(service, id, name), 422, "invalid-option")  # type: ignore[arg-type]


def test_a_body_that_is_no_text_is_refused_as_a_wrong_option_is(service: Running) -> None:
    answer = service.client.patch(
        f"/reconstructions/{post(service, 11)}",
        content=b"\xff\xfe",
        headers={"Content-Type": "application/json"},
    )
    assert "JSON" in problem(answer, 422, "invalid-option")["detail"]


@pytest.mark.parametrize("token", ["", "short", "x" * 129, "with blank with blank"])
def test_a_bad_token_is_refused(service: Running, token: str) -> None:
    answer = service.client.get("/reconstructions", headers={"Owner-Token": token})
    problem(answer, 422, "invalid-option")


def test_a_listed_result_has_a_small_picture(service: Running) -> None:
    post(service, 10)
    line = service.client.get("/reconstructions").json()["reconstructions"][0]
    answer = service.client.get(line["thumbnail"])
    assert answer.headers["content-type"] == "image/jpeg"
