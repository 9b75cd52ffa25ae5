"""Object proposals: section 7.3 and appendix D.3 of "Segment Anything" (arXiv 2304.02643).

Automatic masks of a grid of 64 x 64 points, unfiltered, without crops, with an NMS threshold of 0.9. If a photo has
more than 1000, those with the highest mean of predicted IoU and stability score count. Average recall is over IoU
thresholds from 0.5 to 0.95, for masks of every size, and of categories that LVIS calls frequent, common and rare.
pycocotools pairs proposals with human masks one to one; the protocol `automatic` takes the best proposal of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from sam_edge.data.skips import SkipLog
from sam_edge.prediction.promptable import Promptable

from .average_precision import PROPOSALS_MOST, average_recall
from .ground_truth import GroundTruth, LabelledPhoto, dataset
from .sources import short_name, skipped_names

PROPOSAL_SETTINGS: Mapping[str, Any] = {
    "points_per_side": 64,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "box_nms_thresh": 0.9,
}
LEAST_IOU = 0.5  # the lowest threshold


@dataclass(frozen=True)
class ProposalFigures:
    """The figures of one data source.

    Attributes:
        subject: name of the model or bundle.
        data: the source's name.
        photos, masks: how many were measured.
        proposals: mean number of proposals of a photo.
        recall: `average_recall` at 1000.
        seconds: mean time for a photo, on a machine that may have been busy.
        skipped: records that could not be used.
    """

    subject: str
    data: str
    photos: int
    masks: int
    proposals: float
    recall: dict[str, float | None]
    seconds: float
    skipped: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def measure_proposals(
    subject: Promptable,
    truth: GroundTruth,
    settings: Mapping[str, Any],
    log: SkipLog,
    limit: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> ProposalFigures:
    """Generate the proposals of every photo with human masks, and measure their recall.

    Args:
        subject: model or bundle.
        truth: photos and human masks.
        settings: fields of `AutomaticSettings` that replace the paper's.
        log: counts the records.
        limit: largest number of photos; None for all.
        progress: called before each photo with the number of those done.

    Raises:
        DataError: there are no photos with masks.
        BackendError: the engine failed.
    """
    generator = subject.mask_generator({**PROPOSAL_SETTINGS, **settings})
    photos: list[LabelledPhoto] = []
    results: list[dict[str, Any]] = []
    counts: list[int] = []
    seconds = 0.0
    for photo in truth.photos(log, limit):
        progress(len(photos))
        begun = perf_counter()
        records = generator.generate(photo.photo)
        seconds += perf_counter() - begun
        counts.append(len(records))
        results += _useful(photo, records, truth.categories[0].number)
        photos.append(photo.without_pixels())
    document = dataset(truth.categories, photos)
    return ProposalFigures(
        subject=subject.name,
        data=short_name(truth.source.name),
        photos=len(photos),
        masks=len(document["annotations"]),
        proposals=float(np.mean(counts)),
        recall=average_recall(document, results),
        seconds=seconds / len(photos),
        skipped=tuple(skipped_names(log)),
    )


def proposal_rows(figures: Sequence[ProposalFigures]) -> list[tuple[str, list[str]]]:
    """The rows of the table: a name, and a cell for each of `figures`."""
    names = list(dict.fromkeys(name for each in figures for name in each.recall))
    return [
        ("photos / masks", [f"{each.photos} / {each.masks}" for each in figures]),
        ("proposals of a photo", [f"{each.proposals:.0f}" for each in figures]),
        *((f"mask AR@1000, {name}", [_cell(each.recall.get(name)) for each in figures]) for name in names),
        ("seconds a photo", [f"{each.seconds:.1f}" for each in figures]),
    ]


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _useful(photo: LabelledPhoto, records: list[dict[str, Any]], category: int) -> list[dict[str, Any]]:
    """A photo's best 1000 proposals as COCO's results, without those that no threshold pairs with a human mask."""
    from pycocotools import mask as coco  # noqa: PLC0415
    from pycocotools.coco import COCO  # noqa: PLC0415

    def score(record: dict[str, Any]) -> float:
        return 0.5 * float(record["predicted_iou"] + record["stability_score"])

    ranked = sorted(records, key=score, reverse=True)[:PROPOSALS_MOST]
    if not ranked or not photo.annotations:
        return []
    reader = COCO()
    reader.imgs = {photo.number: photo.image}
    human = [reader.annToRLE(annotation) for annotation in photo.annotations]
    crowds = [int(annotation["iscrowd"]) for annotation in photo.annotations]
    best = np.asarray(coco.iou([dict(record["segmentation"]) for record in ranked], human, crowds)).max(axis=1)
    return [
        {
            "image_id": photo.number,
            "category_id": category,
            "score": score(record),
            "segmentation": dict(record["segmentation"]),
        }
        for record, iou in zip(ranked, best, strict=True)
        if iou >= LEAST_IOU - 1e-9
    ]
