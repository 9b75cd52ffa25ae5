"""Stage `encoder`: the student's image encoder learns the teacher's embeddings.

Source: MobileSAM (https://arxiv.org/abs/2306.14289, section 3.2). The loss is the mean squared difference over the
cells that show photo; cells of padding do not count. For a student with a coarser grid, the teacher's embedding is
averaged down. If the two embeddings are not interchangeable (another decoder, or other channels), a learned 1 x 1
projection maps the student's to the teacher's. It is trained too, and not part of the result.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model import EncoderGraph, Sam
from sam_edge.quantization.fake_quant import fake_quantization
from sam_edge.training.batch import Batch
from sam_edge.training.objective import Losses, Watcher
from sam_edge.training.recipe import Phase
from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE

from .embeddings import EmbeddingCache


class StudentWithProjection(nn.Module):
    """The trained module: the student, and the projection if there is one."""

    def __init__(self, student: Sam, teacher_channels: int | None) -> None:
        super().__init__()
        self.student = student
        self.projection = None if teacher_channels is None else nn.Conv2d(student.channels, teacher_channels, 1)


class EncoderObjective(nn.Module):
    """Mean squared difference of embeddings."""

    def __init__(self, student: Sam, cache: EmbeddingCache, *, projected: bool) -> None:
        """Train `student` on the embeddings in `cache`; with `projected`, through a learned projection."""
        super().__init__()
        self.student = student
        self.taught = StudentWithProjection(student, cache.shape[0] if projected else None)
        self.trained: nn.Module = self.taught
        self.watcher: Watcher | None = None
        self.encoder = EncoderGraph(student)
        self._arithmetic = fake_quantization(enabled=False)
        self._cache = cache
        # This stage does not use the decoder; weight decay must not change it.
        student.prompt_encoder.requires_grad_(requires_grad=False)
        student.mask_decoder.requires_grad_(requires_grad=False)

    def begin(self, phase: Phase) -> None:
        """Switch to the phase's frame side and arithmetic."""
        self._arithmetic = fake_quantization(enabled=phase.fake_quant)
        self.student.set_input_side(phase.side)

    def forward(self, batch: Batch) -> Losses:
        """The loss, and as `explained` the share of the teacher's variance that the student's embedding explains."""
        with self._arithmetic:
            embedding = self.encoder(batch.images)
        if self.taught.projection is not None:
            embedding = self.taught.projection(embedding)
        stored = np.stack([self._cache.read(*name) for name in batch.names])
        wanted = torch.from_numpy(stored).to(embedding.device).float()
        wanted = resized_to_grid(wanted, embedding.shape[-1])
        cells = F.avg_pool2d(batch.valid.float().unsqueeze(1), EMBEDDING_STRIDE) == 1.0  # (P, 1, G, G)
        error = masked_mean((embedding.float() - wanted).square(), cells)
        centre = (wanted * cells).sum(dim=(2, 3), keepdim=True) / cells.sum(dim=(2, 3), keepdim=True).clamp(min=1)
        spread = masked_mean((wanted - centre).square(), cells)
        return {"loss": error.mean(), "explained": (1.0 - error / spread.clamp(min=1e-12)).mean().detach()}


def resized_to_grid(embedding: Tensor, grid: int) -> Tensor:
    """An embedding `(P, C, g, g)` as `(P, C, grid, grid)`: averaged down, or interpolated up.

    The teacher's and the student's frames show the same photo letterboxed alike, so their grids differ in size only.
    """
    if embedding.shape[-1] == grid:
        return embedding
    return F.interpolate(embedding, size=(grid, grid), mode="bilinear", align_corners=False, antialias=True)


def masked_mean(values: Tensor, cells: Tensor) -> Tensor:
    """Mean `(P)` of values `(P, C, G, G)` over the cells `(P, 1, G, G)` that are true."""
    total = (values * cells).sum(dim=(1, 2, 3))
    return total / (cells.sum(dim=(1, 2, 3)) * values.shape[1]).clamp(min=1)
