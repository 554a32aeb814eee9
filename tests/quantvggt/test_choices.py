"""The names that parsers offer are those of the code that they stand for."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

import pytest

from evaluation import datasets
from model.families.vggt.config import HEADS
from model.network.dpt_head import ARITHMETIC
from model.network.transformer import ATTENTION
from model.scene.preprocess import MODES
from quantization.calibration import command, samples
from quantization.recipe import FLOAT, PARTS, RECIPES, SCHEME_NAMES, Recipe
from quantvggt import __version__, choices
from quantvggt.files import ARCHIVE, PICTURE_FILES, SCENE_FILES
from service import __version__ as version_of_the_service
from service.exports.catalogue import ARCHIVE_FILE
from service.inputs.options import Options
from service.result.document import DepthLinks, Links, PictureLinks
from service.settings import Settings
from training.trainer import TrainingConfig

NOT_FILES = ("self", "events")


@pytest.mark.parametrize(
    ("offered", "known"),
    [
        (choices.RECIPES, RECIPES),
        (choices.PARTS, PARTS),
        (choices.SCHEMES, (*SCHEME_NAMES, FLOAT)),
        (choices.ATTENTION, ATTENTION),
        (choices.DENSE_HEADS, ARITHMETIC),
        (choices.HEADS, HEADS),
        (choices.CALIBRATION_READERS, samples.READERS),
        (choices.SAMPLINGS, samples.SAMPLINGS),
        (choices.DATASETS, (datasets.SYNTHETIC, *datasets.READERS)),
        (choices.MODES, MODES),
        (choices.MODES, get_args(get_type_hints(Settings)["mode"])),
        (choices.OPTIONS, Options.model_fields),
    ],
)  # fmt: skip
def test_what_a_parser_offers_is_what_there_is(offered: tuple[str, ...], known: Any) -> None:
    assert offered == tuple(known)


def test_single_names_and_numbers_are_those_of_their_sources() -> None:
    assert choices.SYNTHETIC == samples.SYNTHETIC == datasets.SYNTHETIC
    assert choices.SYNTHETIC_SCENES == datasets.SYNTHETIC_SCENES
    assert {Recipe(propagate=name).propagate for name in choices.PROPAGATE} == set(choices.PROPAGATE)
    assert choices.WITHOUT_CALIBRATION == command.WITHOUT_CALIBRATION
    assert choices.WITH_CALIBRATION == command.WITH_CALIBRATION
    training = TrainingConfig()
    assert (training.seed, training.processes) == (choices.TRAINING_SEED, choices.TRAINING_PROCESSES)
    assert __version__ == version_of_the_service


def test_the_files_that_can_be_asked_for_are_those_that_a_result_links_to() -> None:
    links = Links.of("", "result.json", has_tracks=True)
    assert set(SCENE_FILES) == {link for name, link in links if name not in NOT_FILES}
    of_a_picture = [link for _, link in (*PictureLinks.of("", 0), *DepthLinks.of("", 0))]
    assert set(PICTURE_FILES) == set(of_a_picture)
    assert ARCHIVE == ARCHIVE_FILE
