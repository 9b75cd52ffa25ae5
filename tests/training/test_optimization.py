"""Learning rate, parameter groups, the running average."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from sam_edge.training.optimization import (
    averaged,
    freeze,
    make_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_rate,
)
from sam_edge.training.recipe import Phase, TrainRecipe
from sam_edge_runtime.errors import UsageError

RECIPE = TrainRecipe("nano", ("a.tar",), (Phase(50, 256), Phase(60, 512)), warm_up=10, learning_rate=0.5)


def test_the_rate_rises_linearly_and_falls_as_half_a_cosine():
    assert [RECIPE.rate_at(step) for step in (0, 4, 9, 10)] == pytest.approx([0.05, 0.25, 0.5, 0.5])
    assert RECIPE.rate_at(60) == pytest.approx(0.5 * (0.02 + 0.98 * 0.5))  # halfway down
    assert RECIPE.rate_at(110) == pytest.approx(0.5 * 0.02)
    assert replace(RECIPE, warm_up=0).rate_at(0) == 0.5
    falling = [RECIPE.rate_at(step) for step in range(10, 110)]
    assert all(a > b for a, b in pairwise(falling))


def test_a_phase_s_own_rate_falls_within_it_and_the_others_go_on_without_it():
    first, second, last = Phase(50, 256), Phase(20, 512, learning_rate=0.2), Phase(60, 512)
    recipe = replace(RECIPE, phases=(first, second, last))
    assert [recipe.rate_at(step) for step in (0, 30, 49)] == [RECIPE.rate_at(step) for step in (0, 30, 49)]
    assert [recipe.rate_at(step) for step in (50, 60)] == pytest.approx([0.2, 0.2 * 0.51])
    assert [recipe.rate_at(step) for step in (70, 129)] == [RECIPE.rate_at(step) for step in (50, 109)]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Linear(3, 2)
        self.mask_tokens = nn.Embedding(4, 3)
        self.frozen = nn.Linear(2, 2).requires_grad_(requires_grad=False)


def test_parameters_are_grouped_by_decay_and_by_pretraining():
    net = Net()
    optimizer = make_optimizer(net, RECIPE, {"kernel.weight"})
    set_rate(optimizer, 0.4)
    found = {name: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for name in group["names"]}
    assert found == {
        "kernel.weight": (pytest.approx(0.4 * 0.3), 0.05),
        "kernel.bias": (0.4, 0.0),
        "mask_tokens.weight": (0.4, 0.0),
    }


def test_the_optimizer_s_moments_are_restored():
    net, other = Net(), Net()
    other.load_state_dict(net.state_dict())
    first, second = (make_optimizer(each, RECIPE, ()) for each in (net, other))

    def step(each: Net, optimizer: torch.optim.Optimizer) -> None:
        each.kernel(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    step(net, first)
    other.load_state_dict(net.state_dict())
    restore_optimizer(second, {name: value.clone() for name, value in optimizer_tensors(first).items()})
    for each, optimizer in ((net, first), (other, second)):
        step(each, optimizer)
    for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_average_soon_forgets_the_initial_weights():
    net = nn.Linear(1, 1, bias=False)
    average = averaged(net, 0.9)
    expected = math.nan
    for step, value in enumerate((1.0, 2.0, 4.0, 8.0)):
        nn.init.constant_(net.weight, value)
        average.update_parameters(net)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = value if step == 0 else decay * expected + (1 - decay) * value
    assert average.module.weight.item() == pytest.approx(expected)


def test_frozen_parts_get_no_gradient_and_no_rate():
    net = Net()
    freeze(net, ("kernel.weight", "mask_tokens"))
    assert [name for name, weight in net.named_parameters() if weight.requires_grad] == ["kernel.bias"]
    optimizer = make_optimizer(net, RECIPE, ())
    assert [name for group in optimizer.param_groups for name in group["names"]] == ["kernel.bias"]
    with pytest.raises(UsageError, match="no part 'kern'"):
        freeze(net, ("kern",))
    with pytest.raises(UsageError, match="no weight is left"):
        freeze(net, ("kernel",))
