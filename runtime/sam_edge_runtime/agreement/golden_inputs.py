"""The inputs of the acceptance test: drawn pictures, and prompts of every kind on them.

The pictures are drawn, so they need no licence; they have enough edges and texture for faults to change the outputs.
Every prompt refers to the ellipse that is drawn last. A prompt on nothing would get masks of a few pixels, which the
smallest rounding changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sam_edge_runtime.arrays import Float32, Photo
from sam_edge_runtime.bundle.contract import MASK_STRIDE, Label
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.prompts import Prompts

PICTURE_SIZES = ((192, 256), (224, 144))  # (H, W): a wide and a tall picture
BACKGROUND_ELLIPSES = 5
TARGET_COLOUR = (225.0, 60.0, 45.0)  # of the ellipse that prompts refer to
MASK_PROMPT_SCALE = 8.0  # mask prompts are stored as int8 eighths, which are exact in float32


@dataclass(frozen=True)
class Ellipse:
    """Centre x, y and half axes across, down, as fractions of the picture's width and height."""

    x: float
    y: float
    across: float
    down: float

    def at(self, frame: Frame, across: float, down: float) -> tuple[float, float]:
        """x, y in the frame of a position in half axes from the centre: (1, 0) is the rightmost point."""
        h, w = frame.resized_size
        return (self.x + across * self.across) * w, (self.y + down * self.down) * h


def prompts_for(frame: Frame, ellipse: Ellipse, texts: Mapping[str, Float32] | None = None) -> dict[str, Prompts]:
    """Prompts of every kind that the frame's model knows for an ellipse, by name.

    Args:
        frame: of the picture.
        ellipse: that is drawn last.
        texts: embeddings `(D,)` of words by name; each is a prompt alone, and the first also with other inputs.
    """
    background, masks = frame.conventions.background_points, frame.conventions.mask_prompts
    pad, back, fore = float(Label.PADDING), float(Label.BACKGROUND), float(Label.FOREGROUND)
    corners = (float(Label.BOX_TOP_LEFT), float(Label.BOX_BOTTOM_RIGHT))
    box = (ellipse.at(frame, -1.05, -1.05), ellipse.at(frame, 1.05, 1.05))
    disc = _disc(frame, ellipse)

    def prompt(
        *slots: tuple[tuple[float, float], float], mask: Float32 | None = None, text: Float32 | None = None
    ) -> Prompts:
        coords = np.array([[point for point, _ in slots]], np.float32)
        labels = np.array([[label for _, label in slots]], np.float32)
        return Prompts(coords, labels, mask, frame.size, None if text is None else text[None])

    centre, padding = (ellipse.at(frame, 0.0, 0.0), fore), ((0.0, 0.0), pad)
    in_box = ((box[0], corners[0]), (box[1], corners[1]))
    points = (
        (ellipse.at(frame, -0.5, 0.2), fore),
        (ellipse.at(frame, 0.4, -0.3), fore),
        (ellipse.at(frame, 1.2, 0.9), back) if background else (ellipse.at(frame, 0.1, 0.6), fore),
    )
    nothing = ((0.0, 0.0), float(Label.EMPTY))
    prompts = {
        "one point": prompt(centre, padding),
        "three points": prompt(*points, padding),
        "box": prompt(*in_box),
        "box and points": prompt(*points, *in_box),
        "mask": prompt(nothing, mask=disc),
        "mask and point": prompt(centre, padding, mask=disc),
        "mask and box": prompt(*in_box, mask=disc),
    }
    for index, (word, text) in enumerate((texts or {}).items()):
        prompts[f"text {word}"] = prompt(nothing, text=text)
        if not index:
            prompts[f"text {word} and point"] = prompt(centre, padding, text=text)
            prompts[f"text {word} and box"] = prompt(*in_box, text=text)
            prompts[f"text {word} and mask"] = prompt(nothing, mask=disc, text=text)
    return {name: each for name, each in prompts.items() if masks or each.masks is None}


def _disc(frame: Frame, ellipse: Ellipse) -> Float32:
    """A mask prompt `(1, 1, H/4, W/4)`: logits in eighths that fall from the ellipse's centre to 0 at its edge."""
    rows, columns = frame.size.cells
    h, w = frame.resized_size
    y, x = np.mgrid[:rows, :columns] * MASK_STRIDE
    centre = ellipse.at(frame, 0.0, 0.0)
    distance = np.hypot((x - centre[0]) / (ellipse.across * w), (y - centre[1]) / (ellipse.down * h))
    logits = 8.0 * (1.0 - distance)
    rounded: Float32 = np.clip(np.round(logits * MASK_PROMPT_SCALE) / MASK_PROMPT_SCALE, -8.0, 8.0).astype(np.float32)
    return rounded[None, None]


def draw_picture(size: tuple[int, int], seed: int) -> tuple[Photo, Ellipse]:
    """A picture `(H, W, 3)` uint8, and the ellipse that is drawn last.

    A diagonal gradient, ellipses of uniform colours, a red one near the middle on top of them, and noise.
    """
    rng = np.random.default_rng(seed)
    h, w = size
    y, x = np.mgrid[:h, :w]
    picture = np.stack([80 + 100 * x / w, 90 + 80 * y / h, 160 - 60 * (x + y) / (w + h)], axis=-1)
    ellipses = [
        Ellipse(*rng.uniform(0.1, 0.9, 2).tolist(), *rng.uniform(0.08, 0.25, 2).tolist())
        for _ in range(BACKGROUND_ELLIPSES)
    ]
    colours = rng.uniform(20, 235, (len(ellipses), 3))
    last = Ellipse(*rng.uniform(0.4, 0.6, 2).tolist(), *rng.uniform(0.18, 0.28, 2).tolist())
    for ellipse, colour in zip((*ellipses, last), (*colours, TARGET_COLOUR), strict=True):
        inside = ((x / w - ellipse.x) / ellipse.across) ** 2 + ((y / h - ellipse.y) / ellipse.down) ** 2 < 1
        picture[inside] = colour
    picture += rng.normal(0, 4, picture.shape)
    pixels: Photo = np.clip(picture, 0, 255).astype(np.uint8)
    return pixels, last
