"""TinyViT-5M as MobileSAM uses it: one stage of convolutions, then three of windowed attention, at a stride of 16.

Source: TinyViT (https://arxiv.org/abs/2207.10666, section 3.2), which has a stride of 32. MobileSAM
(https://arxiv.org/abs/2306.14289) keeps 16 by merging into the last stage without a stride. Parameter names and shapes
are those of `mobile_sam.pt`, which also holds the unused ImageNet head. Nothing depends on the frame's side: windows
have a fixed size, and there are no absolute positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .image_encoder import early_features, make_neck
from .layers import join_windows, split_windows

WIDTHS = (64, 128, 160, 320)
DEPTHS = (2, 2, 6, 2)
HEADS = (2, 4, 5, 10)
WINDOWS = (7, 7, 14, 7)
MERGE_STRIDES = (2, 2, 1)  # after stages 0, 1 and 2; TinyViT itself has 2 everywhere
EARLY_STAGE = 1  # the first whose output, after merging, has a stride of 16: Light-HQ's early features
EXPANSION = 4
IMAGENET_CLASSES = 1000
BATCH_NORM_EPS = 1e-5


class ConvNorm(nn.Module):
    """Convolution without bias, then batch normalization; or, without an epsilon for that, a convolution with bias."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        eps: float | None = BATCH_NORM_EPS,
    ) -> None:
        super().__init__()
        self.c = nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=eps is None)
        # The identity after `norms.fold_batch_norms`.
        self.bn: nn.Module = nn.Identity() if eps is None else nn.BatchNorm2d(channels_out, eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels_in, H, W)` to `(B, channels_out, H/stride, W/stride)`."""
        out: Tensor = self.bn(self.c(x))
        return out


class PatchEmbed(nn.Module):
    """Two strided convolutions: a quarter of the resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvNorm(3, channels // 2, 3, 2), nn.GELU(), ConvNorm(channels // 2, channels, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, 3, H, W)` to `(B, channels, H/4, W/4)`."""
        out: Tensor = self.seq(x)
        return out


class InvertedResidual(nn.Module):
    """MobileNetV2's block with GELU: expand, depthwise 3 x 3, project, add."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = EXPANSION * channels
        self.conv1 = ConvNorm(channels, hidden, 1)
        self.conv2 = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvNorm(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class PatchMerging(nn.Module):
    """Between two stages: change the number of channels, and halve the resolution where `stride` is 2."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels_in, channels_out, 1)
        self.conv2 = ConvNorm(channels_out, channels_out, 3, stride, groups=channels_out)
        self.conv3 = ConvNorm(channels_out, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, channels_in, H, W)` to `(B, channels_out, H/stride, W/stride)`."""
        out: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return out


class WindowAttention(nn.Module):
    """Self-attention inside a window with a learned bias for each distance (|dy|, |dx|) and head."""

    index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))
        y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij"))
        distance = (y[:, None] - y[None, :]).abs() * window + (x[:, None] - x[None, :]).abs()
        self.register_buffer("index", distance, persistent=False)  # (window^2, window^2)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the positions of `(windows, window^2, dim)`; returns the same shape."""
        projected: Tensor = self.proj(self.attend(self.qkv(self.norm(x))))
        return projected

    def attend(self, qkv: Tensor) -> Tensor:
        """Attention of `(windows, window^2, 3*dim)`, without the projections; returns `(windows, window^2, dim)`.

        Each head's query, key and value lie side by side along the last axis.
        """
        n, length, _ = qkv.shape
        q, k, v = qkv.reshape(n, length, self.heads, 3 * self.head_dim).transpose(1, 2).chunk(3, dim=-1)
        scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1) + self.attention_biases[:, self.index]
        out: Tensor = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(n, length, -1)
        return out


class Mlp(nn.Module):
    """Layer normalization, then two linear layers with GELU between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, EXPANSION * dim)
        self.fc2 = nn.Linear(EXPANSION * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., dim)` to `(..., dim)`."""
        out: Tensor = self.fc2(F.gelu(self.fc1(self.norm(x))))
        return out


class TinyViTBlock(nn.Module):
    """Windowed attention, a depthwise convolution across the windows, and an MLP."""

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = WindowAttention(dim, heads, window)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        x = x.permute(0, 2, 3, 1)
        _, h, w, c = x.shape
        # As in training, padding precedes the norm inside the attention: padded positions are not zero as keys.
        windows, padded = split_windows(x, self.window)
        attended = self.attn(windows.reshape(-1, self.window**2, c))
        x = x + join_windows(attended, self.window, padded, (h, w))
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.mlp(x)
        return x.permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Blocks of one width, then `downsample` to the width of the next stage; the last stage has none."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the next stage's width and resolution."""
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


def _make_stage(index: int) -> Stage:
    width = WIDTHS[index]
    blocks: list[nn.Module] = [
        InvertedResidual(width) if index == 0 else TinyViTBlock(width, HEADS[index], WINDOWS[index])
        for _ in range(DEPTHS[index])
    ]
    last = index == len(WIDTHS) - 1
    return Stage(blocks, None if last else PatchMerging(width, WIDTHS[index + 1], MERGE_STRIDES[index]))


class TinyViT(nn.Module):
    """Normalized photo `(B, 3, H, W)` to embedding `(B, out_channels, H/16, W/16)`.

    Attributes:
        any_side: true: nothing depends on the frame's side.
        further_outputs: what `forward` returns beside the embedding; empty: it returns the embedding alone.
    """

    any_side = True

    def __init__(self, out_channels: int = 256, *, early: bool = False) -> None:
        """An untrained encoder.

        Args:
            out_channels: channels of the embedding.
            early: return the output of stage 1 as well, for Light-HQ.
        """
        super().__init__()
        self.early_stage = EARLY_STAGE if early else None
        self.further_outputs = early_features(WIDTHS[EARLY_STAGE + 1]) if early else ()
        self.patch_embed = PatchEmbed(WIDTHS[0])
        self.layers = nn.ModuleList(_make_stage(index) for index in range(len(WIDTHS)))
        self.norm_head = nn.LayerNorm(WIDTHS[-1])  # norm_head and head are in the checkpoint, and unused
        self.head = nn.Linear(WIDTHS[-1], IMAGENET_CLASSES)
        self.neck = make_neck(WIDTHS[-1], out_channels)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Encode `x`; both sides are multiples of 16.

        Returns:
            The embedding; or, with early features, the embedding and the features `(B, 160, H/16, W/16)`.
        """
        x = self.patch_embed(x)
        early = None
        for index, stage in enumerate(self.layers):
            x = stage(x)
            if index == self.early_stage:
                early = x
        out: Tensor = self.neck(x)
        return out if early is None else (out, early)

    def set_input_side(self, side: int) -> None:
        """Do nothing: no part of this encoder depends on the frame's side."""
