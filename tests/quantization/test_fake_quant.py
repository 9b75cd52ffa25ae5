"""Fake quantization: what is rounded, what is not, and that quantizers recover the scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sam_edge.quantization.fake_quant import (
    FakeQuant,
    fake_quantization,
    rounded_inputs,
    rounded_weight,
)
from sam_edge.quantization.weight_grids import round_layers
from sam_edge_quant.methods.weight_scales import QAT_MAX, has_qat_scales, qat_scales_for, symmetric_scales

GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR)


@pytest.mark.parametrize("shift", [0.0, 3.0, -9.0])
def test_inputs_have_at_most_256_values_and_zero_stays(shift):
    values = normal(3, 50) + shift
    values[0, 0] = 0.0
    rounded = rounded_inputs(values)
    scale = (values.max().clamp(min=0) - values.min().clamp(max=0)) / 255
    assert rounded.unique().numel() <= 256
    assert rounded[0, 0] == 0
    assert (rounded - values).abs().max() <= scale * 0.5001
    assert torch.equal(rounded_inputs(torch.zeros(4)), torch.zeros(4))


@pytest.mark.parametrize("axis", [0, 1])
def test_each_channel_of_a_weight_has_one_scale(axis):
    weight = normal(6, 5, 3, 3)
    rows = rounded_weight(weight, axis).movedim(axis, 0).flatten(1)
    assert has_qat_scales(rows.numpy()).all()
    before = weight.movedim(axis, 0).flatten(1)
    scales = torch.from_numpy(qat_scales_for(before.abs().amax(1, keepdim=True).numpy())).float()
    assert ((rows - before).abs() <= scales * 0.5001).all()
    assert (scales * QAT_MAX < before.abs().amax(1, keepdim=True) * 1.0626).all()
    assert torch.equal(rows.half().float(), rows)
    assert not has_qat_scales(before.numpy()).any()


def test_the_gradient_passes_the_rounding_unchanged():
    linear, inputs = nn.Linear(8, 4), normal(5, 8).requires_grad_()
    with FakeQuant():
        linear(inputs).sum().backward()
    rounded_w, rounded_x = rounded_weight(linear.weight, 0), rounded_inputs(inputs)
    torch.testing.assert_close(inputs.grad, rounded_w.sum(0).expand(5, 8))
    torch.testing.assert_close(linear.weight.grad, rounded_x.sum(0).expand(4, 8))


@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Conv2d(6, 4, 1), nn.ConvTranspose2d(6, 4, 2, 2)])
def test_a_layer_computes_with_rounded_inputs_and_weights(layer):
    inputs = normal(2, 6) if isinstance(layer, nn.Linear) else normal(2, 6, 4, 4)
    with fake_quantization(enabled=True):
        outputs = layer(inputs)
    axis = int(isinstance(layer, nn.ConvTranspose2d))
    weight, rounded = rounded_weight(layer.weight, axis), rounded_inputs(inputs)
    function = {nn.Linear: F.linear, nn.Conv2d: F.conv2d, nn.ConvTranspose2d: F.conv_transpose2d}[type(layer)]
    stride = () if isinstance(layer, nn.Linear) else (layer.stride,)
    torch.testing.assert_close(outputs, function(rounded, weight, layer.bias, *stride))
    round_layers(layer)
    torch.testing.assert_close(layer.weight, weight)


def test_chosen_layers_have_rounded_inputs_and_keep_their_weights():
    one, other, inputs = nn.Linear(8, 8), nn.Linear(8, 8), normal(5, 8)
    with FakeQuant([one.weight]):
        first, second = one(inputs), other(inputs)
    torch.testing.assert_close(first, F.linear(rounded_inputs(inputs), one.weight, one.bias))
    assert torch.equal(second, other(inputs))


def test_quantizers_recover_the_scales_of_training():
    before = normal(500, 40) * torch.linspace(0.1, 30, 500)[:, None]
    weight = rounded_weight(before, 0).numpy()
    expected = qat_scales_for(before.abs().amax(1).numpy())
    assert has_qat_scales(weight).all()
    for avoid_saturation in (False, True):
        np.testing.assert_allclose(symmetric_scales(weight, avoid_saturation=avoid_saturation), expected, rtol=1e-6)
    np.testing.assert_allclose(symmetric_scales(weight, 7), np.abs(weight).max(axis=1) / 7)
    assert symmetric_scales(np.zeros((1, 3))) == 1
