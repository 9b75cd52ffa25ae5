"""Boxes of a detector: COCO's results file, a list of `image_id`, `category_id`, `bbox` and `score`.

(https://cocodataset.org/#format-results; `bbox` is x, y, width, height in pixels.) `TRUTH` stands for the boxes of the
human masks, with a score of 1 each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Float64
from sam_edge_runtime.errors import DataError
from sam_edge_runtime.system.documents import read_json

from .ground_truth import Category, LabelledPhoto

TRUTH = "truth"
_FIELDS = ("image_id", "category_id", "bbox", "score")


@dataclass(frozen=True, eq=False)
class Detections:
    """The boxes of one photo.

    Attributes:
        boxes: `(N, 4)` x, y, width, height in pixels.
        categories: `(N)` numbers of their categories.
        scores: `(N)`.
    """

    boxes: Float64
    categories: npt.NDArray[np.int64]
    scores: Float64

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(cls, rows: Sequence[tuple[Sequence[float], int, float]]) -> Detections:
        """From rows of a box, a category and a score."""
        boxes = np.array([row[0] for row in rows], np.float64).reshape(-1, 4)
        categories, scores = (np.array([row[place] for row in rows]) for place in (1, 2))
        return cls(boxes, categories.astype(np.int64), scores.astype(np.float64))

    def corners(self, size: tuple[int, int]) -> Float64:
        """x0, y0, x1, y1 `(N, 4)` in pixels, within a photo of `size` (H, W)."""
        height, width = size
        corners = np.concatenate([self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]], axis=1)
        clipped: Float64 = np.clip(corners, 0, [width, height, width, height])
        return clipped

    def results(self, number: int) -> list[dict[str, Any]]:
        """COCO's results for the photo with this number."""
        rows = zip(self.boxes, self.categories, self.scores, strict=True)
        return [
            {"image_id": number, "category_id": int(each), "bbox": [float(side) for side in box], "score": float(score)}
            for box, each, score in rows
        ]

    def best(self, most: int) -> Detections:
        """The `most` with the highest scores, in their order."""
        kept = np.sort(np.argsort(-self.scores, kind="stable")[:most])
        return Detections(self.boxes[kept], self.categories[kept], self.scores[kept])


def truth_boxes(photo: LabelledPhoto) -> Detections:
    """The boxes of a photo's human masks; crowds have none."""
    return Detections.of(
        [(each["bbox"], each["category_id"], 1.0) for each in photo.annotations if not each["iscrowd"]]
    )


def read_detections(path: Path, categories: Sequence[Category]) -> Mapping[int, Detections]:
    """The boxes of a results file by the number of the photo.

    Raises:
        DataError: the file cannot be read, is not of this form, or names a category that the data do not have.
    """
    try:
        document = read_json(path)
    except OSError as error:
        raise DataError(f"cannot read the boxes {path} ({error.strerror}): check the path") from error
    except ValueError as error:
        raise DataError(f"the boxes {path} are no JSON ({error}): write COCO's results") from error
    if not isinstance(document, list):
        raise DataError(f"the boxes {path} are no list: write COCO's results, a list of {', '.join(_FIELDS)}")
    known = {category.number for category in categories}
    rows: dict[int, list[tuple[Sequence[float], int, float]]] = {}
    for place, entry in enumerate(document):
        number, row = _row(entry, f"entry {place} of {path}")
        if row[1] not in known:
            shown = ", ".join(f"{each.number} ({each.name})" for each in categories[:5])
            raise DataError(
                f"entry {place} of {path} has the category {row[1]}, which the data do not have: theirs are {shown}"
                f"{', ...' if len(known) > 5 else ''}"
            )
        rows.setdefault(number, []).append(row)
    return {number: Detections.of(each) for number, each in rows.items()}


def _row(entry: object, name: str) -> tuple[int, tuple[Sequence[float], int, float]]:
    if not isinstance(entry, dict):
        raise DataError(f"{name} is a {type(entry).__name__}: write an object with {', '.join(_FIELDS)}")
    try:
        number, category, box, score = (entry[field] for field in _FIELDS)
    except KeyError as error:
        raise DataError(f"{name} has no {error.args[0]}: write {', '.join(_FIELDS)}") from error
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in (number, category))
    listed = isinstance(box, list) and len(box) == 4
    if not whole or not listed or not all(_is_number(each) for each in (*box, score)) or min(box[2:]) < 0:
        raise DataError(
            f"{name} is no box: image_id and category_id are integers, bbox is [x, y, width, height] in pixels, "
            "and score is a number"
        )
    return number, (box, category, float(score))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9  # NaN is not below
