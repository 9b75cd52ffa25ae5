"""Prompts for every mask of a data source, and the IoU of the model's masks with those that people drew.

Everything is measured at the photo's own resolution and through the runtime's code: frame, prompt slots, and the map
from low-resolution logits to the photo. All four outputs are kept, so that any rule of choice can be evaluated later.

- Box: the mask's bounding box, as the reference computes it.
- Clicks: RITM's protocol (`sam_edge.prompting.clicks`). The first click is the mask's innermost point, or a random one
  ("Segment Anything", arXiv 2304.02643, appendix D.1, has both). Each further one is the middle of the largest error of
  the shown mask, whose logits become the mask prompt. One click is ambiguous, so the output of 1..3 with the highest
  predicted IoU is shown; after further clicks, output 0. A mask without error keeps its scores.

The decoder gets all masks of a photo together.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_edge.data.sample import Sample
from sam_edge.prompting.clicks import Click, next_click
from sam_edge_runtime.agreement.metrics import mask_iou
from sam_edge_runtime.arrays import Decoded, Features, Float32, Float64
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.contract import FIRST_MULTIMASK, MASK_OUTPUTS, SINGLE_OUTPUT, Label
from sam_edge_runtime.decoding import Capacity, as_returned, decode_prompts, limited
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.photo.frame import Frame, fitting_frame
from sam_edge_runtime.photo.masks import upscale_binary
from sam_edge_runtime.prompts import build_prompts

from .baselines import Box, box_mask, ellipse_mask, grabcut_mask

MASKS_AT_ONCE = 32  # four full-size masks each: 0.4 GB for an SA-1B photo
LEAST_BOX_SIDE = 1e-3  # pixels
CENTRE, RANDOM = "centre", "random"
FIRST_POINTS = (CENTRE, RANDOM)
Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Protocol:
    """The prompts of an evaluation.

    Attributes:
        clicks: clicks for each mask; 0 for boxes only.
        grabcut: whether GrabCut is measured too, which takes longer than the model.
        first_point: where the first click goes: `CENTRE`, the mask's innermost point, or `RANDOM`, any of its pixels.

    Raises:
        UsageError: a negative number of clicks, or an unknown first point.
    """

    clicks: int = 9
    grabcut: bool = True
    first_point: str = CENTRE

    def __post_init__(self) -> None:
        if self.clicks < 0:
            raise UsageError(f"--clicks {self.clicks} is negative: give at least 1, or --protocol box for none")
        if self.first_point not in FIRST_POINTS:
            raise UsageError(f"--first-point {self.first_point!r} is unknown: choose from {', '.join(FIRST_POINTS)}")


@dataclass(frozen=True, eq=False)
class OutputScores:
    """True and predicted IoU of the decoder's four outputs, for M masks.

    Attributes:
        ious: `(M, 4)`, with the human mask.
        predicted: `(M, 4)`, as the model predicts them.
    """

    ious: Float64
    predicted: Float64

    @property
    def single(self) -> Float64:
        """IoU `(M)` of output 0."""
        return self.ious[:, SINGLE_OUTPUT]

    @property
    def choice(self) -> Float64:
        """IoU `(M)` of the output of 1..3 with the highest predicted IoU."""
        return self.ious[np.arange(len(self.ious)), self.chosen]

    @property
    def chosen(self) -> npt.NDArray[np.int64]:
        """Number `(M)` of the output of 1..3 with the highest predicted IoU."""
        return np.asarray(FIRST_MULTIMASK + self.predicted[:, FIRST_MULTIMASK:].argmax(axis=1), np.int64)

    @property
    def oracle(self) -> Float64:
        """IoU `(M)` of the best of outputs 1..3, chosen with the human mask."""
        return np.asarray(self.ious[:, FIRST_MULTIMASK:].max(axis=1), np.float64)


@dataclass(frozen=True, eq=False)
class PhotoMeasurement:
    """The scores of one photo's masks.

    Attributes:
        source: as in `Sample`.
        key: as in `Sample`.
        areas: `(M)` pixels of each mask.
        box: scores of the box prompts.
        clicks: scores after each click.
        shown: `(K, M)` IoU of the mask shown after each click.
        baselines: `(M)` IoU by name: `box`, `ellipse`, and `grabcut` where it is measured.
    """

    source: str
    key: str
    areas: npt.NDArray[np.int64]
    box: OutputScores
    clicks: tuple[OutputScores, ...]
    shown: Float64
    baselines: dict[str, Float64]


def measure(
    backend: Backend, capacity: Capacity, samples: Iterable[Sample], protocol: Protocol
) -> Iterator[PhotoMeasurement]:
    """Measure photo after photo; those without masks are skipped.

    Raises:
        PromptError: the decoder takes fewer points than the protocol needs.
        BackendError: the engine failed.
    """
    for sample in samples:
        if sample.rles:
            yield measure_photo(backend, capacity, sample, protocol)


def measure_photo(backend: Backend, capacity: Capacity, sample: Sample, protocol: Protocol) -> PhotoMeasurement:
    """Prompt for every mask of a photo, by its box and by clicks."""
    frame = fitting_frame(capacity, sample.size)
    features = backend.encode(frame.image(sample.photo))
    parts = []
    for first in range(0, len(sample.rles), MASKS_AT_ONCE):
        targets = np.ascontiguousarray(sample.masks(range(first, min(first + MASKS_AT_ONCE, len(sample.rles)))))
        prompted = _EncodedPhoto(backend, capacity, frame, features, targets)
        boxes = np.array([tight_box(target) for target in targets], np.int64)
        start = None
        if protocol.first_point == RANDOM:
            start = [random_click(target, f"{sample.key}/{first + index}") for index, target in enumerate(targets)]
        parts.append(
            (
                targets,
                prompted.boxes(boxes),
                prompted.clicks(protocol.clicks, start),
                _baselines(sample, boxes, targets, protocol),
            )
        )
    return PhotoMeasurement(
        sample.source,
        sample.key,
        np.concatenate([targets.sum(axis=(1, 2), dtype=np.int64) for targets, *_ in parts]),
        concatenated([box for _, box, _, _ in parts]),
        tuple(concatenated(each) for each in zip(*(clicks[0] for _, _, clicks, _ in parts), strict=True)),
        np.concatenate([clicks[1] for _, _, clicks, _ in parts], axis=1),
        {name: np.concatenate([baselines[name] for *_, baselines in parts]) for name in parts[0][3]},
    )


def concatenated(parts: Sequence[OutputScores]) -> OutputScores:
    """The scores of several groups of masks, one after another."""
    return OutputScores(
        np.concatenate([part.ious for part in parts]), np.concatenate([part.predicted for part in parts])
    )


def tight_box(mask: npt.NDArray[np.bool_]) -> Box:
    """x0, y0, x1, y1 of a mask `(H, W)` that is not empty; row y1 and column x1 are inside, as in the reference."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def random_click(mask: npt.NDArray[np.bool_], name: str) -> Click:
    """A click on a random pixel of a mask `(H, W)` that is not empty; the same for every model, by the mask's name."""
    rows, columns = np.nonzero(mask)
    place = np.random.default_rng(zlib.crc32(name.encode("utf-8", "surrogateescape"))).integers(len(rows))
    return Click(int(columns[place]), int(rows[place]), int(Label.FOREGROUND))


def box_prompts(boxes: npt.NDArray[np.int64]) -> Float64:
    """Boxes `(M, 4)` of `tight_box` as prompts.

    The corners of a mask one pixel wide coincide, which the runtime refuses. A thousandth of a pixel sets them apart,
    and the prompt stays that of the reference.
    """
    prompts = boxes.astype(np.float64)
    prompts[:, 2:] = np.maximum(prompts[:, 2:], prompts[:, :2] + LEAST_BOX_SIDE)
    return prompts


def _baselines(sample: Sample, boxes: npt.NDArray[np.int64], targets: Masks, protocol: Protocol) -> dict[str, Float64]:
    ious: dict[str, list[float]] = {"box": [], "ellipse": []}
    if protocol.grabcut:
        ious["grabcut"] = []
    for target, row in zip(targets, boxes, strict=True):
        box: Box = (int(row[0]), int(row[1]), int(row[2]), int(row[3]))
        ious["box"].append(mask_iou(box_mask(sample.size, box), target))
        ious["ellipse"].append(mask_iou(ellipse_mask(sample.size, box), target))
        if protocol.grabcut:
            ious["grabcut"].append(mask_iou(grabcut_mask(sample.photo, box), target))
    return {name: np.array(values) for name, values in ious.items()}


class _EncodedPhoto:
    """An encoded photo and some of its masks, to prompt for."""

    def __init__(self, backend: Backend, capacity: Capacity, frame: Frame, features: Features, targets: Masks) -> None:
        self._backend, self._capacity, self._frame, self._features = backend, capacity, frame, features
        self.targets = targets  # (M, H, W)

    def boxes(self, boxes: npt.NDArray[np.int64]) -> OutputScores:
        """Scores of the boxes `(M, 4)`."""
        decoded = self._decode(None, None, box_prompts(boxes), None)
        return self._scores(decoded.low_res_masks, decoded.iou_predictions)[0]

    def clicks(self, clicks: int, start: Sequence[Click] | None = None) -> tuple[tuple[OutputScores, ...], Float64]:
        """Scores after 1 to `clicks` clicks, and the IoU `(clicks, M)` of the shown masks.

        The first click of each mask is that of `start`, or its innermost point where that is None.
        """
        count = len(self.targets)
        history: list[list[Click]] = [[] for _ in range(count)]
        going = np.ones(count, np.bool_)  # masks that still have an error
        current = np.zeros_like(self.targets)
        logits: Float32 | None = None
        scores: list[OutputScores] = []
        shown: list[Float64] = []
        for number in range(clicks):
            for index in np.flatnonzero(going):
                given = start[int(index)] if number == 0 and start is not None else None
                click = given or next_click(self.targets[index], current[index], history[index])
                if click is None:
                    going[index] = False
                else:
                    history[index].append(click)
            coords, labels = _slots(history)
            decoded = self._decode(coords, labels, None, logits)
            low_res, conventions = decoded.low_res_masks, self._capacity.conventions
            score, masks = self._scores(low_res, decoded.iou_predictions)
            output = score.chosen if number == 0 else np.zeros(count, np.int64)
            rows = np.arange(count)
            iou = score.ious[rows, output]
            if scores:  # masks without error keep theirs
                before = scores[-1]
                score = OutputScores(
                    np.where(going[:, None], score.ious, before.ious),
                    np.where(going[:, None], score.predicted, before.predicted),
                )
                iou = np.where(going, iou, shown[-1])
            chosen_logits = limited(low_res[rows, output][:, None], conventions)
            logits = chosen_logits if logits is None else np.where(going[:, None, None, None], chosen_logits, logits)
            current = np.where(going[:, None, None], masks[rows, output], current)
            scores.append(score)
            shown.append(iou)
        return tuple(scores), np.array(shown).reshape(clicks, count)

    def _decode(
        self,
        coords: Float64 | None,
        labels: npt.NDArray[np.int64] | None,
        boxes: Float64 | None,
        logits: Float32 | None,
    ) -> Decoded:
        allowed = (int(Label.BACKGROUND), int(Label.FOREGROUND), int(Label.EMPTY))
        prompts = build_prompts(self._frame, coords, labels, boxes, logits, labels_allowed=allowed)
        decoded = decode_prompts(self._backend, self._capacity, self._features, prompts)
        return as_returned(decoded, self._capacity.conventions)

    def _scores(self, low_res: Float32, predicted: Float32) -> tuple[OutputScores, Masks]:
        """IoU of all outputs, and their masks `(M, 4, H, W)`."""
        flat = np.ascontiguousarray(low_res.reshape(-1, *low_res.shape[2:]))
        masks = upscale_binary(flat, self._frame).reshape(len(low_res), MASK_OUTPUTS, *self.targets.shape[1:])
        ious = np.array(
            [[mask_iou(mask, target) for mask in four] for four, target in zip(masks, self.targets, strict=True)]
        )
        return OutputScores(ious, predicted.astype(np.float64)), masks


def _slots(history: list[list[Click]]) -> tuple[Float64, npt.NDArray[np.int64]]:
    """The clicks as rectangular arrays `(M, N, 2)` and `(M, N)`, with empty slots where a mask has fewer."""
    longest = max(len(clicks) for clicks in history)
    coords = np.zeros((len(history), longest, 2))
    labels = np.full((len(history), longest), int(Label.EMPTY))
    for row, clicks in enumerate(history):
        for place, click in enumerate(clicks):
            coords[row, place] = click.x, click.y
            labels[row, place] = click.label
    return coords, labels
