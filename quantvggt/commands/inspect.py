"""`quantvggt inspect`: what is in an artifact."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from quantvggt.commands.offline import print_result
from quantvggt.errors import BadInputError

HELP = "print what is in an artifact"
EXTRA = "network"

_FULL_PRECISION = ("float", "float32")
_OF_LICENCE = ("weights_licence", "commercial_use", "licence_source")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("artifact", type=Path, help="folder of the artifact")
    parser.add_argument("--layers", action="store_true", help="list every quantised layer")
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")


def run(options: argparse.Namespace) -> int:
    """Print the manifest, or what it comes down to."""
    from model.errors import ArtifactError
    from model.files.manifest import read

    try:
        manifest = read(options.artifact)
    except ArtifactError as error:
        raise BadInputError(str(error)) from error
    if options.json:
        print(json.dumps(manifest, indent=1))
        return 0
    print_result({"artifact": str(options.artifact), **summary(manifest)}, as_json=False)
    if options.layers:
        for name, layer in manifest["layers"].items():
            print(f"  {name:60} {layer['scheme']}  {' '.join(layer['tensors'])}")
    return 0


def summary(manifest: dict[str, Any]) -> dict[str, Any]:
    """An artifact in a few lines."""
    from model.files.manifest import TENSORS

    network = manifest["network"]
    schemes: dict[str, int] = {}
    for layer in manifest["layers"].values():
        schemes[layer["scheme"]] = schemes.get(layer["scheme"], 0) + 1
    tensors = manifest["files"][TENSORS]
    heads = network.get("heads") or [  # VGGT's are parts of its shape
        key.removesuffix("_head")
        for key, head in network.items()
        if key.endswith("_head") and head is not None
    ]
    return {
        "family": manifest.get("family", "not named, as in the first artifacts"),
        "network": ", ".join(
            f"{key} {value}" for key, value in network.items() if isinstance(value, (int, str))
        ),
        "heads": ", ".join(heads),
        "licence": _licence(manifest["provenance"]),
        "trained on": (manifest.get("domain") or {}).get("trained_on", "not said"),
        "quantised layers": ", ".join(
            f"{count} {scheme}" for scheme, count in sorted(schemes.items())
        ),
        "execution": _execution(manifest["execution"]),
        "recipe": ", ".join(
            f"{key} {value}"
            for key, value in manifest["recipe"].items()
            if value not in ({}, False)
        ),
        "calibration": _calibration(manifest["calibration"]),
        "source": ", ".join(
            f"{key} {value}"
            for key, value in manifest["provenance"].items()
            if key not in _OF_LICENCE
        ),
        "bytes": tensors["bytes"],
        "sha256": tensors["sha256"],
    }


def _licence(provenance: dict[str, Any]) -> str:
    """What the weights were under, and whether that allows commercial use."""
    allowed = provenance.get("commercial_use")
    commercial = "unknown" if allowed is None else "yes" if allowed else "no"
    source = provenance.get("licence_source")
    name = provenance.get("weights_licence") or "not known"
    return f"{name}, commercial use: {commercial}" + (f" ({source})" if source else "")


def _execution(permitted: dict[str, str]) -> str:
    stored = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in permitted.items())
    if all(value in _FULL_PRECISION for value in permitted.values()):
        return stored
    from model.network.execution import unused  # asks this machine, by way of torch

    here = unused(permitted, "cpu")
    return f"{stored} ({'; '.join(here)})" if here else stored


def _calibration(facts: dict[str, Any] | None) -> str:
    if facts is None:
        return "none"
    return (
        f"{len(facts['samples'])} samples of {facts['frames']} frames from {facts['source']} "
        f"({facts['split']}), "
        f"chosen by {facts['sampling']} out of {facts['candidates']}, seed {facts['seed']}"
    )
