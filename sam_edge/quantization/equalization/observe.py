"""What calibration sees of a model: statistics of the tensors that layers read or write, added up call by call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from sam_edge.model.graphs import DecoderGraph, EncoderGraph
from sam_edge.model.sam import Sam
from sam_edge.prediction.calls import Call
from sam_edge.quantization.layers import Layer, array
from sam_edge_runtime.arrays import Float64
from sam_edge_runtime.errors import ExportError, UsageError

ENOUGH = 4096  # patches of one call for their products: neighbours tell little more; means are of all
Watch = Callable[[Tensor], None]


@dataclass
class ChannelStatistics:
    """Of the channels of one tensor, over all positions and calls.

    Attributes:
        positions: how many were seen.
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
        """Take in `(positions, channels)`."""
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
    """Of the patches of inputs that a layer multiplies with its weights, `inputs` of them in each of its groups.

    Attributes:
        patches: how many were seen.
        origin: `(groups, 1, inputs)` the first call's means; sums are taken around it, or differences would drown.
        total: `(groups, inputs)` sums.
        chosen: how many of the patches `products` has: an even choice where a call has many.
        chosen_total: `(groups, inputs)` sums of these: around another mean, a covariance would not be one.
        products: `(groups, inputs, inputs)` sums of products; the memory that this needs grows with no call.
    """

    patches: int = 0
    chosen: int = 0
    chosen_total: Tensor = field(default_factory=lambda: torch.zeros(()))
    origin: Tensor = field(default_factory=lambda: torch.zeros(()))
    total: Tensor = field(default_factory=lambda: torch.zeros(()))
    products: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, patches: Tensor) -> None:
        """Take in `(groups, patches, inputs)`."""
        if not self.patches:
            self.origin = patches.mean(dim=1, keepdim=True)
        self.patches += patches.shape[1]
        moved = patches - self.origin
        self.total = self.total + moved.sum(dim=1)
        some = moved[:, :: max(1, patches.shape[1] // ENOUGH)]
        self.chosen += some.shape[1]
        self.chosen_total = self.chosen_total + some.sum(dim=1)
        self.products = self.products + some.transpose(1, 2) @ some

    @property
    def mean(self) -> Float64:
        """`(groups, inputs)` means."""
        return array(self.origin[:, 0]) + array(self.total) / self.patches

    @property
    def covariance(self) -> Float64:
        """`(groups, inputs, inputs)`."""
        moved = array(self.chosen_total) / self.chosen
        return array(self.products) / self.chosen - moved[:, :, None] * moved[:, None, :]


@torch.inference_mode()
def run(
    sam: Sam,
    encoder_calls: Iterable[Call],
    decoder_calls: Iterable[Call],
    reads: Mapping[Layer, Watch],
    writes: Mapping[Layer, Watch] = MappingProxyType({}),
) -> None:
    """Show the watches what their layers read or write while the model answers calls.

    Args:
        sam: the model; it stays as it is.
        encoder_calls: inputs of the image encoder by name, NCHW.
        decoder_calls: inputs of the mask decoder by name, NCHW.
        reads: watches of layers' inputs, as the layer gets them.
        writes: watches of layers' outputs.

    Raises:
        UsageError: one of the graphs gets no calls.
        ExportError: a layer meets NaN or infinity.
    """
    names = {module: name for name, module in sam.named_modules()}
    hooks = []
    for layer, watch in reads.items():
        hooks.append(layer.register_forward_pre_hook(_reading(names[layer], watch)))
    for layer, watch in writes.items():
        hooks.append(layer.register_forward_hook(_writing(names[layer], watch)))
    try:
        for graph, calls in ((EncoderGraph(sam).eval(), encoder_calls), (DecoderGraph(sam).eval(), decoder_calls)):
            count = 0
            for call in calls:
                graph(**{name: torch.from_numpy(values) for name, values in call.items()})
                count += 1
            if not count:
                raise UsageError(f"no calls to calibrate the {type(graph).__name__} with: give at least one photo")
    finally:
        for hook in hooks:
            hook.remove()


def _reading(name: str, watch: Watch) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        watch(_finite(f"{name} reads", inputs[0]))

    return hook


def _writing(name: str, watch: Watch) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        watch(_finite(f"{name} writes", output))

    return hook


def _finite(what: str, values: Tensor) -> Tensor:
    if not bool(values.sum().isfinite()):  # one that is not makes the sum so; asking each takes ten times as long
        raise ExportError(f"{what} NaN or infinity in calibration: look at the weights, and at the photos")
    return values
