"""SAM's image encoder: a plain ViT with windowed and a few global attention layers, and a convolutional neck.

Follows "Segment Anything" (arXiv 2304.02643, appendix A) and ViTDet (arXiv 2203.16527); parameter names and shapes are
those of the official checkpoints. Attention adds a bias decomposed into height and width (MViTv2, arXiv 2112.01526).
The bias is folded into the product of queries and keys, which is exact:

    q.k + rel_h[y] + rel_w[x]  =  [q, rel_h, rel_w] . [k, onehot(y), onehot(x)]

One wider product replaces two broadcast additions over `heads x 4096 x 4096` scores: a third of the peak memory and no
extra time. Global attention takes its queries in blocks, so that the scores of 512 exist at a time and not of all 4096.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge_runtime.contract import EMBEDDING_STRIDE, LARGEST_SIDE

from .layers import FeedForward, LayerNorm2d, join_windows, split_windows

NATIVE_SIDE = LARGEST_SIDE  # the frame side that the official positions were trained for
WINDOW = 14
LAYER_NORM_EPS = 1e-6
QUERY_BLOCK = 512  # queries of a global attention whose scores exist at a time


@dataclass(frozen=True)
class ViTConfig:
    """Width, depth and heads of a ViT, and which of its blocks attend globally."""

    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]


class RelativeAttention(nn.Module):
    """Multi-head self-attention over a map, with decomposed relative positions for a `grid x grid` map."""

    each: Tensor

    def __init__(self, dim: int, heads: int, grid: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * grid - 1, self.head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * grid - 1, self.head_dim))
        # Which row, or column, is which. Made in `forward`, litert-torch would leave a STABLEHLO_IOTA of it to TFLite.
        self.register_buffer("each", torch.eye(grid), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over all H*W positions of `(B, H, W, C)`."""
        b, h, w, c = x.shape
        q, k, v = (
            part.reshape(b, h * w, self.heads, self.head_dim).transpose(1, 2).reshape(-1, h * w, self.head_dim)
            for part in self.qkv(x).chunk(3, dim=-1)
        )  # each (B*heads, H*W, head_dim)
        q, k = self._fold_positions(q, k, h, w)
        keys = k.transpose(-2, -1)
        # Scores of a block are (B*heads, QUERY_BLOCK, H*W); each query has its own softmax, so the answer is the same.
        # Slices, because litert-torch does not take a list of pieces here.
        pieces = [q[:, start : start + QUERY_BLOCK] for start in range(0, h * w, QUERY_BLOCK)]
        attended = joined([(piece @ keys).softmax(dim=-1) @ v for piece in pieces])
        out = attended.reshape(b, self.heads, h * w, self.head_dim).transpose(1, 2)
        projected: Tensor = self.proj(out.reshape(b, h, w, c))
        return projected

    def _fold_positions(self, q: Tensor, k: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
        """Widen `q` and `k` of `(B*heads, H*W, D)` to `D + H + W`, so that their product holds scale and bias."""
        q_map = q.reshape(-1, h, w, self.head_dim)
        by_row = q_map @ relative_table(self.rel_pos_h, h).transpose(1, 2)  # (B*heads, H, W, H)
        by_column = q_map.transpose(1, 2) @ relative_table(self.rel_pos_w, w).transpose(1, 2)  # (B*heads, W, H, W)
        wide_q = torch.cat(
            [
                q * self.head_dim**-0.5,
                by_row.reshape(-1, h * w, h),
                by_column.transpose(1, 2).reshape(-1, h * w, w),
            ],
            dim=-1,
        )
        where = one_hot_positions(self.each.to(k.dtype))
        return wide_q, torch.cat([k, where.expand(k.shape[0], -1, -1)], dim=-1)


def joined(blocks: list[Tensor]) -> Tensor:
    """Blocks `(B*heads, ., D)` one after the other, four at a time: XNNPACK and phones' delegates join no more."""
    while len(blocks) > 1:
        blocks = [torch.cat(blocks[first : first + 4], dim=1) for first in range(0, len(blocks), 4)]
    return blocks[0]


def one_hot_positions(each: Tensor) -> Tensor:
    """Row and column of every cell of a square map as one-hot vectors: `(G, G)` identity to `(G*G, G+G)`."""
    size = len(each)
    return torch.cat([each.repeat_interleave(size, dim=0), each.repeat(size, 1)], dim=-1)


def relative_table(rel_pos: Tensor, size: int) -> Tensor:
    """Rows of `rel_pos (2*size-1, D)` for every pair: `(size, size, D)`, query first, then key."""
    steps = torch.arange(size, device=rel_pos.device)
    return rel_pos[steps[:, None] - steps[None, :] + (size - 1)]


class Block(nn.Module):
    """A transformer block with attention in windows (`window > 0`) or over the whole map (`window == 0`)."""

    def __init__(self, config: ViTConfig, window: int, grid: int) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.attn = RelativeAttention(config.dim, config.heads, window or grid)
        self.norm2 = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.mlp = FeedForward(config.dim, 4 * config.dim, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, H, W, C)` to the same shape."""
        attended = self.norm1(x)
        if self.window:
            size = (x.shape[1], x.shape[2])
            windows, padded = split_windows(attended, self.window)
            attended = join_windows(self.attn(windows), self.window, padded, size)
        else:
            attended = self.attn(attended)
        x = x + attended
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class PatchEmbed(nn.Module):
    """Non-overlapping 16 x 16 patches, each projected to the model's width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=EMBEDDING_STRIDE, stride=EMBEDDING_STRIDE)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, 3, S, S)` to `(B, S/16, S/16, dim)`."""
        patches: Tensor = self.proj(x)
        return patches.permute(0, 2, 3, 1)


class ImageEncoderViT(nn.Module):
    """Normalized photo `(B, 3, S, S)` to embedding `(B, out_channels, S/16, S/16)`."""

    any_side = False

    def __init__(self, config: ViTConfig, out_channels: int = 256) -> None:
        super().__init__()
        grid = NATIVE_SIDE // EMBEDDING_STRIDE
        self.patch_embed = PatchEmbed(config.dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, config.dim))
        self.blocks = nn.ModuleList(
            Block(config, 0 if index in config.global_blocks else WINDOW, grid) for index in range(config.depth)
        )
        self.neck = make_neck(config.dim, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Encode `x`; its side must be the one set by `set_input_side` (1024 unless it was called)."""
        x = self.patch_embed(x) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return out

    @torch.no_grad()
    def set_input_side(self, side: int) -> None:
        """Resize the positions to frames of `side` pixels, in place, once, after the official weights were loaded.

        Absolute positions bicubically as ViTDet does, relative ones linearly as SAM's own `get_rel_pos` does; the
        windows keep theirs. Afterwards the state dict no longer has the official shapes.
        """
        grid = side // EMBEDDING_STRIDE
        if grid == self.pos_embed.shape[1]:
            return
        table = self.pos_embed.permute(0, 3, 1, 2)
        table = F.interpolate(table, size=(grid, grid), mode="bicubic", align_corners=False)
        self.pos_embed = nn.Parameter(table.permute(0, 2, 3, 1).contiguous())
        for block in self.blocks:
            if isinstance(block, Block) and not block.window:
                block.attn.rel_pos_h = _resized_rows(block.attn.rel_pos_h, 2 * grid - 1)
                block.attn.rel_pos_w = _resized_rows(block.attn.rel_pos_w, 2 * grid - 1)
                block.attn.each = torch.eye(grid, device=block.attn.each.device)


def _resized_rows(rel_pos: Tensor, rows: int) -> nn.Parameter:
    """Linear interpolation of a `(L, D)` table to `(rows, D)`."""
    resized = F.interpolate(rel_pos.T[None], size=rows, mode="linear", align_corners=False)
    return nn.Parameter(resized[0].T.contiguous())


def make_neck(dim: int, out_channels: int) -> nn.Sequential:
    """The two convolutions, each with a channel norm, that take `dim` features to the embedding."""
    return nn.Sequential(
        nn.Conv2d(dim, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    )
