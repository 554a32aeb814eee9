"""What the parts of a pass of VGGT-1B take on this CPU: as published in float32, and as served.

    python -m benchmarks.parts --json benchmarks/results/cpu/parts.json

"float32" is this project's own network with all heads of the public one. "served" has W4A4
layers, 8-bit attention, dense heads that may be bfloat16 (on a CPU that is slow in it: float32 with
fewer products) and no point head, which nobody reads. Frames are 518x392 pixels, weights random.

Both networks have VGGT-1B's widths and two blocks of each kind (`--blocks`); **what 24 of each take
is extrapolated from them**, everything else is measured. One thread, processor time, both networks
in turn. To see a CPU that has AVX2 only, hold everything to it by QUANTVGGT_KERNELS=avx2
ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2. To
see one that has AVX-512 VNNI and no bfloat16, say --slow-bfloat16 and hold kernels and oneDNN to it
by QUANTVGGT_KERNELS=avx512 ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.random_network import HEADS, random_network
from benchmarks.timing import machine, write
from kernels import computes_bfloat16
from model import VGGT
from model.families.vggt.config import VGGTConfig
from model.families.vggt.presets import PRESETS
from model.network.config import VisionTransformerConfig
from model.network.dpt_head import Conv2d, DPTHead
from model.network.transformer import Block
from quantization.recipe import Recipe

HEIGHT, WIDTH = 392, 518
WHOLE = 24  # blocks of each kind in VGGT-1B
LINEAR, ATTENTION, PLACED = "linear layers, norms, GELU", "attention", "queries and keys"
OF_BLOCKS = (LINEAR, ATTENTION, PLACED)
CONVOLUTIONS, REST = "convolutions of the {} head", "the rest"
PLAIN, SERVED = "float32", "served"  # the networks


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=2, help="blocks of each kind")
    parser.add_argument("--only", choices=(PLAIN, SERVED), help="this network, not both in turn")
    parser.add_argument(
        "--slow-bfloat16", action="store_true", help="dense heads as on a CPU that is slow in it"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    report: dict[str, Any] = {"machine": machine(), "size": [HEIGHT, WIDTH], "frames": {}}
    report["bfloat16"] = computes_bfloat16(torch.device("cpu")) and not args.slow_bfloat16
    networks = {}
    if args.only != SERVED:
        networks[PLAIN] = random_network(None, network_config(args.blocks, HEADS))
    if args.only != PLAIN:
        served = random_network(Recipe(), network_config(args.blocks, ("camera", "depth")))
        served.attention, served.dense_heads = "int8", "bfloat16"
        for head in served.dense() if args.slow_bfloat16 else ():
            head.dtype = lambda device: torch.float32
        networks[SERVED] = served
    for frames in args.frames:
        seconds = measure(networks, torch.rand(frames, 3, HEIGHT, WIDTH), args.rounds, args.blocks)
        report["frames"][str(frames)] = seconds
        _print(frames, seconds)
        write(args.json, report)
    return 0


def network_config(blocks: int, heads: tuple[str, ...]) -> VGGTConfig:
    """VGGT-1B with fewer blocks."""
    config = PRESETS["vggt-1b"].with_heads(heads)
    encoder = VisionTransformerConfig(
        config.img_size, config.patch_size, config.embed_dim, blocks, config.num_heads
    )
    fewer = {
        name: replace(head, intermediate_layer_idx=(0, 0, 0, blocks - 1))
        for name in ("depth_head", "point_head")
        if (head := getattr(config, name)) is not None
    }
    return replace(
        config,
        depth=blocks,
        patch_embed="dino_vit",
        patch_embed_vit=encoder,
        **fewer,
    )


def measure(
    networks: dict[str, VGGT], images: torch.Tensor, rounds: int, blocks: int
) -> dict[str, dict[str, float]]:
    """Seconds of every part of a pass of each network, and of all together, in VGGT-1B."""
    for net in networks.values():
        net(images)  # pays for what is made once
    taken = {name: Counter[str]() for name in networks}
    for _ in range(rounds):
        for name, net in networks.items():
            with _timed(net, taken[name]):
                net(images)
    found = {}
    for name, seconds in taken.items():
        parts = {part: value / rounds for part, value in seconds.items()}
        for part in OF_BLOCKS:
            parts[part] *= WHOLE / blocks
        found[name] = {part: round(value, 3) for part, value in parts.items()}
        found[name]["all"] = round(sum(parts.values()), 3)
    return found


class _Operators(TorchDispatchMode):
    """Adds up what attention and the way to it take while a block runs."""

    def __init__(self, seconds: Counter[str]) -> None:
        super().__init__()
        self.seconds = seconds

    def __torch_dispatch__(
        self, operator: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        started = time.process_time()
        made = operator(*arguments, **(options or {}))
        name = str(operator)
        if "attention" in name:
            self.seconds[ATTENTION] += time.process_time() - started
        elif "rope" in name:
            self.seconds[PLACED] += time.process_time() - started
        return made


@contextmanager
def _timed(net: VGGT, seconds: Counter[str]) -> Iterator[None]:
    """Adds the seconds of the parts of whatever `net` does meanwhile."""
    inside: Counter[str] = Counter()
    handles = []
    for name, module in net.named_modules():
        part = _part(net, name, module)
        if part is None:
            continue
        begin, end = _around(part, inside)
        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    operators: Counter[str] = Counter()
    started = time.process_time()
    with _Operators(operators):
        yield
    whole = time.process_time() - started
    for handle in handles:
        handle.remove()
    inside[REST] = whole - sum(inside.values())
    inside[LINEAR] -= sum(operators.values())
    seconds.update(inside + operators)


def _part(net: VGGT, name: str, module: nn.Module) -> str | None:
    """What is timed as a whole."""
    if isinstance(module, Block) and not name.startswith("camera_head"):
        return LINEAR
    head = name.split(".")[0]
    if isinstance(module, Conv2d) and isinstance(net.get_submodule(head), DPTHead):
        return CONVOLUTIONS.format(head.removesuffix("_head"))
    return None


def _around(part: str, seconds: Counter[str]) -> tuple[Callable[..., None], Callable[..., None]]:
    started = 0.0

    def begin(*_: object) -> None:
        nonlocal started
        started = time.process_time()

    def end(*_: object) -> None:
        seconds[part] += time.process_time() - started

    return begin, end


def _print(frames: int, seconds: dict[str, dict[str, float]]) -> None:
    print(f"{frames} frame(s), one thread: seconds in {', '.join(seconds)}")
    for part in next(iter(seconds.values())):
        taken = [of.get(part, 0.0) for of in seconds.values()]
        speed = f"{taken[0] / taken[-1]:5.2f}x" if taken[-1] else "  left out"
        columns = " ".join(f"{value:8.2f}" for value in taken)
        print(f"  {part:32} {columns}" + (f"   {speed}" if len(taken) > 1 else ""))


if __name__ == "__main__":
    sys.exit(main())
