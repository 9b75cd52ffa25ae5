"""Training for eight bits: layers compute, in the forward pass, with what a quantized model will have.

Quantization-aware training (arXiv 1712.05877, section 3): a layer's inputs and weights are rounded to the grids of
eight-bit whole numbers before it computes, and the gradient passes the rounding as if it were not there
(arXiv 1308.3432, the straight-through estimator). Weights drift to where rounding does little harm, and activations
to where noise of a step's size does not matter.

Inputs have one grid a tensor, 256 steps from the least to the largest number in the batch, zero among them. Weights
have one grid for each output channel, of 64 steps to either side. That is seven bits and not eight on purpose: a
processor that adds two products of eight bits into sixteen (x86 without VNNI) then cannot overflow, so one set of
weights is exact in every runtime. A grid's step has five significant bits, so that its weights are exact in float16.

It is a mode that is entered around a forward pass, as `torch.autocast` is; modules and their weights' names stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sam_edge_quant.methods.weight_scales import QAT_MAX, SCALE_BITS

from .layers import LAYERS

INPUT_STEPS = 255
# The axis of a weight that counts output channels.
_CHANNELS: dict[Callable[..., Any], int] = {F.linear: 0, F.conv2d: 0, F.conv_transpose2d: 1}


def arithmetic(*, fake_quant: bool) -> AbstractContextManager[object]:
    """A context for forward passes, in fake quantization or plain; it can be entered any number of times."""
    return FakeQuant() if fake_quant else nullcontext()


class FakeQuant(TorchFunctionMode):
    """While entered, convolutions and linear layers compute with rounded inputs and weights."""

    def __init__(self, weights: Iterable[Tensor] | None = None) -> None:
        """Round for all layers, or round what the layers with these weights read, and no weights."""
        super().__init__()
        self._alone = None if weights is None else {id(weight) for weight in weights}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Round what a layer is about to compute with; let everything else through."""
        axis = _CHANNELS.get(func)
        if axis is None:
            return func(*args, **(kwargs or {}))
        inputs, weight, *rest = args
        if self._alone is None:
            return func(rounded_inputs(inputs), rounded_weight(weight, axis), *rest, **(kwargs or {}))
        if id(weight) in self._alone:
            inputs = rounded_inputs(inputs)
        return func(inputs, weight, *rest, **(kwargs or {}))


def rounded_inputs(values: Tensor) -> Tensor:
    """A tensor of any shape with at most 256 different numbers, evenly spaced, 0 among them."""
    with torch.no_grad():
        low, high = torch.aminmax(values.detach())
        step = (high.clamp(min=0.0).float() - low.clamp(max=0.0).float()) / INPUT_STEPS
    return _on_grid(values, _or_one(step).to(values.dtype))


def rounded_weight(weight: Tensor, axis: int) -> Tensor:
    """A weight in at most 64 steps to either side of zero; `axis` counts the channels, and each has a step of its own.

    A step is 1/64 of the channel's largest number, rounded up to five significant bits.
    """
    with torch.no_grad():
        others = tuple(each for each in range(weight.ndim) if each != axis)
        mantissa, exponent = torch.frexp(weight.detach().abs().amax(dim=others, keepdim=True) / QAT_MAX)
        step = torch.ldexp((mantissa * 2**SCALE_BITS).ceil() / 2**SCALE_BITS, exponent)
    return _on_grid(weight, _or_one(step))


@torch.no_grad()
def round_layers(model: nn.Module) -> None:
    """Put the weights of all layers onto their grids, in place, as the mode does in each pass."""
    for module in model.modules():
        if isinstance(module, LAYERS):
            axis = 1 if isinstance(module, nn.ConvTranspose2d) else 0
            module.weight.copy_(rounded_weight(module.weight, axis))


def _or_one(step: Tensor) -> Tensor:
    """The step, and 1 where there are only zeros to round."""
    return torch.where(step > 0, step, 1.0)


def _on_grid(values: Tensor, step: Tensor) -> Tensor:
    rounded: Tensor = _Rounding.apply(values, step)  # type: ignore[no-untyped-call]
    return rounded


class _Rounding(torch.autograd.Function):
    """To the nearest multiple of a step; its gradient is that of doing nothing."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, step: Tensor) -> Tensor:
        """Round; one new tensor of the size of `values`."""
        return (values / step).round_().mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient on."""
        return gradients[0], None
