"""Quantised linear layers of VGGT-1B, prologue included, against float and 8-bit layers of others
on this CPU.

    python -m benchmarks.linear --json benchmarks/results/cpu/linear.json

One frame of 518x392 pixels: 1041 tokens. The first baseline is torch's float32 product into a
preallocated output. Every instruction set that this machine runs is measured; ONNX Runtime and
OpenVINO take part if they are installed (extra "benchmarks"), OpenVINO in the precision that it
chooses itself. To see a machine that has AVX2 only, hold torch to it by ATEN_CPU_CAPABILITY=avx2
MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2; ONNX Runtime does not heed that, OpenVINO then
fails and is left out.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Call, arguments, compare, machine, table, write
from kernels import FORMATS, cpu, ops, reference
from kernels.formats import largest_code

LAYERS = {"qkv": (1024, 3072), "proj": (1024, 1024), "fc1": (1024, 4096), "fc2": (4096, 1024)}
SCHEMES = ("w4a4", "w4a8", "w8a8")
TOKENS = 1041


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    report: dict[str, Any] = {"machine": machine(), "tokens": args.tokens, "threads": {}}
    for threads in args.threads:
        torch.set_num_threads(threads)
        layers = report["threads"][str(threads)] = {}
        for layer, (features_in, features_out) in LAYERS.items():
            rows = compare(candidates(args.tokens, features_in, features_out, threads), args.rounds)
            table(f"{layer} {features_in} -> {features_out}, {threads} thread(s)", rows)
            layers[layer] = rows
        layers["all"] = together(layers)
        print(
            "all four:",
            ", ".join(f"{name} {row['speed']:.2f}x" for name, row in layers["all"].items()),
        )
        parts = {
            name: transform_milliseconds(args.tokens, *LAYERS[name], args.rounds) for name in LAYERS
        }
        shares = {name: round(transform / whole, 4) for name, (transform, whole) in parts.items()}
        shares["all"] = round(
            sum(part[0] for part in parts.values()) / sum(part[1] for part in parts.values()), 4
        )
        layers["transform_share"] = shares
        printed = ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())
        print(f"rotation and smoothing, of a W4A4 layer's time: {printed}")
    write(args.json, report)
    return 0


def together(layers: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The layers of a transformer block one after the other: milliseconds, and how many times
    faster than the first."""
    names = [name for name in layers["qkv"] if all(name in rows for rows in layers.values())]
    milliseconds = {
        name: sum(rows[name]["milliseconds"] for rows in layers.values()) for name in names
    }
    baseline = milliseconds[names[0]]
    return {
        name: {"milliseconds": round(ms, 3), "speed": round(baseline / ms, 2)}
        for name, ms in milliseconds.items()
    }


def candidates(tokens: int, features_in: int, features_out: int, threads: int) -> dict[str, Call]:
    """Calls that multiply the same tokens by a weight of the same shape, the baseline first."""
    torch.manual_seed(0)
    x, weight, bias = (
        torch.randn(tokens, features_in),
        torch.randn(features_out, features_in),
        torch.randn(features_out),
    )
    y = torch.empty(tokens, features_out)
    half = [tensor.bfloat16() for tensor in (x, weight, bias, y)]
    calls: dict[str, Call] = {
        "torch float32": lambda: torch.addmm(bias, x, weight.T, out=y),
        "torch bfloat16": lambda: torch.addmm(half[2], half[0], half[1].T, out=half[3]),
        "torch dynamic int8": _torch_int8(weight, bias, x),
    }
    others = {
        "onnxruntime dynamic int8": _onnx_int8(weight, bias, x, threads),
        "openvino int8 weight": _openvino(weight, bias, x, threads, 8),
        "openvino int4 weight": _openvino(weight, bias, x, threads, 4),
    }
    calls |= {name: call for name, call in others.items() if call is not None}
    for path in cpu.available():
        for scheme in SCHEMES:
            calls[f"{path} {scheme}"] = _quantised(path, scheme, x, features_out)
    return calls


def _layer(scheme: str, features_in: int, features_out: int) -> dict[str, Any]:
    number_format = FORMATS[scheme]
    top = number_format.largest_weight_code
    codes = torch.randint(-top, top + 1, (features_out, features_in)).to(torch.int8)
    return {
        "weight": reference.stored_weight(codes, number_format.codes_to_a_byte),
        "weight_scale": torch.rand(features_out),
        "bias": torch.randn(features_out),
        "weight_bits": number_format.stored_bits,
        "activation_bits": number_format.activation_bits,
    }


def _transforms(features: int) -> dict[str, Tensor]:
    return {
        "signs": (2 * torch.randint(0, 2, (features,)) - 1).to(torch.int8),
        "smoothing": torch.rand(features) + 0.5,
    }


def _quantised(path: str, scheme: str, x: Tensor, features_out: int) -> Call:
    layer = _layer(scheme, x.shape[1], features_out) | _transforms(x.shape[1])

    def call() -> None:
        cpu.select(path)
        ops.linear(x, **layer)

    return call


def transform_milliseconds(
    tokens: int, features_in: int, features_out: int, rounds: int
) -> tuple[float, float]:
    """What rotation and smoothing take, and the whole W4A4 layer with them, on the fastest path."""
    cpu.select()
    torch.manual_seed(0)
    x, layer = torch.randn(tokens, features_in), _layer("w4a4", features_in, features_out)
    transforms, bits = _transforms(features_in), layer["activation_bits"]
    rows = compare(
        {
            "with": lambda: ops.linear(x, **layer, **transforms),
            "with prologue": lambda: ops.quantize_rows(x, bits=bits, **transforms),
            "without prologue": lambda: ops.quantize_rows(x, bits=bits),
        },
        4 * rounds,
    )
    fastest = {name: row["fastest_milliseconds"] for name, row in rows.items()}
    return fastest["with prologue"] - fastest["without prologue"], fastest["with"]


def _torch_int8(weight: Tensor, bias: Tensor, x: Tensor) -> Call:
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight.data, linear.bias.data = weight, bias
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces the end of this interface
        quantised: Callable[[Tensor], Tensor] = torch.ao.quantization.quantize_dynamic(
            nn.Sequential(linear), {nn.Linear}, dtype=torch.qint8
        )
    return lambda: quantised(x)


def _onnx_int8(weight: Tensor, bias: Tensor, x: Tensor, threads: int) -> Call | None:
    try:
        import onnx
        import onnxruntime
        from onnx import helper, numpy_helper
    except ImportError:
        return None
    scale = weight.abs().max() / 127
    codes = (weight / scale).round().to(torch.int8).T.contiguous()
    constants = {"codes": codes, "weight_scale": scale.reshape(()), "bias": bias}
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["x_codes", "x_scale", "x_zero"]),
        helper.make_node("MatMulInteger", ["x_codes", "codes", "x_zero"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["float_sums"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["x_scale", "weight_scale"], ["scale"]),
        helper.make_node("Mul", ["float_sums", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [len(x), len(weight)])],
        [numpy_helper.from_array(value.numpy(), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"x": x.numpy()})


def _openvino(weight: Tensor, bias: Tensor, x: Tensor, threads: int, bits: int) -> Call | None:
    """A layer with a compressed weight, one scale an output channel."""
    try:
        import openvino
        from openvino import opset13 as opset
    except ImportError:
        return None
    scale = weight.abs().amax(dim=1, keepdim=True) / largest_code(bits)
    codes = (weight / scale).round().to(torch.int8)
    kind = {8: openvino.Type.i8, 4: openvino.Type.i4}[bits]
    tokens = opset.parameter(list(x.shape), openvino.Type.f32)
    stored = opset.convert(opset.constant(codes.numpy(), dtype=kind), "f32")
    product = opset.matmul(
        tokens, opset.multiply(stored, opset.constant(scale.numpy())), False, True
    )
    model = openvino.Model([opset.add(product, opset.constant(bias.numpy()))], [tokens])
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    try:
        request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    except RuntimeError as error:
        print(f"OpenVINO is left out: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return lambda: request.infer([x.numpy()])


if __name__ == "__main__":
    sys.exit(main())
