from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from service.inputs.scratch import Scratch, stacked


def test_what_is_put_away_is_read_in_any_order() -> None:
    arrays = [np.full((2, 3 + i, 3), i, np.uint8) for i in range(3)]
    with closing(Scratch()) as scratch:
        kept = [scratch.keep(array) for array in arrays]
        for number in (2, 0, 1, 2):
            np.testing.assert_array_equal(kept[number](), arrays[number])


def test_a_stack_is_mapped_and_outlives_the_file_that_it_lies_in() -> None:
    found = stacked(np.full((2, 2), i) for i in range(4))
    assert isinstance(found, np.memmap)
    assert found.shape == (4, 2, 2)
    assert found[3].tolist() == [[3, 3], [3, 3]]
    with pytest.raises(ValueError, match="no arrays"):
        stacked(iter([]))
