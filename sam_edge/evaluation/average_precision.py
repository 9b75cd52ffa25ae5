"""Average precision and recall by pycocotools, under COCO's and LVIS's rules.

LVIS (Gupta et al., arXiv 1908.03195, section 3.3) annotates a photo for some categories only. Its rules differ from
COCO's in three points: the 300 best results of a photo count, whatever their category; results of a category that a
photo was not annotated for are left out; and where a category's instances are not all annotated, results without a
partner are no errors. The last one is what pycocotools does with results inside a crowd, so such a photo gets a crowd
of that category as large as itself. With that, its figures are those of the `lvis` package, which numpy 2 no longer
runs.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.automatic.rle import compress

from .ground_truth import FREQUENCIES, NEGATIVE, PARTIAL

MASKS, BOXES = "segm", "bbox"
COCO_MOST, LVIS_MOST, PROPOSALS_MOST = 100, 300, 1000  # results of a photo that count; COCO's of each category
SIZE_NAMES = ("all", "small", "medium", "large")  # pycocotools' order
_AP50, _AP75 = 0, 5  # places of its thresholds
Figures = dict[str, float | None]


def is_federated(truth: dict[str, Any]) -> bool:
    """Whether a ground truth is annotated as LVIS's."""
    images, categories = truth["images"], truth["categories"]
    return all("frequency" in each for each in categories) and all(NEGATIVE in image for image in images)


def average_precision(truth: dict[str, Any], results: Sequence[dict[str, Any]], kind: str = MASKS) -> Figures:
    """Average precision of results with categories.

    Args:
        truth: COCO's or LVIS's document; LVIS's rules apply where `is_federated`.
        results: COCO's results, with `segmentation` for masks and `bbox` for boxes.
        kind: `MASKS` or `BOXES`.

    Returns:
        `AP` (mean over thresholds 0.5, 0.55, .. 0.95), `AP50`, `AP75`, `AP small`, `AP medium` and `AP large` by the
        area of the human mask, all 0..1, and with LVIS's rules `AP rare`, `AP common` and `AP frequent`. None where
        there is no such human mask.
    """
    federated = is_federated(truth)
    if federated:
        truth, results = _with_lvis_rules(truth, results, kind)
    evaluator = _evaluated(truth, results, kind, LVIS_MOST if federated else COCO_MOST, categories=True)
    precision = evaluator.eval["precision"][..., 0]  # (thresholds, recalls, categories, sizes)
    figures = {
        "AP": _mean(precision[:, :, :, 0]),
        "AP50": _mean(precision[_AP50, :, :, 0]),
        "AP75": _mean(precision[_AP75, :, :, 0]),
        **{f"AP {name}": _mean(precision[:, :, :, place]) for place, name in enumerate(SIZE_NAMES) if place},
    }
    if federated:
        of = {each["id"]: each["frequency"] for each in truth["categories"]}
        order = np.array([of[number] for number in evaluator.params.catIds])
        figures |= {f"AP {name}": _mean(precision[:, :, order == sign, 0]) for sign, name in FREQUENCIES.items()}
    return figures


def average_recall(truth: dict[str, Any], results: Sequence[dict[str, Any]]) -> Figures:
    """Average recall at 1000 masks of a photo, whatever their category.

    Args:
        truth: COCO's document.
        results: COCO's results with `segmentation`.

    Returns:
        `all`, `small`, `medium` and `large` by the area of the human mask, 0..1; where LVIS's frequencies of categories
        are known, `frequent`, `common` and `rare` too, each against the masks of those categories only. None where
        there is no such human mask.
    """

    def recalls(kept: dict[str, Any]) -> list[float | None]:
        evaluator = _evaluated(kept, results, MASKS, PROPOSALS_MOST, categories=False)
        recall = evaluator.eval["recall"][:, 0, :, 0]  # (thresholds, sizes)
        return [_mean(recall[:, place]) for place in range(len(SIZE_NAMES))]

    figures = dict(zip(SIZE_NAMES, recalls(truth), strict=True))
    of = {each["id"]: each.get("frequency") for each in truth["categories"]}
    if not any(of.values()):
        return figures
    for sign, name in reversed(FREQUENCIES.items()):
        kept = [each for each in truth["annotations"] if of[each["category_id"]] == sign]
        figures[name] = recalls({**truth, "annotations": kept})[0]
    return figures


def _evaluated(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], kind: str, most: int, *, categories: bool
) -> Any:
    """The evaluator of pycocotools after its work, with one limit on the number of results."""
    from pycocotools.coco import COCO  # noqa: PLC0415
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415

    with redirect_stdout(io.StringIO()):  # it prints its progress
        human, found = COCO(), COCO()
        human.dataset = truth
        human.createIndex()
        if results:
            found = human.loadRes([dict(each) for each in results])
        else:
            found.dataset = {**truth, "annotations": []}
            found.createIndex()
        evaluator = COCOeval(human, found, kind)
        evaluator.params.maxDets = [most]
        evaluator.params.useCats = int(categories)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


def _with_lvis_rules(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], kind: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    images = {image["id"]: image for image in truth["images"]}
    asked = {number: set(image[NEGATIVE]) for number, image in images.items()}
    for each in truth["annotations"]:
        asked[each["image_id"]].add(each["category_id"])
    kept = [
        each
        for each in _best(results, LVIS_MOST)
        if each["category_id"] in asked[each["image_id"]]
        and not (each["category_id"] in images[each["image_id"]][PARTIAL] and _is_empty(each, kind))
    ]
    last = max((each["id"] for each in truth["annotations"]), default=0)
    wanted = [(image, category) for image in images.values() for category in image[PARTIAL]]
    crowds = [_whole_photo(image, category, last + place) for place, (image, category) in enumerate(wanted, 1)]
    return {**truth, "annotations": [*truth["annotations"], *crowds]}, kept


def _best(results: Iterable[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The `most` results of each photo with the highest scores."""
    by_photo: dict[int, list[dict[str, Any]]] = {}
    for each in results:
        by_photo.setdefault(each["image_id"], []).append(each)
    return [
        each
        for photo in by_photo.values()
        for each in (photo if len(photo) <= most else sorted(photo, key=lambda one: -one["score"])[:most])
    ]


def _is_empty(result: dict[str, Any], kind: str) -> bool:
    from pycocotools import mask as coco  # noqa: PLC0415

    return kind == MASKS and not coco.area(result["segmentation"])


def _whole_photo(image: dict[str, Any], category: int, number: int) -> dict[str, Any]:
    height, width = image["height"], image["width"]
    return {
        "id": number,
        "image_id": image["id"],
        "category_id": category,
        "segmentation": {"size": [height, width], "counts": compress(np.array([0, height * width]))},
        "bbox": [0.0, 0.0, float(width), float(height)],
        "area": height * width,
        "iscrowd": 1,
    }


def _mean(values: npt.NDArray[np.float64]) -> float | None:
    known = values[values > -1]  # -1: no human mask of that category and size
    return float(known.mean()) if known.size else None
