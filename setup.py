"""What goes into the wheel: `quantvggt`, and inside it, in ``_packages``, the folders that lie
beside it here.

Everything else is in pyproject.toml. A folder that is not there is left out: an image's build
installs the dependencies before it has the code.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
FOLDERS = (
    "evaluation",
    "kernels",
    "model",
    "quantization",
    "refinement",
    "scenes",
    "service",
    "training",
)


def packages_in(folder: str) -> list[str]:
    """A folder and all below it that hold files: sources, kernels' C++ and CUDA, weights, the page,
    samples."""
    paths = [ROOT / folder, *sorted((ROOT / folder).rglob("*"))]
    holding = [
        path for path in paths if path.is_dir() and any(child.is_file() for child in path.iterdir())
    ]
    return [
        ".".join(path.relative_to(ROOT).parts) for path in holding if path.name != "__pycache__"
    ]


BUILD = ROOT / "build" / "wheel"
# else files that are gone since an earlier build would be packed again
shutil.rmtree(BUILD, ignore_errors=True)

inside = {
    f"quantvggt._packages.{name}": name.replace(".", "/")
    for folder in FOLDERS
    for name in packages_in(folder)
}
setup(
    packages=[*packages_in("quantvggt"), *inside],
    package_dir=inside,
    package_data={"": ["*"]},
    options={"build": {"build_base": str(BUILD.relative_to(ROOT))}},
)
