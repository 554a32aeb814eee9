"""What holds for the repository as a whole: who may import whom, and that importing is free."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_layers_import_only_what_stands_below_them() -> None:
    linter = Path(sys.executable).with_name("lint-imports")  # in this process it would switch loggers off
    finished = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("kernels", ("numpy.random", "PIL", "safetensors", "huggingface_hub", "fastapi", "sklearn")),
        ("model.files.artifact", ("huggingface_hub", "fastapi", "pydantic", "sklearn", "scipy", "matplotlib")),
        ("service.http.app", ("huggingface_hub", "sklearn", "matplotlib", "quantization", "ray")),
        ("service.ray.replica", ("ray",)),
    ],
)
def test_importing_loads_nothing_that_serving_can_do_without(package: str, forbidden: tuple[str, ...]) -> None:
    code = (
        f"import sys, {package}, torch\n"
        f"loaded = [name for name in {forbidden!r} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
        "assert not torch.cuda.is_initialized()\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
