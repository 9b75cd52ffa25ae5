"""Grids of weights in training: they begin as earlier training left them, and quantizers recognize what they round."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from sam_edge.quantization.weight_grids import WeightGrids, round_layers
from sam_edge_quant.methods.weight_scales import has_qat_scales, qat_scales


def model_of(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 20, 3), nn.Conv2d(20, 20, 3, groups=20), nn.ConvTranspose2d(20, 6, 2, 2))


def rows(layer: nn.Module) -> torch.Tensor:
    return layer.weight.detach().movedim(1 if isinstance(layer, nn.ConvTranspose2d) else 0, 0).flatten(1)


def layer_of(weight: torch.Tensor) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2])
    layer.weight = nn.Parameter(weight.detach())
    return layer


def test_weights_are_rounded_once_whatever_their_largest_has_become():
    model = model_of(0)
    round_layers(model)
    once = copy.deepcopy(model)
    with torch.no_grad():
        model[0].weight[3] += 0.01 * torch.arange(27.0).reshape(3, 3, 3)  # this channel leaves its grid
    moved = model[0].weight[3].clone()
    round_layers(model)
    for layer, before in zip(model, once, strict=True):
        same = [torch.equal(a, b) for a, b in zip(rows(layer), rows(before), strict=True)]
        assert [index for index, each in enumerate(same) if not each] == ([3] if layer is model[0] else [])
    assert not torch.equal(model[0].weight[3], moved)


def test_weights_that_are_on_a_grid_stay_as_they_are():
    model = model_of(0)
    round_layers(model)
    grids = WeightGrids(model)
    for layer in model:
        assert torch.equal(grids.rounded(layer.weight), layer.weight)


def test_quantizers_recognize_the_scales_after_weights_and_gains_have_moved():
    model = model_of(1)
    grids = WeightGrids(model)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in model:
            layer.weight.add_(torch.randn(layer.weight.shape, generator=generator) * 0.3 * layer.weight.std())
        for gain in grids.gains.parameters():
            gain.add_(torch.randn(gain.shape, generator=generator) * 0.05)
    rounded = copy.deepcopy(model)
    grids.round_layers(rounded)
    for layer, before in zip(rounded, model, strict=True):
        assert has_qat_scales(rows(layer).numpy()).all()
        assert torch.equal(layer.weight.half().float(), layer.weight)
        torch.testing.assert_close(layer.weight, grids.rounded(before.weight))


def test_a_gain_scales_a_channel_without_rounding_it_anew():
    model = model_of(3)
    round_layers(model)
    grids, layer = WeightGrids(model), model[0]
    before = qat_scales(rows(layer).numpy())
    with torch.no_grad():
        grids.gains.get_parameter("0")[:] = 0.05
    after = rows(layer_of(grids.rounded(layer.weight))).numpy()
    scales = qat_scales(after)
    assert scales / before == pytest.approx(1.284, rel=1 / 32)  # exp(5 * 0.05), in five significant bits
    integers = [np.rint(rows(layer).numpy() / before[:, None]), np.rint(after / scales[:, None])]
    different = integers[0] != integers[1]
    assert different.sum(axis=1).max() <= 1, "only the largest weight may grow, so that the scale is recognized"
    assert np.abs(integers[0] - integers[1]).max() <= 2


def test_gradients_of_weights_and_gains():
    model = model_of(4)
    round_layers(model)
    grids, layer = WeightGrids(model), model[0]
    direction = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(5))
    (grids.rounded(layer.weight) * direction).sum().backward()
    torch.testing.assert_close(layer.weight.grad, direction)
    expected = 5.0 * (direction * layer.weight.detach()).sum(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(grids.gains.get_parameter("0").grad, expected)
