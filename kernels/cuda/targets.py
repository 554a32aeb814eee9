"""The GPUs that have native kernels, and how each multiplies codes.

nvcc accepts the matrix instruction on 4-bit operands for every architecture, but only compute
capability 8.x has it: elsewhere it becomes a call of some 190 instructions. So the choice is made
by exact capability, here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

Capability = tuple[int, int]


@dataclass(frozen=True)
class Target:
    """`architecture` is nvcc's name. `int4`: the matrix units multiply 4-bit codes as they are.
    `warpgroup`: they have Hopper's warpgroup instructions, without which they reach little more
    than half of their speed."""

    capability: Capability
    architecture: str
    int4: bool = False
    warpgroup: bool = False


TARGETS = {
    target.capability: target
    for target in (
        Target((8, 0), "sm_80", int4=True),  # A100
        Target((8, 6), "sm_86", int4=True),  # A10, RTX 30
        Target((8, 9), "sm_89", int4=True),  # L4, L40, RTX 40
        Target((9, 0), "sm_90a", warpgroup=True),  # H100, H200
        Target((10, 0), "sm_100"),  # B200
        Target((10, 3), "sm_103"),  # B300
        Target((12, 0), "sm_120"),  # RTX 50
    )
}


def find_target(name: str) -> Target:
    """The target of nvcc's `name`, such as "sm_80". Raises ValueError."""
    for target in TARGETS.values():
        if target.architecture == name:
            return target
    known = ", ".join(target.architecture for target in TARGETS.values())
    raise ValueError(f"there are no kernels for {name!r}; expected one of {known}")
