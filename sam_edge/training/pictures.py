"""A contact sheet of what happens in training: a row a photo, a column an answer of its session.

Each tile shows the photo as the model gets it, the target's outline (yellow), the answer that goes on (blue), the
clicks so far (green inside, red outside) and the box (white), with the answer's IoU. Augmentation, prompts and targets
that went wrong are seen here first. It looks on: nothing is drawn at random, and no tensor of the step is changed.
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
MOST_PHOTOS, MOST_ANSWERS = 4, 6
OUTLINE, ANSWER, BOX = (255, 220, 0), (40, 110, 255), (255, 255, 255)
CLICKS = {Label.FOREGROUND: (0, 200, 60), Label.BACKGROUND: (230, 30, 30)}
DOT = 4  # a click's radius
OPACITY = 0.45


class ContactSheet:
    """Watches one forward pass (`objective.Watcher`) and keeps a tile of every answer, of each photo's first mask."""

    def __init__(self) -> None:
        self._columns: list[list[Image.Image]] = []

    @torch.no_grad()
    def __call__(self, batch: Batch, step: int, prompts: TrainingPrompts, logits: Tensor, chosen: Tensor) -> None:
        """Draw an answer; see `objective.Watcher`."""
        column, row = [], 0
        for photo, count in enumerate(batch.mask_counts[:MOST_PHOTOS]):
            answer = logits[row, chosen[row]].float().cpu().numpy()
            part = prompts[row : row + 1]
            column.append(
                tile(
                    batch.images[photo].float().cpu().numpy(),
                    batch.masks[photo][0].cpu().numpy(),
                    batch.valid[photo].cpu().numpy(),
                    answer,
                    part.coords[0].cpu().numpy(),
                    part.labels[0].cpu().numpy(),
                    f"{step + 1}",
                )
            )
            row += count
        self._columns.append(column)

    def png(self) -> bytes | None:
        """The sheet, or None where nothing was seen; of a long session some answers, the first and last among them."""
        if not self._columns:
            return None
        places = np.linspace(0, len(self._columns) - 1, min(len(self._columns), MOST_ANSWERS)).round().astype(int)
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
    """One answer to one mask's prompts, `TILE` pixels a side.

    Args:
        photo: `(3, S, S)` in 0..255.
        target: `(S, S)` bool.
        valid: `(S, S)` bool, true where the frame is photo.
        logits: `(S/4, S/4)`.
        coords: `(N, 2)` x, y in pixels of the frame.
        labels: `(N)` values of `Label`.
        name: stands before the IoU.
    """
    frame = Image.fromarray(photo.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
    pixels = np.asarray(frame.resize((TILE, TILE)), np.float32).copy()
    wanted, inside = _resized(target), _resized(valid)
    smooth = Image.fromarray(logits).resize((TILE, TILE), Image.Resampling.BILINEAR)
    given = (np.asarray(smooth) > MASK_THRESHOLD) & inside
    pixels[given] = (1.0 - OPACITY) * pixels[given] + OPACITY * np.asarray(ANSWER, np.float32)
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
    union = int((given | wanted).sum())
    iou = int((given & wanted).sum()) / union if union else 1.0
    draw.text((5, 4), f"{name}: IoU {iou:.2f}", fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
    return picture


def outline(mask: Mask) -> Mask:
    """The pixels of `mask (H, W)` that have a neighbour outside it; beyond the picture counts as inside."""
    near = np.pad(mask, 1, mode="edge")
    surrounded: Mask = near[:-2, 1:-1] & near[2:, 1:-1] & near[1:-1, :-2] & near[1:-1, 2:]
    return mask & ~surrounded


def _resized(mask: Mask) -> Mask:
    """`(TILE, TILE)`."""
    return np.asarray(Image.fromarray(mask).resize((TILE, TILE), Image.Resampling.NEAREST), bool)
