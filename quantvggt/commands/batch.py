"""`quantvggt batch`: a folder of scene folders to a folder of results, on a running service."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantvggt import choices
from quantvggt.commands.request import API_KEY, api_key, pair, say
from quantvggt.errors import BadInputError, ServiceError
from quantvggt.files import DEFAULT, DOCUMENT, check_outputs
from quantvggt.folder import try_folder
from quantvggt.pictures import expand, natural, pictures_in

if TYPE_CHECKING:
    from quantvggt.bars import Bars
    from quantvggt.client import Client

HELP = "a folder of scene folders to a folder of results, on a running service"
EXTRA = "service"

_RESUME = ".batch.json"
_LOOK_SECONDS = 1.0
_BUSY = (429, 503)  # the service has too much to do, or the key's quota is used up
_WAIT_SECONDS, _PATIENCE_SECONDS = 5.0, 3600.0
_UNDER_WAY = ("waiting", "queued", "running", "cancelling")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Reconstruct every folder of pictures in FOLDER as a scene of one batch, and write each "
        "result to a folder of the same name in --out. A scene that fails, fails alone. Run again "
        "after an interruption or a failure, it does what is left."
    )
    parser.add_argument("folder", type=Path, help="folder of scene folders")
    parser.add_argument(
        "--server", metavar="URL", required=True, help="address of a running service"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace results that are in --out"
    )
    parser.add_argument(
        "--output", action="append", default=[], metavar="FILE",
        help="write this file of each scene instead, repeatable, as for reconstruct",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--option", action="append", default=[], metavar="NAME=VALUE",
        help=f"an option of every request, repeatable: {', '.join(choices.OPTIONS)}",
    )  # fmt: skip
    parser.add_argument("--api-key", help=f"API key of the service (default ${API_KEY})")
    parser.add_argument("--json", action="store_true", help="print the batch as JSON")


def run(options: argparse.Namespace) -> int:
    """Send what is left, wait, download; returns 1 if a scene failed."""
    from quantvggt.bars import Bars
    from quantvggt.client import Client

    wanted = dict(pair(text) for text in options.option)
    check_outputs(options.output)
    folders = _scene_folders(options.folder)
    client = Client(options.server, api_key=options.api_key or api_key())
    resume = options.out / _RESUME
    key = _key(client.server, folders, wanted)
    batch = _interrupted(client, resume, key)
    if batch is None:
        for folder in folders:
            try_folder(options.out / folder.name, options.overwrite)
        batch = client.start_batch([{"name": folder.name} for folder in folders], wanted)
        resume.write_text(json.dumps({"key": key, "id": batch["id"]}), "utf-8")
    with Bars() as bars:
        refused = _send(client, batch, folders, bars)
        batch = _wait(client, batch["id"], bars)
        _download(client, batch, options.out, options.output or DEFAULT, bars)
    failed = 0
    for scene in batch["scenes"]:
        if scene["state"] != "succeeded":
            problem = refused.get(scene["number"]) or (scene["problem"] or {}).get("detail")
            say(f"{scene['name']}: {problem or scene['state']}")
            failed += 1
    if not failed:
        resume.unlink()
    if options.json:
        print(json.dumps(batch))
    else:
        print(f"{len(folders) - failed} of {len(folders)} scenes reconstructed")
        print(f"everything lies in {options.out}")
    return 1 if failed else 0


def _scene_folders(folder: Path) -> list[Path]:
    """The folders in `folder` that hold pictures, in natural order. Raises BadInputError."""
    if not folder.is_dir():
        raise BadInputError(f"{folder}: no such folder.")
    found = [
        each
        for each in folder.iterdir()
        if each.is_dir() and each.name[0] != "." and pictures_in(each)
    ]
    if not found:
        raise BadInputError(
            f"{folder} holds no folders with pictures in them; give a folder that has one folder a "
            "scene, or use reconstruct for one scene."
        )
    return sorted(found, key=natural)


def _key(server: str, folders: Sequence[Path], wanted: dict[str, str]) -> str:
    """The same for the same server, options, and files of the same names, sizes and times."""
    digest = hashlib.sha256(json.dumps([server, sorted(wanted.items())]).encode())
    for folder in folders:
        for file in expand(folder):
            status = Path(file).stat()
            digest.update(
                f"{file}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "replace")
            )
    return digest.hexdigest()


def _interrupted(client: Client, resume: Path, key: str) -> Any:
    """The batch of an earlier run with the same key that is not done, with what failed in it begun
    anew; None if there is none."""
    try:
        left = json.loads(resume.read_text("utf-8"))
        id = str(left["id"]) if left["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    try:
        return None if id is None else client.retry_batch(id)
    except ServiceError as error:
        if error.status != 404:
            raise
        return None  # the service keeps it no more


def _send(client: Client, batch: Any, folders: Sequence[Path], bars: Bars) -> dict[int, str]:
    """Send the pictures of the scenes that lack them. Returns why some were refused, by their
    numbers."""
    refused: dict[int, str] = {}
    left = [scene for scene in batch["scenes"] if scene["state"] == "expected"]
    for done, scene in enumerate(left):

        def show(stage: str, share: float, done: int = done) -> None:
            bars.show(stage, (done + share) / len(left))

        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                folder = folders[scene["number"]]
                client.send_scene(batch["id"], scene["number"], folder, progress=show)
            except ServiceError as error:
                if error.status is None:
                    raise
                if error.status in _BUSY and time.monotonic() < deadline:
                    time.sleep(_WAIT_SECONDS)
                    continue
                refused[scene["number"]] = str(error)
            break
    return refused


def _wait(client: Client, id: str, bars: Bars) -> Any:
    """The batch once nothing of it is under way any more."""
    while True:
        batch = client.batch(id)
        under_way = [scene for scene in batch["scenes"] if scene["state"] in _UNDER_WAY]
        bars.show("reconstruct", float(batch["progress"]))
        if not under_way:
            return batch
        time.sleep(_LOOK_SECONDS)


def _download(client: Client, batch: Any, out: Path, outputs: Sequence[str], bars: Bars) -> None:
    """Write the results that are not there yet."""
    ready = [scene for scene in batch["scenes"] if scene["state"] == "succeeded"]
    for done, scene in enumerate(ready):

        def show(stage: str, share: float, done: int = done) -> None:
            if stage == "download":
                bars.show(stage, (done + share) / len(ready))

        id = scene["link"].rpartition("/")[2]
        if not _holds(out / scene["name"], id):
            client.download(id, out / scene["name"], outputs, show)


def _holds(folder: Path, id: str) -> bool:
    """Whether a folder has the result of this reconstruction."""
    try:
        return bool(json.loads((folder / DOCUMENT).read_text("utf-8"))["id"] == id)
    except (OSError, ValueError, KeyError, TypeError):
        return False
