"""Statistics of the tensors that layers read or write during calibration, accumulated call by call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from sam_edge.model.graphs import EncoderGraph, decoder_graph
from sam_edge.model.sam import Sam
from sam_edge.quantization.layers import Layer, array
from sam_edge_runtime.arrays import Call, Float64
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.errors import ExportError, UsageError

MOST_PATCHES = 4096  # of one call that `InputMoments` multiplies out: neighbouring patches add little information
TensorCallback = Callable[[Tensor], None]


@dataclass
class ChannelStatistics:
    """Of the channels of one tensor, over all positions and calls.

    Attributes:
        positions: how many were added.
        low: `(channels)` smallest values.
        high: `(channels)` largest values.
        total: `(channels)` sums.
        squares: `(channels)` sums of squares.
    """

    positions: int = 0
    low: Float64 = field(default_factory=lambda: np.array(np.inf))
    high: Float64 = field(default_factory=lambda: np.array(-np.inf))
    total: Float64 = field(default_factory=lambda: np.array(0.0))
    squares: Float64 = field(default_factory=lambda: np.array(0.0))

    def add(self, values: Tensor) -> None:
        """Add values `(positions, channels)`."""
        self.positions += len(values)
        self.low = np.minimum(self.low, array(values.amin(0)))
        self.high = np.maximum(self.high, array(values.amax(0)))
        self.total = self.total + array(values.sum(0))
        self.squares = self.squares + array(values.square().sum(0))

    @property
    def mean(self) -> Float64:
        """`(channels)` means."""
        return self.total / self.positions

    @property
    def power(self) -> Float64:
        """`(channels)` means of squares."""
        return self.squares / self.positions


@dataclass
class InputMoments:
    """Mean and covariance of the input patches of one layer; see `input_patches` for `groups` and `inputs`.

    Attributes:
        patches: how many were added.
        origin: `(groups, 1, inputs)` means of the first call. Sums are taken relative to it, to keep precision.
        total: `(groups, inputs)` sums.
        chosen: how many of the patches are in `products`: evenly spaced ones if a call has many.
        chosen_total: `(groups, inputs)` sums of these; a covariance needs the mean of the same patches.
        products: `(groups, inputs, inputs)` sums of products; its size does not depend on the number of calls.
    """

    patches: int = 0
    chosen: int = 0
    chosen_total: Tensor = field(default_factory=lambda: torch.zeros(()))
    origin: Tensor = field(default_factory=lambda: torch.zeros(()))
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    products: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, patches: Tensor) -> None:
        """Add patches `(groups, patches, inputs)`."""
        if not self.patches:
            self.origin = patches.mean(dim=1, keepdim=True)
        self.patches += patches.shape[1]
        centred = patches - self.origin
        self.total = self.total + centred.sum(dim=1)
        chosen = centred[:, :: max(1, patches.shape[1] // MOST_PATCHES)]
        self.chosen += chosen.shape[1]
        self.chosen_total = self.chosen_total + chosen.sum(dim=1)
        self.products = self.products + chosen.transpose(1, 2) @ chosen

    @property
    def mean(self) -> Float64:
        """`(groups, inputs)` means."""
        return array(self.origin[:, 0]) + array(self.total) / self.patches

    @property
    def covariance(self) -> Float64:
        """`(groups, inputs, inputs)`."""
        mean = array(self.chosen_total) / self.chosen
        return array(self.products) / self.chosen - mean[:, :, None] * mean[:, None, :]


Runs = Sequence[tuple[nn.Module, Iterable[Call]]]  # graphs over one model's layers, and calls of each


def sam_runs(
    sam: Sam, encoder_calls: Iterable[Call], decoder_calls: Iterable[Call], frame: FrameSize | None = None
) -> Runs:
    """SAM's two graphs and their calls, in a frame; None: the model's square."""
    return (EncoderGraph(sam).eval(), encoder_calls), (decoder_graph(sam, frame=frame).eval(), decoder_calls)


@torch.inference_mode()
def observe_layers(
    model: nn.Module,
    runs: Runs,
    inputs: Mapping[Layer, TensorCallback],
    outputs: Mapping[Layer, TensorCallback] = MappingProxyType({}),
) -> None:
    """Run a model's graphs on calls and pass layers' inputs and outputs to callbacks.

    Args:
        model: holds the layers; it is not changed.
        runs: its graphs, and for each its inputs by name, in the contract's order, NCHW.
        inputs: callbacks for layers' inputs.
        outputs: callbacks for layers' outputs.

    Raises:
        UsageError: one of the graphs gets no calls.
        ExportError: a tensor has NaN or infinity.
    """
    names = {module: name for name, module in model.named_modules()}
    hooks = []
    for layer, callback in inputs.items():
        hooks.append(layer.register_forward_pre_hook(_input_hook(names[layer], callback)))
    for layer, callback in outputs.items():
        hooks.append(layer.register_forward_hook(_output_hook(names[layer], callback)))
    try:
        for graph, calls in runs:
            count = 0
            for call in calls:
                graph(*map(torch.from_numpy, call.values()))
                count += 1
            if not count:
                raise UsageError(f"no calls to calibrate the {type(graph).__name__} with: give at least one photo")
    finally:
        for hook in hooks:
            hook.remove()


def _input_hook(name: str, callback: TensorCallback) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        callback(_finite(f"{name} reads", inputs[0]))

    return hook


def _output_hook(name: str, callback: TensorCallback) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        callback(_finite(f"{name} writes", output))

    return hook


def _finite(what: str, values: Tensor) -> Tensor:
    if not bool(values.sum().isfinite()):  # ten times as fast as a test of each value
        raise ExportError(f"{what} NaN or infinity in calibration: check the weights and the photos")
    return values
