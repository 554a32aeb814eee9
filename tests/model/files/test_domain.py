from __future__ import annotations

from pathlib import Path

import pytest

from model.errors import CheckpointError
from model.files.checkpoint import DEMO_CHECKPOINT
from model.files.domain import Domain, domain_beside


def test_the_bundled_checkpoint_says_that_it_has_seen_no_photograph() -> None:
    domain = domain_beside(DEMO_CHECKPOINT / "model.safetensors")
    assert domain is not None
    assert "drawn rooms" in domain.trained_on
    assert not domain.photographs


def test_a_checkpoint_need_not_say_anything(tmp_path: Path) -> None:
    assert domain_beside(tmp_path / "model.safetensors") is None


def test_a_domain_survives_its_dictionary() -> None:
    domain = Domain("photographs of streets", photographs=True)
    assert Domain.from_dict(domain.to_dict()) == domain


@pytest.mark.parametrize(
    "text", ["", "[]", '"rooms"', '{"trained_on": "rooms"}', '{"trained_on": 1, "photographs": 0}']
)
def test_a_broken_domain_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "domain.json").write_text(text)
    with pytest.raises(
        CheckpointError, match=r"domain\.json does not say what the network was trained on"
    ):
        domain_beside(tmp_path / "model.safetensors")
