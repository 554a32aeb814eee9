"""``python -m service {serve,reconstruct,demo}``: answers on standard output, progress on standard error.

Exit status: 0 done, 1 the service failed or could not be reached, 2 bad input.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType
from typing import Any, get_args

import uvicorn

from model.errors import ArtifactError
from model.preprocess import MODES
from service.app import create_app, prepare
from service.client import Client, ServiceError
from service.demo import SamplesError, run_demo
from service.engine import Engine
from service.folder import write_folder
from service.problems import Problem
from service.result import ReconstructionDocument, describe
from service.scene import Scene, arrays_of
from service.settings import PREFIX, Settings, SettingsError, load_settings
from service.storage import new_id
from service.uploads import PictureFile, display_name

BAD_INPUT = 2
_SAMPLES = Path(__file__).with_name("samples")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except (SettingsError, ArtifactError, SamplesError) as error:
        _say(f"error: {error}")
        return BAD_INPUT
    except Problem as problem:
        _say(f"error: {problem.detail}")
        return BAD_INPUT if problem.status < 500 else 1
    except ServiceError as error:
        _say(f"error: {error}")
        return 1
    except OSError as error:
        _say(f"error: {error.filename or 'input'}: {error.strerror or error}.")
        return BAD_INPUT
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="{serve,reconstruct,demo}")

    serve = commands.add_parser(
        "serve",
        help="answer reconstruction requests over HTTP",
        description=f"Serve a quantised model over HTTP. Every flag is also an environment variable {PREFIX}…; "
        "a flag wins over the variable.",
    )
    for name, field in Settings.model_fields.items():
        choices = get_args(field.annotation) if name in ("mode", "log_level") else None
        default = "" if field.is_required() or field.default is None else f" (default {field.default})"
        serve.add_argument(
            "--" + name.replace("_", "-"),
            default=argparse.SUPPRESS,
            choices=choices,
            metavar=None if choices else name.upper(),
            help=f"{field.description}{default}",
        )
    serve.add_argument("--json", action="store_true", help="announce the address as one line of JSON")
    serve.set_defaults(run=_serve)

    reconstruct = commands.add_parser(
        "reconstruct",
        help="pictures to a result folder",
        description="Reconstruct one scene from pictures, in the order given: with an artifact in this process, "
        "or by posting them to a running service.",
    )
    reconstruct.add_argument("pictures", nargs="+", type=Path, help="JPEG, PNG or WebP files of one scene")
    place = reconstruct.add_mutually_exclusive_group(required=True)
    place.add_argument("--artifact", type=Path, help="folder of the quantised model")
    place.add_argument("--server", metavar="URL", help="address of a running service instead")
    reconstruct.add_argument("--out", type=Path, required=True, help="folder to write")
    reconstruct.add_argument("--mode", choices=MODES, help="how pictures are brought to the network's size")
    reconstruct.add_argument("--device", help="torch device, with --artifact (default cpu)")
    reconstruct.add_argument("--json", action="store_true", help="print the result as JSON")
    reconstruct.set_defaults(run=_reconstruct)

    demo = commands.add_parser(
        "demo",
        help="serve, post sample pictures, check the cameras",
        description="Start a service, post the sample pictures, leave every result and an overview in a folder, "
        "and compare the cameras with the known ones.",
    )
    demo.add_argument("--artifact", type=Path, required=True, help="folder of the quantised model")
    demo.add_argument("--samples", type=Path, default=_SAMPLES, help="folder of pictures with cameras.json")
    demo.add_argument("--out", type=Path, required=True, help="folder to write")
    demo.add_argument("--json", action="store_true", help="print what was found as JSON")
    demo.set_defaults(run=_demo)
    return parser


def _serve(options: argparse.Namespace) -> int:
    settings = load_settings({name: getattr(options, name) for name in Settings.model_fields if name in options})
    logging.basicConfig(
        stream=sys.stderr,
        level=settings.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    engine = Engine(settings.artifact, settings.device, settings.queue_limit)
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(json.dumps({"url": url}) if options.json else url, flush=True)

    # uvicorn raises a caught signal again when it has shut down: let that end the process with status 0.
    signal.signal(signal.SIGTERM, _exit_cleanly)

    def stop() -> None:
        server.should_exit = True

    app = create_app(settings, engine, on_failure=stop)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=settings.shutdown_timeout,
        )
    )
    server.run(sockets=[listener])
    if engine.failure is not None:
        raise engine.failure
    return 0


def _exit_cleanly(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise SettingsError(f"can't listen on {settings.host} port {settings.port}: {error.strerror}.") from None


def _reconstruct(options: argparse.Namespace) -> int:
    if options.server:
        if options.device:
            raise SettingsError("--device belongs to --artifact; a server has its own.")
        client = Client(options.server)
        _say(f"posting {len(options.pictures)} pictures to {options.server}")
        document = client.download(client.reconstruct(options.pictures, options.mode), options.out)
    else:
        document = _reconstruct_here(options)
    _report(options, document.model_dump(mode="json"), [f"{len(document.pictures)} pictures reconstructed"])
    return 0


def _reconstruct_here(options: argparse.Namespace) -> ReconstructionDocument:
    given = {"artifact": options.artifact, "mode": options.mode, "device": options.device}
    settings = load_settings({name: value for name, value in given.items() if value is not None})
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in options.pictures]
        pictures = [
            PictureFile(display_name(path.name, i), file)
            for i, (path, file) in enumerate(zip(options.pictures, files, strict=True))
        ]
        engine = Engine(settings.artifact, settings.device, settings.queue_limit)
        _say(f"loading {settings.artifact}")
        engine.load()
        _say(f"reconstructing {len(pictures)} pictures")
        batch, timings = prepare(pictures, settings.mode, engine, settings)
    started = time.perf_counter()
    reconstruction = engine.infer(batch)
    timings["network"] = time.perf_counter() - started
    document = describe(
        reconstruction,
        id=new_id(),
        created=datetime.now(timezone.utc),
        mode=settings.mode,
        model=engine.document(),
        timings=timings,
        filenames=[picture.name for picture in pictures],
    )
    return write_folder(Scene(document, **arrays_of(reconstruction)), options.out)


def _demo(options: argparse.Namespace) -> int:
    found = run_demo(options.artifact, options.samples, options.out, _say)
    rotation = found["median_rotation_error_degrees"]
    translation = found["median_translation_direction_error_degrees"]
    _report(
        options,
        found,
        [
            f"{found['pictures']} pictures, {found['points']} points",
            f"cameras against the known ones, median of {len(found['pairs'])} pairs:",
            f"  rotation {rotation:.1f} degrees, translation direction {translation:.1f} degrees",
            *(f"  {options.out / name}" for name in found["files"]),
        ],
    )
    return 0


def _report(options: argparse.Namespace, found: dict[str, Any], lines: list[str]) -> None:
    if options.json:
        print(json.dumps(found))
    else:
        print("\n".join([*lines, f"everything lies in {options.out}"]))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
