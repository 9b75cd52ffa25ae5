"""Fake quantization: in the forward pass, layers compute with rounded inputs and weights, as the INT8 model will.

Quantization-aware training (arXiv 1712.05877, section 3): a layer's inputs and weights are rounded to an INT8
quantization grid before it computes. The straight-through estimator (arXiv 1308.3432) passes the gradient through the
rounding unchanged. So weights settle where rounding changes them little, and activations where noise of the size of one
scale matters little.

Inputs have one scale per tensor: 256 levels from the smallest to the largest value of the batch, zero among them.
Weights have one scale per output channel and 64 levels on either side of zero. That is 7 bits instead of 8: a processor
that adds two 8-bit products in 16 bits (x86 without VNNI) cannot overflow, so one set of weights is exact in every
runtime. A scale has five significant bits, so that rounded weights are exact in float16.

`FakeQuant` is a mode that is entered around a forward pass, like `torch.autocast`. Modules and the names of their
weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sam_edge_quant.methods.weight_scales import QAT_MAX, SCALE_BITS

INPUT_LEVELS = 255  # scales between the smallest and the largest value of a tensor
# The axis of a weight that counts output channels.
CHANNEL_AXES: dict[Callable[..., Any], int] = {F.linear: 0, F.conv2d: 0, F.conv_transpose2d: 1}


def fake_quantization(*, enabled: bool) -> AbstractContextManager[object]:
    """A reusable context manager: `FakeQuant` of all layers, or one that does nothing."""
    return FakeQuant() if enabled else nullcontext()


class FakeQuant(TorchFunctionMode):
    """While entered, convolutions and linear layers compute with rounded inputs and weights."""

    def __init__(self, weights: Iterable[Tensor] | None = None) -> None:
        """Choose the layers.

        Args:
            weights: round the inputs of the layers with these weights, and no weights. None: round inputs and weights
                of all layers.
        """
        super().__init__()
        self._chosen = None if weights is None else {id(weight) for weight in weights}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Round a layer's inputs and weight before it computes; call every other function unchanged."""
        axis = CHANNEL_AXES.get(func)
        if axis is None:
            return func(*args, **(kwargs or {}))
        inputs, weight, *rest = args
        if self._chosen is None:
            return func(rounded_inputs(inputs), rounded_weight(weight, axis), *rest, **(kwargs or {}))
        if id(weight) in self._chosen:
            inputs = rounded_inputs(inputs)
        return func(inputs, weight, *rest, **(kwargs or {}))


def rounded_inputs(values: Tensor) -> Tensor:
    """A tensor of any shape, rounded to at most 256 evenly spaced values, 0 among them."""
    with torch.no_grad():
        low, high = torch.aminmax(values.detach())
        scale = (high.clamp(min=0.0).float() - low.clamp(max=0.0).float()) / INPUT_LEVELS
    return _round_to_scale(values, _one_where_zero(scale).to(values.dtype))


def rounded_weight(weight: Tensor, axis: int) -> Tensor:
    """A weight, rounded to at most 64 levels on either side of zero, with one scale per channel.

    A channel's scale is 1/64 of its largest absolute value, rounded up to five significant bits.

    Args:
        weight: of a layer.
        axis: the one that counts output channels.
    """
    with torch.no_grad():
        others = tuple(each for each in range(weight.ndim) if each != axis)
        mantissa, exponent = torch.frexp(weight.detach().abs().amax(dim=others, keepdim=True) / QAT_MAX)
        scale = torch.ldexp((mantissa * 2**SCALE_BITS).ceil() / 2**SCALE_BITS, exponent)
    return _round_to_scale(weight, _one_where_zero(scale))


def _one_where_zero(scale: Tensor) -> Tensor:
    """The scale, or 1 where all values are zero."""
    return torch.where(scale > 0, scale, 1.0)


def _round_to_scale(values: Tensor, scale: Tensor) -> Tensor:
    rounded: Tensor = _StraightThroughRounding.apply(values, scale)  # type: ignore[no-untyped-call]  # torch has no types for it
    return rounded


class _StraightThroughRounding(torch.autograd.Function):
    """Rounds to the nearest multiple of a scale; the gradient is that of the identity."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor) -> Tensor:
        """Round; allocates one tensor of the size of `values`."""
        return (values / scale).round_().mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient on."""
        return gradients[0], None
