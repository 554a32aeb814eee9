from __future__ import annotations

import sys

import pytest
import torch

from training import memory
from training.memory import keep_freed_memory


def test_large_tensors_survive_the_new_settings() -> None:
    keep_freed_memory()
    assert torch.ones(4_000_000).sum() == 4_000_000


def test_other_platforms_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_name: object) -> object:
        raise AssertionError("the C library was opened")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(memory.ctypes, "CDLL", refuse)
    keep_freed_memory()
