"""The whole path on real parts: a server as its own process, pictures over HTTP, files and a check
in a folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from quantvggt.bars import Bars
from quantvggt.client import Client
from quantvggt.demo.overview import View, draw_overview
from quantvggt.demo.poses import Array, align, pair_errors
from quantvggt.errors import BadInputError, ServiceError
from quantvggt.files import DEFAULT, OVERVIEW
from quantvggt.result import Result
from service.settings import names_a_setting

_CAMERAS = "cameras.json"
_FILES = (*DEFAULT, "scene.glb", "transforms.json", "depth/*/preview.png")
_READY_SECONDS = 120.0
_STOP_SECONDS = 60.0


def run_demo(
    artifact: Path, samples: Path, out: Path, say: Callable[[str], None], refine: str = "off"
) -> dict[str, Any]:
    """Serve `artifact`, post the pictures of `samples`, leave the files that people look at first
    in `out`; returns what was found. `refine` is the option of the request.

    Raises BadInputError for samples that do not fit, ServiceError if the server does not start or
    refuses.
    """
    pictures, true = read_samples(samples)
    with serving(artifact, say) as server:
        say(f"the service answers at {server}")
        client = Client(server)
        client.wait_until_ready(_READY_SECONDS)
        say(f"posting {len(pictures)} pictures")
        id = client.submit(pictures, {"refine": refine})
        with Bars() as bars:
            client.follow(id, bars.show)
            client.download(id, out, _FILES, bars.show)
    say("the service has stopped")

    result = Result(out)
    predicted = np.stack([camera.extrinsic for camera in result.cameras])
    views = []
    for index, path in enumerate(pictures):
        with (
            Image.open(path) as picture,
            Image.open(out / "depth" / str(index) / "preview.png") as depth,
        ):
            views.append(
                View(ImageOps.exif_transpose(picture).convert("RGB"), depth.convert("RGB"))
            )
    overview = draw_overview(views, result.points, result.colors, predicted, align(true, predicted))
    overview.save(out / OVERVIEW)

    pairs = pair_errors(predicted, true)
    return {
        "out": str(out),
        "pictures": len(pictures),
        "points": len(result.points),
        "timings": result.document["timings"],
        "refinement": result.refinement,
        "pairs": [vars(pair) for pair in pairs],
        "median_rotation_error_degrees": median(pair.rotation for pair in pairs),
        "median_translation_direction_error_degrees": median(
            pair.translation_direction for pair in pairs
        ),
        "files": sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()),
    }


def read_samples(samples: Path) -> tuple[list[Path], Array]:
    """Picture paths and known world-to-camera extrinsics [S,3,4] of a sample folder. Raises
    BadInputError."""
    try:
        frames = json.loads((samples / _CAMERAS).read_text("utf-8"))["frames"]
        pictures = [samples / Path(frame["file"]).name for frame in frames]
        true = np.array([frame["extrinsic"] for frame in frames], dtype=np.float64)
    except FileNotFoundError:
        raise BadInputError(
            f"{samples} has no {_CAMERAS}; give a folder of pictures with known cameras."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{samples / _CAMERAS} is not a list of frames with cameras: {error!r}."
        ) from None
    if true.ndim != 3 or true.shape[1:] != (3, 4) or len(true) < 2:
        raise BadInputError(
            f"{samples / _CAMERAS} needs at least two frames, each with an extrinsic of 3 x 4 "
            "numbers."
        )
    if missing := [path.name for path in pictures if not path.is_file()]:
        raise BadInputError(f"{samples} lacks {', '.join(missing)}, which {_CAMERAS} names.")
    return pictures, true


@contextmanager
def serving(artifact: Path, say: Callable[[str], None]) -> Iterator[str]:
    """Run ``serve`` as a process on a free loopback port and yield its address; stops it at the
    end."""
    command = [
        sys.executable,
        "-m",
        "quantvggt",
        "serve",
        "--artifact",
        str(artifact),
        "--port",
        "0",
    ]
    command += ["--json", "--log-level", "warning"]
    # The demo is the same whatever is set for a service of one's own; its defaults are what it
    # shows.
    environment = {key: value for key, value in os.environ.items() if not names_a_setting(key)}
    say("starting: " + " ".join(["python", *command[1:]]))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise ServiceError(f"The service did not start (exit status {process.wait()}).")
        yield json.loads(line)["url"]
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
