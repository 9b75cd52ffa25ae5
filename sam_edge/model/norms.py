"""Normalizations in forms that leave the weights beside them to themselves.

Converters multiply a constant factor of each channel into the weight before or behind it. In fp32 that is as good as
anything; a quantizer then meets weights that it does not know, with grids that were meant for others. So batch
normalizations are multiplied into their convolutions before anything is rounded, and layer normalizations are written
in an order of steps in which LiteRT's converter finds no such factor.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .layers import LayerNorm2d
from .tiny_vit import ConvNorm
from .twin import Module, twin_of


def fold_batch_norms(module: nn.Module) -> None:
    """Make of each `ConvNorm` inside its convolution alone, with a bias; in place, in evaluation mode."""
    for part in module.modules():
        if isinstance(part, ConvNorm) and isinstance(part.bn, nn.BatchNorm2d):
            part.c = fuse_conv_bn_eval(part.c, part.bn)
            part.bn = nn.Identity()


def scale_first(module: Module) -> Module:
    """The twin of a graph whose layer normalizations are scaled before they are divided by their deviation."""
    return twin_of(module, {nn.LayerNorm: ScaleFirstNorm, LayerNorm2d: ScaleFirstNorm2d})


class ScaleFirstNorm(nn.Module):
    """`nn.LayerNorm` over the last axis as `(x - mean) * scale / deviation + shift`."""

    def __init__(self, plain: nn.LayerNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = plain.weight, plain.bias, plain.eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `(..., C)` at every position."""
        return _scale_first(x, self.weight, self.bias, self.eps)


class ScaleFirstNorm2d(LayerNorm2d):
    """`LayerNorm2d` likewise."""

    def __init__(self, plain: LayerNorm2d) -> None:
        nn.Module.__init__(self)
        self.weight, self.bias, self.eps = plain.weight, plain.bias, plain.eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `(B, C, H, W)` at every position."""
        return _scale_first(x.permute(0, 2, 3, 1), self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


def _scale_first(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    away = x - x.mean(dim=-1, keepdim=True)
    variance = (away * away).mean(dim=-1, keepdim=True)
    return (away * scale) * torch.rsqrt(variance + eps) + shift
