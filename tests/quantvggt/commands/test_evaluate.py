from __future__ import annotations

import pytest

from quantvggt.command import main

WITHOUT_REFINE = {
    "--subsets": ["1"],
    "--colmap": [],
    "--movement": ["1"],
    "--simulated": ["p2"],
    "--truth": ["cameras"],
}
WITH_REFINE = {"--untrained": ["0"], "--only": ["*"], "--surface": [], "--bootstrap": ["1000"]}


@pytest.mark.parametrize(
    ("given", "option", "how"),
    [
        *(([name, *values], name, "without --refine") for name, values in WITHOUT_REFINE.items()),
        *(
            (["--refine", "cameras", name, *values], name, "with --refine")
            for name, values in WITH_REFINE.items()
        ),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    given: list[str], option: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--model", "demo", *given]) == 2
    assert f"{option} has no meaning {how}; leave it out" in capsys.readouterr().err
