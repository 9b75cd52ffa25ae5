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
    """Make one convolution with a bias of each `ConvNorm` and `BranchedConv` inside `module`; needs evaluation mode.

    In place; a `ConvNorm` keeps its name, and so does its convolution.
    """
    for part in list(module.modules()):
        if isinstance(part, ConvNorm):
            part.c, part.bn = _folded(part), nn.Identity()
        for name, child in part.named_children():
            if isinstance(child, BranchedConv):
                setattr(part, name, _joined(child))


def without_batch_norms(module: Module) -> Module:
    """A copy of a graph in evaluation mode on which `fold_batch_norms` was called; other parameters are shared."""
    return replace_modules(module, {ConvNorm: _without_norm, BranchedConv: _joined})


def _folded(plain: ConvNorm) -> nn.Conv2d:
    """The convolution with the normalization behind it, or as it is where there is none any more."""
    return fuse_conv_bn_eval(plain.c, plain.bn) if isinstance(plain.bn, nn.BatchNorm2d) else plain.c


def _without_norm(copied: ConvNorm) -> ConvNorm:
    copied.c, copied.bn = _folded(copied), nn.Identity()
    return copied


def _joined(plain: BranchedConv) -> nn.Conv2d:
    """The sum of the three branches as one 3 x 3 convolution; two of the kernels are zero around the centre."""
    wide, narrow = _folded(plain.conv), _folded(plain.conv1)
    joined = nn.Conv2d(wide.in_channels, wide.out_channels, 3, padding=1, groups=wide.groups, device="meta")
    centre = F.pad(narrow.weight.detach() + 1.0, (1, 1, 1, 1))  # (C, 1, 3, 3)
    joined.weight = nn.Parameter(wide.weight.detach() + centre, requires_grad=False)
    joined.bias = nn.Parameter(_bias(wide) + _bias(narrow), requires_grad=False)
    return joined.train(plain.training)


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise TypeError(f"{conv} has no bias: its batch normalization is missing")
    return conv.bias.detach()


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
