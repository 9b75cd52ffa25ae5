"""The mask decoder's attention between a few tokens and many image cells, without projecting the cells.

An attention projects each of its K image cells to the inner width, though only T tokens, far fewer, look at them or are
looked at. Products are associative: a token's query can be taken through the keys' projection instead of every key, as
DeepSeek-V2 (arXiv 2405.04434, section 2.1) does for cached keys, and likewise on all four sides:

    q . (W_k x)        =  (W_k^T q) . x             tokens look: keys stay as they are
    softmax . (W_v x)  =  W_v (softmax . x)         and so do values
    (W_q x) . k        =  x . (W_q^T k)             the image looks: queries stay as they are
    W_o (softmax . v)  =  softmax . (W_o v)         and what it is given is assembled from few

With one click SAM's decoder has T = 7 tokens: with 8 heads that makes 56 rows where a projection has 128, and what is
left is less than half of the transformer's multiplications. Answers are the plain modules' up to rounding.

Weights are taken apart by heads beforehand: a graph then has them as constants, which a quantizer can find.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from sam_edge.model.transformer import Attention


class TokensReadImage(nn.Module):
    """`Attention` of few queries over many keys."""

    keys: Tensor
    values: Tensor

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        self.heads = plain.heads
        self.q_proj, self.v_bias, self.out_proj = plain.q_proj, plain.v_proj.bias, plain.out_proj
        self.register_buffer("keys", by_head(plain.k_proj.weight.detach(), plain.heads), persistent=False)
        self.register_buffer("values", by_head(plain.v_proj.weight.detach(), plain.heads).mT, persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Attend from `q (B, T, C)` to `k, v (B, K, C)`; no key is ever hidden here."""
        b, tokens, _ = q.shape
        queries = split(self.q_proj(q), self.heads)  # (B, heads, T, D)
        # The keys' bias adds the same to all scores of a query, which softmax does not see.
        wide = queries @ self.keys  # (B, heads, T, C)
        scores = wide.flatten(1, 2) @ k.transpose(1, 2) / math.sqrt(queries.shape[-1])  # (B, heads*T, K)
        seen = (scores.softmax(dim=-1) @ v).reshape(b, self.heads, tokens, -1)  # (B, heads, T, C)
        out = seen @ self.values  # (B, heads, T, D)
        projected: Tensor = self.out_proj(out.transpose(1, 2).flatten(2) + self.v_bias)
        return projected


class ImageReadsTokens(nn.Module):
    """`Attention` of many queries over few keys."""

    queries: Tensor
    outputs: Tensor

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        self.heads = plain.heads
        self.q_bias, self.k_proj, self.v_proj = plain.q_proj.bias, plain.k_proj, plain.v_proj
        self.out_bias = plain.out_proj.bias
        self.register_buffer("queries", by_head(plain.q_proj.weight.detach(), plain.heads), persistent=False)
        self.register_buffer("outputs", by_head(plain.out_proj.weight.detach().T, plain.heads), persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Attend from `q (B, K, C)` to `k, v (B, T, C)`; `key_bias (B, 1, 1, T)` is added to the scores."""
        b, cells, _ = q.shape
        keys = split(self.k_proj(k), self.heads)
        keys = keys / math.sqrt(keys.shape[-1])
        wide = keys @ self.queries  # (B, heads, T, C)
        bias = (keys * self.q_bias.reshape(self.heads, 1, -1)).sum(dim=-1).unsqueeze(1)  # (B, 1, heads, T)
        if key_bias is not None:
            bias = bias + key_bias
        scores = (q @ wide.flatten(1, 2).transpose(1, 2)).reshape(b, cells, self.heads, -1) + bias
        given = split(self.v_proj(v), self.heads) @ self.outputs  # (B, heads, T, C)
        out: Tensor = scores.softmax(dim=-1).flatten(2) @ given.flatten(1, 2) + self.out_bias
        return out


def split(x: Tensor, heads: int) -> Tensor:
    """`(B, T, heads*D)` to `(B, heads, T, D)`."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def by_head(weight: Tensor, heads: int) -> Tensor:
    """`(heads*D, C)` to `(heads, D, C)`."""
    return weight.reshape(heads, -1, weight.shape[-1])
