"""Attention on BC1S tensors, one head at a time, with the queries of large maps in blocks.

BC1S is the layout `(B, C, 1, S)`; see `layers`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# The most scores that one head holds at once: 512 queries of a 64 x 64 map, 4 MB in float16. More queries come in
# blocks, so that the scores are still in the engine's memory when the softmax reads them.
LARGEST_SCORES = 512 * 4096

# MIL's `einsum` takes one equation, nchw,nwhu->nchu. The engine has it as one operation, without a transposition. Both
# products of an attention are written in it, with the operands in its order.
SCORES = "bkhc,bchq->bkhq"
WEIGHTED_VALUES = "bchk,bkhq->bchq"


def split_queries(q: Tensor, heads: int) -> Sequence[Tensor]:
    """Queries or values `(B, heads*D, 1, S)` as one tensor a head, each `(B, D, 1, S)`."""
    return q.chunk(heads, dim=1)


def split_keys(k: Tensor, heads: int) -> Sequence[Tensor]:
    """Keys `(B, heads*D, 1, K)` as one tensor a head, each `(B, K, 1, D)`: the only transposition of an attention."""
    return k.transpose(1, 3).chunk(heads, dim=3)


def attend(
    queries: Sequence[Tensor],
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    biases: Sequence[Tensor] | None = None,
    largest: int = LARGEST_SCORES,
) -> Tensor:
    """Attention of queries that are scaled already.

    Args:
        queries: `(B, D, 1, Q)` for each head.
        keys: `(B, K, 1, D)` for each head.
        values: `(B, E, 1, K)` for each head.
        biases: for each head, added to its scores: `(1 or B, K, 1, Q)` or `(1 or B, K, 1, 1)`.
        largest: the most scores `K * Q` that a head holds at once; more queries come in blocks.

    Returns:
        `(B, heads*E, 1, Q)`.
    """
    outputs = []
    for number, (q, k, v) in enumerate(zip(queries, keys, values, strict=True)):
        bias = None if biases is None else biases[number]
        block = max(1, largest // k.shape[1])
        fits = q.shape[3] <= block  # coremltools fails on a split into one part
        outputs.append(_attend(q, k, v, bias) if fits else _attend_in_blocks(q, k, v, bias, block))
    return torch.cat(outputs, dim=1)


def _attend_in_blocks(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, block: int) -> Tensor:
    parts = torch.split(q, block, dim=3)
    biases = [bias] * len(parts) if bias is None or bias.shape[3] == 1 else torch.split(bias, block, dim=3)
    return torch.cat([_attend(part, k, v, added) for part, added in zip(parts, biases, strict=True)], dim=3)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    scores = torch.einsum(SCORES, k, q)  # (B, K, 1, Q): keys second, so that the softmax runs over channels
    if bias is not None:
        scores = scores + bias
    return torch.einsum(WEIGHTED_VALUES, v, scores.softmax(dim=1))
