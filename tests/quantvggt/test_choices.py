"""The names that parsers offer are those of the code that they stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

import service
from evaluation import bootstrap, datasets
from evaluation.refined.simulated import LEVELS
from model.families import HEADS, PARTS
from model.files.checkpoint import HUB_FORMS
from model.network.attention import ATTENTION
from model.network.dpt_head import ARITHMETIC
from model.scene.preprocess import MODES
from quantization import command
from quantization.ablation import VARIANTS
from quantization.calibration import samples
from quantization.recipe import RECIPES, SCHEMES, Recipe
from quantvggt import __version__, choices
from quantvggt.files import NOT_ARCHIVED, PICTURE_FILES, SCENE_FILES
from scenes.synthetic.distribution import TEST_SETS
from service import __version__ as version_of_the_service
from service.exports.records import EXPORTS
from service.inputs.options import Options, Refine, read_options
from service.settings import types
from training.config import TrainingConfig
from training.recipes import RECIPES as TRAINING_RECIPES


@pytest.mark.parametrize(
    ("offered", "known"),
    [
        (choices.RECIPES, RECIPES),
        (choices.ABLATIONS, VARIANTS),
        (choices.PARTS, PARTS),
        (choices.SCHEMES, SCHEMES),
        (choices.ATTENTION, ATTENTION),
        (choices.DENSE_HEADS, ARITHMETIC),
        (choices.HEADS, HEADS),
        (choices.CALIBRATION_READERS, samples.READERS),
        (choices.SAMPLINGS, samples.SAMPLINGS),
        (choices.DATASETS, (datasets.SYNTHETIC, *datasets.READERS)),
        (choices.TEST_SETS, TEST_SETS),
        (choices.SIMULATED, LEVELS),
        (choices.TRAINING_RECIPES, TRAINING_RECIPES),
        (choices.MODES, MODES),
        (choices.MODES, get_args(types()["mode"])),
        (choices.REFINE, get_args(Refine)),
        (choices.REFINE, get_args(types()["refine"])),
        (choices.OPTIONS, Options.model_fields),
    ],
)  # fmt: skip
def test_what_a_parser_offers_is_what_there_is(offered: tuple[str, ...], known: Any) -> None:
    assert offered == tuple(known)


def test_the_samples_are_the_folders_that_are_bundled() -> None:
    folder = Path(service.__file__).parent / "samples"
    assert set(choices.SAMPLES) == {path.name for path in folder.iterdir() if path.is_dir()}


def test_single_names_and_numbers_are_those_of_their_sources() -> None:
    assert choices.SYNTHETIC == samples.SYNTHETIC == datasets.SYNTHETIC
    assert choices.SYNTHETIC_SCENES == datasets.SYNTHETIC_SCENES
    assert choices.BOOTSTRAP == bootstrap.RESAMPLES
    assert {Recipe(propagate=name).propagate for name in choices.PROPAGATE} == set(
        choices.PROPAGATE
    )
    assert choices.WITHOUT_CALIBRATION == command.WITHOUT_CALIBRATION
    assert choices.WITH_CALIBRATION == command.WITH_CALIBRATION
    assert choices.CALIBRATION == command.CALIBRATION
    assert choices.HUB_FORMS == HUB_FORMS
    training = TrainingConfig()
    assert (training.seed, training.processes) == (
        choices.TRAINING_SEED,
        choices.TRAINING_PROCESSES,
    )
    assert __version__ == version_of_the_service


def test_the_files_that_can_be_asked_for_are_the_exports() -> None:
    assert {*SCENE_FILES} == {export.name for export in EXPORTS if not export.per_picture}
    assert {*PICTURE_FILES} == {export.name_of(0) for export in EXPORTS if export.per_picture}
    assert {*NOT_ARCHIVED} == {export.name_of(0) for export in EXPORTS if not export.archived}


@pytest.mark.parametrize("word", choices.YES)
def test_what_says_yes_says_it_to_the_service_too(word: str) -> None:
    assert read_options({"dry_run": word}).dry_run
