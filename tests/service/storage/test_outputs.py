from __future__ import annotations

import pytest

from service.errors import InvalidOption
from service.settings import SettingsError
from service.storage.outputs import Outputs


@pytest.mark.parametrize(
    "prefix",
    ["s3://bucket/results", "s3://bucket/results/", "s3://bucket/results/a b/ü-1", "gs://b"],
)
def test_a_listed_prefix_and_what_is_below_it_may_be_written_to(prefix: str) -> None:
    Outputs("s3://bucket/results/, gs://b").check(prefix)


@pytest.mark.parametrize(
    "prefix",
    [
        "s3://bucket", "s3://bucket/results-of-others", "s3://bucket/results/../x", "s3://other",
        "s3://bucket/results//x", "s3://bucket/results/.", "s3://bucket/results/%2e%2e/x",
        "s3://bucket/results/a\nb", "s3://bucket/results?x", "s3://user@bucket/results",
        "file:///etc", "https://bucket/results", "gs://bucket/results", "",
    ],
)  # fmt: skip
def test_everything_else_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        Outputs("s3://bucket/results").check(prefix)
    assert refused.value.fields["option"] == "output"


def test_without_a_list_nothing_is_written_and_the_answer_says_who_can_change_that() -> None:
    with pytest.raises(InvalidOption, match="--output-prefixes"):
        Outputs().check("s3://bucket/results")


@pytest.mark.parametrize("setting", ["", "bucket", "file:///data", "s3://bucket/../x", "s3://a,,"])
def test_a_setting_that_is_no_list_of_prefixes_is_one_sentence(setting: str) -> None:
    with pytest.raises(SettingsError, match="--output-prefixes"):
        Outputs(setting)
