from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from service.exports.unpacking import extract


def archive(name: str) -> zipfile.ZipFile:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(name, "content")
    return zipfile.ZipFile(buffer)


def test_files_land_in_their_folders(tmp_path: Path) -> None:
    extract(archive("depth/0.png"), tmp_path / "out")
    assert (tmp_path / "out" / "depth" / "0.png").read_text() == "content"


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil"])
def test_a_servers_archive_is_not_trusted_with_other_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="leads out"):
        extract(archive(name), tmp_path / "out")
    assert not (tmp_path / "evil").exists()
