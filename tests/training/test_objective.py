from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from model import VGGT, VGGTConfig
from scenes.synthetic.generator import render_batch
from training import TrainingConfig
from training import objective as objective_module
from training.batches import TrainingBatches, concatenate
from training.initialisation import initialise
from training.objective import LossWeights, Objective


def test_training_on_one_batch_lowers_every_supervised_loss(
    tiny: TrainingConfig, tiny_network: VGGTConfig
) -> None:

    torch.manual_seed(0)
    net = VGGT(tiny_network)
    initialise(net)
    objective = Objective(net, LossWeights())
    batches = TrainingBatches(tiny.batches, seed=0, steps=10)
    batches.hold(0, concatenate([batches.render(0)]))
    batch = batches.part(0)
    everything = torch.arange(batch.images.shape[0] * batch.images.shape[1])
    optimiser = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    history = []
    for _ in range(40):
        terms = objective(batch, everything, 1.0)
        optimiser.zero_grad()
        terms["total"].backward()
        optimiser.step()
        history.append({name: value.item() for name, value in terms.items()})
    for name in ("total", "camera", "depth", "point", "patch_point", "patch_depth", "attention"):
        assert history[-1][name] < history[0][name], name


def test_a_faded_attention_loss_is_not_computed(tiny_network: VGGTConfig) -> None:

    objective = Objective(VGGT(tiny_network), LossWeights())
    batch = render_batch([0], split="train", num_views=2, height=24, width=24).normalised()
    assert "attention" not in objective(batch, torch.tensor([0]), 0.0)
    assert "attention" in objective(batch, torch.tensor([0]), 0.5)


def test_the_attention_that_is_taught_is_the_one_that_the_block_computes(
    tiny_network: VGGTConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed, taught = [], []
    attend, teach = F.scaled_dot_product_attention, objective_module.attention_matching_loss
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda q, k, v: computed.append((q, k)) or attend(q, k, v),
    )
    monkeypatch.setattr(
        objective_module,
        "attention_matching_loss",
        lambda q, k, *rest: taught.append((q, k)) or teach(q, k, *rest),
    )
    net = VGGT(tiny_network)
    with torch.no_grad():  # a norm that changes its input
        net.aggregator.global_blocks[1].norm1.weight.mul_(3.0)
    heads = tiny_network.num_heads
    objective = Objective(net, LossWeights(), attention_heads=heads)
    batch = render_batch([0], split="train", num_views=2, height=24, width=24).normalised()
    objective(batch, torch.tensor([0]), 1.0)
    (q, k), *_ = taught
    assert any(
        torch.equal(q, other) and torch.equal(k, keys)
        for other, keys in computed
        if other.shape == q.shape
    )


def test_a_network_without_the_heads_to_train_is_refused(tiny_network: VGGTConfig) -> None:
    with pytest.raises(ValueError, match="camera, depth and point heads"):
        Objective(VGGT(replace(tiny_network, point_head=None)), LossWeights())


def test_dense_losses_see_only_the_chosen_frames(tiny_network: VGGTConfig) -> None:
    objective = Objective(VGGT(tiny_network), LossWeights())
    batch = render_batch([0], split="train", num_views=2, height=24, width=24).normalised()
    with torch.no_grad():
        before = objective(batch, torch.tensor([0]), 0.0)
        batch.depth[0, 1] *= 3
        after = objective(batch, torch.tensor([0]), 0.0)
    assert before["depth"] == after["depth"]
    assert before["point"] == after["point"]
    assert before["patch_depth"] != after["patch_depth"]
