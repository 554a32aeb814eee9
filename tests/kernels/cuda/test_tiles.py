from __future__ import annotations

import pytest

from kernels.cuda.__main__ import main
from kernels.cuda.targets import TARGETS, Target, find_target
from kernels.cuda.tiles import TILES, choose_tile, tiles_of


@pytest.mark.parametrize(
    ("tokens", "channels", "blocks"), [(1, 1, 1), (128, 256, 1), (129, 256, 2), (300, 513, 9)]
)
def test_tiles_cover_the_whole_output(tokens: int, channels: int, blocks: int) -> None:
    assert TILES[3].blocks(tokens, channels) == blocks


def test_indices_are_places() -> None:
    assert [tile.index for tile in TILES] == list(range(len(TILES)))


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.architecture)
@pytest.mark.parametrize("tokens", [1, 8, 16])
def test_few_tokens_get_the_smallest_tile(target: Target, tokens: int) -> None:
    assert choose_tile(tokens, 2048, 132, tiles_of(target)) == TILES[0]


@pytest.mark.parametrize(("architecture", "index"), [("sm_80", 3), ("sm_90a", 5), ("sm_120", 3)])
@pytest.mark.parametrize("channels", [1024, 3072, 4096])
def test_many_tokens_get_the_largest_tile(architecture: str, index: int, channels: int) -> None:
    assert (
        choose_tile(32 * 1041, channels, 132, tiles_of(find_target(architecture))) == TILES[index]
    )


def test_only_hopper_works_by_warpgroups() -> None:
    assert {target.architecture for target in TARGETS.values() if TILES[5] in tiles_of(target)} == {
        "sm_90a"
    }


def test_no_tile_is_estimated_to_be_faster_than_the_chosen_one() -> None:
    for tokens in (1, 50, 1041, 4164):
        for multiprocessors in (20, 108, 132):
            chosen = choose_tile(tokens, 1024, multiprocessors, TILES)
            costs = [tile.cost(tokens, 1024, multiprocessors) for tile in TILES]
            assert chosen.cost(tokens, 1024, multiprocessors) == min(costs)


def test_the_choice_can_be_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kernels.cuda", "tiles", "--frames", "32"])
    assert main() == 0
    assert "33312   256 x 128 by warpgroups" in capsys.readouterr().out


def test_an_unknown_target_is_refused_with_those_that_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kernels.cuda", "build", "sm_75"])
    assert main() == 2
    assert (
        "there are no kernels for 'sm_75'; expected one of sm_80, sm_86" in capsys.readouterr().err
    )
