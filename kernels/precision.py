"""Which precision of floats a device is fast in."""

from __future__ import annotations

import torch

_X86 = ("avx512_bf16", "amx_bf16")
_ARM = ("bf16",)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether torch computes products and convolutions in bfloat16 faster than in float32 on
    `device`.

    A CPU without instructions for it takes up to eight times as long; so does one whose torch is
    held to AVX2. On a CPU where this torch cannot tell, the answer is False.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    known = torch.cpu.get_capabilities()
    if known.get("architecture") == "x86_64":
        held_back = not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        return not held_back and any(known.get(name, False) for name in _X86)
    return any(known.get(name, False) for name in _ARM)
