"""The two-way transformer of SAM's mask decoder: tokens attend to the image, and the image attends to the tokens.

Source: "Segment Anything" (https://arxiv.org/abs/2304.02643, appendix A, "Lightweight mask decoder", figure 14). The
official module has no `key_bias`. It hides empty prompt slots from every attention in which tokens are keys. So a
decoder with a fixed number of slots has the outputs of one with as many slots as the prompt needs.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from .layers import FeedForward

# Added to the scores of an empty slot. exp(-3e4) is exactly 0 in float32. Unlike minus infinity, it does not turn a row
# of only empty slots into NaN, and it is below the largest number of float16, 65504.
EMPTY_SLOT_BIAS = -3e4


class Attention(nn.Module):
    """Multi-head attention; its inner width is the width of the embedding divided by `downsample`."""

    def __init__(self, dim: int, heads: int, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Attend from `q (B, L, C)` to `k, v (B, K, C)`; `key_bias (B, 1, 1, K)` is added to the scores.

        Returns:
            `(B, L, C)`.
        """
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
    """Self-attention of the tokens, attention to the image, MLP on the tokens, attention of the image to the tokens.

    Attributes:
        activation: of the MLP.
    """

    activation: type[nn.Module] = nn.ReLU

    def __init__(self, dim: int, heads: int, hidden: int, downsample: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = Attention(dim, heads, downsample)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = FeedForward(dim, hidden, self.activation())
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = Attention(dim, heads, downsample)

    def forward(
        self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor, key_bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Update `tokens (B, T, C)` and `image (B, HW, C)`; see `TwoWayTransformer.forward` for the others."""
        tokens = self.norm1(self.attend_to_itself(tokens, token_pe, key_bias))
        placed = image + image_pe
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_pe, placed, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = image + self.cross_attn_image_to_token(placed, tokens + token_pe, tokens, key_bias)
        return tokens, self.norm4(image)

    def attend_to_itself(self, tokens: Tensor, token_pe: Tensor, key_bias: Tensor | None) -> Tensor:
        """Self-attention of `tokens (B, T, C)`, with its residual."""
        if self.first:  # here the tokens equal their positions: none are added, and there is no residual
            first: Tensor = self.self_attn(tokens, tokens, tokens, key_bias)
            return first
        q = tokens + token_pe
        out: Tensor = tokens + self.self_attn(q, q, tokens, key_bias)
        return out


class TwoWayTransformer(nn.Module):
    """`depth` two-way blocks, and a last attention from the tokens to the image.

    Attributes:
        block: class of its blocks.
    """

    block: type[TwoWayBlock] = TwoWayBlock

    def __init__(self, dim: int, heads: int = 8, hidden: int = 2048, depth: int = 2, downsample: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            self.block(dim, heads, hidden, downsample, first=index == 0) for index in range(depth)
        )
        self.final_attn_token_to_image = Attention(dim, heads, downsample)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(
        self, image: Tensor, image_pe: Tensor, tokens: Tensor, key_bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Update tokens and image by attention in both directions.

        Args:
            image: `(B, HW, C)` embedding with the dense prompt added.
            image_pe: `(1, HW, C)` position embeddings of the cells.
            tokens: `(B, T, C)` output tokens, then prompt tokens; they are also the tokens' position embeddings.
            key_bias: `(B, 1, 1, T)` 0 for a token that counts, `EMPTY_SLOT_BIAS` for an empty slot; None: all count.

        Returns:
            Tokens `(B, T, C)` and image `(B, HW, C)`.
        """
        token_pe = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, image_pe, key_bias)
        tokens = tokens + self.final_attn_token_to_image(tokens + token_pe, image + image_pe, image)
        return self.norm_final_attn(tokens), image
