"""Instance segmentation from a detector's boxes: section 7.4 and appendix D.4 of "Segment Anything" (arXiv 2304.02643).

Each box prompts the model. The mask with the highest predicted IoU of outputs 1..3 is fed back with the box, and output
0 of that second step is the result, with the box's score. A model without mask prompts gives its first answer. The
average precision of the boxes themselves shows what the detector leaves to the masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge.data.skips import SkipLog
from sam_edge.prediction.promptable import Promptable
from sam_edge_runtime.arrays import Float32, Photo
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.rle import Rle
from sam_edge_runtime.bundle.contract import FIRST_MULTIMASK, SINGLE_OUTPUT
from sam_edge_runtime.decoding import as_returned, decode_prompts, limited
from sam_edge_runtime.errors import DataError
from sam_edge_runtime.photo.frame import fitting_frame
from sam_edge_runtime.photo.masks import upscale_binary
from sam_edge_runtime.prompts import build_prompts

from .average_precision import BOXES, LVIS_MOST, average_precision, is_federated
from .detections import TRUTH, Detections, read_detections, truth_boxes
from .ground_truth import GroundTruth, LabelledPhoto, dataset
from .measure import LEAST_BOX_SIDE, MASKS_AT_ONCE
from .sources import short_name, skipped_names

Results = list[dict[str, Any]]


@dataclass(frozen=True)
class InstanceFigures:
    """The figures of one data source.

    Attributes:
        subject: name of the model or bundle.
        data: the source's name.
        photos, masks, boxes: how many there were.
        rules: `COCO` or `LVIS`.
        refined: `average_precision` of the masks.
        first: that of the first answers, without the second step.
        detector: that of the boxes.
        skipped: records that could not be used.
    """

    subject: str
    data: str
    photos: int
    masks: int
    boxes: int
    rules: str
    refined: dict[str, float | None]
    first: dict[str, float | None]
    detector: dict[str, float | None]
    skipped: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Instances:
    """The masks of a source, as COCO's results.

    Attributes:
        figures: their average precision.
        masks: `image_id`, `category_id`, `score` and `segmentation` (compressed RLE) of each box.
        boxes: the boxes that prompted for them, in the same order.
    """

    figures: InstanceFigures
    masks: Results
    boxes: Results


def measure_instances(
    subject: Promptable,
    truth: GroundTruth,
    boxes: str,
    log: SkipLog,
    limit: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Instances:
    """Segment every box of every photo, and measure the masks.

    Args:
        subject: model or bundle.
        truth: photos, human masks and categories.
        boxes: path of a results file, or `TRUTH`.
        log: counts the records.
        limit: largest number of photos; None for all.
        progress: called before each photo with the number of those done.

    Raises:
        DataError: the boxes cannot be read, or none is of one of the photos.
        BackendError: the engine failed.
    """
    given = None if boxes == TRUTH else read_detections(Path(boxes), truth.categories)
    photos: list[LabelledPhoto] = []
    masks, first, prompts = Results(), Results(), Results()
    for photo in truth.photos(log, limit):
        progress(len(photos))
        found = truth_boxes(photo) if given is None else given.get(photo.number, Detections.of([]))
        if is_federated(dataset(truth.categories, [photo])):
            found = found.best(LVIS_MOST)
        rows = found.results(photo.number)
        once, twice = segment_boxes(subject, photo.photo, found)
        prompts += rows
        first += [_result(row, each) for row, each in zip(rows, once, strict=True)]
        masks += [_result(row, each) for row, each in zip(rows, twice, strict=True)]
        photos.append(photo.without_pixels())
    if not prompts:
        raise DataError(f"{boxes} has no box for the {len(photos)} photos: compare image_id with the data's")
    document = dataset(truth.categories, photos)
    figures = InstanceFigures(
        subject=subject.name,
        data=short_name(truth.source.name),
        photos=len(photos),
        masks=len(document["annotations"]),
        boxes=len(prompts),
        rules="LVIS" if is_federated(document) else "COCO",
        refined=average_precision(document, masks),
        first=average_precision(document, first),
        detector=average_precision(document, prompts, BOXES),
        skipped=tuple(skipped_names(log)),
    )
    return Instances(figures, masks, prompts)


def segment_boxes(subject: Promptable, photo: Photo, boxes: Detections) -> tuple[list[Rle], list[Rle]]:
    """The masks of a photo's boxes: the first answers, and those of the second step."""
    if not len(boxes):
        return [], []
    backend, capacity = subject.backend, subject.capacity
    size = (photo.shape[0], photo.shape[1])
    frame = fitting_frame(capacity, size)
    features = backend.encode(frame.image(photo))
    corners = boxes.corners(size)
    # A box without an extent is refused by the runtime; at an edge it must also stay inside.
    corners[:, :2] = np.minimum(corners[:, :2], corners[:, 2:] - LEAST_BOX_SIDE)
    first: list[Rle] = []
    second: list[Rle] = []

    def encoded(low_res: Float32) -> list[Rle]:
        return [rle.encode(mask) for mask in upscale_binary(np.ascontiguousarray(low_res), frame)]

    for start in range(0, len(boxes), MASKS_AT_ONCE):
        prompts = corners[start : start + MASKS_AT_ONCE]
        decoded = decode_prompts(backend, capacity, features, build_prompts(frame, None, None, prompts, None))
        decoded = as_returned(decoded, capacity.conventions)
        best = FIRST_MULTIMASK + decoded.iou_predictions[:, FIRST_MULTIMASK:].argmax(axis=1)
        chosen = decoded.low_res_masks[np.arange(len(prompts)), best]
        first += encoded(chosen)
        if capacity.conventions.mask_prompts:
            fed_back = limited(chosen[:, None], capacity.conventions)
            again = decode_prompts(backend, capacity, features, build_prompts(frame, None, None, prompts, fed_back))
            second += encoded(as_returned(again, capacity.conventions).low_res_masks[:, SINGLE_OUTPUT])
        else:
            second += first[start:]
    return first, second


def instance_rows(figures: Sequence[InstanceFigures]) -> list[tuple[str, list[str]]]:
    """The rows of the table: a name, and a cell for each of `figures`."""
    names = list(dict.fromkeys(name for each in figures for name in each.refined))
    return [
        ("photos / masks / boxes", [f"{each.photos} / {each.masks} / {each.boxes}" for each in figures]),
        ("rules", [each.rules for each in figures]),
        *((f"mask {name}", [_cell(each.refined.get(name)) for each in figures]) for name in names),
        ("mask AP of the first answers", [_cell(each.first["AP"]) for each in figures]),
        ("box AP of the detector", [_cell(each.detector["AP"]) for each in figures]),
    ]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _result(row: dict[str, Any], mask: Rle) -> dict[str, Any]:
    return {**{name: row[name] for name in ("image_id", "category_id", "score")}, "segmentation": dict(mask)}
