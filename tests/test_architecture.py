"""What holds for the repository as a whole: who may import whom, and that importing is free."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# what only the family itself and the building blocks may know: names of modules, tensors and
# settings, numbers
FAMILY_NAMES = re.compile(
    r"\bVGGT(Config)?\b(?!-)|\bvggt\b|\baggregator\.|(frame|global)_blocks|patch_embed|patch_start|img_size"
    r"|(camera|register)_token\b|absT_quaR_FoV|\b518\b|special_?tokens?\w*(: int)? = 5"
)
MAY_KNOW_VGGT = (
    "model/families/",
    "model/network/",
    "model/__init__.py",  # public import paths
    "model/geometry.py",
    "model/preprocess.py",
    "kernels/cuda/__main__.py",  # prints tiles for the layers of VGGT-1B
    "training/",  # of a VGGT, and of nothing else
    "benchmarks/",
    "tests/",
)


def test_layers_import_only_what_stands_below_them() -> None:
    # in this process it would switch loggers off
    linter = Path(sys.executable).with_name("lint-imports")
    finished = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout


def test_what_is_a_familys_own_stays_in_its_folder() -> None:
    packages = [folder for folder in sorted(ROOT.iterdir()) if (folder / "__init__.py").is_file()]
    files = [
        str(file.relative_to(ROOT))
        for package in packages
        for file in sorted(package.rglob("*.py"))
    ]
    others = [file for file in files if not file.startswith(MAY_KNOW_VGGT)]
    assert len(others) > 100
    found = [
        f"{file}: {name[0]}"
        for file in others
        for name in FAMILY_NAMES.finditer(_code(ROOT / file))
    ]
    assert not found, "\n".join(found)


def _code(file: Path) -> str:
    """What of a source file is neither comment nor docstring."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = None
    return ast.unparse(tree)


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        (
            "kernels",
            ("numpy.random", "PIL", "safetensors", "huggingface_hub", "fastapi", "sklearn"),
        ),
        (
            "model.files.artifact",
            ("huggingface_hub", "fastapi", "pydantic", "sklearn", "scipy", "matplotlib"),
        ),
        ("service.http.app", ("huggingface_hub", "sklearn", "matplotlib", "quantization", "ray")),
        ("service.ray.replica", ("ray",)),
    ],
)
def test_importing_loads_nothing_that_serving_can_do_without(
    package: str, forbidden: tuple[str, ...]
) -> None:
    code = (
        f"import sys, {package}, torch\n"
        f"loaded = [name for name in {forbidden!r} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
        "assert not torch.cuda.is_initialized()\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
