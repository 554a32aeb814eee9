from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kernels import cpu, kernel_path

REPOSITORY = Path(__file__).parents[3]


def _python(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def test_importing_builds_and_loads_nothing(tmp_path: Path) -> None:
    code = "import kernels, model, kernels.cpu.library as l; print(l._library, l._chosen)"
    assert _python(code, QUANTVGGT_KERNEL_CACHE=str(tmp_path / "cache")) == "None None"
    assert not list(tmp_path.iterdir())


def test_without_a_compiler_the_definition_runs_and_says_why(tmp_path: Path) -> None:
    code = (
        "import torch, kernels; print(kernels.kernel_path());"
        "layer = kernels.QuantizedLinear.from_float(kernels.FORMATS['w4a4'], torch.ones(8, 16));"
        "print(layer(torch.ones(1, 16))[0, 0].item())"
    )
    path, value = _python(code, QUANTVGGT_KERNEL_CACHE=str(tmp_path), PATH="", CXX="").splitlines()
    assert path.startswith("reference (no C++ compiler")
    assert float(value) == pytest.approx(16)


def test_a_compiler_that_fails_is_the_reason_that_is_given(tmp_path: Path) -> None:
    code = "import kernels; print(kernels.kernel_path().native, kernels.kernel_path())"
    printed = _python(code, QUANTVGGT_KERNEL_CACHE=str(tmp_path), CXX="/nonexistent/c++")
    assert printed.startswith("False reference (the C++ compiler /nonexistent/c++ does not run")


def test_a_library_that_was_built_before_needs_no_compiler() -> None:
    if not cpu.available():
        pytest.skip("no native kernels on this machine")
    code = "import kernels; print(kernels.kernel_path().native)"
    assert _python(code, PATH="", CXX="", QUANTVGGT_KERNELS="auto") == "True"


def test_the_environment_chooses_the_kernels() -> None:
    assert _python(
        "import kernels; print(kernels.kernel_path())", QUANTVGGT_KERNELS="reference"
    ) == ("reference (asked for)")


def test_kernels_that_cannot_run_are_refused_with_those_that_can() -> None:
    with pytest.raises(
        ValueError, match="kernels 'altivec' cannot run here; expected one of auto, reference"
    ):
        cpu.select("altivec")


def test_the_fastest_instruction_set_is_chosen_by_itself() -> None:
    if not cpu.available():
        pytest.skip("no native kernels on this machine")
    assert cpu.select() == kernel_path("cpu")
    assert kernel_path("cpu").name == f"cpu/{cpu.available()[0]}"


def test_a_device_without_kernels_says_so() -> None:
    assert str(kernel_path("meta")) == "reference (there are no native kernels for meta)"


@pytest.mark.skipif(sys.platform != "linux", reason="bounds memory as Linux does")
def test_memory_that_runs_out_is_an_error_and_the_process_goes_on() -> None:
    if not cpu.available():
        pytest.skip("no native kernels on this machine")
    code = """
import resource
from pathlib import Path

import torch

from kernels import ops

few = torch.ones(1, 1, 1, 64)
many = torch.zeros(1, 1, 1, 64).expand(1, 1, 1 << 20, 64)  # takes no memory before it is packed
before = ops.int8_attention(few, few, few)
present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (present + (64 << 20),) * 2)
try:
    ops.int8_attention(few, many, many)
except MemoryError as error:
    print(error)
print(torch.equal(ops.int8_attention(few, few, few), before))
"""
    assert _python(code, QUANTVGGT_KERNELS="auto") == (
        "int8_attention: no memory for the scratch of the kernels\nTrue"
    )
