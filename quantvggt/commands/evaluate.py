"""`quantvggt evaluate`: score a checkpoint or an artifact on scenes with ground truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from quantvggt import choices
from quantvggt.commands.offline import offline
from quantvggt.errors import BadInputError

HELP = "score a checkpoint or an artifact against ground truth"
EXTRA = "quantization"
_WITH_REFINE = ("subsets", "colmap", "movement", "simulated", "truth")
_WITHOUT_REFINE = ("untrained", "only", "surface", "bootstrap")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="PATH_OR_NAME",
        help=f"the folder of an artifact, or a checkpoint: {choices.CHECKPOINT_FORMS}",
    )
    parser.add_argument(
        "--reference",
        metavar="PATH_OR_NAME",
        help="full-precision model: adds its scores and how far the other deviates from it",
    )
    parser.add_argument(
        "--untrained",
        type=int,
        metavar="SEED",
        help="score the architecture of --model with random weights instead: what training is "
        "worth",
    )
    parser.add_argument(
        "--activations",
        choices=("4", "8"),
        default="4",
        help="bits of activations of layers that an artifact has in 4, which a service chooses by "
        "its machine (default: %(default)s)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="LAYERS",
        help="score the artifact once more for each of these patterns, with 8-bit activations in "
        "the layers that fit it and 4-bit ones elsewhere: where the loss sits. For example "
        "'*.attn.qkv' '*.mlp.fc2' '*'",
    )
    add_scene_arguments(parser)
    add_refinement_arguments(parser)
    parser.add_argument(
        "--surface",
        action="store_true",
        help="also ICP, accuracy, completeness and normal consistency",
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        metavar="N",
        help=f"resamples for the 95 %% intervals (default: {choices.BOOTSTRAP})",
    )
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write report.json and report.png there"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the report as JSON on standard output"
    )


def add_scene_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options that choose the scenes."""
    parser.add_argument(
        "--dataset",
        choices=choices.DATASETS,
        default=choices.SYNTHETIC,
        help="default: %(default)s",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="folder of the data set; needed by all but synthetic scenes",
    )
    parser.add_argument("--categories", nargs="+", metavar="NAME", help="of co3d (default: all 41)")
    parser.add_argument(
        "--views",
        "--frames",
        type=int,
        nargs="+",
        default=[2, 4, 8],
        metavar="N",
        help="frames a scene, one report each (default: 2 4 8)",
    )
    parser.add_argument(
        "--scenes",
        type=int,
        metavar="N",
        help=f"synthetic: how many (default: {choices.SYNTHETIC_SCENES}); else only the first N of "
        "a category",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="draws the scenes and the bootstrap (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="pixels of synthetic scenes (default: the network's own square)",
    )


def add_refinement_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `--refine`."""
    group = parser.add_argument_group(
        "refinement", "score what refining on the original pixels makes of the network's answers"
    )
    group.add_argument(
        "--refine", choices=choices.REFINE[1:], help="cameras, or cameras and dense depth"
    )
    group.add_argument(
        "--subsets",
        type=int,
        metavar="N",
        help="different sets of pictures taken from each folder, drawn with --seed "
        "(default: 1, spread evenly)",
    )
    group.add_argument(
        "--colmap", action="store_true", help="also COLMAP alone, with its own defaults"
    )
    group.add_argument(
        "--movement",
        type=float,
        metavar="SHARE",
        help="synthetic: how far cameras are from each other, as a share of the usual; with 0.03 "
        "they hardly do more than turn (default: 1)",
    )
    group.add_argument(
        "--simulated",
        nargs="+",
        default=[],
        choices=choices.SIMULATED,
        help="also the true cameras with errors: p1 small to p4 large; p2 is about VGGT-1B",
    )
    group.add_argument(
        "--truth",
        choices=("cameras", "colmap"),
        help="what is taken as true in --dataset folder: cameras.json, or what COLMAP makes of "
        "all pictures of a folder (default: cameras)",
    )


def run(options: argparse.Namespace) -> int:
    """Evaluate and print."""
    from evaluation import command

    _check(options)
    with offline(options.device):
        if options.refine is None:
            return command.run(options)
        from evaluation.refined import command as refined

        return refined.run(options)


def _check(options: argparse.Namespace) -> None:
    refined = options.refine is not None
    for name in _WITHOUT_REFINE if refined else _WITH_REFINE:
        given = getattr(options, name)
        if given is not None and given is not False and given != []:  # --untrained 0 is given
            raise BadInputError(
                f"--{name} has no meaning {'with' if refined else 'without'} --refine; leave it out"
            )
