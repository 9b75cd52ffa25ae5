"""Normalization in forms that keep converters from changing the weights of neighbouring layers.

Converters fold a constant factor of each channel into the weight before or after it. In fp32 that is harmless. A
quantizer, however, finds layers by their weights and would not recognize the changed ones, and scales chosen for the
old weights would not fit. So batch normalization is folded into its convolution before quantization, and layer
normalization is computed in an order in which LiteRT's converter finds no constant factor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .layers import LayerNorm2d
from .replacement import Module, replace_modules
from .tiny_vit import ConvNorm


def fold_batch_norms(module: nn.Module) -> None:
    """Replace each `ConvNorm` inside `module` by one convolution with a bias, in place; needs evaluation mode."""
    for part in module.modules():
        if isinstance(part, ConvNorm) and isinstance(part.bn, nn.BatchNorm2d):
            part.c = fuse_conv_bn_eval(part.c, part.bn)
            part.bn = nn.Identity()


def scale_first(module: Module) -> Module:
    """A copy of a graph whose layer normalizations multiply by the scale before they divide by the deviation.

    Outputs are equal up to rounding; parameters are shared.
    """
    return replace_modules(module, {nn.LayerNorm: ScaleFirstNorm, LayerNorm2d: ScaleFirstNorm2d})


class ScaleFirstNorm(nn.Module):
    """`nn.LayerNorm` over the last axis, computed as `((x - mean) * scale) / deviation + shift`."""

    def __init__(self, plain: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = plain.weight, plain.bias, plain.eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `(..., C)` at every position."""
        return _scale_first(x, self.weight, self.bias, self.eps)


class ScaleFirstNorm2d(LayerNorm2d):
    """`LayerNorm2d`, computed as in `ScaleFirstNorm`."""

    def __init__(self, plain: LayerNorm2d) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias, self.eps = plain.weight, plain.bias, plain.eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `(B, C, H, W)` at every position."""
        return _scale_first(x.permute(0, 2, 3, 1), self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


def _scale_first(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    return (centred * scale) * torch.rsqrt(variance + eps) + shift
