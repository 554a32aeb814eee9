from __future__ import annotations

import pytest

from kernels.cuda.__main__ import main
from kernels.cuda.tiles import TILES, choose_tile


@pytest.mark.parametrize(("tokens", "channels", "blocks"), [(1, 1, 1), (128, 256, 1), (129, 256, 2), (300, 513, 9)])
def test_tiles_cover_the_whole_output(tokens: int, channels: int, blocks: int) -> None:
    assert TILES[3].blocks(tokens, channels) == blocks


def test_indices_are_places() -> None:
    assert [tile.index for tile in TILES] == list(range(len(TILES)))


@pytest.mark.parametrize("tokens", [1, 8, 16])
def test_few_tokens_get_the_smallest_tile(tokens: int) -> None:
    assert choose_tile(tokens, 2048, multiprocessors=132) == TILES[0]


@pytest.mark.parametrize("channels", [1024, 3072, 4096])
def test_many_tokens_get_the_largest_tile(channels: int) -> None:
    assert choose_tile(32 * 1041, channels, multiprocessors=132) == TILES[3]


def test_no_tile_is_estimated_to_be_faster_than_the_chosen_one() -> None:
    for tokens in (1, 50, 1041, 4164):
        for multiprocessors in (20, 108, 132):
            chosen = choose_tile(tokens, 1024, multiprocessors)
            costs = [tile.cost(tokens, 1024, multiprocessors) for tile in TILES]
            assert chosen.cost(tokens, 1024, multiprocessors) == min(costs)


def test_the_choice_can_be_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["kernels.cuda", "tiles", "--frames", "4"])
    assert main() == 0
    assert "4164           128 x 256" in capsys.readouterr().out


def test_an_unknown_target_is_refused_with_those_that_exist(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["kernels.cuda", "build", "sm_75"])
    assert main() == 2
    assert "there are no kernels for 'sm_75'; expected one of sm_80, sm_86" in capsys.readouterr().err
