"""Layers as quantization sees them: which are rounded already, and in how much memory that is found out."""

from __future__ import annotations

import tracemalloc

import pytest
import torch
from torch import nn

from sam_edge.quantization.layers import is_qat_trained

LAYERS = {
    "convolution": nn.Conv2d(8, 12, 3),
    "depthwise": nn.Conv2d(12, 12, 3, groups=12),
    "transposed": nn.ConvTranspose2d(8, 12, 2, stride=2),
    "linear": nn.Linear(8, 12),
}


@pytest.mark.parametrize("kind", LAYERS)
@torch.no_grad()
def test_a_layer_counts_as_trained_if_each_output_has_its_grid(kind):
    layer = LAYERS[kind]
    outputs = layer.weight.movedim(1, 0) if kind == "transposed" else layer.weight  # a view, outputs first
    torch.manual_seed(0)
    outputs.copy_(torch.randint(-63, 64, outputs.shape).float())
    outputs.select(1, 0).copy_(torch.full_like(outputs.select(1, 0), 64.0))
    scales = 2.0 ** -torch.arange(len(outputs)).float()
    outputs.mul_(scales.reshape(-1, *(1,) * (outputs.ndim - 1)))
    assert is_qat_trained(layer)
    outputs[3] *= 1.0 + 1e-3 * torch.rand(outputs[3].shape)
    assert not is_qat_trained(layer)


def test_a_wide_depthwise_layer_is_not_made_dense():
    """Its dense form has as many entries as channels squared: gigabytes in EfficientViT."""
    layer = nn.Conv2d(1024, 1024, 3, groups=1024)
    tracemalloc.start()
    try:
        assert not is_qat_trained(layer)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * layer.weight.numel() * 8
