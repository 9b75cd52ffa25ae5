"""The mask decoder's attention between few tokens and many image cells, without projecting the cells.

The plain attention projects each of K image cells to the inner width, although only T tokens, far fewer, attend to them
or are attended to. Matrix products are associative, so the projection can be applied to the tokens instead, as
DeepSeek-V2 (https://arxiv.org/abs/2405.04434, section 2.1) does for cached keys. This holds for all four projections:

    tokens attend to the image     q . (W_k x)        =  (W_k^T q) . x       keys are not projected
                                   softmax . (W_v x)  =  W_v (softmax . x)   values are not projected
    the image attends to tokens    (W_q x) . k        =  x . (W_q^T k)       queries are not projected
                                   W_o (softmax . v)  =  softmax . (W_o v)   outputs are not projected

With one click SAM's decoder has T = 7 tokens and 8 heads: a product with 56 rows replaces a projection to 128 channels,
and the transformer has less than half of its multiplications left. Outputs equal the plain modules' up to rounding.

Weights are split by heads beforehand, so the exported graph holds them as constants and a quantizer can find them.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from sam_edge.model.transformer import Attention


class TokensReadImage(nn.Module):
    """`Attention` from few tokens to many image cells: keys and values are not projected."""

    keys: Tensor
    values: Tensor

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        self.heads = plain.heads
        self.q_proj, self.v_bias, self.out_proj = plain.q_proj, plain.v_proj.bias, plain.out_proj
        self.register_buffer("keys", split_weight(plain.k_proj.weight.detach(), plain.heads), persistent=False)
        self.register_buffer("values", split_weight(plain.v_proj.weight.detach(), plain.heads).mT, persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Attend from `q (B, T, C)` to `k, v (B, K, C)`; returns `(B, T, C)`. Image cells have no `key_bias`."""
        b, tokens, _ = q.shape
        queries = split_heads(self.q_proj(q), self.heads)  # (B, heads, T, D)
        # The bias of the keys' projection adds the same to all scores of a query, so the softmax cancels it.
        wide = queries @ self.keys  # (B, heads, T, C)
        scores = wide.flatten(1, 2) @ k.transpose(1, 2) / math.sqrt(queries.shape[-1])  # (B, heads*T, K)
        attended = (scores.softmax(dim=-1) @ v).reshape(b, self.heads, tokens, -1)  # (B, heads, T, C)
        out = attended @ self.values  # (B, heads, T, D)
        projected: Tensor = self.out_proj(out.transpose(1, 2).flatten(2) + self.v_bias)
        return projected


class ImageReadsTokens(nn.Module):
    """`Attention` from many image cells to few tokens: queries and outputs are not projected."""

    queries: Tensor
    outputs: Tensor

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        self.heads = plain.heads
        self.q_bias, self.k_proj, self.v_proj = plain.q_proj.bias, plain.k_proj, plain.v_proj
        self.out_bias = plain.out_proj.bias
        self.register_buffer("queries", split_weight(plain.q_proj.weight.detach(), plain.heads), persistent=False)
        self.register_buffer("outputs", split_weight(plain.out_proj.weight.detach().T, plain.heads), persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Attend from `q (B, K, C)` to `k, v (B, T, C)`; `key_bias (B, 1, 1, T)` is added to the scores.

        Returns:
            `(B, K, C)`.
        """
        b, cells, _ = q.shape
        keys = split_heads(self.k_proj(k), self.heads)
        keys = keys / math.sqrt(keys.shape[-1])
        wide = keys @ self.queries  # (B, heads, T, C)
        bias = (keys * self.q_bias.reshape(self.heads, 1, -1)).sum(dim=-1).unsqueeze(1)  # (B, 1, heads, T)
        if key_bias is not None:
            bias = bias + key_bias
        scores = (q @ wide.flatten(1, 2).transpose(1, 2)).reshape(b, cells, self.heads, -1) + bias
        # The weights of each head sum to 1, so a share of the bias in each token's output adds up to the bias.
        projected = split_heads(self.v_proj(v), self.heads) @ self.outputs + self.out_bias / self.heads
        out: Tensor = scores.softmax(dim=-1).flatten(2) @ projected.flatten(1, 2)
        return out


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`(B, T, heads*D)` to `(B, heads, T, D)`."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def split_weight(weight: Tensor, heads: int) -> Tensor:
    """A weight `(heads*D, C)` as `(heads, D, C)`."""
    return weight.reshape(heads, -1, weight.shape[-1])
