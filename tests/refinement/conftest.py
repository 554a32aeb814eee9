from __future__ import annotations

import pytest

from tests.refinement.rooms import Room, make_room


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    """Four pictures of 256 x 256."""
    return make_room(tmp_path_factory.mktemp("room"), seed=0)
