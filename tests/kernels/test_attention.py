"""The choice between torch's kernels for attention. A CPU has two of them, under the names of what
a GPU has."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend

from kernels import attention
from kernels.attention import AS_TORCH, BACKENDS, attend, attend_by
from kernels.fastest import Fastest


def _heads(queries: int = 40, keys: int = 40, width: int = 64) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 3, tokens, width) for tokens in (queries, keys, keys)]


@pytest.fixture
def times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fastest:
    """A table for a CPU that is asked like a GPU."""
    table = Fastest(tmp_path, "a machine", torch.device("cpu"))
    monkeypatch.setattr(attention, "_times", lambda q: table)
    return table


def test_a_cpu_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "fastest_on", None)
    q, k, v = _heads()
    assert torch.equal(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("keys", [40, 7])  # of all tokens, or of a few
def test_the_first_call_of_a_shape_measures_and_all_give_attention(
    times: Fastest, keys: int
) -> None:
    q, k, v = _heads(keys=keys)
    expected = F.scaled_dot_product_attention(q, k, v)
    for _ in range(2):
        torch.testing.assert_close(attend(q, k, v), expected)
    torch.testing.assert_close(
        attend(q[:, :, :-1], k, v), F.scaled_dot_product_attention(q[:, :, :-1], k, v)
    )
    (what,) = times.times
    assert what == f"attention 2 x 64 x {64 if keys == 40 else 8}, 3 heads of 64, torch.float32"
    assert set(times.times[what]) == {AS_TORCH, *BACKENDS}
    assert times.times[what][AS_TORCH] is not None


def test_what_a_device_does_not_have_is_never_chosen(times: Fastest) -> None:
    q, k, v = _heads()
    attend(q, k, v)
    (measured,) = times.times.values()
    assert measured["cudnn"] is None  # this is a CPU
    with pytest.raises(RuntimeError):
        attend_by("cudnn", q, k, v)


def test_another_kernel_computes_where_the_chosen_one_can_not(
    times: Fastest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "choose", lambda what, ways: "cudnn")
    q, k, v = _heads()
    torch.testing.assert_close(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_each_kernel_is_attention_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "plain", SDPBackend.MATH)
    q, k, v = _heads()
    for name in (AS_TORCH, "flash", "plain"):
        torch.testing.assert_close(
            attend_by(name, q, k, v), F.scaled_dot_product_attention(q, k, v)
        )


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_a_gpu_gives_the_attention_of_a_cpu() -> None:
    q, k, v = (value.bfloat16() for value in _heads(queries=300, keys=130))
    expected = F.scaled_dot_product_attention(q.float(), k.float(), v.float())
    got = attend(q.cuda(), k.cuda(), v.cuda()).cpu().float()
    torch.testing.assert_close(got, expected, rtol=0.02, atol=0.02)
