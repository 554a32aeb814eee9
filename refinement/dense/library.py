"""The compiled matching (`native/`): built once for each state of its sources.

The builder is that of the kernels, and with it comes torch: who only matches does without.
"""

from __future__ import annotations

from pathlib import Path

from kernels.cpu import build

SOURCES = build.Sources(
    folder=Path(__file__).parent / "native",
    library="libquantvggt_dense.so",
    flags=(
        "-std=c++17",
        "-O3",
        "-fPIC",
        "-fvisibility=hidden",
        "-Wno-psabi",
        "-fno-math-errno",
        "-fno-trapping-math",
    ),
    instruction_sets={"x86_64": {"avx2": ("-mavx2", "-mfma")}},
    common=("library", "plain"),
    any_machine=True,
)


def built() -> Path:
    """The library, compiled now if it has to be. Raises `kernels.cpu.build.BuildError` where there
    is none and none can be built."""
    return build.library(SOURCES)


def built_if_possible() -> Path | None:
    """The library; None where there is none and none can be built."""
    try:
        return built()
    except build.BuildError:
        return None
