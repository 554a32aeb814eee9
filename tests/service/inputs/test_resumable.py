from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from service.access import Client
from service.errors import InvalidOption, StorageFull
from service.inputs.resumable import ResumableUploads
from service.settings import Limits, QueueSettings, SettingsError, StorageSettings

ID = "4c63c5b9-2a3d-4d5c-8f0e-6a1de0d8a1f2"
OTHER = "5c63c5b9-2a3d-4d5c-8f0e-6a1de0d8a1f2"
ALICE = Client("alice")


def uploads(root: Path, most: int = 100, min_free: int = 0) -> ResumableUploads:
    queue, storage = QueueSettings(upload_bytes=most), StorageSettings(min_free_bytes=min_free)
    return ResumableUploads(queue, Limits(), storage, root)


def put(folder: Path, id: str, offset: int, length: int) -> None:
    """A file of Alice's as the library leaves it."""
    (folder / id).write_bytes(bytes(length))
    now = time.time()
    record = {
        "length": length, "offset": offset, "metadata": {}, "last_write": now, "created_at": now,
        "server_metadata": {"client": "alice", "filename": "küche.mp4"},
    }  # fmt: skip
    (folder / f"{id}.meta").write_text(json.dumps(record))


def test_what_arrived_whole_before_a_kill_is_there_after_a_start(tmp_path: Path) -> None:
    uploads(tmp_path)
    put(tmp_path / "uploads" / "partial", ID, 9, 9)
    put(tmp_path / "uploads" / "partial", OTHER, 8, 9)
    after = uploads(tmp_path)
    sent = after.open(ALICE, ID)
    with sent.file as file:
        assert (sent.filename, sent.size, file.read()) == ("küche.mp4", 9, bytes(9))
    with pytest.raises(InvalidOption, match="has not arrived whole"):
        after.open(ALICE, OTHER)


def test_records_that_a_kill_cut_off_harm_nobody(tmp_path: Path) -> None:
    uploads(tmp_path)
    partial = tmp_path / "uploads" / "partial"
    put(partial, ID, 9, 9)
    (partial / f"{ID}.meta").write_text('{"length": 9, "off')
    (partial / "tmp1234.meta").write_text("")  # of a record that was being written
    after = uploads(tmp_path)
    with pytest.raises(InvalidOption, match="no upload"):
        after.open(ALICE, ID)
    after._check_room(ALICE, 100)


def test_a_disk_that_would_be_too_full_takes_no_upload(tmp_path: Path) -> None:
    with pytest.raises(StorageFull):
        uploads(tmp_path, most=10**18)._check_room(ALICE, 10**17)
    with pytest.raises(StorageFull):
        uploads(tmp_path, min_free=10**17)._check_room(ALICE, 1)


def test_replicas_that_share_an_object_store_take_none(tmp_path: Path) -> None:
    queue, storage = QueueSettings(upload_bytes=1), StorageSettings(object_store="s3://bucket")
    with pytest.raises(SettingsError, match="--upload-bytes"):
        ResumableUploads(queue, Limits(), storage, tmp_path)


def test_without_room_nothing_is_made(tmp_path: Path) -> None:
    off = uploads(tmp_path, most=0)
    assert off.opener(ALICE) is None
    off.tidy()
    assert not list(tmp_path.iterdir())
