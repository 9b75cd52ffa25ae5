"""Weights of linear layers, rounded by neural-compressor.

Its weight-only methods are made for language models: the entry points look for transformer blocks and pack the weights.
Here its two methods whose results a target can hold are called for one layer at a time, and give floats on the
quantization grid that the target's own quantizer chooses afterwards:

- `nc-rtn`: round to nearest (`quant_tensor`).
- `nc-gptq`: its GPTQ (arXiv 2210.17323), with the activation order and groups whose scales are chosen beforehand.

The grid is that of its `quant_tensor`: symmetric with a scale for each output, or for ONNX's INT4 asymmetric in blocks
of 32 inputs. The extreme weights of each output or block keep the ends of their range. So the target's quantizer finds
the same scale, and rounds nothing a second time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sam_edge.quantization.gptq import Rounder
from sam_edge_runtime.arrays import Float64

from .package import silenced

with silenced():
    from neural_compressor.torch.algorithms.weight_only.gptq import GPTQ
    from neural_compressor.torch.algorithms.weight_only.gptq import Quantizer as GptqQuantizer
    from neural_compressor.torch.algorithms.weight_only.utility import quant_tensor


@dataclass(frozen=True)
class Grid:
    """The quantization grid of a linear layer's weight.

    Attributes:
        bits: 8 or 4.
        block: inputs that share a scale and a zero point, asymmetric; None: a symmetric scale for each output.
    """

    bits: int
    block: int | None = None

    @property
    def scheme(self) -> str:
        """As neural-compressor calls it."""
        return "sym" if self.block is None else "asym"

    def blocks(self, inputs: int) -> list[slice]:
        """The inputs of each block."""
        size = self.block or inputs
        return [slice(start, min(start + size, inputs)) for start in range(0, inputs, size)]


def rounder(method: str, grid: Grid) -> Rounder:
    """A function that rounds a weight `(outputs, inputs)`, given the moments `(inputs, inputs)` of its inputs.

    Args:
        method: `nc-rtn` or `nc-gptq`.
        grid: of the target's quantizer.
    """
    round_weight = {"nc-rtn": _to_nearest, "nc-gptq": _gptq}[method]

    def round_and_keep_ends(weight: Float64, moments: Float64) -> Float64:
        original = torch.from_numpy(weight).float()
        with silenced():
            rounded = round_weight(original.clone(), torch.from_numpy(moments).float(), grid)
        return _with_ends(original, rounded, grid).double().numpy()

    return round_and_keep_ends


def _to_nearest(weight: Tensor, moments: Tensor, grid: Grid) -> Tensor:
    rounded: Tensor = quant_tensor(weight, bits=grid.bits, group_size=grid.block or -1, scheme=grid.scheme)
    return rounded


def _gptq(weight: Tensor, moments: Tensor, grid: Grid) -> Tensor:
    inputs = weight.shape[1]
    solver = GPTQ(nn.Linear(inputs, len(weight), bias=False), weight)
    solver.H = 2.0 * moments  # as its `add_batch` scales them
    solver.quantizer = _GridQuantizer(grid)
    block = grid.block or inputs
    *_, rounded = solver.fasterquant(weight, groupsize=block, act_order=True, static_groups=True)
    found: Tensor = rounded
    return found


class _GridQuantizer(GptqQuantizer):  # type: ignore[misc]  # the package has no types
    """The quantizer that GPTQ asks, on the grid of `quant_tensor`, whose scales its own does not have."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self._grid = grid
        self.maxq = 2**grid.bits - 1

    def find_params(self, x: Tensor, weight: bool = False) -> None:
        """Scale `(outputs, 1)` and zero point of one block's weights `(outputs, inputs)`."""
        self.scale, self.zero = _scale_and_zero(x, self._grid)

    def quantize(self, x: Tensor, scale: Tensor, zero: Tensor, maxq: int) -> Tensor:
        """Weights `(outputs, 1)` on the grid."""
        low = -(maxq // 2) if self._grid.block is None else 0
        high = maxq // 2 if self._grid.block is None else maxq
        codes: Tensor = torch.clamp(torch.round(x / scale) + zero, low, high)
        return scale * (codes - zero)

    def ready(self) -> bool:
        """Whether scales were chosen; with groups GPTQ chooses them itself."""
        return True


def _scale_and_zero(weight: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    _, scale, zero = quant_tensor(weight.clone(), bits=grid.bits, scheme=grid.scheme, return_int=True)
    return scale, torch.zeros_like(scale) if zero is None else zero


def _with_ends(original: Tensor, rounded: Tensor, grid: Grid) -> Tensor:
    """The rounded weight, with the ends of each output's or block's range where they were."""
    rounded = rounded.clone()
    rows = torch.arange(len(original))
    for place in grid.blocks(original.shape[1]):
        weight, part = original[:, place], rounded[:, place]
        scale, zero = _scale_and_zero(weight, grid)
        if grid.block is None:
            largest = weight.abs().argmax(dim=1)
            part[rows, largest] = weight[rows, largest]
            continue
        top = 2**grid.bits - 1
        for index, code, reaches in (
            (weight.argmin(dim=1), 0.0, weight.amin(dim=1) < 0),
            (weight.argmax(dim=1), float(top), weight.amax(dim=1) > 0),
        ):
            ends = (scale * (code - zero))[:, 0]
            part[rows[reaches], index[reaches]] = ends[reaches]
    return rounded
