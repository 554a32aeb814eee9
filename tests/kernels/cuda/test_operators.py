from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from kernels import FORMATS, QuantizedLinear, kernel_path, ops, reference
from kernels.cuda import operators
from kernels.cuda.backend import CudaBackend
from kernels.cuda.build import BuildError
from kernels.cuda.library import KernelError, KernelLibrary
from kernels.cuda.targets import Target
from kernels.cuda.tiles import tiles_of

ROOT = Path(__file__).parents[3]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


@pytest.fixture
def device_of_capability(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stand-in for what torch says about GPU 0: compute capability 7.5, until a test changes
    it."""
    properties = SimpleNamespace(major=7, minor=5, multi_processor_count=40)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    operators._find_backend.cache_clear()
    yield
    operators._find_backend.cache_clear()


def test_importing_the_kernels_builds_nothing_and_touches_no_gpu() -> None:
    code = (
        "import subprocess\n"
        "subprocess.run = subprocess.Popen = None\n"
        "import kernels.cuda, torch, ctypes\n"
        "assert not torch.cuda.is_initialized()\n"
        "from kernels.cuda import operators\n"
        "assert operators._find_backend.cache_info().misses == 0\n"
        "assert operators._load.cache_info().misses == 0\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_path_says_so() -> None:
    assert str(kernel_path("cuda")) == "reference (torch sees no GPU)"


@pytest.mark.usefixtures("device_of_capability")
def test_a_capability_without_kernels_is_named_once_and_computes_in_plain_torch(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reason = (
        "there are no kernels for compute capability 7.5, "
        "only for 8.0, 8.6, 8.9, 9.0, 10.0, 10.3, 12.0"
    )
    with caplog.at_level(logging.WARNING):
        assert str(kernel_path("cuda")) == f"reference ({reason})"
        assert not kernel_path("cuda:0").native
    assert [record.getMessage() for record in caplog.records] == [
        f"GPU 0 computes in plain torch: {reason}"
    ]


@pytest.mark.usefixtures("device_of_capability")
def test_kernels_that_cannot_be_built_are_reported_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def build(target: Target) -> Path:
        raise BuildError("nvcc was not found")

    monkeypatch.setattr(operators, "TARGETS", {(7, 5): Target((7, 5), "sm_75")})
    monkeypatch.setattr(operators, "build", build)
    assert (
        str(kernel_path("cuda"))
        == "reference (the kernels for sm_75 are missing: nvcc was not found)"
    )


@pytest.mark.usefixtures("device_of_capability")
def test_a_graph_that_captures_the_first_use_is_told_to_ask_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(KernelError, match=r"ask kernels.kernel_path\('cuda:0'\) before"):
        operators.find_backend(torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    found = kernel_path("cuda")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert kernel_path("cuda") == found


def test_the_path_of_a_gpu_says_which_operators_and_layers_have_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = Target((8, 0), "sm_80", int4=True)
    backend = CudaBackend(
        cast(KernelLibrary, None), target, 108, lambda device: 0, tiles_of(target)
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(operators, "find_backend", lambda device: backend)
    path = kernel_path("cuda")
    assert str(path) == "cuda sm_80"
    assert path.operators == {"quantize_rows", "integer_matmul", "linear", "qk_norm_rope"}
    assert path.fits(1024, True)
    assert path.fits(1536, False)
    assert not path.fits(1536, True)  # no rotation kernel but for powers of two
    assert not path.fits(8192, True)  # wider than a thread block holds
    assert not path.fits(40, False)


def _layer() -> QuantizedLinear:
    torch.manual_seed(0)
    signs = (2 * torch.randint(0, 2, (256,)) - 1).to(torch.int8)
    weight, bias, smoothing = torch.randn(96, 256), torch.randn(96), torch.rand(256) + 0.5
    return QuantizedLinear.from_float(
        FORMATS["w4a4"], weight, bias, signs=signs, smoothing=smoothing
    )


@pytest.mark.cuda
@needs_gpu
def test_a_gpu_has_native_kernels_or_says_why_not() -> None:
    path = kernel_path("cuda")
    assert path.native or path.reason
    backend = operators.find_backend(torch.device("cuda"))
    assert isinstance(backend, CudaBackend) == path.native
    if isinstance(backend, CudaBackend):
        assert backend.tiles == tiles_of(backend.target)  # all of them passed their trial


@pytest.mark.cuda
@needs_gpu
def test_a_layer_on_a_gpu_computes_what_it_computes_on_a_cpu() -> None:
    layer, x = _layer(), torch.randn(50, 256)
    expected = reference_output(layer, x)
    assert torch.equal(layer.cuda()(x.cuda()).cpu(), expected)


@pytest.mark.cuda
@needs_gpu
def test_streams_do_not_disturb_each_other() -> None:
    layer = _layer()
    inputs = [torch.randn(700 + 13 * i, 256) for i in range(6)]
    expected = [reference_output(layer, x) for x in inputs]
    layer.cuda()
    on_gpu = [x.cuda() for x in inputs]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in inputs]
    outputs = []
    for _ in range(5):
        for x, stream in zip(on_gpu, streams, strict=True):
            with torch.cuda.stream(stream):
                outputs.append(layer(x))
    torch.cuda.synchronize()
    for i, output in enumerate(outputs):
        assert torch.equal(output.cpu(), expected[i % len(inputs)])


@pytest.mark.cuda
@needs_gpu
def test_a_captured_graph_replays_with_new_input() -> None:
    layer, first, second = _layer(), torch.randn(64, 256), torch.randn(64, 256)
    expected = reference_output(layer, second)
    layer.cuda()
    static = first.cuda()
    layer(static)  # builds and loads the kernels, and lets torch's allocator warm up
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = layer(static)
    static.copy_(second)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(output.cpu(), expected)


@pytest.mark.cuda
@needs_gpu
def test_attention_heads_are_those_of_a_cpu() -> None:
    torch.manual_seed(0)
    qkv, weight, table = torch.randn(2, 33, 3, 4, 64), torch.rand(64) + 0.5, torch.randn(33, 64)
    arguments = {
        "q_weight": weight,
        "q_bias": weight,
        "k_weight": weight,
        "k_bias": weight,
        "cos": table,
        "sin": table,
    }
    expected = ops.qk_norm_rope(qkv, **arguments)
    got = ops.qk_norm_rope(qkv.cuda(), **{name: value.cuda() for name, value in arguments.items()})
    for ours, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=4e-6, atol=4e-6)


@pytest.mark.cuda
@needs_gpu
def test_tensors_on_different_devices_are_refused() -> None:
    with pytest.raises(ValueError, match=r"weight is .* on cpu; expected .* on cuda:0"):
        _layer()(torch.randn(3, 256, device="cuda:0"))


def reference_output(layer: QuantizedLinear, x: torch.Tensor) -> torch.Tensor:
    """What the definition computes on a CPU for a layer without LayerNorm or GELU."""
    return reference.linear(
        x,
        layer.weight,
        layer.weight_scale,
        layer.bias,
        layer.format.activation_bits,
        layer.format.stored_bits,
        None,
        None,
        ops.NORM_EPS,
        False,
        layer.signs,
        layer.smoothing,
        layer.activation_clip,
        None,
        None,
    )
