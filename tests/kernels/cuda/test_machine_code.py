"""What the compiler made of the kernels, read from the machine code: no GPU is needed, but nvcc
is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path

import pytest

from kernels.cuda.build import SOURCES, build, find_compiler, object_path, ptx_command
from kernels.cuda.library import GemmArguments, KernelError, KernelLibrary, Scheme
from kernels.cuda.targets import TARGETS, Target, find_target
from kernels.cuda.tiles import tiles_of

ALWAYS_BUILT = ("sm_80", "sm_90a")  # the others are read where `make kernels-cuda` has built them
SPILLS = ("STL", "LDL")  # stores to and loads from a thread's own memory

pytestmark = pytest.mark.slow


def _tool(name: str) -> str:
    installed = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin" / name
    found = (
        str(installed)
        if installed.is_file()
        else shutil.which(name, path="/usr/local/cuda/bin") or shutil.which(name)
    )
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@cache
def _listing(cubin: Path) -> str:
    return subprocess.run(
        [_tool("nvdisasm"), "-c", str(cubin)], capture_output=True, text=True, check=True
    ).stdout


READ = [t for t in TARGETS.values() if t.architecture in ALWAYS_BUILT or object_path(t).exists()]


@pytest.fixture(scope="module", params=READ, ids=lambda target: target.architecture)
def target(request: pytest.FixtureRequest) -> Target:
    target: Target = request.param
    if not object_path(target).exists() and find_compiler() is None:
        pytest.skip("nvcc is not installed")
    return target


@pytest.fixture(scope="module")
def listing(target: Target, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The machine code of all kernels in the shared object."""
    folder = tmp_path_factory.mktemp(target.architecture)
    subprocess.run(
        [_tool("cuobjdump"), "-xelf", "all", str(build(target))],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    cubins = sorted(folder.glob("*.cubin"))
    assert cubins
    return "".join(map(_listing, cubins))


def _functions(listing: str) -> dict[str, list[str]]:
    """Labels and instructions of every kernel, by its mangled name."""
    functions: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in listing.splitlines():
        if opened := re.match(r"\s*\.text\.(\S+):", line):
            lines = functions[opened[1]] = []
        elif label := re.match(r"(\.L\S+):", line):
            lines.append(label[0])
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?)\s*;", line):
            lines.append(instruction[1])
    return functions


def _opcode(instruction: str) -> str:
    return re.sub(r"^@!?\w+ ", "", instruction).split()[0]


def _main_loop(lines: list[str]) -> list[str]:
    """The opcodes of the smallest loop that multiplies matrices."""
    labels = {line[:-1]: place for place, line in enumerate(lines) if line.endswith(":")}
    loops = []
    for place, line in enumerate(lines):
        jump = re.search(r"\bBRA\b.*`\((\.L\S+)\)", line)
        if jump and labels[jump[1]] < place:
            body = [
                _opcode(line) for line in lines[labels[jump[1]] : place] if not line.endswith(":")
            ]
            if any("MMA" in opcode for opcode in body):
                loops.append(body)
    assert loops, "there is no loop with matrix instructions"
    return min(loops, key=len)


def _product_loops(listing: str) -> dict[tuple[Scheme, str], list[str]]:
    """The main loop of every matrix product that `target` runs, by scheme and tile."""
    loops = {}
    for name, lines in _functions(listing).items():
        if not any("MMA" in line for line in lines):
            continue
        if kernel := re.search(r"warpgroup_gemm_kernelILi(\d)ELi(\d+)E", name):
            scheme = Scheme.W8A8 if kernel[1] == "8" else Scheme.W4A8
            loops[scheme, f"{kernel[2]} x 128 by warpgroups"] = _main_loop(lines)
        elif kernel := re.search(r"gemm_kernelILi(\d)E.*?4TileILi(\d+)ELi(\d+)E", name):
            loops[Scheme(int(kernel[1])), f"{kernel[2]} x {kernel[3]}"] = _main_loop(lines)
    return loops


def test_every_scheme_has_a_kernel_for_every_tile(target: Target, listing: str) -> None:
    four_bits = Scheme.W4A4 if target.int4 else Scheme.W4A4_WIDENED
    assert set(_product_loops(listing)) == {
        (scheme, str(tile))
        for tile in tiles_of(target)
        for scheme in (
            (four_bits, Scheme.W4A8, Scheme.W8A8)
            if not tile.warpgroup
            else (Scheme.W4A8, Scheme.W8A8)
        )
    }


def test_four_bit_codes_are_multiplied_as_such_where_the_hardware_can(
    target: Target, listing: str
) -> None:
    for (scheme, tile), loop in _product_loops(listing).items():
        opcodes = {opcode for opcode in loop if "MMA" in opcode}
        if tile.endswith("by warpgroups"):
            assert opcodes == {"IGMMA.64x128x32.S8.S8"}
        else:
            assert opcodes == {"IMMA.16864.S4.S4" if scheme is Scheme.W4A4 else "IMMA.16832.S8.S8"}


def test_products_of_warpgroups_are_not_made_to_wait_for_each_other(
    target: Target, listing: str
) -> None:
    for (_, tile), loop in _product_loops(listing).items():
        if tile.endswith("by warpgroups"):
            assert loop.count("WARPGROUP.DEPBAR.LE") == 1  # for all products of a slice together
    assert "serialized" not in object_path(target).with_suffix(".log").read_text()


def test_no_product_is_emulated(listing: str) -> None:
    assert "sub_byte" not in listing


def test_the_search_for_emulated_products_finds_one(tmp_path: Path) -> None:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("nvcc is not installed")
    source, cubin = tmp_path / "emulated.cu", tmp_path / "emulated.cubin"
    source.write_text(
        "#include <device.cuh>\n"
        "__global__ void product(int32_t* out) {\n"
        "  int32_t d[4] = {};\n"
        "  const uint32_t a[4] = {threadIdx.x, 1, 2, 3}, b[2] = {4, threadIdx.x};\n"
        "  multiply_int4(d, a, b);\n"
        "  out[threadIdx.x] = d[0] + d[1] + d[2] + d[3];\n"
        "}\n"
    )
    command = [
        compiler,
        "-cubin",
        "-arch",
        "sm_90a",
        "-DQUANTVGGT_HAS_INT4_MMA=1",
        "-DQUANTVGGT_HAS_WARPGROUP_MMA=1",
        "-I",
        str(SOURCES / "hardware"),
        str(source),
        "-o",
        str(cubin),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert "sub_byte" in _listing(cubin)


@pytest.fixture(scope="module")
def warpgroup_ptx(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The virtual instructions of every kernel with warpgroup products."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("nvcc is not installed")
    output = tmp_path_factory.mktemp("ptx") / "warpgroup.ptx"
    command = ptx_command(find_target("sm_90a"), SOURCES / "warpgroup_gemm.cu")
    subprocess.run([compiler, *command, "-o", str(output)], check=True, capture_output=True)
    kernels = output.read_text().split(".entry ")[1:]
    assert len(kernels) == 4
    return kernels


def test_no_register_of_a_warpgroup_product_is_touched_before_it_is_waited_for(
    warpgroup_ptx: list[str],
) -> None:
    """PTX ISA, "Asynchronous warpgroup-level matrix instructions": to touch one is undefined."""
    for kernel in warpgroup_ptx:
        operands = set()
        for product in re.findall(r"wgmma\.mma_async[^;]*;", kernel):
            accumulators, left = re.findall(r"\{([^}]*)\}", product)
            operands |= set(re.findall(r"%r\d+", accumulators + left))
        assert len(operands) >= 64 + 16
        running = kernel[kernel.index("wgmma.commit_group") : kernel.index("wgmma.wait_group")]
        assert not operands & set(re.findall(r"%r\d+", running))


def test_no_thread_spills_registers(target: Target, listing: str) -> None:
    for loop in _product_loops(listing).values():
        assert not [opcode for opcode in loop if opcode.startswith(SPILLS)]
    report = object_path(target).with_suffix(".log").read_text()
    spilled = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert len(spilled) == len(_functions(listing))
    assert set(spilled) == {("0", "0")}


def test_main_loops_of_large_tiles_spend_their_instructions_on_products(listing: str) -> None:
    for (_, tile), loop in _product_loops(listing).items():
        if tile in ("128 x 128", "128 x 256"):
            # sm_103 waits with them between its products
            work = [opcode for opcode in loop if opcode != "NOP"]
            assert sum("MMA" in opcode for opcode in work) / len(work) > 0.15


def test_there_is_no_code_that_a_driver_could_translate_for_another_gpu(
    target: Target, listing: str
) -> None:
    listed = subprocess.run(
        [_tool("cuobjdump"), "-lptx", str(build(target))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "PTX file" not in listed.stdout.replace("No PTX file found", "")


def test_a_product_that_the_architecture_lacks_is_refused_before_anything_starts(
    target: Target, listing: str
) -> None:
    library = KernelLibrary(build(target))
    sizes = {"m": 1, "n": 1, "k": 32}
    lacking = [] if target.int4 else [(Scheme.W4A4, 0)]
    lacking += [(Scheme.W4A4_WIDENED, 0)] if target.int4 else []
    lacking += [] if target.warpgroup else [(Scheme.W4A8, 4), (Scheme.W8A8, 5)]
    for scheme, tile in lacking:
        with pytest.raises(KernelError, match="an argument is out of range"):
            library.gemm(GemmArguments(scheme=scheme, tile=tile, **sizes))


def test_the_object_loads_without_a_gpu(target: Target, listing: str) -> None:
    assert KernelLibrary(build(target)).handle.quantvggt_error(-1)
