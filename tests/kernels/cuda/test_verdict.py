"""Trials in processes of their own, of objects that end them."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from kernels.cuda.build import SOURCES
from kernels.cuda.library import KernelLibrary
from kernels.cuda.trial import HEADS, PROLOGUES
from kernels.cuda.verdict import judge
from kernels.formats import DEFINITIONS

# tile 1 ends its process, tile 3 never comes back, everything else computes nothing
FAULTY = """
#include <cstdlib>
#include <unistd.h>
#include "arguments.h"
int quantvggt_gemm(const GemmArguments* p) {
  if (p->tile == 1) abort();
  while (p->tile == 3) pause();
  return 0;
}
int quantvggt_epilogue(const EpilogueArguments*) { return 0; }
int quantvggt_prologue(const PrologueArguments*) { return 0; }
int quantvggt_qk_norm_rope(const QkNormRopeArguments*) { return 0; }
const char* quantvggt_error(int) { return ""; }
int64_t quantvggt_arguments_bytes(int i) {
  const int64_t bytes[] = {
    sizeof(GemmArguments), sizeof(EpilogueArguments), sizeof(PrologueArguments),
    sizeof(QkNormRopeArguments)};
  return bytes[i];
}
"""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("faulty")
    source, path = folder / "faulty.cc", folder / "faulty.so"
    source.write_text(FAULTY)
    command = [compiler, "-shared", "-fPIC", *DEFINITIONS, "-I", str(SOURCES), str(source)]
    subprocess.run([*command, "-o", str(path)], check=True)
    return path


def test_a_part_that_ends_its_process_is_left_out_and_the_others_are_tried(faulty: Path) -> None:
    parts = ("tile 0", "tile 1", "tile 2", HEADS)
    verdict = judge(faulty, "sm_80", "cpu", parts, "a machine", limit=300)
    assert verdict == {"tile 0": "wrong", "tile 1": "crashed", "tile 2": "wrong", HEADS: "wrong"}


def test_a_part_that_does_not_end_runs_out_of_time(faulty: Path, tmp_path: Path) -> None:
    faulty = Path(shutil.copy(faulty, tmp_path))
    verdict = judge(faulty, "sm_80", "cpu", ("tile 3", "tile 0"), "a machine", limit=5)
    assert set(verdict.values()) == {"timed out"}
    assert not list(faulty.parent.glob("verdict-*"))  # the next start tries again


def test_an_object_that_cannot_be_loaded_fails_every_part(tmp_path: Path) -> None:
    path = tmp_path / "broken.so"
    path.write_text("no object")
    verdict = judge(path, "sm_80", "cpu", (PROLOGUES, HEADS), "a machine", limit=300)
    assert set(verdict.values()) == {"crashed"}


def test_a_verdict_is_kept_for_its_machine(faulty: Path, emulated_library: KernelLibrary) -> None:
    path = faulty.with_name("real.so")
    shutil.copy(emulated_library.handle._name, path)
    given = ("sm_90a", "cpu", (HEADS,))
    assert judge(path, *given, "one machine", limit=300) == {HEADS: "ok"}
    path.unlink()
    assert judge(path, *given, "one machine", limit=300) == {HEADS: "ok"}
    assert judge(path, *given, "another machine", limit=300) == {HEADS: "crashed"}


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"tile 0": "ok"}'])
def test_a_damaged_verdict_counts_as_none(
    emulated_library: KernelLibrary, tmp_path: Path, damaged: str
) -> None:
    path = Path(shutil.copy(emulated_library.handle._name, tmp_path))
    given = (path, "sm_90a", "cpu", (HEADS,), "a machine")
    judge(*given, limit=300)
    (kept,) = tmp_path.glob("verdict-*")
    kept.write_text(damaged)
    assert judge(*given, limit=300) == {HEADS: "ok"}
    assert json.loads(kept.read_text()) == {HEADS: "ok"}


def test_a_folder_that_cannot_be_written_is_no_obstacle(
    emulated_library: KernelLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = Path(shutil.copy(emulated_library.handle._name, tmp_path))
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)  # root may write anywhere
    assert judge(path, "sm_90a", "cpu", (HEADS,), "a machine", limit=300) == {HEADS: "ok"}
    assert list(tmp_path.iterdir()) == [path]
