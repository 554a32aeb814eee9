from __future__ import annotations

from pathlib import Path

import pytest

from quantization.cli import main


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained demo model: untrained weights see nothing that could be looked at."""
    path = tmp_path_factory.mktemp("model") / "demo"
    assert main(["quantize", "demo", "--out", str(path)]) == 0
    return path
