"""SAM's image encoder: a plain ViT with windowed and a few global attention layers, and a convolutional neck.

Source: "Segment Anything" (https://arxiv.org/abs/2304.02643, appendix A, "Image encoder") and ViTDet
(https://arxiv.org/abs/2203.16527, section 3). Attention adds relative position biases decomposed into height and width
(MViTv2, https://arxiv.org/abs/2112.01526, section 4.1). Parameter names and shapes are those of the official
checkpoints.

Global attention computes its queries in blocks of 512 to bound memory: the scores of one block exist at a time, not
those of all 4096 queries. The biases are added to each block. Folded into a wider product of queries and keys,
`[q, rel_h, rel_w] . [k, onehot(y), onehot(x)]`, they took longer (docs/performance.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE, LARGEST_SIDE
from sam_edge_runtime.bundle.conventions import FeatureMap

from .layers import FeedForward, LayerNorm2d, first_of_axis, join_windows, split_windows

NATIVE_SIDE = LARGEST_SIDE  # the frame side that the official positions were trained for
WINDOW = 14
LAYER_NORM_EPS = 1e-6
QUERY_BLOCK = 512  # queries of one block: their scores exist at a time
EARLY_FEATURES = "early_features"  # SAM-HQ's second input of the mask decoder


@dataclass(frozen=True)
class ViTConfig:
    """Width, depth and heads of a ViT, and which of its blocks attend globally.

    Attributes:
        dim: channels between the blocks.
        depth: number of blocks.
        heads: attention heads of each block.
        global_blocks: indices of the blocks without windows.
        attention_widths: queries' channels of each block, where a pruned model has others than `dim`; empty: `dim`.
        mlp_widths: hidden channels of each block's MLP; empty: four times `dim`.
    """

    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    attention_widths: tuple[int, ...] = ()
    mlp_widths: tuple[int, ...] = ()


class RelativeAttention(nn.Module):
    """Multi-head self-attention over a map of up to `grid x grid`, with decomposed relative position biases.

    `width` is the number of the queries' channels over all heads; by default it is `dim`.
    """

    def __init__(self, dim: int, heads: int, grid: int, width: int | None = None) -> None:
        super().__init__()
        width = width or dim
        self.heads = heads
        self.head_dim = width // heads
        self.qkv = nn.Linear(dim, 3 * width)
        self.proj = nn.Linear(width, dim)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * grid - 1, self.head_dim))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * grid - 1, self.head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Attend over all H*W positions of `(B, H, W, C)`; returns the same shape."""
        attended = self.attend(self.qkv(x))  # (B, H*W, heads*D)
        projected: Tensor = self.proj(attended.reshape(*x.shape[:3], -1))
        return projected

    def attend(self, qkv: Tensor) -> Tensor:
        """Attention of queries, keys and values `(B, H, W, 3*heads*D)`, unprojected; returns `(B, H*W, heads*D)`."""
        b, h, w, _ = qkv.shape
        q, k, v = (part.reshape(b, h * w, self.heads, self.head_dim) for part in qkv.chunk(3, dim=-1))
        by_row, by_column = self._biases(q, h, w)
        queries, keys, values = by_head(q), by_head(k).mT, by_head(v)

        def attend(first: int) -> Tensor:
            some = slice(first, first + QUERY_BLOCK)
            scores = (queries[:, some] * self.head_dim**-0.5) @ keys
            scores = scores.reshape(-1, h, w) + by_row[:, some].reshape(-1, h, 1) + by_column[:, some].reshape(-1, 1, w)
            return merge_heads(scores.reshape(b * self.heads, -1, h * w).softmax(dim=-1) @ values, self.heads)

        # The scores of a block are (B*heads, QUERY_BLOCK, H*W). Each query has a softmax of its own, so blocks change
        # no output. Heads are merged before the blocks are joined: otherwise litert-torch joins the scores of all
        # blocks first and multiplies them with the values at once.
        return torch.cat([attend(first) for first in range(0, h * w, QUERY_BLOCK)], dim=1)

    def _biases(self, q: Tensor, h: int, w: int) -> tuple[Tensor, Tensor]:
        """Biases of each query's scores by the key's row `(B*heads, H*W, H)` and by its column `(B*heads, H*W, W)`.

        Args:
            q: queries `(B, H*W, heads, D)`.
            h: rows of the map.
            w: columns of the map.
        """
        b = q.shape[0]
        maps = q.reshape(b, h, w, -1)
        # Queries in one row (or column) share a lookup table: one product for each row, not for each head and photo.
        of_rows = maps.transpose(0, 1).reshape(h, -1, self.head_dim) @ relative_table(self.rel_pos_h, h).mT
        of_columns = maps.permute(2, 0, 1, 3).reshape(w, -1, self.head_dim) @ relative_table(self.rel_pos_w, w).mT
        by_row = of_rows.reshape(h, b, w, -1).transpose(0, 1).reshape(b, h * w, self.heads, h)
        by_column = of_columns.reshape(w, b, h, -1).permute(1, 2, 0, 3).reshape(b, h * w, self.heads, w)
        return by_head(by_row), by_head(by_column)


def by_head(x: Tensor) -> Tensor:
    """`(B, N, heads, D)` to `(B*heads, N, D)`."""
    if x.shape[2] == 1:  # nothing to move, and no operation in a graph
        return x.flatten(2)
    return x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[3])


def merge_heads(x: Tensor, heads: int) -> Tensor:
    """Undo `by_head`: `(B*heads, N, D)` to `(B, N, heads*D)`."""
    _, n, dim = x.shape
    if heads == 1:
        return x
    return x.reshape(-1, heads, n, dim).transpose(1, 2).reshape(-1, n, heads * dim)


def cropped_positions(table: Tensor, h: int, w: int) -> Tensor:
    """The upper left `(1, h, w, C)` of a table of positions `(1, grid, grid, C)`."""
    return first_of_axis(first_of_axis(table, 1, h), 2, w)


def relative_table(rel_pos: Tensor, size: int) -> Tensor:
    """The rows of `rel_pos (2*grid-1, D)` for pairs of `size <= grid` places: `(size, size, D)`, query, then key."""
    places = torch.arange(size, device=rel_pos.device)
    return rel_pos[places[:, None] - places[None, :] + len(rel_pos) // 2]


class Block(nn.Module):
    """A transformer block: attention in windows of `window x window` cells, or over the whole map where it is 0."""

    def __init__(self, config: ViTConfig, index: int, grid: int) -> None:
        super().__init__()
        self.window = window = 0 if index in config.global_blocks else WINDOW
        width = config.attention_widths[index] if config.attention_widths else config.dim
        hidden = config.mlp_widths[index] if config.mlp_widths else 4 * config.dim
        self.norm1 = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.attn = RelativeAttention(config.dim, config.heads, window or grid, width)
        self.norm2 = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.mlp = FeedForward(config.dim, hidden, nn.GELU())

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
    """Patches, each projected to the model's width: 16 x 16 without overlap, or a convolution of another kernel."""

    def __init__(
        self, dim: int, kernel: int = EMBEDDING_STRIDE, stride: int = EMBEDDING_STRIDE, padding: int = 0
    ) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=kernel, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, 3, H, W)` to `(B, H/stride, W/stride, dim)`."""
        patches: Tensor = self.proj(x)
        return patches.permute(0, 2, 3, 1)


class ImageEncoderViT(nn.Module):
    """Normalized photo `(B, 3, H, W)` to embedding `(B, out_channels, H/16, W/16)`.

    Positions are those of the square of side S, cropped to the frame's H x W.

    Attributes:
        any_side: false: positions are learned for one side, so `set_input_side` works once.
        further_outputs: what `forward` returns beside the embedding; empty: it returns the embedding alone.
    """

    any_side = False

    def __init__(self, config: ViTConfig, out_channels: int = 256, *, early: bool = False) -> None:
        """An untrained encoder.

        Args:
            config: its widths.
            out_channels: channels of the embedding.
            early: return the output of the first global block as well, for SAM-HQ.
        """
        super().__init__()
        self.early_block = min(config.global_blocks) if early else None
        self.further_outputs = early_features(config.dim) if early else ()
        grid = NATIVE_SIDE // EMBEDDING_STRIDE
        self.patch_embed = PatchEmbed(config.dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, config.dim))
        self.blocks = nn.ModuleList(Block(config, index, grid) for index in range(config.depth))
        self.neck = make_neck(config.dim, out_channels)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Encode `x`; neither side exceeds S, which `set_input_side` sets and is 1024 by default.

        Returns:
            The embedding; or, with early features, the embedding and the features `(B, dim, H/16, W/16)`.
        """
        x = self.patch_embed(x)
        x = x + cropped_positions(self.pos_embed, x.shape[1], x.shape[2])
        early = None
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == self.early_block:
                early = x.permute(0, 3, 1, 2)
        out: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return out if early is None else (out, early)

    @torch.no_grad()
    def set_input_side(self, side: int) -> None:
        """Resize the position embeddings to frames whose longer side is `side` pixels, in place.

        Call it once, after the official weights are loaded: afterwards the state dict no longer has the official
        shapes. Absolute positions are resized bicubically, as in ViTDet; the relative positions of global attention
        linearly, as in SAM's own `get_rel_pos`. Windows keep their relative positions.
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


def _resized_rows(rel_pos: Tensor, rows: int) -> nn.Parameter:
    """Linear interpolation of a `(L, D)` table to `(rows, D)`."""
    resized = F.interpolate(rel_pos.T[None], size=rows, mode="linear", align_corners=False)
    return nn.Parameter(resized[0].T.contiguous())


def early_features(channels: int) -> tuple[FeatureMap, ...]:
    """The further outputs of an encoder with early features of so many channels."""
    return (FeatureMap(EARLY_FEATURES, channels, EMBEDDING_STRIDE),)


def make_neck(dim: int, out_channels: int) -> nn.Sequential:
    """Two convolutions, each with a channel norm: `(B, dim, H, W)` to the embedding `(B, out_channels, H, W)`."""
    return nn.Sequential(
        nn.Conv2d(dim, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    )
