"""Linear layers, normalization and windows on tensors whose channels are the second axis.

BC1S is the layout `(B, C, 1, S)`: channels second, and last the positions of a sequence or of a flattened map. The
Neural Engine stores the last axis contiguously, padded to 64 bytes, and computes along the second in parallel (Apple's
article, principle 1). So the long axis belongs last: the 14 columns of a window, alone there, would be padded to 32.
And no layer may need a transposition.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model.layers import LayerNorm2d
from sam_edge.model.mask_decoder import MLP

# Shifts are divided by scales. A scale closer to zero counts as this; the output then differs by no more than rounding.
SMALLEST_SCALE = 1e-20


class Pointwise(nn.Module):
    """`nn.Linear` as a 1 x 1 convolution, the operation that the engine computes natively."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.weight = plain.weight
        self.bias = plain.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to `(B, D, H, W)`."""
        return pointwise(x, self.weight, self.bias)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a linear layer's `weight (D, C)` and `bias (D)` at every position of `x (B, C, H, W)`."""
    return F.conv2d(x, weight[:, :, None, None], bias)


class ChannelNorm(nn.Module):
    """Layer normalization over the second axis, without a transposition.

    The shift is added before the scale is applied, as in ml-ane-transformers: coremltools then fuses everything into
    one `layer_norm` of axis 1 (its pass `fuse_layernorm_or_instancenorm`, fifth pattern) and multiplies the shift by
    the scale again. So the squares, which overflow float16 first, are inside one operation of the engine and never a
    tensor of the package.
    """

    def __init__(self, plain: nn.LayerNorm | LayerNorm2d) -> None:
        super().__init__()
        self.weight = plain.weight
        self.bias = plain.bias
        self.eps = plain.eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `(B, C, H, W)` at every position."""
        scale = self.weight.reshape(1, -1, 1, 1)
        size = scale.abs().clamp(min=SMALLEST_SCALE)
        scale = size.where(scale >= 0, -size)
        shift = self.bias.reshape(1, -1, 1, 1) / scale
        centred = x - x.mean(dim=1, keepdim=True)
        normed = centred * ((centred * centred).mean(dim=1, keepdim=True) + self.eps).rsqrt()
        return (normed + shift) * scale


class PointwiseMLP(nn.Module):
    """The mask decoder's `MLP` with `Pointwise` layers; it still takes vectors `(B, C)`."""

    def __init__(self, plain: MLP) -> None:
        super().__init__()
        self.mlp = plain

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C)` to `(B, out)`."""
        out: Tensor = self.mlp(x[:, :, None, None])
        return out.flatten(1)


def split_windows(x: Tensor, window: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut a map `(B, C, H, W)` into windows, zero-padded at the bottom and right; no tensor has more than four axes.

    Returns:
        Windows `(B * rows * columns, C, 1, window^2)` and the padded size `(H', W')`.
    """
    b, c, h, w = x.shape
    pad_h, pad_w = -h % window, -w % window
    if pad_h or pad_w:
        x = F.pad(x, (0, pad_w, 0, pad_h))
    rows, columns = (h + pad_h) // window, (w + pad_w) // window
    x = x.reshape(b, c, rows, -1).transpose(1, 2)  # (B, rows, C, window*W')
    x = x.reshape(b * rows, c * window, columns, window).transpose(1, 2)  # (B*rows, columns, C*window, window)
    return x.reshape(-1, c, 1, window * window), (h + pad_h, w + pad_w)


def join_windows(windows: Tensor, window: int, padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Undo `split_windows`: `(B * rows * columns, C, 1, window^2)` back to `(B, C, H, W)` without the padding."""
    rows, columns = padded[0] // window, padded[1] // window
    c = windows.shape[1]
    x = windows.reshape(-1, columns, c * window, window).transpose(1, 2)  # (B*rows, C*window, columns, window)
    x = x.reshape(-1, rows, c, window * padded[1]).transpose(1, 2)  # (B, C, rows, window*W')
    return x.reshape(-1, c, *padded)[:, :, : size[0], : size[1]]
