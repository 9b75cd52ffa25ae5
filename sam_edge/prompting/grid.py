"""The fixed prompts of a verification: a grid of clicks, a grid of boxes, and common combinations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float64
from sam_edge_runtime.bundle.contract import Label
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.prompts import Prompts, build_prompts

POINTS_A_SIDE = 4
BOXES_A_SIDE = 3


@dataclass(frozen=True)
class PromptGroup:
    """Prompts of one kind that are decoded as one batch.

    Attributes:
        kind: `points`, `boxes` or `mixed`; a report shows pictures of each kind.
        names: one for each prompt, with its place in pixels of the photo.
        prompts: the decoder's inputs, in pixels of the frame.
        points: clicks to draw, `(B, N, 2)` x, y in pixels of the photo.
        labels: of the clicks, `(B, N)`.
        boxes: boxes to draw, `(B, 4)` x0, y0, x1, y1 in pixels of the photo.
    """

    kind: str
    names: tuple[str, ...]
    prompts: Prompts
    points: Float64 | None = None
    labels: Float64 | None = None
    boxes: Float64 | None = None


def prompt_groups(frame: Frame) -> list[PromptGroup]:
    """All groups of prompts for a photo, except the one of `refinement`."""
    h, w = frame.original_size
    size = np.array([w, h], np.float64)
    box = np.array([[0.2 * w, 0.25 * h, 0.7 * w, 0.8 * h]])
    clicks = np.array([[[0.35, 0.45], [0.55, 0.6], [0.9, 0.1]]]) * size
    names, labels = ("two clicks inside, one outside", "box and three clicks"), [1.0, 1.0, float(Label.BACKGROUND)]
    if not frame.conventions.background_points:
        names, labels, clicks = ("two clicks", "box and two clicks"), labels[:2], clicks[:, :2]
    labelled = np.array([labels])
    return [
        _clicks(frame, size),
        _boxes(frame, size),
        _group("mixed", frame, names[:1], clicks, labelled, None),
        _group("mixed", frame, names[1:], clicks, labelled, box),
    ]


def refinement(frame: Frame, low_res: npt.NDArray[np.float32]) -> PromptGroup:
    """A click with an earlier mask's logits `(S/4, S/4)` as mask prompt, as a user refines a mask."""
    h, w = frame.original_size
    click, label = np.array([[[0.45 * w, 0.55 * h]]]), np.array([[1.0]])
    prompts = build_prompts(frame, click, label, None, low_res[None, None])
    return PromptGroup("mixed", ("mask and click",), prompts, click, label)


def _clicks(frame: Frame, size: Float64) -> PromptGroup:
    shares = (np.arange(POINTS_A_SIDE) + 0.5) / POINTS_A_SIDE
    x, y = np.meshgrid(shares, shares)
    places = np.stack([x.ravel(), y.ravel()], axis=-1)[:, None, :] * size  # (B, 1, 2)
    names = tuple(f"click at ({place[0, 0]:.0f}, {place[0, 1]:.0f})" for place in places)
    return _group("points", frame, names, places, np.ones(places.shape[:2]), None)


def _boxes(frame: Frame, size: Float64) -> PromptGroup:
    edges = np.arange(BOXES_A_SIDE) / BOXES_A_SIDE
    x, y = np.meshgrid(edges, edges)
    corner = np.stack([x.ravel(), y.ravel()], axis=-1)
    boxes = np.concatenate([corner * size, (corner + 1 / BOXES_A_SIDE) * size], axis=-1)  # (B, 4)
    names = tuple("box ({:.0f}, {:.0f}, {:.0f}, {:.0f})".format(*box) for box in boxes)
    return _group("boxes", frame, names, None, None, boxes)


def _group(
    kind: str,
    frame: Frame,
    names: tuple[str, ...],
    points: Float64 | None,
    labels: Float64 | None,
    boxes: Float64 | None,
) -> PromptGroup:
    prompts = build_prompts(frame, points, labels, boxes, None)
    return PromptGroup(kind, names, prompts, points, labels, boxes)
