"""What a network was trained on, as its checkpoint says in ``domain.json`` and its artifact in the
manifest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.errors import CheckpointError

DOMAIN = "domain.json"


@dataclass(frozen=True)
class Domain:
    """The pictures that a network has seen: only of such can answers be expected."""

    trained_on: str
    """Completes the sentence "This model was trained on …"."""
    photographs: bool
    """Whether photographs were among them."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Domain:
        """The inverse of `to_dict`. Raises ValueError."""
        expected = {"trained_on": str, "photographs": bool}
        if (
            not isinstance(data, Mapping)
            or {key: type(value) for key, value in data.items()} != expected
        ):
            raise ValueError(
                f"a domain is a text trained_on and a truth value photographs, not {data!r}"
            )
        return cls(**data)


def domain_beside(weights: Path) -> Domain | None:
    """What the checkpoint with this weights file says; None if it does not. Raises
    CheckpointError."""
    path = weights.parent / DOMAIN
    try:
        return Domain.from_dict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not say what the network was trained on: {error}"
        ) from error
