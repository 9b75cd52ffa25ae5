"""The simulated annotator: works on a queue as a person at the page does, over HTTP, from masks that are given.

Objects come in order of prominence: the largest first. Clicks go where the error is deepest (`prompting.clicks`). A
mask that agrees with the given one is saved; after the last click the brush makes the given mask itself. Everything
random follows from the seed, the photo's key and the object's number. So an annotator that was stopped goes on with
the photo as it would have done.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge.data.pairs import RECORD_ENDING
from sam_edge.data.sa1b import Annotation, parse_record
from sam_edge.prompting.clicks import Click, next_click
from sam_edge_runtime.agreement.metrics import mask_iou
from sam_edge_runtime.arrays import Mask
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.system.text import read_regular

from .client import Client, in_address
from .habits import Habits

NAME = "simulated"
COVERED = 0.75  # IoU with a mask that is there already, from which an object needs none


@dataclass(frozen=True)
class Outlined:
    """A mask that the annotator made.

    Attributes:
        segmentation: the mask.
        predicted_iou: the model's estimate; None for a mask of the brush.
        points: x, y of its clicks.
        seconds: of clicks and brush.
    """

    segmentation: Any
    predicted_iou: float | None
    points: tuple[tuple[float, float], ...]
    seconds: float


class SimulatedAnnotator:
    """An annotator with masks to draw from.

    Args:
        client: of the annotation server.
        given: folder of the true masks, a JSON file for each photo of the queue.
        habits: how it works.
        seed: of its errors.
        more: whether prominent objects have masks already: the semi-automatic stage.
    """

    def __init__(self, client: Client, given: Path, habits: Habits, seed: int = 0, *, more: bool = False) -> None:
        self._client, self._given, self._habits, self._seed = client, given, habits, seed
        self._find = habits.find_more if more else habits.find

    def work(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Annotate until no photo is left.

        Args:
            progress: called after each photo with the photos that are done and all of them.

        Raises:
            DataError: the server refused a request, or a file of given masks cannot be read.
        """
        total = self._client.get("api/queue?limit=1")["total"]
        lease = None
        while True:
            opened = self._client.post("api/queue/next", annotator=NAME, lease=lease)
            if opened["photo"] is None:
                return
            lease = opened["lease"]["id"]
            progress(total - self._photo(opened["photo"]["key"], lease), total)

    def _photo(self, key: str, lease: str) -> int:
        """Annotate a photo; the number of photos that are left."""
        place, under = f"api/queue/{in_address(key)}", {"annotator": NAME, "lease": lease}
        there = self._client.get(f"{place}/masks")["masks"]
        drawn = [mask["seconds"] for mask in there if mask["source"] == "person"]
        covered = [mask["segmentation"] for mask in there if mask["source"] != "person"]
        encoded = ""
        for number, target in self._objects(key, covered):
            if drawn:  # saved before the annotator was stopped
                seconds = drawn.pop(0) - self._find
            else:
                encoded = encoded or self._client.post(f"api/photos?photo={in_address(key)}")["id"]
                outlined = self._outlined(encoded, target, self._random(key, number))
                seconds = outlined.seconds
                self._client.post(
                    f"{place}/masks",
                    **under,
                    request=f"{NAME}-{number}",
                    segmentation=outlined.segmentation,
                    predicted_iou=outlined.predicted_iou,
                    point_coords=outlined.points,
                    seconds=self._find + seconds,
                    photo_seconds=self._find + seconds,
                )
            if seconds > self._habits.patience:
                break
        left: int = self._client.post(f"{place}/done", **under, request=f"{NAME}-done")["left"]
        return left

    def _objects(self, key: str, covered: Sequence[Any]) -> list[tuple[int, Mask]]:
        """The objects that the annotator sees and that have no mask, in order: number and mask (H, W)."""
        record = parse_record(read_regular(self._given / f"{key}{RECORD_ENDING}"))
        given: list[Annotation] = sorted(record.annotations, key=lambda each: -each.area)
        numbers = range(len(given))
        if covered and given:
            from pycocotools import mask as coco  # noqa: PLC0415 - evaluate extra

            ious = np.asarray(coco.iou([dict(each.rle) for each in given], covered, [0] * len(covered)))
            numbers = [number for number in numbers if ious[number].max() < COVERED]  # type: ignore[assignment]
        seen = (number for number in numbers if self._random(key, number).random() >= self._habits.missed)
        return [(number, rle.decode(given[number].rle)) for number in seen if given[number].area]

    def _outlined(self, photo: str, target: Mask, random: np.random.Generator) -> Outlined:
        habits = self._habits
        clicks: list[Click] = []
        points: list[list[float]] = []
        prediction: Mask = np.zeros_like(target)
        best: dict[str, Any] = {}
        while len(clicks) < habits.most_clicks:
            click = next_click(target, prediction, clicks)
            if click is None:
                break
            clicks.append(click)
            points.append([*self._jittered(click, target, random), click.label])
            prompt = {"points": points, **({"mask_input": best["low_res"]} if best else {})}
            answer = self._client.post(
                f"api/photos/{photo}/masks", prompts=[prompt], multimask=len(clicks) == 1, low_res=True
            )
            best = max(answer["prompts"][0]["masks"], key=lambda mask: mask["predicted_iou"])
            prediction = rle.decode(best["segmentation"])
            if mask_iou(prediction, target) >= habits.accepted and prediction.any():
                return Outlined(
                    best["segmentation"], best["predicted_iou"], _placed(points), len(clicks) * habits.click
                )
        seconds = len(clicks) * habits.click + habits.brush
        return Outlined(rle.encode(target), None, _placed(points), seconds)

    def _jittered(self, click: Click, target: Mask, random: np.random.Generator) -> tuple[float, float]:
        height, width = target.shape
        spread = self._habits.jitter * float(np.sqrt(target.sum()))
        x, y = np.clip(np.round(random.normal((click.x, click.y), spread)), 0, (width - 1, height - 1))
        return float(x), float(y)

    def _random(self, key: str, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, zlib.crc32(key.encode("utf-8", "surrogateescape")), number])


def _placed(points: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((point[0], point[1]) for point in points)
