"""Examples put together for one forward pass; each photo keeps its own number of masks.

A reading process puts them together, in a few tensors of whole numbers and bools: those come to the process that trains
in shared memory, and cross to a GPU in a fraction of the time that floats take.
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
class Reading:
    """P photos and their masks as they were read.

    Attributes:
        pixels: `(P, 3, S, S)` uint8 RGB; what lies outside the photo means nothing.
        sizes: (h, w) of each photo in its frame, from the top left.
        masks: `(sum of M, S, S)` bool, photo by photo.
        counts: M of each photo.
        numbers: as in `Batch`.
        names: as in `Batch`.
        seen: records read for them, those included that could not be used.
        skipped: the broken ones among them.
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
        """The photos in equal parts, which must divide their number, each on `device` when its turn comes."""
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


def filled(rows: Tensor, count: int) -> Tensor:
    """`(B, ...)` with its first rows once more behind the last, and so on, up to `count` rows."""
    if len(rows) >= count:
        return rows
    return rows.index_select(0, torch.arange(count, device=rows.device) % len(rows))


def collate(examples: Sequence[Example]) -> Reading:
    """Put examples together; all have the same side."""
    crops = [example.crop for example in examples]
    return Reading(
        pixels=torch.from_numpy(np.stack([crop.image.astype(np.uint8) for crop in crops])),
        sizes=tuple(crop.size for crop in crops),
        masks=torch.from_numpy(np.concatenate([crop.masks for crop in crops])),
        counts=tuple(len(crop.masks) for crop in crops),
        numbers=tuple(example.number for example in examples),
        names=tuple((crop.source, crop.key) for crop in crops),
        seen=sum(example.seen for example in examples),
        skipped=tuple(skip for example in examples for skip in example.skipped),
    )
