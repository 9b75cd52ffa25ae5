"""The two-way transformer of SAM's mask decoder: tokens attend to the image and the image to the tokens.

"Segment Anything" (arXiv 2304.02643), appendix A and figure 14. One thing is added to the official module:
`key_bias`, which hides empty prompt slots from every attention in which tokens are keys. With it, a decoder of fixed
shape gives the answer of one whose shape fits the prompt.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from .layers import FeedForward

# Added to the scores of an empty slot. exp(-3e4) is exactly 0 in float32, and the value itself still exists in
# float16 (largest 65504), where minus infinity would turn a row of only empty slots into NaN.
EMPTY_SLOT_BIAS = -3e4


class Attention(nn.Module):
    """Multi-head attention whose inner width is the embedding's divided by `downsample`."""

    def __init__(self, dim: int, heads: int, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Attend from `q (B, L, C)` to `k, v (B, K, C)`; `key_bias (B, 1, 1, K)` is added to the scores."""
        q, k, v = (self._heads(proj(x)) for proj, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v)))
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, heads, L, K)
        if key_bias is not None:
            scores = scores + key_bias
        out = (scores.softmax(dim=-1) @ v).transpose(1, 2)
        projected: Tensor = self.out_proj(out.flatten(2))
        return projected

    def _heads(self, x: Tensor) -> Tensor:
        """`(B, L, inner)` to `(B, heads, L, inner/heads)`."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class TwoWayBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, MLP on the tokens, image to tokens."""

    def __init__(self, dim: int, heads: int, hidden: int, downsample: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, downsample)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, hidden, nn.ReLU())
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, downsample)

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor, key_bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Update `tokens (B, T, C)` and `image (B, HW, C)`."""
        if self.first:  # the tokens still are their own positions: no positions added, no residual
            tokens = self.self_attn(tokens, tokens, tokens, key_bias)
        else:
            q = tokens + token_pe
            tokens = tokens + self.self_attn(q, q, tokens, key_bias)
        tokens = self.norm1(tokens)
        placed = image + image_pe
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_pe, placed, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(placed, tokens + token_pe, tokens, key_bias)
        return tokens, self.norm4(image)


class TwoWayTransformer(nn.Module):
    """Two two-way blocks and a last look of the tokens at the image."""

    def __init__(self, dim: int, heads: int = 8, hidden: int = 2048, depth: int = 2, downsample: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayBlock(dim, heads, hidden, downsample, first=index == 0) for index in range(depth)
        )
        self.final_attn_token_to_image = Attention(dim, heads, downsample)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor, key_bias: Tensor) -> tuple[Tensor, Tensor]:
        """Let prompts and image look at each other.

        Args:
            image: `(B, HW, C)` embedding with the dense prompt added.
            image_pe: `(1, HW, C)` positions of the cells.
            tokens: `(B, T, C)` output tokens, then prompt tokens; they serve as their own positions.
            key_bias: `(B, 1, 1, T)` 0 for a token that counts, `EMPTY_SLOT_BIAS` for one that does not.

        Returns:
            Tokens `(B, T, C)` and image `(B, HW, C)` after both have looked.
        """
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe, key_bias)
        tokens = tokens + self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens), image
