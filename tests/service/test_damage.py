"""Damaged state: each case is a sentence or mends itself; nothing is lost in silence."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from service.application import Application
from service.inference.engine import Engine
from service.inference.models import Models
from service.jobs.database import DatabaseError
from service.jobs.retention import RecordsMissingError
from service.settings import Settings
from tests.service.pictures import encode, form, make_picture
from tests.service.running import Running, Serve, problem


@pytest.fixture(scope="module")
def service(serve: Serve) -> Running:
    return serve()


def made(service: Running, seed: int) -> tuple[str, Path]:
    answer = service.client.post("/reconstruct", files=form(encode(make_picture(seed=seed))))
    assert answer.status_code == 200, answer.text
    assert not answer.json()["reused"]
    return answer.headers["location"], service.result_folder(answer.json()["id"])


@pytest.mark.parametrize("file", ["result.json", "arrays.safetensors"])
def test_a_damaged_result_is_said_to_be_and_the_same_pictures_make_it_anew(
    service: Running, file: str
) -> None:
    seed = len(file)
    location, folder = made(service, seed)
    (folder / file).write_bytes((folder / file).read_bytes()[:100])
    damaged = service.client.get(location if file == "result.json" else f"{location}/points.ply")
    problem(damaged, 410, "result-damaged")
    assert service.client.get("/reconstructions").status_code == 200
    made(service, seed)


def test_a_missing_folder_is_not_found_and_the_same_pictures_make_it_anew(
    service: Running,
) -> None:
    location, folder = made(service, 50)
    shutil.rmtree(folder)
    problem(service.client.get(location), 404, "not-found")
    problem(service.client.get(f"{location}/points.ply"), 404, "not-found")
    made(service, 50)


def opened(artifact: Path, folder: Path) -> Application:
    settings = Settings.of(artifact=artifact, data_dir=folder)
    return Application(settings, Models.of(settings, Engine))


def with_a_result(serve: Serve, folder: Path) -> Path:
    service = serve(data_dir=folder)
    _, result = made(service, 1)
    service.stop()
    return result


@pytest.mark.parametrize("replacement", [None, b""])
def test_an_empty_database_beside_results_refuses_to_start_each_time_and_removes_nothing(
    serve: Serve, artifact: Path, tmp_path: Path, replacement: bytes | None
) -> None:
    result = with_a_result(serve, tmp_path)
    for path in tmp_path.glob("jobs.sqlite3*"):
        path.unlink()
    if replacement is not None:
        (tmp_path / "jobs.sqlite3").write_bytes(replacement)
    for _ in range(2):  # the first attempt makes the tables
        with pytest.raises(RecordsMissingError, match="Put back a copy"):
            opened(artifact, tmp_path)
    assert (result / "result.json").is_file()


def test_a_database_that_lost_its_last_job_by_deletion_starts(
    serve: Serve, artifact: Path, tmp_path: Path
) -> None:
    result = with_a_result(serve, tmp_path)
    with sqlite3.connect(tmp_path / "jobs.sqlite3") as database:
        database.execute("DELETE FROM jobs")
    database.close()
    opened(artifact, tmp_path).close()
    assert not result.exists()  # nobody's, and swept away


def test_a_corrupt_database_is_a_sentence(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite3").write_bytes(b"this is no database" * 100)
    with pytest.raises(DatabaseError, match="can't be read: file is not a database"):
        opened(artifact, tmp_path)


def test_an_empty_database_beside_waiting_pictures_refuses_to_start_unless_it_was_in_use(
    artifact: Path, tmp_path: Path
) -> None:
    """Pictures are kept before they are recorded: a kill between the two must not be taken for a
    lost database."""
    opened(artifact, tmp_path).close()
    waiting = tmp_path / "incoming" / ("0" * 32)
    waiting.mkdir()
    opened(artifact, tmp_path).close()
    assert not waiting.exists()  # nobody was promised anything
    waiting.mkdir()
    for path in tmp_path.glob("jobs.sqlite3*"):
        path.unlink()
    with pytest.raises(RecordsMissingError, match="Put back a copy"):
        opened(artifact, tmp_path)
    assert waiting.exists()
