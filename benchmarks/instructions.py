"""Instructions of the AVX2 kernels, counted by valgrind: unlike times they do not drift, so commits
can be compared.

    python -m benchmarks.instructions --json benchmarks/results/cpu/instructions.json

One frame of 518x392 pixels: 1041 tokens, one thread. A layer's instructions are those of its
prologue (rotation, smoothing, rounding), of unpacking the weight, and of the product with its
epilogue. "per 32 products" relates the last to what a product cannot do without, `IDEAL`. Needs
valgrind and a C++ compiler; says so where they are missing.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.linear import LAYERS, SCHEMES, TOKENS
from benchmarks.timing import machine, write
from kernels import FORMATS
from kernels.cpu import build
from kernels.formats import largest_code

PATH = "avx2"  # the widest instruction set that valgrind knows
SOURCE = Path(__file__).with_suffix(".cpp")
ROWS = 32  # that are multiplied at a time
WIDTH = 64  # of a head
VECTOR = 8  # floats

# Instructions for 32 products while six tokens x 16 columns are in registers: a multiplication and
# an addition (twice that with 8-bit weights), a twelfth of two loads of weights and six of tokens,
# two to widen every 8 steps of 8 bits.
LOADS = (2 + 6) / 12
IDEAL = {"w4a4": 2 + LOADS, "w4a8": 2 + LOADS + 2 / 8, "w8a8": 2 * (2 + LOADS)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--tokens", type=int, default=TOKENS)
    args = parser.parse_args()
    valgrind, compiler = shutil.which("valgrind"), build.compiler()
    if valgrind is None or compiler is None:
        print(
            "valgrind or a C++ compiler is not installed here; nothing was counted", file=sys.stderr
        )
        return 2
    report: dict[str, Any] = {
        "machine": machine(),
        "tokens": args.tokens,
        "path": PATH,
        "layers": {},
    }
    with tempfile.TemporaryDirectory() as work:
        counter = Counter(valgrind, _driver(compiler, Path(work)), Path(work))
        for layer, (features_in, features_out) in LAYERS.items():
            rows = report["layers"][layer] = {}
            for scheme in SCHEMES:
                rows[scheme] = figures = count_layer(
                    counter, args.tokens, features_in, features_out, scheme
                )
                print(f"{layer:5} {scheme}: {figures}")
            write(args.json, report)
        report["attention"] = count_attention(counter, args.tokens)
        print(f"attention: {report['attention']}")
    write(args.json, report)
    return 0


class Counter:
    """Runs one call of an operator under callgrind, which counts what happens inside of it."""

    def __init__(self, valgrind: str, driver: Path, work: Path) -> None:
        self._valgrind, self._driver, self._work = valgrind, driver, work

    def __call__(self, operator: str, *numbers: int) -> int:
        out = self._work / "callgrind"
        options = (
            "--tool=callgrind",
            f"--toggle-collect=quantvggt_{operator}",
            f"--callgrind-out-file={out}",
        )
        command = (self._valgrind, *options, str(self._driver), PATH, operator, *map(str, numbers))
        subprocess.run(command, check=True, capture_output=True, text=True)
        found = re.search(r"^(?:totals|summary): (\d+)$", out.read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1])


def _driver(compiler: str, work: Path) -> Path:
    library = build.library()
    driver = work / "driver"
    command = (
        compiler,
        *build.FLAGS,
        str(SOURCE),
        str(library),
        f"-Wl,-rpath,{library.parent}",
        "-o",
        driver,
    )
    subprocess.run([str(part) for part in command], check=True)
    return driver


def count_layer(
    counter: Counter, tokens: int, features_in: int, features_out: int, scheme: str
) -> dict[str, float]:
    top, codes_to_a_byte = (
        largest_code(FORMATS[scheme].activation_bits),
        FORMATS[scheme].codes_to_a_byte,
    )

    def linear(rows: int) -> int:
        return counter("linear", rows, features_in, top, features_out, codes_to_a_byte)

    whole = linear(tokens)
    prologue = counter("quantize_rows", tokens, features_in, top)
    unpacking = 2 * linear(ROWS) - linear(2 * ROWS)  # what does not grow with the tokens
    product = whole - prologue - unpacking
    padded = -(-tokens // ROWS) * ROWS
    return {
        "whole": whole,
        "prologue": prologue,
        "unpacking": unpacking,
        "product": product,
        "prologue per 8 floats": round(prologue / (tokens * features_in / VECTOR), 1),
        "unpacking per 8 codes": round(unpacking / (features_in * features_out / VECTOR), 2),
        "product per 32 products": round(product / (padded * features_in * features_out / 32), 2),
        "ideal per 32 products": round(IDEAL[scheme], 2),
    }


def count_attention(counter: Counter, tokens: int) -> dict[str, float]:
    """One head. Half as many queries leave the preparation of keys and values as it is."""
    half = tokens // 2 // ROWS * ROWS
    whole = counter("int8_attention", 2 * half, WIDTH, tokens)
    growing = 2 * (whole - counter("int8_attention", half, WIDTH, tokens))
    return {
        "whole": whole,
        "keys and values": whole - growing,
        "per 8 scores": round(growing / (2 * half * tokens / VECTOR), 1),
    }


if __name__ == "__main__":
    sys.exit(main())
