"""What is kept of resumable uploads over kills, and how much."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from service.access import Client
from service.errors import InvalidOption, QueueFull, StorageFull
from service.inputs import upload_files
from service.inputs.upload_files import UploadFiles

ID = "4c63c5b9-2a3d-4d5c-8f0e-6a1de0d8a1f2"
OTHER = "5c63c5b9-2a3d-4d5c-8f0e-6a1de0d8a1f2"
ALICE = Client("alice")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("partial", "complete"):
        (tmp_path / name).mkdir()
    return tmp_path


def put(folder: Path, id: str, offset: int, length: int) -> None:
    """A file of Alice's as the library leaves it."""
    (folder / id).write_bytes(bytes(length))
    now = time.time()
    record = {
        "length": length, "offset": offset, "metadata": {}, "last_write": now, "created_at": now,
        "server_metadata": {"client": "alice", "filename": "küche.mp4"},
    }  # fmt: skip
    (folder / f"{id}.meta").write_text(json.dumps(record))


def test_what_arrived_whole_before_a_kill_is_there_after_a_start(folder: Path) -> None:
    put(folder / "partial", ID, 9, 9)
    put(folder / "partial", OTHER, 8, 9)
    after = UploadFiles(folder, 100, 0)
    after.recover()
    sent = after.open(ALICE, ID, 9)
    with sent.file as file:
        assert (sent.filename, sent.size, file.read()) == ("küche.mp4", 9, bytes(9))
    with pytest.raises(InvalidOption, match="has not arrived whole"):
        after.open(ALICE, OTHER, 9)


def test_records_that_a_kill_cut_off_harm_nobody(folder: Path) -> None:
    partial = folder / "partial"
    put(partial, ID, 9, 9)
    (partial / f"{ID}.meta").write_text('{"length": 9, "off')
    (partial / "tmp1234.meta").write_text("")  # of a record that was being written
    after = UploadFiles(folder, 100, 0)
    after.recover()
    with pytest.raises(InvalidOption, match="no upload"):
        after.open(ALICE, ID, 9)
    after.check_room(ALICE, 100)


def test_a_disk_that_would_be_too_full_takes_no_upload(folder: Path) -> None:
    with pytest.raises(StorageFull):
        UploadFiles(folder, 10**18, 0).check_room(ALICE, 10**17)
    with pytest.raises(StorageFull):
        UploadFiles(folder, 100, 10**17).check_room(ALICE, 1)


def test_one_of_several_keys_gets_half_of_the_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_files, "_MOST_FILES", 4)
    files = UploadFiles(folder, 100, 0)
    alice, bob = (Client(name, limited=True) for name in ("alice", "bob"))
    put(folder / "partial", ID, 0, 1)
    files.check_room(alice, 1)
    put(folder / "complete", OTHER, 1, 1)
    with pytest.raises(QueueFull, match="50 in 2 of them yours"):
        files.check_room(alice, 1)
    files.check_room(bob, 1)
    files.check_room(ALICE, 1)  # the only one that sends anything
