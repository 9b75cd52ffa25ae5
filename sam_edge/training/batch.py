"""Examples put together for one forward pass; each photo keeps its own number of masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam_edge.data.stream import Example
from sam_edge_runtime.contract import MASK_STRIDE


@dataclass(frozen=True)
class Batch:
    """P photos and their masks.

    Attributes:
        images: `(P, 3, S, S)` float32 RGB in 0..255, padded with the pixel mean, not normalized.
        masks: one `(M, S, S)` bool a photo; M differs.
        valid: `(P, S, S)` bool, true where the frame is photo.
        numbers: the photos' draws, from which everything random about them follows.
        step: the training step, from which what all its photos share follows.
        names: source and key of each photo, as in `Sample`; empty where nobody asks.
    """

    images: Tensor
    masks: tuple[Tensor, ...]
    valid: Tensor
    numbers: tuple[int, ...]
    step: int
    names: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def side(self) -> int:
        """S, the frame's side in pixels."""
        return self.images.shape[-1]

    @property
    def mask_counts(self) -> tuple[int, ...]:
        """M of each photo."""
        return tuple(len(masks) for masks in self.masks)

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        return replace(
            self,
            images=self.images.to(device, memory_format=torch.channels_last),
            masks=tuple(masks.to(device) for masks in self.masks),
            valid=self.valid.to(device),
        )

    def low_res_targets(self) -> Tensor:
        """All masks `(sum of M, S/4, S/4)` float32: the share of each low-resolution pixel that is inside."""
        return F.avg_pool2d(torch.cat(self.masks).float().unsqueeze(1), MASK_STRIDE).squeeze(1)

    def low_res_valid(self) -> Tensor:
        """`(sum of M, S/4, S/4)` bool, each mask's photo area where all of the low-resolution pixel is photo."""
        whole = F.avg_pool2d(self.valid.float().unsqueeze(1), MASK_STRIDE).squeeze(1) == 1.0
        return repeat(whole, self.mask_counts)


def repeat(per_photo: Tensor, counts: Sequence[int]) -> Tensor:
    """A row a photo `(P, ...)` to a row a mask `(sum of counts, ...)`."""
    rows = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(per_photo.device)
    return per_photo.index_select(0, rows)


def collate(examples: Sequence[Example], step: int) -> Batch:
    """Stack the frames of examples; all have the same side."""
    crops = [example.crop for example in examples]
    return Batch(
        images=torch.from_numpy(np.stack([crop.image for crop in crops])),
        masks=tuple(torch.from_numpy(np.ascontiguousarray(crop.masks)) for crop in crops),
        valid=torch.from_numpy(np.stack([crop.valid() for crop in crops])),
        numbers=tuple(example.number for example in examples),
        step=step,
        names=tuple((crop.source, crop.key) for crop in crops),
    )
