"""PTX text as kernels made of instructions (PTX ISA, chapter "Syntax")."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_ENTRY = re.compile(r"\.entry\s+(\S+)\([^)]*\)\s*(?:\.\w+[^\n{]*\n)*\s*\{(.*?)\n\}", re.DOTALL)
_DECLARED = re.compile(r"\.reg\s+\.(\w+)\s+%(\w+)<\d+>;")
_NO_INSTRUCTION = re.compile(r"\.(reg|loc|file|pragma)[^;]*;")
_LABEL = re.compile(r"(\$?[\w$]+):\s*")
_GUARD = re.compile(r"@(!?)(%\w+)\s+")
_ADDRESS = re.compile(r"\[([^\]+]+)(?:\+(-?\d+))?\]")
_KERNEL = re.compile(r"[a-z][a-z_]*_kernelI\w+")
# names that cuda_fp16.h and cuda_bf16.h give to types, and those that the emulation gives them
_TYPE_NAMES = {"6__half": "4Half", "13__nv_bfloat16": "8BFloat16"}


@dataclass(frozen=True)
class Instruction:
    """`parts` are the opcode and its qualifiers; `guard` is a predicate and whether it is
    negated."""

    parts: tuple[str, ...]
    operands: tuple[str, ...]
    guard: tuple[str, bool] | None

    @property
    def opcode(self) -> str:
        return ".".join(self.parts)


@dataclass
class Kernel:
    """One `.entry`. `registers` maps a prefix of register names to their type; a label is the index
    of the instruction behind it."""

    name: str
    registers: dict[str, str]
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


def kernel_name(symbol: str) -> str:
    """A kernel's mangled name from its own identifier on, the same for nvcc and for g++. Raises
    ValueError."""
    found = _KERNEL.search(symbol)
    if found is None:
        raise ValueError(f"{symbol} is not the name of a kernel template")
    name = found[0]
    for theirs, ours in _TYPE_NAMES.items():
        name = name.replace(theirs, ours)
    return name


def split_list(operand: str) -> list[str]:
    """The members of `a, b` or `{a, b}`, nested braces and brackets left whole."""
    if operand.startswith("{") and operand.endswith("}"):
        operand = operand[1:-1]
    members, depth, start = [], 0, 0
    for place, character in enumerate(operand):
        depth += (character in "{[") - (character in "}]")
        if character == "," and depth == 0:
            members.append(operand[start:place].strip())
            start = place + 1
    last = operand[start:].strip()
    return [*members, last] if last else members


def split_address(operand: str) -> tuple[str, int]:
    """The base, a register or a name, and the offset of `[base+offset]`."""
    found = _ADDRESS.fullmatch(operand)
    if found is None:
        raise ValueError(f"{operand} is not an address")
    return found[1], int(found[2] or 0)


def find_kernel(text: str, name: str) -> Kernel:
    """The kernel of a module that `kernel_name` calls `name`. Raises ValueError."""
    for entry in _ENTRY.finditer(text):
        if kernel_name(entry[1]) == name:
            return _parse_body(name, re.sub(r"//[^\n]*", "", entry[2]))
    raise ValueError(f"there is no kernel {name}")


def _parse_body(name: str, body: str) -> Kernel:
    kernel = Kernel(name, {prefix: kind for kind, prefix in _DECLARED.findall(body)})
    for statement in _NO_INSTRUCTION.sub("", body).split(";"):
        rest = statement.strip()
        while rest:  # labels, and the braces that inline assembly stands in
            if rest[0] in "{}":
                rest = rest[1:].strip()
            elif label := _LABEL.match(rest):
                kernel.labels[label[1]] = len(kernel.instructions)
                rest = rest[label.end() :]
            else:
                break
        if not rest:
            continue
        guard = None
        if found := _GUARD.match(rest):
            guard = (found[2], found[1] == "!")
            rest = rest[found.end() :]
        opcode, *operands = rest.split(None, 1)
        listed = split_list(f"{{{' '.join(operands)}}}")
        kernel.instructions.append(Instruction(tuple(opcode.split(".")), tuple(listed), guard))
    return kernel
