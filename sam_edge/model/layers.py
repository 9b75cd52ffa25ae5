"""Small layers that several parts of SAM share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm2d(nn.Module):
    """Layer normalization over the channels of a `(B, C, H, W)` map.

    Computed as `F.layer_norm` on the channels-last view: converters then see one LayerNormalization instead of seven
    elementwise operations.
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalize `x (B, C, H, W)` at every position; returns the same shape."""
        channels_last = x.permute(0, 2, 3, 1)
        normed = F.layer_norm(channels_last, self.weight.shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


class FeedForward(nn.Module):
    """Two linear layers with an activation between them: the MLP of SAM's ViT and of its decoder's transformer."""

    def __init__(self, dim: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.act = activation
        self.lin2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., dim)` to `(..., dim)`."""
        out: Tensor = self.lin2(self.act(self.lin1(x)))
        return out


def is_label(labels: Tensor, label: Tensor | float) -> Tensor:
    """1 where `labels` equal `label`, else 0, in the dtype of `labels`; both hold integers.

    Arithmetic instead of `==`, because phones' delegates have no comparisons.
    """
    return (1.0 - (labels - label).abs()).relu()


def first_of_axis(x: Tensor, axis: int, size: int) -> Tensor:
    """The first `size` entries along an axis; `x` itself if it has no more, so that graphs get no empty operation."""
    return x if x.shape[axis] == size else x.narrow(axis, 0, size)


def split_windows(x: Tensor, window: int) -> tuple[Tensor, tuple[int, int]]:
    """Cut a `(B, H, W, C)` map into square windows, zero-padded at the bottom and right where they do not fit.

    No tensor has more than four axes, the most that phones' delegates take.

    Returns:
        Windows `(B * rows * columns, window, window, C)` and the padded size `(H', W')`.
    """
    b, h, w, c = x.shape
    pad_h, pad_w = -h % window, -w % window
    if pad_h or pad_w:
        x = F.pad(x, (0, 0, 0, pad_w, 0, pad_h))
    rows, columns = (h + pad_h) // window, (w + pad_w) // window
    x = x.reshape(b * rows, window, columns, window * c).transpose(1, 2)  # (B*rows, columns, window, window*C)
    return x.reshape(b * rows * columns, window, window, c), (h + pad_h, w + pad_w)


def join_windows(windows: Tensor, window: int, padded: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Undo `split_windows`: `(B * rows * columns, window, window, C)` back to `(B, H, W, C)` without the padding."""
    rows, columns = padded[0] // window, padded[1] // window
    c = windows.shape[-1]
    x = windows.reshape(-1, columns, window, window * c).transpose(1, 2)  # (B*rows, window, columns, window*C)
    x = x.reshape(-1, rows * window, columns * window, c)
    return x[:, : size[0], : size[1], :]
