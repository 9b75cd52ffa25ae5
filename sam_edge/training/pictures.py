"""A contact sheet of a training step: one row for each photo, one column for each step of its session.

Each tile shows the photo as the model sees it, the target's outline (yellow), the mask that is fed back (blue), the
clicks so far (green inside, red outside), the box (white), and the mask's IoU. Errors in augmentation, prompts and
targets show here first. Drawing uses no random numbers and changes no tensor of the step.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sam_edge.prompting.simulation import TrainingPrompts
from sam_edge_runtime.arrays import Mask
from sam_edge_runtime.bundle.contract import MASK_THRESHOLD, Label

from .batch import Batch

TILE = 256  # pixels
GAP = 4
MOST_PHOTOS, MOST_COLUMNS = 4, 6
OUTLINE, MASK, BOX = (255, 220, 0), (40, 110, 255), (255, 255, 255)  # RGB
CLICKS = {Label.FOREGROUND: (0, 200, 60), Label.BACKGROUND: (230, 30, 30)}
DOT = 4  # radius of a click in pixels
OPACITY = 0.45


class ContactSheet:
    """An `objective.Watcher` of one forward pass; it keeps a tile of each step, for each photo's first mask."""

    def __init__(self) -> None:
        self._columns: list[list[Image.Image]] = []

    @torch.no_grad()
    def __call__(self, batch: Batch, step: int, prompts: TrainingPrompts, logits: Tensor, chosen: Tensor) -> None:
        """Draw one step; see `objective.Watcher`."""
        column, row = [], 0
        for photo, count in enumerate(batch.mask_counts[:MOST_PHOTOS]):
            fed_back = logits[row, chosen[row]].float().cpu().numpy()
            part = prompts[row : row + 1]
            column.append(
                tile(
                    batch.images[photo].float().cpu().numpy(),
                    batch.masks[photo][0].cpu().numpy(),
                    batch.valid[photo].cpu().numpy(),
                    fed_back,
                    part.coords[0].cpu().numpy(),
                    part.labels[0].cpu().numpy(),
                    f"{step + 1}",
                )
            )
            row += count
        self._columns.append(column)

    def png(self) -> bytes | None:
        """The sheet as PNG, or None if no step was drawn.

        Of a session with more than `MOST_COLUMNS` steps it shows evenly spaced ones, the first and the last included.
        """
        if not self._columns:
            return None
        places = np.linspace(0, len(self._columns) - 1, min(len(self._columns), MOST_COLUMNS)).round().astype(int)
        columns = [self._columns[place] for place in places]
        rows = len(columns[0])
        sheet = Image.new("RGB", (len(columns) * (TILE + GAP) - GAP, rows * (TILE + GAP) - GAP), (30, 30, 30))
        for x, column in enumerate(columns):
            for y, picture in enumerate(column):
                sheet.paste(picture, (x * (TILE + GAP), y * (TILE + GAP)))
        content = io.BytesIO()
        sheet.save(content, "PNG")
        return content.getvalue()


def tile(
    photo: npt.NDArray[np.float32],
    target: Mask,
    valid: Mask,
    logits: npt.NDArray[np.float32],
    coords: npt.NDArray[np.float32],
    labels: npt.NDArray[np.float32],
    name: str,
) -> Image.Image:
    """A picture of one mask and its prompts, `TILE` pixels a side.

    Args:
        photo: `(3, S, S)` RGB in 0..255.
        target: `(S, S)` bool.
        valid: `(S, S)` bool, true where the frame shows photo.
        logits: `(S/4, S/4)` of the mask.
        coords: `(N, 2)` x, y in pixels of the frame.
        labels: `(N)` values of `Label`.
        name: is written before the IoU.
    """
    frame = Image.fromarray(photo.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
    pixels = np.asarray(frame.resize((TILE, TILE)), np.float32).copy()
    wanted, inside = _resized(target), _resized(valid)
    smooth = Image.fromarray(logits).resize((TILE, TILE), Image.Resampling.BILINEAR)
    predicted = (np.asarray(smooth) > MASK_THRESHOLD) & inside
    pixels[predicted] = (1.0 - OPACITY) * pixels[predicted] + OPACITY * np.asarray(MASK, np.float32)
    pixels[outline(wanted)] = OUTLINE
    picture = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    places = (coords + 0.5) * (TILE / photo.shape[-1])  # a pixel's centre lies half a pixel in
    corners = [places[labels == float(kind)] for kind in (Label.BOX_TOP_LEFT, Label.BOX_BOTTOM_RIGHT)]
    if len(corners[0]) and len(corners[1]):
        draw.rectangle((*corners[0][0].tolist(), *corners[1][0].tolist()), outline=BOX, width=2)
    for kind, colour in CLICKS.items():
        for x, y in places[labels == float(kind)].tolist():
            draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=colour, outline=(255, 255, 255))
    union = int((predicted | wanted).sum())
    iou = int((predicted & wanted).sum()) / union if union else 1.0
    draw.text((5, 4), f"{name}: IoU {iou:.2f}", fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
    return picture


def outline(mask: Mask) -> Mask:
    """The pixels of `mask (H, W)` bool with a neighbour outside it; pixels beyond the picture count as inside."""
    near = np.pad(mask, 1, mode="edge")
    surrounded: Mask = near[:-2, 1:-1] & near[2:, 1:-1] & near[1:-1, :-2] & near[1:-1, 2:]
    return mask & ~surrounded


def _resized(mask: Mask) -> Mask:
    """The mask resized to `(TILE, TILE)`."""
    return np.asarray(Image.fromarray(mask).resize((TILE, TILE), Image.Resampling.NEAREST), bool)
