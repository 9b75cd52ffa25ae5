"""Windowed attention whose projections compute the map's cells alone, not the padding of windows.

Windows that do not fit are padded: ViT-B's map of 64 x 64 cells becomes 70 x 70, and that of a frame of 1024 x 704
becomes 70 x 56 for 64 x 44. The plain blocks project the padded cells too, although their queries, keys and values are
known: those of a cell of zeros. Here the map is projected first, and queries, keys and values are padded.

They can be padded with zeros, whatever those known values are:

- A constant added to all keys adds the same number to all scores of a query, and the softmax cancels it. So the known
  key is subtracted from all keys through the projection's bias.
- Attention weights sum to 1. So the known value is subtracted from all values, and its projection is added to the bias
  of the output's projection.
- Queries of padded cells have outputs that are cut off, whatever they are.

Outputs equal those of the plain blocks up to rounding. Only biases change, so a quantizer finds the same weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sam_edge.model.graphs import EncoderGraph
from sam_edge.model.hiera import POOL, HieraBlock, PooledAttention
from sam_edge.model.image_encoder import Block, RelativeAttention
from sam_edge.model.layers import join_windows, split_windows
from sam_edge.model.replacement import replace_modules
from sam_edge.model.tiny_vit import TinyViTBlock, WindowAttention


def without_padded_cells(graph: EncoderGraph) -> EncoderGraph:
    """A copy of an encoder graph whose windowed attention projects the map's cells alone; parameters are shared.

    Its outputs are equal up to rounding. Graphs without windows stay as they are.
    """
    return replace_modules(graph, {Block: _block, TinyViTBlock: UnpaddedTinyViTBlock, HieraBlock: _hiera_block})


def _block(plain: Block) -> nn.Module:
    return UnpaddedBlock(plain) if plain.window else plain


def _hiera_block(plain: HieraBlock) -> nn.Module:
    return UnpaddedHieraBlock(plain) if plain.window else plain


class UnpaddedBlock(Block):
    """A windowed `Block`."""

    def __init__(self, plain: Block) -> None:
        nn.Module.__init__(self)
        self.window, self.norm1, self.norm2, self.mlp = plain.window, plain.norm1, plain.norm2, plain.mlp
        self.attn = _UnpaddedRelativeAttention(plain.attn)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, H, W, C)` to the same shape."""
        windows, padded = split_windows(self.attn.qkv(self.norm1(x)), self.window)
        attended = self.attn.attend(windows).reshape(-1, self.window, self.window, self.attn.proj.in_features)
        x = x + self.attn.proj(join_windows(attended, self.window, padded, (x.shape[1], x.shape[2])))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _UnpaddedRelativeAttention(RelativeAttention):
    """`RelativeAttention` with biases for keys and values that are padded with zeros."""

    def __init__(self, plain: RelativeAttention) -> None:
        nn.Module.__init__(self)
        self.heads, self.head_dim = plain.heads, plain.head_dim
        self.rel_pos_h, self.rel_pos_w = plain.rel_pos_h, plain.rel_pos_w
        self.qkv, self.proj = _without_padding(plain.qkv, plain.proj)


class UnpaddedTinyViTBlock(TinyViTBlock):
    """`TinyViTBlock` whose windows are cut from queries, keys and values."""

    def __init__(self, plain: TinyViTBlock) -> None:
        nn.Module.__init__(self)
        self.window, self.local_conv, self.mlp = plain.window, plain.local_conv, plain.mlp
        self.attn = _UnpaddedWindowAttention(plain.attn)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        x = x.permute(0, 2, 3, 1)
        _, h, w, c = x.shape
        windows, padded = split_windows(self.attn.qkv(self.attn.norm(x)), self.window)
        attended = self.attn.attend(windows.reshape(-1, self.window**2, 3 * c))
        x = x + self.attn.proj(join_windows(attended, self.window, padded, (h, w)))
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.mlp(x)
        return x.permute(0, 3, 1, 2)


class _UnpaddedWindowAttention(WindowAttention):
    """`WindowAttention` with biases for keys and values that are padded with zeros."""

    def __init__(self, plain: WindowAttention) -> None:
        nn.Module.__init__(self)
        self.heads, self.head_dim, self.norm = plain.heads, plain.head_dim, plain.norm
        self.attention_biases = plain.attention_biases
        self.register_buffer("index", plain.index, persistent=False)
        # Padding precedes the normalization, which turns zeros into its shift.
        padded = nn.functional.linear(plain.norm.bias.detach(), plain.qkv.weight.detach(), plain.qkv.bias.detach())
        queries, keys, values = padded.reshape(self.heads, 3, self.head_dim).unbind(dim=1)
        known = torch.stack([torch.zeros_like(queries), keys, values], dim=1).flatten()
        self.qkv = _with_bias(plain.qkv, plain.qkv.bias.detach() - known)
        self.proj = _with_bias(plain.proj, plain.proj.bias.detach() + plain.proj.weight.detach() @ values.flatten())


class UnpaddedHieraBlock(HieraBlock):
    """A windowed `HieraBlock` that pools and projects before windows are cut."""

    def __init__(self, plain: HieraBlock) -> None:
        nn.Module.__init__(self)
        self.window, self.pool = plain.window, plain.pool
        self.norm1, self.norm2, self.mlp, self.proj = plain.norm1, plain.norm2, plain.mlp, plain.proj
        self.attn = _UnpaddedPooledAttention(plain.attn)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, H, W, dim)` to `(B, H, W, dim_out)`, or to half of H and W where it pools."""
        normed = self.norm1(x)
        if self.proj is not None:
            x = self.proj(normed)
        q, k, v = self.attn.qkv(normed).chunk(3, dim=-1)
        side = self.window
        if self.pool is not None and self.attn.pool is not None:
            x, q, side = self.pool(x), self.attn.pool(q), side // POOL
        queries, padded = split_windows(q, side)
        keys, values = (split_windows(each, self.window)[0] for each in (k, v))
        attended = self.attn.attend(queries, keys, values).reshape(queries.shape)
        x = x + self.attn.proj(join_windows(attended, side, padded, (x.shape[1], x.shape[2])))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class _UnpaddedPooledAttention(PooledAttention):
    """`PooledAttention` with biases for keys and values that are padded with zeros."""

    def __init__(self, plain: PooledAttention) -> None:
        nn.Module.__init__(self)
        self.heads, self.head_dim, self.pool = plain.heads, plain.head_dim, plain.pool
        self.qkv, self.proj = _without_padding(plain.qkv, plain.proj)


def _without_padding(qkv: nn.Linear, proj: nn.Linear) -> tuple[nn.Linear, nn.Linear]:
    """Projections for keys and values that are padded with zeros: those of a padded cell would be the biases."""
    queries, _, values = qkv.bias.detach().chunk(3)
    nothing = torch.zeros_like(queries)
    return (
        _with_bias(qkv, torch.cat([queries, nothing, nothing])),
        _with_bias(proj, proj.bias.detach() + proj.weight.detach() @ values),
    )


def _with_bias(plain: nn.Linear, bias: Tensor) -> nn.Linear:
    """A linear layer with the weight of `plain`, shared, and another bias."""
    layer = nn.Linear(plain.in_features, plain.out_features, device="meta")
    layer.weight, layer.bias = plain.weight, nn.Parameter(bias)
    return layer
