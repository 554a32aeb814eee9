"""Resumable uploads where none are taken; the protocol is tested over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.access import Client
from service.inputs.resumable import ResumableUploads
from service.settings import Limits, QueueSettings, SettingsError, StorageSettings


def test_replicas_that_share_an_object_store_take_none(tmp_path: Path) -> None:
    queue, storage = QueueSettings(upload_bytes=1), StorageSettings(object_store="s3://bucket")
    with pytest.raises(SettingsError, match="--upload-bytes"):
        ResumableUploads(queue, Limits(), storage, tmp_path)


def test_without_room_nothing_is_made(tmp_path: Path) -> None:
    off = ResumableUploads(QueueSettings(upload_bytes=0), Limits(), StorageSettings(), tmp_path)
    assert off.opener(Client("alice")) is None
    off.tidy()
    assert not list(tmp_path.iterdir())
