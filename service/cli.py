"""``python -m service {serve,reconstruct,key,demo}``: answers on standard output, progress on standard error.

Exit status: 0 done, 1 the service failed or could not be reached, 2 bad input.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import MISSING
from pathlib import Path
from types import FrameType
from typing import Any, get_args

import uvicorn
from tqdm import tqdm

from model.errors import ArtifactError
from model.scene.preprocess import MODES
from service import errors
from service.access import KeysError, add_key
from service.application import Application
from service.client import Client, ServiceError
from service.demo import SamplesError, run_demo
from service.http.app import create_app
from service.http.server import DrainingServer, end_process, limited_protocol
from service.inference.engine import Engine
from service.inputs.options import Options
from service.jobs.database import DatabaseError
from service.jobs.schema import SchemaError
from service.local import reconstruct_here
from service.result.document import ReconstructionDocument
from service.settings import FIELDS, PREFIX, ServerSettings, Settings, SettingsError, load_settings, types
from service.storage.bucket import BucketError
from service.storage.folder import StorageInUseError
from service.telemetry.logs import configure_logs
from service.telemetry.tracing import TracingError, configure_tracing

BAD_INPUT = 2
_SAMPLES = Path(__file__).with_name("samples")
_CHOICES = ("engine", "mode", "log_level", "log_format")
_API_KEY = "RECON_API_KEY"
_RESUME = ".reconstruction.json"
_STUCK = 70  # EX_SOFTWARE
_BAD_INPUT = (
    SettingsError, ArtifactError, SamplesError, KeysError, StorageInUseError, TracingError, DatabaseError, SchemaError,
    BucketError,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except _BAD_INPUT as error:
        _say(f"error: {error}")
        return BAD_INPUT
    except errors.ServiceError as error:
        _say(f"error: {error}")
        return BAD_INPUT if isinstance(error, errors.Refusal) else 1
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
    commands = parser.add_subparsers(required=True, metavar="{serve,reconstruct,key,demo}")

    serve = commands.add_parser(
        "serve",
        help="answer reconstruction requests over HTTP",
        description=f"Serve a quantised model over HTTP. Every flag is also an environment variable {PREFIX}…; "
        "a flag wins over the variable.",
    )
    kinds = types()
    for name, field in FIELDS.items():
        choices = get_args(kinds[name]) if name in _CHOICES else None
        described = field.metadata["description"]
        default = "" if field.default in (MISSING, None) else f" (default {field.default})"
        if kinds[name] is bool:
            serve.add_argument(
                "--" + name.replace("_", "-"), default=argparse.SUPPRESS, action="store_true", help=described
            )
            continue
        serve.add_argument(
            "--" + name.replace("_", "-"),
            default=argparse.SUPPRESS,
            choices=choices,
            metavar=None if choices else name.upper(),
            help=f"{described}{default}",
        )
    serve.add_argument("--json", action="store_true", help="announce the address as one line of JSON")
    serve.set_defaults(run=_serve)

    reconstruct = commands.add_parser(
        "reconstruct",
        help="pictures to a result folder",
        description="Reconstruct one scene from pictures, zip archives or videos, in the order given: with an artifact "
        "in this process, or on a running service. Run again after an interruption, it goes on where it was.",
    )
    reconstruct.add_argument(
        "pictures",
        nargs="+",
        type=_picture,
        help="JPEG, PNG, WebP or HEIC, zip or video files; with --server also URLs",
    )
    place = reconstruct.add_mutually_exclusive_group(required=True)
    place.add_argument("--artifact", type=Path, help="folder of the quantised model")
    place.add_argument("--server", metavar="URL", help="address of a running service instead")
    reconstruct.add_argument("--out", type=Path, required=True, help="folder to write")
    reconstruct.add_argument("--mode", choices=MODES, help="how pictures are brought to the network's size")
    reconstruct.add_argument(
        "-o", "--option", action="append", default=[], metavar="NAME=VALUE",
        help=f"an option of the request, repeatable: {', '.join(Options.model_fields)}",
    )  # fmt: skip
    reconstruct.add_argument(
        "--output", action="append", default=[], metavar="FILE",
        help="with --server, fetch only this file, repeatable: points.ply, scene.glb, colmap.zip, ... (default all)",
    )  # fmt: skip
    reconstruct.add_argument("--api-key", help=f"with --server, its API key (default ${_API_KEY})")
    reconstruct.add_argument("--device", help="torch device, with --artifact (default cpu)")
    reconstruct.add_argument("--json", action="store_true", help="print the result as JSON")
    reconstruct.set_defaults(run=_reconstruct)

    key = commands.add_parser(
        "key",
        help="make an API key",
        description="Make an API key for one client, add its hash to a file for `serve --api-keys`, and print it once.",
    )
    key.add_argument("name", help="whose key it is")
    key.add_argument("--file", type=Path, required=True, help="file of hashed keys, made if it is not there")
    key.add_argument("--per-hour", type=int, help="reconstructions that the client may start in an hour")
    key.add_argument("--json", action="store_true", help="print the key as JSON")
    key.set_defaults(run=_key)

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
    settings = load_settings({name: getattr(options, name) for name in FIELDS if name in options})
    configure_logs(settings.server.log_level, settings.server.log_format)
    configure_tracing()
    engine = _engine(settings)
    engine.check_kernels()

    def stop() -> None:
        if application.stuck:
            end_process(_STUCK)
        server.should_exit = True

    application = Application(settings, engine, on_failure=stop)
    app = create_app(application)
    listener = _listen(settings.server)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(json.dumps({"url": url}) if options.json else url, flush=True)

    # uvicorn raises a caught signal again when it has shut down: let that end the process with status 0.
    signal.signal(signal.SIGTERM, _exit_cleanly)
    config = uvicorn.Config(
        app,
        http=limited_protocol(settings.server.header_timeout),
        loop="asyncio",  # Ray brings another one along, which uvicorn would prefer
        log_config=None,
        server_header=False,
        access_log=False,
        timeout_graceful_shutdown=settings.server.shutdown_timeout,
    )
    server = DrainingServer(config, application.drain, lambda: not application.busy, settings.server.shutdown_timeout)
    server.run(sockets=[listener])
    if engine.failure is not None:
        raise engine.failure
    return 0


def _engine(settings: Settings) -> Engine:
    if settings.inference.engine == "local":
        return Engine(settings.inference)
    os.environ.setdefault("RAY_DISABLE_FAILURE_SIGNAL_HANDLER", "1")  # read on import; it takes SIGTERM for a crash
    try:
        from service.ray.cluster import ClusterEngine  # the only way to Ray, which is large and an extra
    except ImportError as error:
        raise SettingsError(f"--engine ray: {error.name} is missing; install .[ray], with constraints.txt.") from None
    return ClusterEngine(settings)


def _exit_cleanly(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _listen(settings: ServerSettings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        raise SettingsError(f"can't listen on {settings.host} port {settings.port}: {error.strerror}.") from None


def _reconstruct(options: argparse.Namespace) -> int:
    chosen = dict(_pair(text) for text in options.option)
    if options.mode:
        chosen["mode"] = options.mode
    if options.server:
        if options.device:
            raise SettingsError("--device belongs to --artifact; a server has its own.")
        document = _reconstruct_there(options, chosen)
    else:
        if options.output:
            raise SettingsError("--output belongs to --server; without one every file is written.")
        urls = [picture for picture in options.pictures if isinstance(picture, str)]
        if urls:
            raise SettingsError(f"{urls[0]} would have to be fetched, which a service may do: give --server.")
        given = {"artifact": options.artifact, "device": options.device}
        settings = load_settings({name: value for name, value in given.items() if value is not None})
        with _Bar() as bar:
            document = reconstruct_here(settings, options.pictures, chosen, options.out, bar.show)
    _report(options, document.model_dump(mode="json"), [f"{len(document.pictures)} pictures reconstructed"])
    return 0


def _reconstruct_there(options: argparse.Namespace, chosen: dict[str, str]) -> ReconstructionDocument:
    client = Client(options.server, api_key=options.api_key or os.environ.get(_API_KEY))
    key = _key_of(options, chosen)
    resume = options.out / _RESUME
    id = _interrupted(resume, key)
    if id is None:
        _say(f"sending {len(options.pictures)} files to {options.server}")
        id = client.submit(options.pictures, chosen, key)
        options.out.mkdir(parents=True, exist_ok=True)
        resume.write_text(json.dumps({"key": key, "id": id}))
    else:
        _say(f"going on with {options.server}/reconstructions/{id}")
    try:
        with _Bar() as bar:
            client.follow(id, bar.show)
        document = client.download(client.result(id), options.out, options.output)
    except ServiceError as error:
        if error.status is not None and error.status < 500:
            resume.unlink(missing_ok=True)  # it failed or is gone: next time starts anew
        raise
    resume.unlink()
    return document


def _key_of(options: argparse.Namespace, chosen: dict[str, str]) -> str:
    """An Idempotency-Key that is the same for the same files, options and server."""
    digest = hashlib.sha256(json.dumps([options.server, sorted(chosen.items())]).encode())
    for picture in options.pictures:
        sent = picture.encode() if isinstance(picture, str) else picture.name.encode() + b"\0" + picture.read_bytes()
        digest.update(sent)
    return digest.hexdigest()


def _interrupted(resume: Path, key: str) -> str | None:
    """The id of an interrupted run with the same key."""
    try:
        left = json.loads(resume.read_text())
        return str(left["id"]) if left["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _picture(text: str) -> Path | str:
    """A URL as it is, anything else as a path."""
    return text if text.lower().startswith(("https://", "http://")) else Path(text)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or name not in Options.model_fields:
        raise SettingsError(f"--option {text}: give NAME=VALUE with one of {', '.join(Options.model_fields)}.")
    return name, value


class _Bar:
    """A progress bar on standard error."""

    def __enter__(self) -> _Bar:
        self._bar = tqdm(total=100, bar_format="{desc:<12}{percentage:3.0f}% |{bar}| {elapsed}", file=sys.stderr)
        return self

    def show(self, stage: str, share: float) -> None:
        self._bar.set_description_str(stage, refresh=False)
        self._bar.n = max(self._bar.n, round(100 * share))
        self._bar.refresh()

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self.show("done", 1.0)
        self._bar.close()


def _key(options: argparse.Namespace) -> int:
    if options.per_hour is not None and options.per_hour < 1:
        raise SettingsError(f"--per-hour {options.per_hour}: give at least 1, or leave it out for no limit.")
    token = add_key(options.file, options.name, options.per_hour)
    print(json.dumps({"name": options.name, "key": token}) if options.json else token)
    _say(f"{options.file} keeps only its hash; this is the only time that the key is shown.")
    return 0


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
            "to turn the points in a browser: make serve, then open http://127.0.0.1:8000/",
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
