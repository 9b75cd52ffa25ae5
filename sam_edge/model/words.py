"""Words as prompts for a frozen model: a word's vector becomes a map of all that the word names.

The image embedding of a promptable model says what belongs together; a few layers on top of it say what things are.
They depend on the photo alone. A word's vector is turned into filters for them: for the features of the cells, for
finer features at stride 4, which sharpen the map, and for the features where the map is highest, which tell whether the
word is in the photo at all.

`WordDecoderGraph` lets the map join the other prompts. It is a mask prompt, which a mask that the user gives replaces.
Text alone gets the map itself as the single mask. A prompt without text has the outputs of the model without this
module, bit for bit: nothing of the model itself is trained for it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE, MASK_STRIDE

from .nano_decoder import Refine

VECTOR = 65  # numbers of a word's vector; the last two are the offsets of its map and of its presence
WIDTH = 96  # channels of the cells' features
FINE = 16  # channels of the features at stride 4
BLOCKS = 1
KERNEL = 5
UPSCALING = EMBEDDING_STRIDE // MASK_STRIDE
_EPSILON = 1e-3  # pixels; keeps the expected IoU of an empty map finite


class Look(NamedTuple):
    """Features of a photo.

    Attributes:
        cells: `(W, h * w)`, of the embedding's cells, row by row.
        fine: `(F, 16 * h * w)`, at stride 4; None: maps come from the cells alone.
        grid: (h, w).
    """

    cells: Tensor
    fine: Tensor | None
    grid: tuple[int, int]


class WordMaps(nn.Module):
    """Image embedding and vectors of words to maps and presence.

    Attributes:
        detail: number of the embedding's last channels, which hold the packed detail of stride 4.
    """

    def __init__(self, channels: int, detail: int, vector: int = VECTOR) -> None:
        """Untrained layers.

        Args:
            channels: C of the image embedding.
            detail: see the class.
            vector: numbers D of a word's vector.
        """
        super().__init__()
        self.channels, self.detail, self.vector = channels, detail, vector
        self.reduce = nn.Conv2d(channels, WIDTH, 1)
        self.context = nn.Linear(WIDTH, WIDTH)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2, groups=WIDTH) for _ in range(BLOCKS)
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(BLOCKS))
        self.unpack_cells = nn.ConvTranspose2d(WIDTH, FINE, UPSCALING, stride=UPSCALING)
        self.unpack_detail = nn.ConvTranspose2d(detail, FINE, UPSCALING, stride=UPSCALING)
        self.refine = Refine(FINE)
        self.cell_filter = nn.Linear(vector, WIDTH)
        self.fine_filter = nn.Linear(vector, FINE)
        self.bias = nn.Linear(vector, 1)
        self.presence_filter = nn.Linear(vector, WIDTH)
        self.presence_bias = nn.Linear(vector, 1)

    def cells(self, embeddings: Tensor) -> Tensor:
        """Features of the cells `(K, W, h, w)` of embeddings `(K, C, h, w)`."""
        x: Tensor = F.relu(self.reduce(embeddings))
        x = x + self.context(x.mean(dim=(2, 3))).unsqueeze(-1).unsqueeze(-1)
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x = x + F.relu(pointwise(F.relu(depthwise(x))))
        return x

    def fine(self, embeddings: Tensor, cells: Tensor) -> Tensor:
        """Features at stride 4 `(K, F, 4h, 4w)` of embeddings and their cells' features."""
        detail = embeddings[:, self.channels - self.detail :]
        unpacked = self._unpack(self.unpack_cells, cells) + self._unpack(self.unpack_detail, detail)
        refined: Tensor = self.refine(F.relu(unpacked))
        return refined

    def _unpack(self, layer: nn.ConvTranspose2d, x: Tensor) -> Tensor:
        """`layer` of `x`; in training as a product of matrices, whose gradients a CPU computes several times faster."""
        if not self.training or layer.bias is None:
            unpacked: Tensor = layer(x)
            return unpacked
        k, c, h, w = x.shape
        cells = x.flatten(2).transpose(1, 2) @ layer.weight.reshape(c, -1)  # (K, hw, F * 4 * 4)
        parts = cells.reshape(k, h, w, FINE, UPSCALING, UPSCALING).permute(0, 3, 1, 4, 2, 5)
        return parts.reshape(k, FINE, UPSCALING * h, UPSCALING * w) + layer.bias.reshape(1, -1, 1, 1)

    def look(self, embeddings: Tensor) -> Look:
        """Features of one photo, whose embedding is `(1, C, h, w)`."""
        cells = self.cells(embeddings)
        fine = self.fine(embeddings, cells)
        return Look(cells.flatten(2)[0], fine.flatten(2)[0], (embeddings.shape[2], embeddings.shape[3]))

    def coarse(self, cells: Tensor, vectors: Tensor) -> Tensor:
        """Logits of the cells for B words, `(B, h * w)`; `vectors` are `(B, D)`."""
        logits: Tensor = (self.cell_filter(vectors) * WIDTH**-0.5) @ cells + self.bias(vectors)
        return logits

    def presence(self, cells: Tensor, coarse: Tensor, vectors: Tensor) -> Tensor:
        """Logits `(B, 1)`, above 0 where a word is in the photo; `coarse` are its `coarse` logits."""
        pooled = coarse.softmax(dim=-1) @ cells.transpose(0, 1)  # (B, W)
        judged = (pooled * (self.presence_filter(vectors) * WIDTH**-0.5)).sum(dim=-1, keepdim=True)
        logits: Tensor = judged + self.presence_bias(vectors)
        return logits

    def maps(self, look: Look, coarse: Tensor, vectors: Tensor) -> Tensor:
        """Logits at stride 4, `(B, 1, 4h, 4w)`: those of the cells, resized bilinearly, and those of the detail."""
        h, w = look.grid
        up_h, up_w = (enlargement(size, UPSCALING).to(coarse) for size in look.grid)
        smooth: Tensor = up_h @ coarse.reshape(-1, 1, h, w) @ up_w.transpose(0, 1)
        if look.fine is None:
            return smooth
        sharp = (self.fine_filter(vectors) * FINE**-0.5) @ look.fine
        drawn: Tensor = smooth + sharp.reshape(-1, 1, UPSCALING * h, UPSCALING * w)
        return drawn

    def forward(self, embeddings: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Map logits `(B, 1, 4h, 4w)` and presence logits `(B, 1)` of B words in one photo."""
        look = self.look(embeddings)
        coarse = self.coarse(look.cells, vectors)
        return self.maps(look, coarse, vectors), self.presence(look.cells, coarse, vectors)


def enlargement(size: int, factor: int) -> Tensor:
    """The matrix `(factor * size, size)` of a bilinear resize along one axis, as `F.interpolate` does it.

    A product of matrices, because not every target resizes bilinearly by pixel centres. Computed outside of torch, so
    that converters see a constant.
    """
    centres = np.clip((np.arange(factor * size) + 0.5) / factor - 0.5, 0, size - 1)
    weights = np.clip(1.0 - np.abs(centres[:, None] - np.arange(size)), 0.0, 1.0)
    return torch.tensor(weights.tolist(), dtype=torch.float32)


def expected_iou(logits: Tensor) -> Tensor:
    """The IoU of masks `(B, 1, H, W)` that their probabilities promise, `(B, 1)` from 0 to 1.

    Expected intersection over expected union of the mask with an outline drawn from the same probabilities.
    """
    p = logits.sigmoid().flatten(1)
    both = (p * p).sum(dim=1, keepdim=True)
    either = (2.0 * p - p * p).sum(dim=1, keepdim=True)
    return both / (either + _EPSILON)
