"""SAM's ViT on BC1S tensors.

The relative position biases are folded into the product of queries and keys, which is exact:

    q.k + rel_h[y] + rel_w[x]  =  [q, rel_h, rel_w] . [k, onehot(y), onehot(x)]

One wider product replaces two broadcast additions to the scores of each head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam_edge.model.image_encoder import (
    Block,
    ImageEncoderViT,
    RelativeAttention,
    cropped_positions,
    relative_table,
)

from .attention import attend, split_keys, split_queries
from .layers import join_windows, split_windows

# The lookup table of a row, and all queries in that row; an instance of the one equation in `attention`.
ROW_BIASES = "ykhc,ychq->ykhq"


class HeadwiseRelativeAttention(nn.Module):
    """`RelativeAttention` one head at a time, with the relative positions folded into queries and keys."""

    def __init__(self, plain: RelativeAttention) -> None:
        super().__init__()
        self.heads = plain.heads
        self.head_dim = plain.head_dim
        self.qkv = plain.qkv
        self.proj = plain.proj
        self.rel_pos_h = plain.rel_pos_h
        self.rel_pos_w = plain.rel_pos_w

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        """Attend over all H*W positions of `(B, C, 1, H*W)`; returns the same shape."""
        q, k, v = self.qkv(x).chunk(3, dim=1)
        positions = one_hot_positions(h, w).to(k)[None, :, None, :].expand(x.shape[0], -1, -1, -1)
        keys = [torch.cat([key, positions], dim=3) for key in split_keys(k, self.heads)]  # (B, H*W, 1, D+H+W)
        queries = split_queries(self._widened(q, h, w), self.heads)
        out: Tensor = self.proj(attend(queries, keys, split_queries(v, self.heads)))
        return out

    def _widened(self, q: Tensor, h: int, w: int) -> Tensor:
        """Scaled queries with their biases: `(B, heads*D, 1, H*W)` to `(B, heads*(D+H+W), 1, H*W)`."""
        d = self.head_dim
        maps = q.reshape(-1, d, h, w)  # (B*heads, D, H, W)
        rows, columns = relative_table(self.rel_pos_h, h), relative_table(self.rel_pos_w, w)
        by_row = torch.einsum(ROW_BIASES, rows.unsqueeze(2), maps.permute(2, 1, 0, 3).reshape(h, d, 1, -1))
        by_row = by_row.reshape(h, h, -1, w).permute(2, 1, 0, 3)  # (B*heads, H of the key, H, W)
        by_column = torch.einsum(ROW_BIASES, columns.unsqueeze(2), maps.permute(3, 1, 0, 2).reshape(w, d, 1, -1))
        by_column = by_column.reshape(w, w, -1, h).permute(2, 1, 3, 0)  # (B*heads, W of the key, H, W)
        wide = torch.cat([maps * d**-0.5, by_row, by_column], dim=1)
        return wide.reshape(q.shape[0], -1, 1, h * w)


def one_hot_positions(h: int, w: int) -> Tensor:
    """Row and column of each cell of a map as one-hot vectors: `(H*W, H+W)`."""
    return torch.cat([torch.eye(h).repeat_interleave(w, dim=0), torch.eye(w).repeat(h, 1)], dim=-1)


class BC1SBlock(nn.Module):
    """`Block` on BC1S: windows are cut from the map and flattened again."""

    def __init__(self, plain: Block) -> None:
        super().__init__()
        self.window = plain.window
        self.norm1 = plain.norm1
        self.attn = plain.attn
        self.norm2 = plain.norm2
        self.mlp = plain.mlp

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        """Map `(B, C, 1, H*W)` to the same shape."""
        attended = self.norm1(x)
        if self.window:
            windows, padded = split_windows(attended.reshape(*x.shape[:2], h, w), self.window)
            attended = self.attn(windows, self.window, self.window)
            attended = join_windows(attended, self.window, padded, (h, w)).reshape(x.shape)
        else:
            attended = self.attn(attended, h, w)
        x = x + attended
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class BC1SImageEncoder(nn.Module):
    """`ImageEncoderViT` on BC1S: the output of the first convolution keeps its order of axes."""

    def __init__(self, plain: ImageEncoderViT) -> None:
        super().__init__()
        self.patches = plain.patch_embed.proj
        self.pos_embed = plain.pos_embed
        self.blocks = plain.blocks
        self.neck = plain.neck
        self.early_block = plain.early_block
        self.further_outputs = plain.further_outputs

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Normalized photo `(B, 3, H, W)` to the output of `ImageEncoderViT`."""
        maps = self.patches(x)  # (B, C, h, w)
        b, c, h, w = maps.shape
        maps = maps + cropped_positions(self.pos_embed, h, w).permute(0, 3, 1, 2)
        x = maps.reshape(b, c, 1, h * w)
        early = None
        for index, block in enumerate(self.blocks):
            x = block(x, h, w)
            if index == self.early_block:
                early = x.reshape(b, c, h, w)
        out: Tensor = self.neck(x.reshape(b, c, h, w))
        return out if early is None else (out, early)
