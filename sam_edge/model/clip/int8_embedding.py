"""The table of tokens in INT8, with a scale for each token.

Quantizers treat a table as no layer and leave it in float, but in TinyCLIP's smallest text encoder it is 12.6 of 15.2
million numbers. Rows are looked up as integers and multiplied by their scales: only the texts' own rows are unpacked.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model.replacement import Module, replace_modules

INT8_MAX = 127
# coremltools turns a constant of int8 that is looked up into one of float32. Its tables become float16 instead.
TARGETS = ("onnx", "tflite")


class Int8Embedding(nn.Module):
    """`nn.Embedding` with its weight in INT8."""

    numbers: Tensor
    scales: Tensor

    def __init__(self, plain: nn.Embedding) -> None:
        super().__init__()
        weight = plain.weight.detach()
        scales = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / INT8_MAX
        self.register_buffer("numbers", (weight / scales).round().to(torch.int8))
        self.register_buffer("scales", scales)

    def forward(self, tokens: Tensor) -> Tensor:
        """The vectors of tokens, any shape of integers to `(..., width)`."""
        return F.embedding(tokens, self.numbers).float() * F.embedding(tokens, self.scales)


def with_int8_embedding(graph: Module, target: str) -> Module:
    """A copy of a graph with its tables in INT8 where the target's converter keeps them; parameters are shared."""
    return replace_modules(graph, {nn.Embedding: Int8Embedding}) if target in TARGETS else graph
