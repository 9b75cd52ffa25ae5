"""Stage `encoder`: the student's image encoder matches the teacher's embedding (MobileSAM, arXiv 2306.14289).

The loss is the mean square difference over the cells that show photo; cells of padding mean nothing. A coarser student
grid is compared with the teacher's embedding averaged down to it. Where the two embeddings differ in meaning (another
decoder, or other channels) a learned 1 x 1 projection stands between them; it is trained, and left out of the result.
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


class Taught(nn.Module):
    """What is trained: the student, and the projection where there is one."""

    def __init__(self, student: Sam, teacher_channels: int | None) -> None:
        super().__init__()
        self.student = student
        self.projection = None if teacher_channels is None else nn.Conv2d(student.channels, teacher_channels, 1)


class EncoderObjective(nn.Module):
    """Mean square difference of embeddings."""

    def __init__(self, student: Sam, cache: EmbeddingCache, *, projected: bool) -> None:
        """Teach `student` what `cache` holds, through a projection where `projected`."""
        super().__init__()
        self.student = student
        self.taught = Taught(student, cache.shape[0] if projected else None)
        self.trained: nn.Module = self.taught
        self.watcher: Watcher | None = None
        self.encoder = EncoderGraph(student)
        self._arithmetic = fake_quantization(enabled=False)
        self._cache = cache
        # The decoder is not in play, and must not drift by weight decay.
        student.prompt_encoder.requires_grad_(requires_grad=False)
        student.mask_decoder.requires_grad_(requires_grad=False)

    def begin(self, phase: Phase) -> None:
        """Take the phase's frame side."""
        self._arithmetic = fake_quantization(enabled=phase.fake_quant)
        self.student.set_input_side(phase.side)

    def forward(self, batch: Batch) -> Losses:
        """The loss, and the share of the teacher's variance that is explained."""
        with self._arithmetic:
            found = self.encoder(batch.images)
        if self.taught.projection is not None:
            found = self.taught.projection(found)
        stored = np.stack([self._cache.read(*name) for name in batch.names])
        wanted = torch.from_numpy(stored).to(found.device).float()
        wanted = to_grid(wanted, found.shape[-1])
        cells = F.avg_pool2d(batch.valid.float().unsqueeze(1), EMBEDDING_STRIDE) == 1.0  # (P, 1, G, G)
        error = masked_mean((found.float() - wanted).square(), cells)
        centre = (wanted * cells).sum(dim=(2, 3), keepdim=True) / cells.sum(dim=(2, 3), keepdim=True).clamp(min=1)
        spread = masked_mean((wanted - centre).square(), cells)
        return {"loss": error.mean(), "explained": (1.0 - error / spread.clamp(min=1e-12)).mean().detach()}


def to_grid(embedding: Tensor, grid: int) -> Tensor:
    """`(P, C, g, g)` at another grid: averaged down, or interpolated up. Both are letterboxes of the same photo."""
    if embedding.shape[-1] == grid:
        return embedding
    return F.interpolate(embedding, size=(grid, grid), mode="bilinear", align_corners=False, antialias=True)


def masked_mean(values: Tensor, cells: Tensor) -> Tensor:
    """Mean `(P)` of values `(P, C, G, G)` over the cells `(P, 1, G, G)` that count."""
    total = (values * cells).sum(dim=(1, 2, 3))
    return total / (cells.sum(dim=(1, 2, 3)) * values.shape[1]).clamp(min=1)
