from __future__ import annotations

import pytest
import torch

from kernels import computes_bfloat16

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def _processor(
    monkeypatch: pytest.MonkeyPatch, held_to: str = "AVX512", **capabilities: bool | str
) -> None:
    """A stand-in for what torch says of the processor, and of the instructions that it uses
    itself."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: held_to)


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16"])
def test_an_x86_processor_with_instructions_for_it_computes_bfloat16(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _processor(monkeypatch, architecture="x86_64", **{name: True})
    assert computes_bfloat16(CPU)


def test_an_x86_processor_without_them_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    _processor(monkeypatch, architecture="x86_64", avx2=True, avx512_vnni=True, avx512_bf16=False)
    assert not computes_bfloat16(CPU)


def test_a_torch_that_is_held_to_avx2_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    _processor(monkeypatch, held_to="AVX2", architecture="x86_64", avx512_bf16=True, amx_bf16=True)
    assert not computes_bfloat16(CPU)


@pytest.mark.parametrize("present", [True, False])
def test_an_arm_processor_does_if_it_has_the_extension(
    present: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _processor(monkeypatch, held_to="DEFAULT", architecture="aarch64", neon=True, bf16=present)
    assert computes_bfloat16(CPU) is present


def test_a_torch_that_cannot_tell_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not computes_bfloat16(CPU)


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_a_gpu_does_from_compute_capability_8_on(
    capability: tuple[int, int], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert computes_bfloat16(GPU) is expected
