"""Attention head by head on BC1S, and the queries of large maps in blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Scores that one head may hold at once: 512 queries of a 64 x 64 map, 4 MB in float16. More is computed in blocks of
# queries, so that what a softmax reads was still in the engine's memory when the product wrote it.
LARGEST_SCORES = 512 * 4096

# MIL's `einsum` takes one equation, nchw,nwhu->nchu, which the engine has as an operation of its own and for which no
# operand must be moved first. Both products are written in it, the operand that comes first there being first here.
SCORES = "bkhc,bchq->bkhq"
MIXTURE = "bchk,bkhq->bchq"


def split_queries(q: Tensor, heads: int) -> Sequence[Tensor]:
    """Each head's part of queries or values: `(B, heads*D, 1, S)` to `heads` of `(B, D, 1, S)`."""
    return q.chunk(heads, dim=1)


def split_keys(k: Tensor, heads: int) -> Sequence[Tensor]:
    """Each head's keys, `(B, heads*D, 1, K)` to `heads` of `(B, K, 1, D)`: the one tensor of attention that moves."""
    return k.transpose(1, 3).chunk(heads, dim=3)


def attend(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    biases: Sequence[Tensor] | None = None,
    largest: int = LARGEST_SCORES,
) -> Tensor:
    """Attention of already scaled queries.

    Args:
        queries: `(B, D, 1, Q)` for each head.
        keys: `(B, K, 1, D)` for each head.
        values: `(B, E, 1, K)` for each head.
        biases: for each head what is added to its scores, `(1 or B, K, 1, Q)`, or `(1 or B, K, 1, 1)`.
        largest: scores `K * Q` that a head may hold at once; more is computed in blocks of queries.

    Returns:
        `(B, heads*E, 1, Q)`.
    """
    of_heads = []
    for number, (q, k, v) in enumerate(zip(queries, keys, values, strict=True)):
        bias = None if biases is None else biases[number]
        block = max(1, largest // k.shape[1])
        whole = q.shape[3] <= block  # coremltools fails on a split into one part
        of_heads.append(_attend(q, k, v, bias) if whole else _attend_in_blocks(q, k, v, bias, block))
    return torch.cat(of_heads, dim=1)


def _attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, block: int) -> Tensor:
    parts = torch.split(q, block, dim=3)
    biases = [bias] * len(parts) if bias is None or bias.shape[3] == 1 else torch.split(bias, block, dim=3)
    return torch.cat([_attend(part, k, v, added) for part, added in zip(parts, biases, strict=True)], dim=3)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    scores = torch.einsum(SCORES, k, q)  # (B, K, 1, Q): keys second, so that the softmax runs over channels
    if bias is not None:
        scores = scores + bias
    return torch.einsum(MIXTURE, v, scores.softmax(dim=1))
