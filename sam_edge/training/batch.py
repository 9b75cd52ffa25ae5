"""Batches of photos and masks; each photo keeps its own number of masks.

A worker process collates examples to a `RawBatch`: a few tensors of integers and bools, which reach the training
process in shared memory, and a GPU in a fraction of the time of floats. The training process turns it into `Batch`es on
its device.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam_edge.data.skips import Skip
from sam_edge.data.stream import Example
from sam_edge_runtime.bundle.contract import MASK_STRIDE, PIXEL_MEAN


@dataclass(frozen=True)
class RawBatch:
    """P photos and their masks as a worker process read them.

    Attributes:
        pixels: `(P, 3, S, S)` uint8 RGB; pixels outside the photo are undefined.
        sizes: (h, w) in pixels of each photo in its frame, from the top left.
        masks: `(sum of M, S, S)` bool, photo by photo.
        counts: M, the number of masks, of each photo.
        numbers: as in `Batch`.
        names: as in `Batch`.
        seen: number of records that were read for them, unusable ones included.
        skipped: the broken ones among these records.
    """

    pixels: Tensor
    sizes: tuple[tuple[int, int], ...]
    masks: Tensor
    counts: tuple[int, ...]
    numbers: tuple[int, ...]
    names: tuple[tuple[str, str], ...]
    seen: int
    skipped: tuple[Skip, ...]

    def batches(self, parts: int, step: int, device: torch.device) -> Iterator[Batch]:
        """The photos in `parts` batches of equal size, each moved to `device` when it is yielded.

        Args:
            parts: must divide the number of photos.
            step: the training step.
            device: the device that trains.
        """
        each = len(self.counts) // parts
        for start in range(0, each * parts, each):
            yield self._batch(slice(start, start + each), step, device)

    def _batch(self, photos: slice, step: int, device: torch.device) -> Batch:
        before, counts = sum(self.counts[: photos.start]), self.counts[photos]
        sizes = torch.tensor(self.sizes[photos]).to(device)[:, :, None]  # (P, 2, 1)
        places = torch.arange(self.pixels.shape[-1], device=device)
        inside = places < sizes  # (P, 2, S): rows, columns
        valid = inside[:, 0, :, None] & inside[:, 1, None, :]
        pixels = self.pixels[photos].to(device).float()
        mean = torch.tensor(PIXEL_MEAN).to(device).reshape(1, 3, 1, 1)
        images = torch.where(valid.unsqueeze(1), pixels, mean).contiguous(memory_format=torch.channels_last)
        masks = self.masks[before : before + sum(counts)].to(device)
        return Batch(images, torch.split(masks, list(counts)), valid, self.numbers[photos], step, self.names[photos])


@dataclass(frozen=True)
class Batch:
    """P photos and their masks.

    Attributes:
        images: `(P, 3, S, S)` float32 RGB in 0..255, padded with the pixel mean, not normalized.
        masks: one tensor `(M, S, S)` bool for each photo; M differs.
        valid: `(P, S, S)` bool, true where the frame shows photo.
        numbers: the number of each photo's draw; it seeds everything random about that photo.
        step: the training step; it seeds everything random that all its photos share.
        names: source and key of each photo, as in `sam_edge.data.sample`; may be left empty.
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

    def low_res_targets(self) -> Tensor:
        """All masks `(sum of M, S/4, S/4)` float32 in 0..1: the share of each low-resolution pixel that is inside."""
        return F.avg_pool2d(torch.cat(self.masks).float().unsqueeze(1), MASK_STRIDE).squeeze(1)

    def low_res_valid(self) -> Tensor:
        """`(sum of M, S/4, S/4)` bool, for each mask: true where all of the low-resolution pixel shows photo."""
        whole = F.avg_pool2d(self.valid.float().unsqueeze(1), MASK_STRIDE).squeeze(1) == 1.0
        return repeat(whole, self.mask_counts)


def repeat(per_photo: Tensor, counts: Sequence[int]) -> Tensor:
    """Repeat each photo's row for each of its masks: `(P, ...)` to `(sum of counts, ...)`."""
    rows = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(per_photo.device)
    return per_photo.index_select(0, rows)


def filled(rows: Tensor, count: int) -> Tensor:
    """Repeat the rows of `(B, ...)` from the first on until there are `count`; at least B rows are returned."""
    if len(rows) >= count:
        return rows
    return rows.index_select(0, torch.arange(count, device=rows.device) % len(rows))


def collate(examples: Sequence[Example]) -> RawBatch:
    """Collate examples, which all have the same frame side."""
    crops = [example.crop for example in examples]
    return RawBatch(
        pixels=torch.from_numpy(np.stack([crop.image.astype(np.uint8) for crop in crops])),
        sizes=tuple(crop.size for crop in crops),
        masks=torch.from_numpy(np.concatenate([crop.masks for crop in crops])),
        counts=tuple(len(crop.masks) for crop in crops),
        numbers=tuple(example.number for example in examples),
        names=tuple((crop.source, crop.key) for crop in crops),
        seen=sum(example.seen for example in examples),
        skipped=tuple(skip for example in examples for skip in example.skipped),
    )
