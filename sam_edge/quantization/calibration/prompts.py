"""Prompts of every kind on a photo, so that a quantizer sees all that a decoder may get.

On a photo with masks, the prompts are those of a careful user on a large and a small mask: a first click on the
innermost point, the mask's bounding box, more clicks inside and outside it. On a photo without masks, boxes of both
sizes lie anywhere and are clicked in the same manner. The prompts depend only on the photo and its masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam_edge.data.sample import Sample as AnnotatedPhoto
from sam_edge.evaluation.measure import box_prompts, tight_box
from sam_edge.prompting.clicks import first_click
from sam_edge_runtime.arrays import Float32, Float64, Mask
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.bundle.contract import Label
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.prompts import Prompts, build_prompts

_IN, _OUT = float(Label.FOREGROUND), float(Label.BACKGROUND)
LABELS = (_IN, _IN, _OUT, _IN, _OUT, _IN, _IN, _OUT, _IN)  # of an object's clicks, in order
SIDES = ((0.3, 0.8), (0.05, 0.3))  # range of the sides of boxes without a mask, relative to the photo's
OBJECTS = len(SIDES)  # per photo


@dataclass(frozen=True)
class PromptKind:
    """What a prompt consists of.

    Attributes:
        clicks: how many.
        box: whether it has a box.
        mask: whether it has a mask prompt.
    """

    clicks: int = 0
    box: bool = False
    mask: bool = False

    @property
    def slots(self) -> int:
        """Slots that it takes; without a box, SAM adds one for padding."""
        return self.clicks + 2 if self.box else self.clicks + 1


KINDS: dict[str, PromptKind] = {
    "one click": PromptKind(1),
    "three clicks": PromptKind(3),
    "nine clicks": PromptKind(9),
    "box": PromptKind(box=True),
    "box and a click": PromptKind(1, box=True),
    "box and three clicks": PromptKind(3, box=True),
    "mask": PromptKind(mask=True),
    "mask and a click": PromptKind(1, mask=True),
    "mask and box": PromptKind(box=True, mask=True),
}
MOST_SLOTS = max(kind.slots for kind in KINDS.values())


@dataclass(frozen=True, eq=False)
class ObjectPrompts:
    """Clicks and boxes on a photo's objects, in the photo's pixels.

    Attributes:
        clicks: `(M, 9, 2)` x, y of M objects, labelled `LABELS`.
        boxes: `(M, 4)` x0, y0, x1, y1.
    """

    clicks: Float64
    boxes: Float64

    def prompts(self, frame: Frame, kind: PromptKind, masks: Float32 | None = None) -> Prompts:
        """Prompts of one kind, one for each object; without clicks outside where the frame's model knows none.

        Args:
            frame: the photo's.
            kind: what they consist of.
            masks: `(M, 1, S/4, S/4)` mask prompts, for kinds that have one.
        """
        background = frame.conventions.background_points
        used = [place for place, label in enumerate(LABELS) if background or label == _IN][: kind.clicks]
        labels = np.tile([LABELS[place] for place in used], (len(self.boxes), 1))
        return build_prompts(
            frame,
            self.clicks[:, used] if used else None,
            labels if used else None,
            self.boxes if kind.box else None,
            masks if kind.mask else None,
        )


def draw_prompts(photo: AnnotatedPhoto, seed: int) -> ObjectPrompts:
    """Clicks and boxes on two objects of a photo.

    Args:
        photo: with masks or without.
        seed: of the random generator that places clicks, and boxes where there is no mask.
    """
    rng = np.random.default_rng(seed)
    drawn = [prompts_on_mask(mask, rng) for mask in _chosen_masks(photo)]
    drawn += [_anywhere(photo.size, sides, rng) for sides in SIDES[len(drawn) :]]
    return ObjectPrompts(np.stack([clicks for clicks, _ in drawn]), np.stack([box for _, box in drawn]))


def _chosen_masks(photo: AnnotatedPhoto) -> list[Mask]:
    """A large and a small mask: from the middle of either half, ordered by area."""
    by_area = sorted((mask for mask in photo.rles if rle.area(mask)), key=rle.area, reverse=True)
    count = min(OBJECTS, len(by_area))
    return [rle.decode(by_area[(2 * which + 1) * len(by_area) // (2 * count)]) for which in range(count)]


def prompts_on_mask(mask: Mask, rng: np.random.Generator) -> tuple[Float64, Float64]:
    """Clicks `(9, 2)`, labelled `LABELS`, and box `(4)` for a mask `(H, W)` that is not empty."""
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
