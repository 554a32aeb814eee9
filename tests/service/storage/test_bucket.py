from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from service.errors import StoreUnavailable
from service.storage.bucket import Bucket, BucketError
from tests.service.servers import ObjectServer


@pytest.fixture(params=["s3", "file"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    url = (
        request.getfixturevalue("object_store")
        if request.param == "s3"
        else (tmp_path / "objects").as_uri()
    )
    bucket = Bucket(url)
    bucket.check()
    return bucket


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "large.npy").write_bytes(os.urandom(11 * 2**20))  # three parts
    (folder / "z.json").write_bytes(b"{}")
    (folder / "exports").mkdir()
    return folder


def test_a_folder_comes_back_as_it_was_sent(bucket: Bucket, source: Path, tmp_path: Path) -> None:
    bucket.send(source, "results/a/1", last="large.npy")
    bucket.send(source, "results/a/10")
    target = tmp_path / "target"
    target.mkdir()
    bucket.fetch("results/a/1", target)
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir() if path.is_file()
    }
    with pytest.raises(FileNotFoundError):
        bucket.fetch("results/a/2", target)


def test_a_listing_tells_folders_sizes_and_times_and_what_is_removed_is_gone(
    bucket: Bucket, source: Path
) -> None:
    for folder in ("results/a/1", "results/a/10", "incoming/b"):
        bucket.send(source, folder)
    listed = list(bucket.listing("results"))
    assert sorted((stored.folder, stored.bytes) for stored in listed) == [
        ("results/a/1", 2), ("results/a/1", 11 * 2**20), ("results/a/10", 2),
        ("results/a/10", 11 * 2**20),
    ]  # fmt: skip
    assert all(
        abs(stored.written - datetime.now(timezone.utc)) < timedelta(minutes=1) for stored in listed
    )
    for _ in range(2):  # the second time nothing is there
        bucket.remove("results/a/1")
    assert {stored.folder for stored in bucket.listing("results")} == {"results/a/10"}
    assert {stored.folder for stored in bucket.listing("incoming")} == {"incoming/b"}


def test_a_store_that_is_away_or_a_bucket_that_is_missing_is_a_problem(
    object_server: ObjectServer, object_store: str, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away, missing = Bucket(object_store), Bucket("s3://no-such-bucket")
    object_server.hide()
    try:
        with pytest.raises(StoreUnavailable) as caught:
            away.send(source, "results/a/1")
        assert caught.value.retry_after
    finally:
        object_server.show()
    for act in (
        missing.check,
        lambda: missing.send(source, "a"),
        lambda: list(missing.listing("a")),
    ):
        with pytest.raises(StoreUnavailable):
            act()
    assert "secret" not in caplog.text
    away.check()


@pytest.mark.parametrize(
    "url", ["bucket", "/folder", "ftp://host/x", "s3://", "http://host/bucket"]
)
def test_an_address_that_is_none_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(BucketError) as caught:
        Bucket(url)
    assert "\n" not in str(caught.value)
    assert url in str(caught.value)


def test_an_address_with_a_key_is_refused_without_telling_it() -> None:
    with pytest.raises(BucketError, match="variables") as caught:
        Bucket("s3://key:geheim@bucket/prefix")
    assert "geheim" not in str(caught.value)
