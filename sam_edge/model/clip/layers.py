"""The transformer of both encoders, with the names of OpenAI's code (https://github.com/openai/CLIP, clip/model.py).

Queries, keys and values come from one linear layer, `in_proj`, which quantizers see as a layer like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import GELU, QUICK_GELU, TANH_GELU, TransformerConfig

HIDDEN = -1e4  # added to scores of tokens that must not be seen; exp of it is zero, and it is finite in float16


def quick_gelu(x: Tensor) -> Tensor:
    """The approximation of GELU that OpenAI's weights were trained with: `x sigmoid(1.702 x)`."""
    return x * torch.sigmoid(1.702 * x)


def tanh_gelu(x: Tensor) -> Tensor:
    """GELU's tanh form, with which SigLIP was trained."""
    return F.gelu(x, approximate="tanh")


ACTIVATION_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    QUICK_GELU: quick_gelu,
    GELU: F.gelu,
    TANH_GELU: tanh_gelu,
}


class Attention(nn.Module):
    """Multi-head attention of tokens `(B, T, width)`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None, queries: int | None = None) -> Tensor:
        """Attend.

        Args:
            x: tokens `(B, T, width)`.
            bias: `(T, T)`, or in a shape that broadcasts with `(B, heads, T, T)`, added to the scores; None: nothing is
                added.
            queries: only the first so many tokens ask, and only those after them are seen; None: all ask and are seen.

        Returns:
            `(B, T, width)`, or `(B, queries, width)`.
        """
        b, _, width = x.shape
        q, k, v = self.in_proj(x).chunk(3, dim=-1)
        if queries is not None:
            q, k, v = q[:, :queries], k[:, queries:], v[:, queries:]
        q, k, v = (each.reshape(b, -1, self.heads, width // self.heads).transpose(1, 2) for each in (q, k, v))
        scores = (q * (1.0 / math.sqrt(width // self.heads))) @ k.transpose(2, 3)  # (B, heads, T, T)
        if bias is not None:
            scores = scores + bias
        mixed = scores.softmax(dim=-1) @ v
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(b, -1, width))
        return out


class Mlp(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, hidden)
        self.c_proj = nn.Linear(hidden, width)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., width)` to `(..., width)`."""
        out: Tensor = self.c_proj(ACTIVATION_FUNCTIONS[self.activation](self.c_fc(x)))
        return out


class Block(nn.Module):
    """A block that normalizes before its attention and before its MLP."""

    def __init__(self, config: TransformerConfig, activation: str, eps: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.width, eps)
        self.attn = Attention(config.width, config.heads)
        self.ln_2 = nn.LayerNorm(config.width, eps)
        self.mlp = Mlp(config.width, config.hidden, activation)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Map tokens `(B, T, width)` to the same shape; `bias` as for `Attention`."""
        x = x + self.attn(self.ln_1(x), bias)
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """The blocks of an encoder."""

    def __init__(self, config: TransformerConfig, activation: str, eps: float) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(config, activation, eps) for _ in range(config.layers))

    def forward(self, x: Tensor, bias: Tensor | None = None, last: Tensor | None = None) -> Tensor:
        """Map tokens `(B, T, width)` to the same shape.

        Args:
            x: the tokens.
            bias: as for `Attention`.
            last: the bias of the last block, in place of `bias`; None: the same.
        """
        for index, block in enumerate(self.resblocks, 1):
            x = block(x, bias if last is None or index < len(self.resblocks) else last)
        return x
