"""The page of a report, and pictures in which a person can check the figures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam_edge.data.sample import Sample
from sam_edge.prompting.clicks import first_click
from sam_edge.reporting.folders import AUTOMATIC_MASKS, CURVE, EXAMPLES, GROUPS, RECALL
from sam_edge.reporting.pages import render
from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.contract import FIRST_MULTIMASK, SINGLE_OUTPUT, Label
from sam_edge_runtime.decoding import Capacity, as_returned, decode_prompts
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.draw import draw_all_masks, draw_overlay
from sam_edge_runtime.photo.frame import fitting_frame
from sam_edge_runtime.photo.masks import upscale_binary
from sam_edge_runtime.prompts import build_prompts

from .job import Evaluation
from .measure import box_prompts, tight_box
from .tables import tables

TEMPLATE = "report.html.j2"
PANEL = 360  # pixels of a picture's longer side
SHOWN_MASKS = 3  # of a photo
EXAMPLES_SHOW = "Human masks; masks from their boxes; masks from one click each"
AUTOMATIC_SHOW = "Human masks; automatic masks"


def draw_automatic(path: Path, photos: Sequence[tuple[Sample, Sequence[rle.Rle]]]) -> None:
    """Draw a row for each photo: human masks; automatic masks."""
    _sheet(path, [[_all_masks(sample, rles) for rles in (sample.rles, automatic)] for sample, automatic in photos])


def _all_masks(sample: Sample, masks: Sequence[rle.Rle]) -> Photo:
    largest_first = sorted(masks, key=rle.area, reverse=True)
    return draw_all_masks(sample.photo, map(rle.decode, largest_first), 2 * PANEL)


def draw_examples(path: Path, backend: Backend, capacity: Capacity, samples: Sequence[Sample]) -> None:
    """Draw a row for each photo: human masks; masks from their boxes; masks from one click each."""
    _sheet(path, [[_small(panel) for panel in _example(backend, capacity, sample)] for sample in samples])


def _sheet(path: Path, rows: Sequence[Sequence[Photo]]) -> None:
    """Write pictures in rows; those of a row have the same height."""
    joined = [
        np.concatenate([np.pad(panel, ((0, 0), (0, 6), (0, 0)), constant_values=255) for panel in row], 1)
        for row in rows
    ]
    width = max(row.shape[1] for row in joined)
    padded = [np.pad(row, ((0, 6), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in joined]
    Image.fromarray(np.concatenate(padded)).save(path)


def _example(backend: Backend, capacity: Capacity, sample: Sample) -> tuple[Photo, ...]:
    sizes = np.argsort([-int(mask.sum()) for mask in sample.masks()])[:SHOWN_MASKS]
    targets = np.ascontiguousarray(sample.masks([int(index) for index in sizes]))
    frame = fitting_frame(capacity, sample.size)
    features = backend.encode(frame.image(sample.photo))
    boxes = box_prompts(np.array([tight_box(mask) for mask in targets], np.int64))
    decoded = decode_prompts(backend, capacity, features, build_prompts(frame, None, None, boxes, None))
    low_res, *_ = as_returned(decoded, capacity.conventions)
    by_box = upscale_binary(np.ascontiguousarray(low_res[:, SINGLE_OUTPUT]), frame)
    points = np.array([click[:2] for mask in targets if (click := first_click(mask)) is not None], np.float64)
    labels = np.full((len(points), 1), int(Label.FOREGROUND))
    prompts = build_prompts(frame, points[:, None], labels, None, None)
    low_res, predicted, _ = decode_prompts(backend, capacity, features, prompts)
    best = FIRST_MULTIMASK + predicted[:, FIRST_MULTIMASK:].argmax(axis=1)
    by_click = upscale_binary(np.ascontiguousarray(low_res[np.arange(len(best)), best]), frame)
    return (
        draw_overlay(sample.photo, targets),
        draw_overlay(sample.photo, by_box, boxes=boxes),
        draw_overlay(sample.photo, by_click, points, labels[:, 0]),
    )


def _small(picture: Photo) -> Photo:
    image = Image.fromarray(picture)
    image.thumbnail((PANEL, PANEL))
    return np.asarray(image)


def write_page(folder: Path, report: dict[str, Any], result: Evaluation) -> None:
    """Write `report.html`: one file without scripts, with embedded pictures.

    Raises:
        UsageError: jinja2 is not installed.
    """
    pictures = {
        name: base64.b64encode((folder / name).read_bytes()).decode()
        for name in (CURVE, RECALL, GROUPS, EXAMPLES, AUTOMATIC_MASKS)
        if (folder / name).is_file()
    }
    captions = {
        CURVE: "Clicks",
        RECALL: "Automatic masks",
        GROUPS: "Groups",
        EXAMPLES: EXAMPLES_SHOW,
        AUTOMATIC_MASKS: AUTOMATIC_SHOW,
    }
    content = {"report": report, "tables": tables(result), "pictures": pictures, "captions": captions}
    try:
        page = render(Path(__file__).with_name(TEMPLATE), **content)
    except ImportError as error:
        raise UsageError("report.html needs jinja2: pip install 'sam-edge[evaluate]'") from error
    (folder / "report.html").write_text(page, encoding="utf-8")
