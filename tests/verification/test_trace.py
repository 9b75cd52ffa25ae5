"""The first wrong tensor of small graphs is found, in each kind of artifact, for several faults."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.verification.intermediates import walk
from sam_edge.verification.trace import Traced, trace_graph
from sam_edge_exporters import Conversion, exporter_for
from sam_edge_runtime.bundle.contract import GraphContract, TensorSpec
from sam_edge_runtime.bundle.targets import TARGETS
from tests.model.builders import seeded_tensor

CHANNELS, GRID = 8, 12
CONTRACT = GraphContract(
    (TensorSpec("x", (1, CHANNELS, GRID, GRID), ""), TensorSpec("mask", (1, 1, GRID, GRID), "")),
    (TensorSpec("y", (1, CHANNELS, GRID, GRID), ""), TensorSpec("score", (1, 4), "")),
)
HIDDEN_SCALE = 1e6  # of a hidden layer: float16 ends at 65504


class Small(nn.Module):
    """Convolution, a mask added, attention over the cells, a hidden layer, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.from_mask = nn.Conv2d(1, CHANNELS, 1)
        self.norm = nn.LayerNorm(CHANNELS)
        self.qkv = nn.Linear(CHANNELS, 3 * CHANNELS)
        self.wide = nn.Linear(CHANNELS, 32)
        self.narrow = nn.Linear(32, CHANNELS)
        self.score = nn.Linear(CHANNELS, 4)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        image = self.conv(x) + self.from_mask(self.masked(mask))
        tokens = self.norm(self.turned(image).flatten(2).transpose(1, 2))  # (1, HW, C)
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        tokens = tokens + (q @ k.transpose(1, 2)).softmax(dim=-1) @ v
        tokens = tokens + self.narrow(F.relu(self.wide(tokens)))
        score = self.score(tokens.mean(dim=1))
        return tokens.transpose(1, 2).reshape(1, CHANNELS, GRID, GRID), score

    def masked(self, mask: Tensor) -> Tensor:
        return mask.sigmoid()

    def turned(self, image: Tensor) -> Tensor:
        return image


class DroppedMask(Small):
    def masked(self, mask: Tensor) -> Tensor:
        return (0.0 * mask).sigmoid()


class SwappedAxes(Small):
    def turned(self, image: Tensor) -> Tensor:
        return image.transpose(2, 3)


class SwappedOutput(Small):
    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        y, score = super().forward(x, mask)
        return y.transpose(2, 3), score


def trace(
    target: str, converted: nn.Module, folder: Path, precision: str = "fp32", model: Small | None = None
) -> Traced:
    path = folder / f"graph{TARGETS[target].suffix}"
    exporter_for(target).export(converted.eval(), CONTRACT, path, Conversion(precision))
    inputs = {spec.name: seeded_tensor(spec.name, *spec.shape).numpy() for spec in CONTRACT.inputs}
    return trace_graph("graph", (model or Small()).eval(), CONTRACT, inputs, precision, partial(walk, target, path))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("target", TARGETS)
def test_a_right_artifact_has_no_wrong_tensor(tmp_path, target, precision):
    found = trace(target, Small(), tmp_path, precision)
    assert found == Traced("graph", found.tensors)
    assert found.tensors > 15
    assert found.sentence == f"graph: its {found.tensors} tensors agree with fp32 torch"


@pytest.mark.parametrize("target", TARGETS)
def test_a_dropped_input_is_found_where_it_is_dropped(tmp_path, target):
    found = trace(target, DroppedMask(), tmp_path)
    assert found.operation.lower() in {"mul", "sigmoid", "depthwise_conv_2d"}
    assert found.wrong > found.tensors // 2
    assert found.first_wrong is not None
    assert found.first_wrong in found.sentence


@pytest.mark.parametrize("target", TARGETS)
def test_swapped_axes_are_found_where_they_first_matter(tmp_path, target):
    """The same values in other places: sums over cells are equal, so the score stays right."""
    found = trace(target, SwappedAxes(), tmp_path)
    assert found.first_wrong is not None
    assert found.operation.lower() in {"transpose", "reshape", "add"}


@pytest.mark.parametrize("target", TARGETS)
def test_an_output_with_swapped_axes_is_wrong(tmp_path, target):
    found = trace(target, SwappedOutput(), tmp_path)
    assert found.first_wrong is not None
    assert found.wrong == 1


@pytest.mark.parametrize("target", TARGETS)
def test_an_overflow_in_fp16_is_found_where_it_happens(tmp_path, target):
    def scaled() -> Small:
        model = Small()
        with torch.no_grad():
            model.wide.weight *= HIDDEN_SCALE
            model.wide.bias *= HIDDEN_SCALE
            model.narrow.weight /= HIDDEN_SCALE
        return model

    assert trace(target, scaled(), tmp_path / "", "fp32", scaled()).first_wrong is None
    found = trace(target, scaled(), tmp_path, "fp16", scaled())
    assert found.first_wrong is not None
    assert found.operation.lower() in {"linear", "cast", "gemm", "matmul", "fully_connected", "dequantize", "add"}
    assert found.wrong < found.tensors // 2


def test_nan_is_wrong(tmp_path):
    model = Small()
    with torch.no_grad():
        model.wide.bias += np.nan
    found = trace("onnx", model, tmp_path)
    assert found.operation in {"Gemm", "MatMul", "Add"}
