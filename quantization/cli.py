"""`python -m quantization`: make, inspect, evaluate and download models; train the demo model.

Progress goes to standard error, results to standard output, `--json` makes them machine-readable. Exit status 2 means
that what was asked for cannot be done as given, with one sentence that says why.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evaluation import command as evaluate_command
from evaluation import pairs_command
from model import families
from model.errors import ArtifactError, CheckpointError
from model.files import artifact
from model.files.checkpoint import HUB_FORMS, resolve_checkpoint
from model.network.execution import unused
from model.network.threads import limit_threads
from quantization import command as quantize_command
from quantization import sensitivity as sensitivity_command
from quantization.calibration.store import CalibrationError
from training import TrainingError
from training import command as demo_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    args = _parser().parse_args(arguments)
    limit_threads()
    try:
        if "device" in args:
            _check_device(args.device)
        status: int = args.run(args)
        return status
    except (ArtifactError, CalibrationError, CheckpointError, TrainingError, ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m quantization", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    quantize = commands.add_parser("quantize", help="turn a float checkpoint into a packed artifact")
    quantize_command.add_arguments(quantize)
    quantize.set_defaults(run=_quantize)

    sensitivity = commands.add_parser("sensitivity", help="measure which layers deserve 8-bit activations")
    sensitivity_command.add_arguments(sensitivity)
    sensitivity.set_defaults(run=sensitivity_command.run)

    inspect = commands.add_parser("inspect", help="print what is in an artifact")
    inspect.add_argument("artifact", type=Path)
    inspect.add_argument("--layers", action="store_true", help="list every quantised layer")
    inspect.add_argument("--json", action="store_true", help="print the manifest as JSON")
    inspect.set_defaults(run=_inspect)

    evaluate = commands.add_parser("evaluate", help="score a checkpoint or an artifact against ground truth")
    evaluate_command.add_arguments(evaluate)
    evaluate.set_defaults(run=evaluate_command.run)

    pairs = commands.add_parser("pairs", help="score pairs of pictures by how far the camera turned")
    pairs_command.add_arguments(pairs)
    pairs.set_defaults(run=pairs_command.run)

    demo_command.add_arguments(commands.add_parser("demo", help="train the bundled demo model, render its samples"))

    download = commands.add_parser(
        "download", help="fetch a checkpoint from the hub, the newest, and print where it lies"
    )
    download.add_argument("repository", help=HUB_FORMS)
    download.add_argument("--json", action="store_true", help="print the result as JSON")
    download.set_defaults(run=_download)
    return parser


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device is {name!r}; expected a torch device such as cpu or cuda:0") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device is {name!r}, but this machine has no usable CUDA device; use cpu")


def _quantize(args: argparse.Namespace) -> int:
    manifest = quantize_command.run(args)
    _print({"artifact": str(args.out), **_summary(manifest)}, args.json)
    return 0


def _inspect(args: argparse.Namespace) -> int:
    manifest = artifact.read_manifest(args.artifact)
    if args.json:
        print(json.dumps(manifest, indent=1))
        return 0
    _print({"artifact": str(args.artifact), **_summary(manifest)}, as_json=False)
    if args.layers:
        for name, layer in manifest["layers"].items():
            print(f"  {name:60} {layer['scheme']}  {' '.join(layer['tensors'])}")
    return 0


def _download(args: argparse.Namespace) -> int:
    path, config = resolve_checkpoint(args.repository, newest=True)
    _print({"weights": str(path), "heads": ", ".join(config.heads)}, args.json)
    return 0


def _summary(manifest: dict[str, Any]) -> dict[str, Any]:
    config = artifact.configuration(manifest)
    schemes: dict[str, int] = {}
    for layer in manifest["layers"].values():
        schemes[layer["scheme"]] = schemes.get(layer["scheme"], 0) + 1
    tensors = manifest["files"][artifact.TENSORS]
    return {
        "family": config.family,
        "network": families.of(config).summary(config),
        "heads": ", ".join(config.heads),
        "quantised layers": ", ".join(f"{count} {scheme}" for scheme, count in sorted(schemes.items())),
        "execution": _execution(manifest["execution"]),
        "recipe": ", ".join(f"{key} {value}" for key, value in manifest["recipe"].items() if value not in ({}, False)),
        "calibration": _calibration(manifest["calibration"]),
        "source": ", ".join(f"{key} {value}" for key, value in manifest["provenance"].items()),
        "bytes": tensors["bytes"],
        "sha256": tensors["sha256"],
    }


def _execution(permitted: dict[str, str]) -> str:
    stored = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in permitted.items())
    here = unused(permitted, "cpu")
    return f"{stored} ({'; '.join(here)})" if here else stored


def _calibration(facts: dict[str, Any] | None) -> str:
    if facts is None:
        return "none"
    return (
        f"{len(facts['samples'])} samples of {facts['frames']} frames from {facts['source']} ({facts['split']}), "
        f"chosen by {facts['sampling']} out of {facts['candidates']}, seed {facts['seed']}"
    )


def _print(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    width = max(map(len, result))
    for key, value in result.items():
        print(f"{key:{width}}  {value:,}" if isinstance(value, int) else f"{key:{width}}  {value}")
