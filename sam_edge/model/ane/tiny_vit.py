"""TinyViT's attention blocks on BC1S tensors; its other parts are convolutions already."""

from __future__ import annotations

from torch import Tensor, nn

from sam_edge.model.tiny_vit import TinyViTBlock, WindowAttention

from .attention import attend, split_keys, split_queries
from .layers import join_windows, pointwise, split_windows


class HeadwiseWindowAttention(nn.Module):
    """`WindowAttention` one head at a time."""

    index: Tensor

    def __init__(self, plain: WindowAttention) -> None:
        super().__init__()
        self.heads = plain.heads
        self.head_dim = plain.head_dim
        self.norm = plain.norm
        self.qkv = plain.qkv
        self.proj = plain.proj
        self.attention_biases = plain.attention_biases
        self.register_buffer("index", plain.index, persistent=False)  # (window^2, window^2)

    def forward(self, x: Tensor) -> Tensor:
        """Attend over the positions of `(windows, C, 1, window^2)`; returns the same shape."""
        # The plain layer's outputs are q, k, v of the first head, then of the second. Sorted into all q, all k, all v,
        # one tensor of keys is transposed instead of one a head.
        weight = self.qkv.weight.reshape(self.heads, 3, self.head_dim, -1).transpose(0, 1).flatten(0, 2)
        bias = self.qkv.bias.reshape(self.heads, 3, self.head_dim).transpose(0, 1).flatten()
        q, k, v = pointwise(self.norm(x), weight, bias).chunk(3, dim=1)
        queries = split_queries(q * self.head_dim**-0.5, self.heads)
        # Distances are symmetric, so the table for (query, key) is also that for (key, query).
        biases = [self.attention_biases[head][self.index][None, :, None, :] for head in range(self.heads)]
        out: Tensor = self.proj(attend(queries, split_keys(k, self.heads), split_queries(v, self.heads), biases))
        return out


class BC1SWindowBlock(nn.Module):
    """`TinyViTBlock` on maps whose channels stay the second axis."""

    def __init__(self, plain: TinyViTBlock) -> None:
        super().__init__()
        self.window = plain.window
        self.attn = plain.attn
        self.local_conv = plain.local_conv
        self.mlp = plain.mlp

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, C, H, W)` to the same shape."""
        windows, padded = split_windows(x, self.window)
        x = x + join_windows(self.attn(windows), self.window, padded, (x.shape[2], x.shape[3]))
        x = self.local_conv(x)
        sequence = x.reshape(*x.shape[:2], 1, -1)
        out: Tensor = sequence + self.mlp(sequence)
        return out.reshape(x.shape)
