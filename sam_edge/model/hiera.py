"""Hiera, the trunk of SAM 2's image encoder: four stages of attention in windows, each at half the resolution before.

Source: Hiera (https://arxiv.org/abs/2306.00989), with the absolute windowed position embeddings of "Window Attention is
Bugged" (https://arxiv.org/abs/2311.05613, section 3) and a few blocks of global attention, as in "SAM 2"
(https://arxiv.org/abs/2408.00714, appendix D.1). Parameter names and shapes are those of the official checkpoints,
below `image_encoder.trunk`.

The first block of a stage halves the resolution: it max-pools its queries two by two within the windows of the stage
before, so its outputs lie in windows of half the side. A block attends to 512 queries at a time, as SAM's ViT does
(`image_encoder`): global attention over 64 x 64 cells would hold 268 MB of scores in the smallest model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .image_encoder import QUERY_BLOCK, PatchEmbed, by_head, merge_heads
from .layers import join_windows, split_windows

LAYER_NORM_EPS = 1e-6
PATCH = 7  # pixels along a side of a patch; patches overlap
STRIDE = 4  # of the patches; each later stage doubles it
POOL = 2
WINDOW_OF_POSITIONS = 8  # cells along a side of the position embeddings that repeat in every window
EXPANSION = 4


@dataclass(frozen=True)
class HieraConfig:
    """Widths and depths of a Hiera.

    Attributes:
        dim: channels of the first stage; each later one doubles them.
        heads: attention heads of the first stage; each later one doubles them.
        stages: number of blocks in each of the four stages.
        windows: side of each stage's windows, in cells.
        global_blocks: indices of the blocks without windows, counted over all stages.
        background: side of the coarse position embeddings, which are resized to the map.
    """

    dim: int
    heads: int
    stages: tuple[int, int, int, int]
    windows: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    background: int = 7


# The configurations of SAM 2 and SAM 2.1 (facebookresearch/sam2, sam2/configs); both versions have the same encoders.
HIERA_TINY = HieraConfig(96, 1, (1, 2, 7, 2), (8, 4, 14, 7), (5, 7, 9))
HIERA_SMALL = HieraConfig(96, 1, (1, 2, 11, 2), (8, 4, 14, 7), (7, 10, 13))
HIERA_BASE_PLUS = HieraConfig(112, 2, (2, 3, 16, 3), (8, 4, 14, 7), (12, 16, 20), background=14)
HIERA_LARGE = HieraConfig(144, 2, (2, 6, 36, 4), (8, 4, 16, 8), (23, 33, 43))


class MaxPool(nn.Module):
    """The largest of every 2 x 2 cells."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, H, W, C)` to `(B, H/2, W/2, C)`."""
        return F.max_pool2d(x.permute(0, 3, 1, 2), POOL, POOL).permute(0, 2, 3, 1)


class PooledAttention(nn.Module):
    """Multi-head self-attention over a map, whose queries may be max-pooled to half its sides."""

    def __init__(self, dim: int, dim_out: int, heads: int, *, pool: bool) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim_out // heads
        self.pool = MaxPool() if pool else None
        self.qkv = nn.Linear(dim, 3 * dim_out)
        self.proj = nn.Linear(dim_out, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over all positions of `(B, H, W, C)`; returns `(B, H, W, C')`, or half of H and W where it pools."""
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # (B, H, W, C') each
        if self.pool is not None:
            q = self.pool(q)
        projected: Tensor = self.proj(self.attend(q, k, v).reshape(q.shape))
        return projected

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of queries to keys and values `(B, H, W, C')`, unprojected; returns `(B, N, C')` of N queries."""
        b = q.shape[0]
        # (B*heads, N, D) each
        queries, keys, values = (by_head(part.reshape(b, -1, self.heads, self.head_dim)) for part in (q, k, v))
        keys = keys.mT

        def attend(first: int) -> Tensor:
            scores = (queries[:, first : first + QUERY_BLOCK] * self.head_dim**-0.5) @ keys
            return merge_heads(scores.softmax(dim=-1) @ values, self.heads)

        return torch.cat([attend(first) for first in range(0, queries.shape[1], QUERY_BLOCK)], dim=1)


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, EXPANSION * dim), nn.Linear(EXPANSION * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., dim)` to `(..., dim)`."""
        out: Tensor = self.layers[1](F.gelu(self.layers[0](x)))
        return out


class HieraBlock(nn.Module):
    """A transformer block: attention in windows, or over the whole map where `window` is 0, then an MLP.

    Where `pool` is set, it halves the map's sides and projects its input to the wider output.
    """

    def __init__(self, dim: int, dim_out: int, heads: int, window: int, *, pool: bool) -> None:
        super().__init__()
        self.window = window
        self.pool = MaxPool() if pool else None
        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = PooledAttention(dim, dim_out, heads, pool=pool)
        self.norm2: nn.Module = nn.LayerNorm(dim_out, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(dim_out)
        self.proj = nn.Linear(dim, dim_out) if dim != dim_out else None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, H, W, dim)` to `(B, H, W, dim_out)`, or to half of H and W where it pools."""
        normed = self.norm1(x)
        if self.proj is not None:
            x = self.proj(normed)
        if self.pool is not None:
            x = self.pool(x)
        if self.window:
            windows, (rows, columns) = split_windows(normed, self.window)
            ratio = 1 if self.pool is None else POOL
            padded = (rows // ratio, columns // ratio)
            attended = join_windows(self.attn(windows), self.window // ratio, padded, (x.shape[1], x.shape[2]))
        else:
            attended = self.attn(normed)
        x = x + attended
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Hiera(nn.Module):
    """Normalized photo `(B, 3, H, W)` to the outputs of the four stages, at strides 4, 8, 16 and 32.

    Attributes:
        widths: channels of the four outputs.
    """

    def __init__(self, config: HieraConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(config.dim, PATCH, STRIDE, PATCH // 2)
        self.pos_embed = nn.Parameter(torch.zeros(1, config.dim, config.background, config.background))
        self.pos_embed_window = nn.Parameter(torch.zeros(1, config.dim, WINDOW_OF_POSITIONS, WINDOW_OF_POSITIONS))
        self.widths = tuple(config.dim * 2**stage for stage in range(len(config.stages)))
        blocks: list[HieraBlock] = []
        self.ends: list[int] = []  # index of each stage's last block
        width = config.dim
        for stage, depth in enumerate(config.stages):
            for place in range(depth):
                pool = stage > 0 and place == 0
                window = config.windows[stage - 1 if pool else stage]  # it halves its windows by pooling
                window = 0 if len(blocks) in config.global_blocks else window
                blocks.append(HieraBlock(width, self.widths[stage], config.heads * 2**stage, window, pool=pool))
                width = self.widths[stage]
            self.ends.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)

    def positions(self, h: int, w: int) -> Tensor:
        """Position embeddings `(1, h, w, C)` of a map of cells: the coarse ones, resized, and those of each window.

        They depend on the map's size alone; exports replace the bicubic resize (`lean.positions`).
        """
        coarse = F.interpolate(self.pos_embed, size=(h, w), mode="bicubic", align_corners=False)
        return (coarse + self.of_windows(h, w)).permute(0, 2, 3, 1)

    def of_windows(self, h: int, w: int) -> Tensor:
        """The embeddings that repeat in every window, `(1, C, h, w)`."""
        side = WINDOW_OF_POSITIONS
        return self.pos_embed_window.repeat(1, 1, -(-h // side), -(-w // side))[:, :, :h, :w]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode photos whose sides are multiples of 32.

        Returns:
            Four maps `(B, widths[i], H/s, W/s)` with s = 4, 8, 16, 32.
        """
        x = self.patch_embed(x)
        x = x + self.positions(x.shape[1], x.shape[2])
        outputs = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.ends:
                outputs.append(x.permute(0, 3, 1, 2))
        return tuple(outputs)
