"""Fake quantization of whole graphs: which tensors are rounded, gradients of scales, and a toy that is trained."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.distillation.int8 import RangePenalty
from sam_edge.quantization.fake_quant_graph import FakeQuantGraph, extremes, rounded_activation
from sam_edge.quantization.weight_grids import OnGrids, WeightGrids


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Residual(nn.Module):
    """MobileNetV2's block in small: expand, project without an activation, add."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.expand, self.project, self.last = (
            nn.Conv2d(*channels, 1) for channels in ((3, 4), (4, 8), (8, 4), (4, 2))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x + self.project(F.relu6(self.expand(x))))


def grid_of(values: Tensor) -> Tensor:
    """A tensor rounded to 255 scales from its least to its largest value and zero."""
    scale = (values.max().clamp(min=0) - values.min().clamp(max=0)) / 255
    return (values / scale).round() * scale


def test_outputs_of_convolutions_and_sums_are_rounded_once_and_those_before_a_relu_are_not():
    torch.manual_seed(0)
    model, image = Residual(), normal(1, 2, 3, 6, 6)
    grids, seen = WeightGrids(model), []
    with torch.no_grad(), FakeQuantGraph(grids, seen.append):
        found = model(image)
    rounded = copy.deepcopy(model)
    grids.round_layers(rounded)
    with torch.no_grad():
        x = grid_of(rounded.first(grid_of(image)))
        wide = grid_of(F.relu6(rounded.expand(x)))
        expected = rounded.last(grid_of(x + grid_of(rounded.project(wide))))
    torch.testing.assert_close(found, expected)
    assert [tuple(each.shape[:2]) for each in seen] == [(2, 3), (2, 4), (2, 8), (2, 4), (2, 4)]


def test_a_linear_layer_gives_float():
    torch.manual_seed(0)
    layer, values = nn.Linear(6, 4), normal(2, 5, 6)
    grids = WeightGrids(nn.Sequential(layer))
    with torch.no_grad(), FakeQuantGraph(grids):
        found = F.gelu(layer(values)) + 1.0
    weight = grids.rounded(layer.weight)
    torch.testing.assert_close(found, F.gelu(F.linear(grid_of(values), weight, layer.bias)) + 1.0)


def test_the_scale_has_the_gradient_of_lsq():
    values, direction = normal(3, 1, 1, 5, 5).requires_grad_(), normal(4, 1, 1, 5, 5)
    (rounded_activation(values) * direction).sum().backward()
    detached = values.detach()
    low, high = detached.min(), detached.max()
    multiples = detached / ((high - low) / 255)
    of_scale = (direction * (multiples.round() - multiples)).sum()
    expected = direction + of_scale / 255 * ((detached == high).float() - (detached == low).float())
    torch.testing.assert_close(values.grad, expected, rtol=1e-4, atol=1e-5)


def test_extremes_are_exact_and_their_gradient_reaches_all_channels_near_them():
    values = torch.zeros(1, 3, 2, 2)
    values[0, 0, 0, 0], values[0, 1, 0, 0], values[0, 2, 1, 1] = 4.0, 3.9, -1.0
    values.requires_grad_()
    low, high = extremes(values)
    assert (low.item(), high.item()) == (-1.0, 4.0)
    high.backward()
    near = values.grad[0, :, 0, 0]
    assert near[0] > near[1] > 0.3
    assert float(values.grad.sum()) == pytest.approx(1.0, abs=1e-5)
    assert [each.item() for each in extremes(torch.full((1, 1, 2, 2), 3.0))] == [0.0, 3.0]


class Outliers(nn.Module):
    """An encoder with a linear bottleneck, one of whose channels is forty times as wide as the others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.project, self.reader = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        with torch.no_grad():
            for tensor in (self.project.weight[0], self.project.bias[:1]):
                tensor.mul_(40.0)
            self.reader.weight[:, 0].div_(40.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.reader(self.project(F.relu6(self.stem(x))))


def test_training_takes_three_quarters_of_the_noise_from_a_toy_encoder_with_outliers():
    torch.manual_seed(0)
    model = Outliers()
    teacher = copy.deepcopy(model)
    grids, ranges = WeightGrids(model), RangePenalty()

    def powers(seed: int, watch=lambda tensor: None) -> tuple[Tensor, Tensor]:
        """Noise and drift of the output, relative to the teacher's."""
        images = normal(seed, 8, 3, 8, 8)
        with torch.no_grad():
            wanted = teacher(images)
        with FakeQuantGraph(grids, watch):
            rounded = model(images)
        with OnGrids(grids):
            plain = model(images)
        power = wanted.square().mean()
        return (rounded - plain).square().mean() / power, (plain - wanted).square().mean() / power

    with torch.no_grad():
        before = float(sum(powers(1000)))
    optimizer = torch.optim.Adam([*model.parameters(), *grids.parameters()], lr=2e-3)
    for step in range(100):
        ranges.clear()
        loss = sum(powers(step, ranges.add)).log() + 0.1 * ranges.value()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        after = float(sum(powers(1000)))
    assert after < before / 4, (before, after)
