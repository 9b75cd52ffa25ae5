"""Normalization in forms that keep converters from changing the weights of neighbouring layers.

Converters fold a constant factor of each channel into the weight before or after it. In fp32 that is harmless. A
quantizer, however, finds layers by their weights and would not recognize the changed ones, and scales chosen for the
old weights would not fit. So batch normalization is folded into its convolution before quantization, and layer
normalization is computed in an order in which LiteRT's converter finds no constant factor.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .layers import LayerNorm2d
from .replacement import Module, replace_modules
from .repvit import BranchedConv
from .tiny_vit import ConvNorm


def fold_batch_norms(module: nn.Module) -> None:
    """Fold each `ConvNorm` inside `module` and join each `BranchedConv`, in place; needs evaluation mode.

    What is left of each is one convolution with a bias, under the name that it had.
    """
    for part in module.modules():
        if isinstance(part, ConvNorm):
            _fold(part)
    for part in module.modules():
        if isinstance(part, BranchedConv):
            _join(part)


def without_batch_norms(module: Module) -> Module:
    """A copy of a graph in evaluation mode on which `fold_batch_norms` was called; other parameters are shared."""
    return replace_modules(module, {ConvNorm: _fold, BranchedConv: _join})


def _fold(part: ConvNorm) -> ConvNorm:
    """Make one convolution of a convolution and the normalization behind it, in place; nothing where there is none."""
    if isinstance(part.bn, nn.BatchNorm2d):
        part.c, part.bn = fuse_conv_bn_eval(part.c, part.bn), nn.Identity()
    return part


def _join(part: BranchedConv) -> BranchedConv:
    """Make one convolution of folded branches, in place: the kernels of two are zero but for the centre."""
    if part.conv1 is None:
        return part
    wide, narrow = part.conv.c, part.conv1.c if isinstance(part.conv1, ConvNorm) else part.conv1
    if wide.bias is None or narrow.bias is None:
        raise TypeError(f"{part} must be folded before its branches are joined")
    joined = nn.Conv2d(wide.in_channels, wide.out_channels, 3, padding=1, groups=wide.groups, device="meta")
    centre = F.pad(narrow.weight + 1.0, (1, 1, 1, 1))  # (C, 1, 3, 3); the input itself is a kernel of 1
    joined.weight = nn.Parameter((wide.weight + centre).detach(), requires_grad=False)
    joined.bias = nn.Parameter((wide.bias + narrow.bias).detach(), requires_grad=False)
    joined.train(part.training)
    if part.bn is not None:
        joined, part.bn = fuse_conv_bn_eval(joined, part.bn), None
    part.conv.c, part.conv1 = joined, None
    return part


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
