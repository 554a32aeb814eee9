"""What an operator accepts: every error names the operator, the argument, what was given and what
was expected."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.formats import BYTE_BITS, PACKED, PACKED_BITS
from kernels.hadamard import base_order

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
# products of the widest codes, one of them shifted to unsigned, sum to less than 2^31 up to here
LARGEST_FEATURES = 2 ** (31 - (BYTE_BITS - 1) - BYTE_BITS)


def mismatch(op: str, name: str, got: Tensor, expected: str) -> ValueError:
    layout = "" if got.is_contiguous() else ", not contiguous"
    return ValueError(
        f"{op}: {name} is {got.dtype} {list(got.shape)} on {got.device}{layout}; expected "
        f"{expected}"
    )


def check_bits(op: str, name: str, bits: int, allowed: tuple[int, ...]) -> None:
    if bits not in allowed:
        raise ValueError(f"{op}: {name} is {bits}; expected one of {', '.join(map(str, allowed))}")


def _matches(got: Tensor, shape: tuple[int | None, ...]) -> bool:
    sizes = got.shape
    return sizes == shape or (
        len(sizes) == len(shape)
        and all(want in (None, size) for size, want in zip(sizes, shape, strict=True))
    )


def check_tensor(
    op: str,
    name: str,
    got: Tensor | None,
    dtype: torch.dtype,
    shape: tuple[int | None, ...],
    device: torch.device,
) -> None:
    if got is None or (
        got.dtype == dtype and got.device == device and got.is_contiguous() and _matches(got, shape)
    ):
        return
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    raise mismatch(op, name, got, f"contiguous {dtype} [{sizes}] on {device}")


def check_float(op: str, name: str, got: Tensor, shape: tuple[int | None, ...]) -> None:
    if got.dtype in FLOATS and got.is_contiguous() and _matches(got, shape):
        return
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    raise mismatch(op, name, got, f"contiguous float32, float16 or bfloat16 [{sizes}]")


def check_features(op: str, features: int) -> None:
    if not 0 < features <= LARGEST_FEATURES:
        raise ValueError(
            f"{op}: {features} input features; expected 1 to {LARGEST_FEATURES} (int32 "
            "accumulators)"
        )


def check_weight(op: str, weight: Tensor, features: int, bits: int, device: torch.device) -> None:
    check_features(op, features)
    if bits == PACKED_BITS:
        if features % PACKED:
            raise ValueError(
                f"{op}: {features} input features; expected an even number with a {bits}-bit weight"
            )
        check_tensor(op, "weight", weight, torch.uint8, (None, features // PACKED), device)
    else:
        check_tensor(op, "weight", weight, torch.int8, (None, features), device)
    if weight.shape[0] < 1:
        raise mismatch(op, "weight", weight, "at least one output channel")


def check_rows(
    op: str,
    x: Tensor,
    features: int,
    norm_weight: Tensor | None,
    norm_bias: Tensor | None,
    signs: Tensor | None,
    smoothing: Tensor | None,
    clip: Tensor | None,
    gated: bool = False,
) -> None:
    width = 2 * features if gated else features
    if x.dtype not in FLOATS or x.dim() < 1 or x.shape[-1] != width or not x.is_contiguous():
        raise mismatch(op, "x", x, f"contiguous float32, float16 or bfloat16 [..., {width}]")
    check_features(op, features)
    check_tensor(op, "norm_weight", norm_weight, torch.float32, (features,), x.device)
    check_tensor(op, "norm_bias", norm_bias, torch.float32, (features,), x.device)
    check_tensor(op, "signs", signs, torch.int8, (features,), x.device)
    check_tensor(op, "smoothing", smoothing, torch.float32, (features,), x.device)
    check_tensor(op, "clip", clip, torch.float32, (2,), x.device)
    if signs is not None:
        base_order(features)
