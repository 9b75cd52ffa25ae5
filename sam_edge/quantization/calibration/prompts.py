"""Prompts of every kind on a photo, so that a quantizer sees all that a decoder is asked.

Where there are masks, a large and a small one are asked for as an attentive user would: a first click on the
innermost point, the mask's own box, more clicks inside and outside it. Elsewhere boxes of either size are put anywhere
and clicked at likewise. What is put where depends on the photo and its masks alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_edge.data.sample import Sample as AnnotatedPhoto
from sam_edge.evaluation.measure import box_prompts, tight_box
from sam_edge.prompting.clicks import first_click
from sam_edge_runtime.arrays import Float32, Float64
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.bundle.contract import Label
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.prompts import Prompts, build_prompts

_IN, _OUT = float(Label.FOREGROUND), float(Label.BACKGROUND)
LABELS = (_IN, _IN, _OUT, _IN, _OUT, _IN, _IN, _OUT, _IN)  # of the clicks on a thing, in order
SIDES = ((0.3, 0.8), (0.05, 0.3))  # sides of boxes without a mask, as shares of the photo's, from and to
THINGS = len(SIDES)  # asked for in each photo


@dataclass(frozen=True)
class Kind:
    """What a prompt is made of: so many clicks, and a box and a mask or not."""

    clicks: int = 0
    box: bool = False
    mask: bool = False

    @property
    def slots(self) -> int:
        """Slots that it takes; clicks without a box bring one more with them, and a mask alone an empty one."""
        return self.clicks + 2 if self.box else self.clicks + 1


KINDS: dict[str, Kind] = {
    "one click": Kind(1),
    "three clicks": Kind(3),
    "nine clicks": Kind(9),
    "box": Kind(box=True),
    "box and a click": Kind(1, box=True),
    "box and three clicks": Kind(3, box=True),
    "mask": Kind(mask=True),
    "mask and a click": Kind(1, mask=True),
    "mask and box": Kind(box=True, mask=True),
}
MOST_SLOTS = max(kind.slots for kind in KINDS.values())


@dataclass(frozen=True, eq=False)
class Things:
    """What is asked for in a photo, in its pixels.

    Attributes:
        clicks: `(THINGS, 9, 2)` x, y, labelled `LABELS`.
        boxes: `(THINGS, 4)` x0, y0, x1, y1.
    """

    clicks: Float64
    boxes: Float64

    def prompts(self, frame: Frame, kind: Kind, masks: Float32 | None = None) -> Prompts:
        """Prompts of one kind for all things.

        Args:
            frame: the photo's.
            kind: what they are made of.
            masks: `(THINGS, 1, S/4, S/4)` mask prompts, for the kinds that have some.
        """
        labels = np.tile(LABELS[: kind.clicks], (len(self.boxes), 1))
        return build_prompts(
            frame,
            self.clicks[:, : kind.clicks] if kind.clicks else None,
            labels if kind.clicks else None,
            self.boxes if kind.box else None,
            masks if kind.mask else None,
        )


def things_in(photo: AnnotatedPhoto, seed: int) -> Things:
    """What to ask for in a photo.

    Args:
        photo: with masks or without.
        seed: decides what the masks leave open.
    """
    rng = np.random.default_rng(seed)
    found = [_masked(mask, rng) for mask in _chosen_masks(photo)]
    found += [_anywhere(photo.size, sides, rng) for sides in SIDES[len(found) :]]
    return Things(np.stack([clicks for clicks, _ in found]), np.stack([box for _, box in found]))


def _chosen_masks(photo: AnnotatedPhoto) -> list[npt.NDArray[np.bool_]]:
    """A large and a small mask: from the middle of either half, ordered by area."""
    by_area = sorted((mask for mask in photo.rles if rle.area(mask)), key=rle.area, reverse=True)
    count = min(THINGS, len(by_area))
    return [rle.decode(by_area[(2 * which + 1) * len(by_area) // (2 * count)]) for which in range(count)]


def _masked(mask: npt.NDArray[np.bool_], rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Clicks `(9, 2)` and box `(4)` for a mask `(H, W)` that is not empty."""
    inside, outside = np.flatnonzero(mask), np.flatnonzero(~mask)
    first = first_click(mask)
    clicks = np.empty((len(LABELS), 2))
    for place, label in enumerate(LABELS):
        pixels = inside if label == _IN or not len(outside) else outside
        y, x = divmod(int(rng.choice(pixels)), mask.shape[1])
        clicks[place] = (first.x, first.y) if place == 0 and first is not None else (x, y)
    return clicks, box_prompts(np.array([tight_box(mask)], np.int64))[0]


def _anywhere(size: tuple[int, int], sides: tuple[float, float], rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Clicks `(9, 2)` and a box `(4)` in a photo of `size` (H, W)."""
    photo = np.array([size[1], size[0]], np.float64)  # w, h
    side = rng.uniform(*sides, 2) * photo
    corner = rng.uniform(0.0, 1.0, 2) * (photo - side)
    inside = corner + rng.uniform(0.1, 0.9, (len(LABELS), 2)) * side
    inside[0] = corner + side / 2
    anywhere = rng.uniform(0.0, 1.0, (len(LABELS), 2)) * photo
    clicks = np.where(np.array(LABELS)[:, None] == _IN, inside, anywhere)
    return clicks, np.concatenate([corner, corner + side])
