"""`quantvggt reconstruct`: pictures to a folder with cameras, depth and points."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantvggt import choices
from quantvggt.commands.request import API_KEY, api_key, pair, say
from quantvggt.errors import BadInputError, ServiceError
from quantvggt.files import DEFAULT, DOCUMENT, check_outputs, chosen, in_folder
from quantvggt.folder import replacing, try_folder
from quantvggt.pictures import expand
from quantvggt.pictures import names as sent_names

if TYPE_CHECKING:
    from service.settings import Settings

HELP = "pictures to a folder with cameras, depth and points"
EXTRA = "service"

_RESUME = ".reconstruction.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = (
        "Reconstruct one scene from pictures, zip archives or videos, in the order given: with an "
        "artifact in this "
        "process, or on a running service. Run again after an interruption, it goes on where it "
        "was. "
        f"It writes {DOCUMENT} and {', '.join(DEFAULT)}; --output chooses other files."
    )
    parser.add_argument(
        "pictures",
        nargs="+",
        help="JPEG, PNG, WebP, HEIC or AVIF files, folders of them, shell patterns, zip or video "
        "files; with --server also URLs",
    )
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--artifact", type=Path, help="folder of the quantised model")
    place.add_argument("--server", metavar="URL", help="address of a running service instead")
    parser.add_argument("--out", type=Path, help="folder to write; a dry run needs none")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the result that is in --out"
    )
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="FILE",
        help="write this file instead, repeatable: scene.glb, colmap.zip, 'depth/*.exr', ...; '*' "
        "for all",
    )
    parser.add_argument(
        "--mode", choices=choices.MODES, help="how pictures are brought to the network's size"
    )
    parser.add_argument(
        "--refine",
        choices=choices.REFINE,
        help="refine cameras, or cameras and dense depth, on the original pixels (default: what "
        "the service does; off without one)",
    )
    parser.add_argument(
        "--attention-keys",
        metavar="KEYS",
        help="tokens that attention over a long scene looks at: auto, all or a number",
    )
    parser.add_argument(
        "--passes", help="how a long scene is divided: auto, one, or a number of frames a pass"
    )
    parser.add_argument("--model", help="with --server, the model that reconstructs, by its name")
    parser.add_argument(
        "-o", "--option", action="append", default=[], metavar="NAME=VALUE",
        help=f"an option of the request, repeatable: {', '.join(choices.OPTIONS)}",
    )  # fmt: skip
    parser.add_argument("--api-key", help=f"with --server, its API key (default ${API_KEY})")
    parser.add_argument("--device", help="torch device, with --artifact (default cpu)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> int:
    """Reconstruct, and say where everything lies."""
    wanted = dict(pair(text) for text in options.option)
    for name in ("mode", "refine", "attention_keys", "passes", "model"):
        if getattr(options, name):
            wanted[name] = getattr(options, name)
    check_outputs(options.output)
    outputs = options.output or DEFAULT
    pictures = expand(options.pictures)
    if options.server and options.device:
        raise BadInputError("--device belongs to --artifact; a server has its own.")
    if options.artifact and options.model:
        raise BadInputError("--model belongs to --server; --artifact names the model here.")
    if options.artifact and options.api_key:
        raise BadInputError("--api-key belongs to --server.")
    if wanted.get("dry_run", "").lower() in choices.YES:
        return _predict(options, pictures, wanted)
    if options.out is None:
        raise BadInputError("--out is missing: give the folder to write.")
    try_folder(options.out, options.overwrite)
    if options.server:
        document = _there(options, pictures, wanted, outputs)
    else:
        document = _here(options, pictures, wanted, outputs)
    for warning in document.get("warnings", ()):  # services of an earlier version know none
        say(f"warning: {warning['message']}")
    if options.json:
        print(json.dumps(document))
    else:
        print(f"{len(document['pictures'])} pictures reconstructed{_refined(document)}")
        print(f"everything lies in {options.out}")
    return 0


def _predict(
    options: argparse.Namespace, pictures: Sequence[Path | str], wanted: dict[str, str]
) -> int:
    """Say what the reconstruction would take."""
    if options.server:
        from quantvggt.bars import Bars
        from quantvggt.client import Client

        client = Client(options.server, api_key=options.api_key or api_key())
        with Bars() as bars:
            plan = client.predict(pictures, wanted, progress=bars.show)
    else:
        from service.local import predict_here

        with _in_process(options, pictures) as (settings, files, progress):
            plan = predict_here(settings, files, wanted, progress)
    for warning in plan["warnings"]:
        say(f"warning: {warning['message']}")
    if options.json:
        print(json.dumps(plan))
    else:
        print(
            f"{plan['frames']} pictures would take about {plan['predicted_seconds']:.1f} seconds "
            f"and {plan['predicted_memory_bytes'] / 2**20:.0f} MiB, passes of the network: "
            f"{plan['passes']}; nothing was reconstructed"
        )
    return 0


def _refined(document: dict[str, Any]) -> str:
    """What was refined, in a few words."""
    refinement = document.get("refinement")
    if not refinement or not refinement["kept"]:
        return ""
    words = f", {refinement['kept']} cameras refined"
    if refinement["support"] is not None:
        words += f" ({refinement['support']:.0%} of the matches agree)"
    dense = [picture["dense"] for picture in document["pictures"] if picture["dense"]]
    if dense:
        pixels = sum(each["size"]["height"] * each["size"]["width"] for each in dense)
        words += f", depth of {sum(each['verified'] for each in dense) / pixels:.0%} verified"
    return words


def _here(
    options: argparse.Namespace,
    pictures: Sequence[Path | str],
    wanted: dict[str, str],
    outputs: Sequence[str],
) -> dict[str, Any]:
    from service.local import reconstruct_here

    with (
        _in_process(options, pictures) as (settings, files, progress),
        replacing(options.out) as staging,
    ):
        made = reconstruct_here(
            settings,
            files,
            wanted,
            staging,
            progress,
            lambda document: chosen(document.model_dump(mode="json"), outputs)[0],
        )
        found = made.model_dump(mode="json")
        names, missing = chosen(found, outputs)
        document = in_folder(found, names)
        (staging / DOCUMENT).write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    if missing:
        raise BadInputError(
            f"this result has no file {', '.join(missing)}; the others lie in {options.out}."
        )
    return document


@contextmanager
def _in_process(
    options: argparse.Namespace, pictures: Sequence[Path | str]
) -> Iterator[tuple[Settings, list[tuple[str, Path]], Callable[[str, float], None]]]:
    """What working in this process needs: settings, files by the names that they are sent under,
    and whom to tell of progress. Errors of the service become those of the command."""
    urls = [picture for picture in pictures if isinstance(picture, str)]
    if urls:
        raise BadInputError(
            f"{urls[0]} would have to be fetched, which a service may do: give --server."
        )
    from model.errors import ArtifactError
    from quantvggt.bars import Bars
    from service import errors
    from service.settings import SettingsError, load_settings

    given = {"artifact": options.artifact, "device": options.device}
    files = [picture for picture in pictures if isinstance(picture, Path)]
    try:
        settings = load_settings(
            {name: value for name, value in given.items() if value is not None}
        )
        with Bars() as bars:
            yield settings, list(zip(sent_names(files), files, strict=True)), bars.show
    except (SettingsError, ArtifactError, errors.Refusal) as error:
        raise BadInputError(str(error)) from error
    except errors.ServiceError as error:
        raise ServiceError(str(error)) from error


def _there(
    options: argparse.Namespace,
    pictures: Sequence[Path | str],
    wanted: dict[str, str],
    outputs: Sequence[str],
) -> dict[str, Any]:
    from quantvggt.bars import Bars
    from quantvggt.client import Client

    client = Client(options.server, api_key=options.api_key or api_key())
    key = _idempotency_key(options.server, pictures, wanted)
    resume = options.out / _RESUME
    id = _interrupted(resume, key)
    try:
        with Bars() as bars:
            if id is None:
                say(f"sending {len(pictures)} files to {options.server}")
                id = client.submit(pictures, wanted, key=key, progress=bars.show)
                resume.write_text(json.dumps({"key": key, "id": id}))
            else:
                say(f"going on with {options.server}/reconstructions/{id}")
            client.follow(id, bars.show)
            document = client.download(id, options.out, outputs, bars.show)
    except ServiceError as error:
        if error.status is not None:
            resume.unlink(missing_ok=True)  # it failed or is gone: next time starts anew
        raise
    resume.unlink()
    return document


def _idempotency_key(server: str, pictures: Sequence[Path | str], wanted: dict[str, str]) -> str:
    """The same for the same files, options and server."""
    digest = hashlib.sha256(json.dumps([server, sorted(wanted.items())]).encode())
    for picture in pictures:
        sent = (
            picture.encode()
            if isinstance(picture, str)
            else os.fsencode(picture.name) + b"\0" + picture.read_bytes()
        )
        digest.update(sent)
    return digest.hexdigest()


def _interrupted(resume: Path, key: str) -> str | None:
    """The id of an interrupted run with the same key."""
    try:
        left = json.loads(resume.read_text())
        return str(left["id"]) if left["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
