"""Quantization grids of a model's weights that training changes only deliberately.

`FakeQuant` takes each channel's scale from its largest weight, anew in every step. Where that weight moves, the whole
channel is rounded anew, which costs a fine-tuned model more than the training gains. Here a channel's integers and its
scale are separate: the integers are those of the weight over its first scale, and a learned gain multiplies the scale.
So a channel can grow or shrink, as cross-layer equalization (arXiv 1906.04721) would have it, without new rounding.

The first scales are those to which earlier training has rounded the weights, or 1/64 of each channel's largest weight.
The largest integer of each channel stays near 64 and scales have five significant bits, so that quantizers recognize
the scale (`sam_edge_quant.methods.weight_scales.qat_scales`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sam_edge_quant.methods.weight_scales import QAT_MAX, SCALE_BITS, has_qat_scales, qat_scales, qat_scales_for

from .fake_quant import CHANNEL_AXES, rounded_weight
from .layers import LAYERS

_ANCHOR_LEAST = 62  # a channel's largest integer, at least, for a scale to be recognized whatever its mantissa is
# Gains are learned as logarithms. Their steps of 3 to 6 % would take an optimizer made for weights too long.
_GAIN_RATE = 5.0


class WeightGrids(nn.Module):
    """The grids of a model's layers, whose state a checkpoint of training holds.

    The three attributes hold a tensor for each layer, under the layer's name with `/` for `.`.

    Attributes:
        scales: the first scale of each output channel, in a shape that broadcasts.
        gains: the learned logarithms of gains in the same shape, over `_GAIN_RATE`.
        anchors: int8 in the weight's shape: the integer of each channel's largest weight, at most `_ANCHOR_LEAST` of
            either sign; 0 for other weights. It does not get closer to zero.
    """

    def __init__(self, model: nn.Module) -> None:
        """Take the grids of the model's weights as they are now."""
        super().__init__()
        self.scales, self.gains, self.anchors = nn.Module(), nn.Module(), nn.Module()
        self._keys: dict[int, str] = {}  # by the identity of the weight
        for name, layer in model.named_modules():
            if isinstance(layer, LAYERS):
                key, axis = _key(name), _axis(layer)
                scales = _first_scales(layer.weight, axis)
                self.scales.register_buffer(key, scales)
                self.gains.register_parameter(key, nn.Parameter(torch.zeros_like(scales)))
                self.anchors.register_buffer(key, _anchors(layer.weight, scales, axis))
                self._keys[id(layer.weight)] = key

    def rounded(self, weight: Tensor) -> Tensor:
        """A layer's weight on its grid; the gradient passes the rounding of integers and scales unchanged."""
        return self._on_grid(weight, self._keys[id(weight)])

    @torch.no_grad()
    def round_layers(self, model: nn.Module) -> None:
        """Round the weights of `model`, which has the same layers, in place."""
        for name, layer in model.named_modules():
            if isinstance(layer, LAYERS):
                layer.weight.copy_(self._on_grid(layer.weight, _key(name)))

    def _on_grid(self, weight: Tensor, key: str) -> Tensor:
        first, gain = self.scales.get_buffer(key), self.gains.get_parameter(key)
        anchor = self.anchors.get_buffer(key).to(weight.dtype)
        scale = first * torch.exp(_GAIN_RATE * gain)
        multiples = weight / first
        with torch.no_grad():
            mantissa, exponent = torch.frexp(scale)
            short = torch.ldexp((mantissa * 2**SCALE_BITS).round() / 2**SCALE_BITS, exponent)
            integers = multiples.round().clamp(-QAT_MAX, QAT_MAX)
            least = torch.where(short == first, anchor.abs(), _ANCHOR_LEAST)
            anchored = anchor.sign() * torch.maximum(integers * anchor.sign(), least)
            integers = torch.where(anchor == 0, integers, anchored)
        passed = multiples * short + integers * scale  # has the gradients of a product without rounding
        return integers * short + (passed - passed.detach())


class OnGrids(TorchFunctionMode):
    """While entered, layers compute with the weights on their grids, and with activations in float."""

    def __init__(self, grids: WeightGrids) -> None:
        super().__init__()
        self._grids = grids

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Round a layer's weight before it computes; call every other function unchanged."""
        if func in CHANNEL_AXES:
            inputs, weight, *rest = args
            args = (inputs, self._grids.rounded(weight), *rest)
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def round_layers(model: nn.Module) -> None:
    """Round the weights of all layers in place, as `FakeQuant` does, or to the grids among the model's children.

    Channels that lie on such a grid already stay: their largest weight may have been rounded down, and a scale taken
    from it anew would be another.
    """
    grids = next((child for child in model.children() if isinstance(child, WeightGrids)), None)
    if grids is not None:
        for child in model.children():
            grids.round_layers(child)
        return
    for module in model.modules():
        if isinstance(module, LAYERS):
            axis = _axis(module)
            channels = module.weight.movedim(axis, 0)
            done = torch.from_numpy(has_qat_scales(channels.cpu().numpy())).to(module.weight.device)
            rounded = rounded_weight(module.weight, axis).movedim(axis, 0)
            done = done.reshape(-1, *[1] * (channels.ndim - 1))
            module.weight.copy_(torch.where(done, channels, rounded).movedim(0, axis))


def _axis(layer: nn.Module) -> int:
    """The axis of a layer's weight that counts output channels."""
    return 1 if isinstance(layer, nn.ConvTranspose2d) else 0


def _key(name: str) -> str:
    """A layer's name without dots, which names of buffers must not have."""
    return name.replace(".", "/")


def _first_scales(weight: Tensor, axis: int) -> Tensor:
    rows = weight.detach().movedim(axis, 0).flatten(1).cpu().double().numpy()
    trained = qat_scales(rows)
    scales = np.where(trained > 0, trained, qat_scales_for(np.abs(rows).max(axis=1)))
    shape = [-1 if each == axis else 1 for each in range(weight.ndim)]
    return torch.from_numpy(np.where(scales > 0, scales, 1.0)).to(weight.dtype).reshape(shape)


@torch.no_grad()
def _anchors(weight: Tensor, scales: Tensor, axis: int) -> Tensor:
    rows = (weight / scales).round().movedim(axis, 0).flatten(1)
    places = rows.abs().argmax(dim=1, keepdim=True)
    largest = rows.gather(1, places).clamp(-_ANCHOR_LEAST, _ANCHOR_LEAST)
    anchors = torch.zeros_like(rows).scatter_(1, places, largest).to(torch.int8)
    return anchors.reshape(weight.movedim(axis, 0).shape).movedim(0, axis).contiguous()
