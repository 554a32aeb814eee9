"""The compiled kernels behind their C interface (`arguments.h`), loaded with ctypes."""

from __future__ import annotations

import ctypes
from enum import IntEnum
from pathlib import Path

import torch

_POINTER, _INT64, _INT32, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.int32: 3}


class Scheme(IntEnum):
    """How codes are stored and multiplied."""

    W4A4 = 0
    W4A4_WIDENED = 1
    W4A8 = 2
    W8A8 = 3


class Layout(IntEnum):
    """How the prologue stores a token's codes."""

    PACKED = 0
    BYTES = 1
    EVEN_ODD = 2


class GemmArguments(ctypes.Structure):
    _fields_ = (
        *(
            (name, _POINTER)
            for name in ("activation", "weight", "token_scale", "channel_scale", "bias")
        ),
        *((name, _POINTER) for name in ("layer_scale", "residual", "output", "stream")),
        *((name, _INT64) for name in ("m", "n", "k")),
        *((name, _INT32) for name in ("scheme", "tile", "output_dtype")),
    )


class EpilogueArguments(ctypes.Structure):
    _fields_ = (
        *((name, _POINTER) for name in ("sums", "token_scale", "channel_scale", "bias")),
        *((name, _POINTER) for name in ("layer_scale", "residual", "output", "stream")),
        *((name, _INT64) for name in ("m", "n", "pitch")),
        *((name, _INT32) for name in ("sums_dtype", "output_dtype")),
    )


class PrologueArguments(ctypes.Structure):
    _fields_ = (
        *(
            (name, _POINTER)
            for name in ("input", "norm_weight", "norm_bias", "signs", "smoothing", "clip")
        ),
        *((name, _POINTER) for name in ("codes", "scale", "stream")),
        *((name, _INT64) for name in ("m", "k")),
        *((name, _FLOAT) for name in ("epsilon", "normalizer")),
        *((name, _INT32) for name in ("input_dtype", "gelu", "gated", "largest_code", "layout")),
    )


class QkNormRopeArguments(ctypes.Structure):
    _fields_ = (
        *(
            (name, _POINTER)
            for name in ("qkv", "q_weight", "q_bias", "k_weight", "k_bias", "cosines", "sines")
        ),
        *((name, _POINTER) for name in ("q", "k", "stream")),
        *((name, _INT64) for name in ("batch", "tokens")),
        ("epsilon", _FLOAT),
        *((name, _INT32) for name in ("heads", "width", "dtype")),
    )


_STRUCTURES = (GemmArguments, EpilogueArguments, PrologueArguments, QkNormRopeArguments)


class KernelError(RuntimeError):
    """A kernel could not be started."""


class KernelLibrary:
    """One compiled object. Every method starts kernels on `stream` and returns; raises
    KernelError."""

    def __init__(self, path: Path) -> None:
        self.handle = ctypes.CDLL(str(path))
        self._error = self.handle.quantvggt_error
        self._error.restype = ctypes.c_char_p
        size = self.handle.quantvggt_arguments_bytes
        size.restype = ctypes.c_int64
        for index, structure in enumerate(_STRUCTURES):
            if size(index) != ctypes.sizeof(structure):
                raise KernelError(
                    f"{path}: {structure.__name__} has {size(index)} bytes there; rebuild the "
                    "kernels"
                )

    def gemm(self, arguments: GemmArguments) -> None:
        self._call("quantvggt_gemm", arguments)

    def epilogue(self, arguments: EpilogueArguments) -> None:
        self._call("quantvggt_epilogue", arguments)

    def prologue(self, arguments: PrologueArguments) -> None:
        self._call("quantvggt_prologue", arguments)

    def qk_norm_rope(self, arguments: QkNormRopeArguments) -> None:
        self._call("quantvggt_qk_norm_rope", arguments)

    def _call(self, name: str, arguments: ctypes.Structure) -> None:
        error = getattr(self.handle, name)(ctypes.byref(arguments))
        if error != 0:
            given = ", ".join(
                f"{field[0]}={getattr(arguments, field[0])}" for field in arguments._fields_
            )
            raise KernelError(f"{name}: {self._error(error).decode()} (error {error}; {given})")
