from __future__ import annotations

import pytest

from service.result.document import (
    DomainDocument,
    ModelDocument,
    ReasonDocument,
    RefinementDocument,
)
from service.result.warnings import warnings_about

DRAWN = ModelDocument.model_construct(domain=DomainDocument(trained_on="rooms", photographs=False))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("dense", "so does the depth that is marked as verified"),
        ("cameras", "Ask for refine=dense"),
    ],
)
def test_cameras_that_were_right_already_are_not_called_wrong(asked: str, words: str) -> None:
    refinement = RefinementDocument(
        asked=asked,  # type: ignore[arg-type]
        method="none",
        kept=0,
        support=0.95,
        network_support=0.95,
        reason=ReasonDocument(code="already-supported", message="They are."),
    )
    (warning,) = warnings_about(DRAWN, refinement, 4)
    assert warning.code == "unverified-depth"
    assert "The cameras agree with the pictures themselves" in warning.message
    assert words in warning.message


def test_dense_depth_that_is_missing_is_told_where_cameras_were_right_already() -> None:
    refinement = RefinementDocument(
        asked="dense",
        method="none",
        kept=0,
        support=0.95,
        network_support=0.95,
        reason=ReasonDocument(code="already-supported", message="They are."),
        dense_reason=ReasonDocument(code="time-limit", message="Stopped after 9 seconds."),
    )
    told = {warning.code: warning.message for warning in warnings_about(DRAWN, refinement, 4)}
    assert told["no-dense-depth"] == "There is no dense depth. Stopped after 9 seconds."
