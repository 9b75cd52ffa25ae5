"""`sam-edge predict`: one photo's prompts through a bundle, and what is written of the answers."""

from __future__ import annotations

import io
import json
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime import Bundle, SamPredictor, draw_overlay, read_photo
from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.bundle.contract import MASK_STRIDE
from sam_edge_runtime.bundle.manifest import RANDOM_WEIGHTS_NOTE
from sam_edge_runtime.errors import PromptError, UsageError
from sam_edge_runtime.photo.write import png_bytes
from sam_edge_runtime.system.files import check_file, write_files

Point = tuple[float, float, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PredictJob:
    """What to ask, and where the answers go.

    Attributes:
        bundle: folder of the bundle.
        photo: the photo's file.
        points: x, y, label of the clicks of one prompt, in pixels of the photo.
        boxes: x0, y0, x1, y1; each is a prompt of its own, and one may come with points.
        mask_input: `.npy` of low-resolution logits, or None.
        multimask: three masks for each prompt instead of one.
        out: folder for the results.
        json_file: write scores and RLE as well.
        save_logits: write the low-resolution logits as well.
        threads, provider: how the engine runs.
        overwrite: replace results of an earlier run.

    Raises:
        PromptError: no prompt at all, or points that could belong to any of several boxes.
    """

    bundle: Path
    photo: Path
    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()
    mask_input: Path | None = None
    multimask: bool = False
    out: Path = Path("out")
    json_file: bool = False
    save_logits: bool = False
    threads: int | None = None
    provider: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.points and not self.boxes and self.mask_input is None:
            raise PromptError("nothing was asked: give --point X,Y, --box X0,Y0,X1,Y1 or --mask-input FILE")
        if len(self.boxes) > 1 and (self.points or self.mask_input is not None):
            raise PromptError(
                f"{len(self.boxes)} boxes are {len(self.boxes)} prompts, and points or a mask input belong to one: "
                "run the boxes apart"
            )


@dataclass(frozen=True)
class MaskFile:
    """One mask that was written: its file, predicted IoU, and pixels inside."""

    file: Path
    score: float
    area: int


@dataclass(frozen=True)
class PredictResult:
    """The masks, the other files, and what has to be said about them."""

    masks: tuple[MaskFile, ...]
    others: tuple[Path, ...]
    note: str | None


def predict(job: PredictJob) -> PredictResult:
    """Answer the prompts of `job` and write the results.

    Raises:
        SamEdgeError: the bundle, the photo or a prompt cannot be used, or a result cannot be written. Every
            destination is checked before the model runs, and either all results are written or none.
    """
    bundle = Bundle.open(job.bundle)
    photo = read_photo(job.photo)
    predictor = SamPredictor(bundle, threads=job.threads, provider=job.provider)
    mask_prompt = None if job.mask_input is None else _read_logits(job.mask_input, bundle.manifest.input_side)
    prompts, outputs = max(1, len(job.boxes)), 3 if job.multimask else 1
    files = [
        job.out / (f"{job.photo.stem}_mask.png" if prompts * outputs == 1 else f"{job.photo.stem}_mask_{index}.png")
        for index in range(prompts * outputs)
    ]
    overlay = job.out / f"{job.photo.stem}_overlay.png"
    logits_file = job.out / f"{job.photo.stem}_logits.npy"
    json_path = job.out / f"{job.photo.stem}.json"
    wanted = [*files, overlay, *([logits_file] if job.save_logits else []), *([json_path] if job.json_file else [])]
    for path in wanted:
        check_file(path, overwrite=job.overwrite)

    predictor.set_image(photo)
    points = np.array([[point[:2] for point in job.points]]) if job.points else None
    labels = np.array([[point[2] for point in job.points]]) if job.points else None
    boxes = np.array(job.boxes) if job.boxes else None
    masks, scores, low_res = predictor.predict_batch(points, labels, boxes, mask_prompt, job.multimask)
    flat = masks.reshape(-1, *masks.shape[2:]).astype(np.bool_)

    contents = [png_bytes(mask) for mask in flat]
    shown = flat if not job.multimask else flat[_best(scores)]
    drawn = draw_overlay(
        photo, shown, None if points is None else points[0], None if labels is None else labels[0], boxes
    )
    contents.append(png_bytes(drawn))
    if job.save_logits:
        contents.append(_npy(_best_logits(scores, low_res)))
    note = RANDOM_WEIGHTS_NOTE if bundle.manifest.checkpoint.random else None
    if job.json_file:
        contents.append(_json(job, photo, bundle, files, flat, scores.ravel(), outputs, note))
    write_files(dict(zip(wanted, contents, strict=True)), overwrite=job.overwrite)
    written = [
        MaskFile(path, float(score), int(np.count_nonzero(mask)))
        for path, score, mask in zip(files, scores.ravel(), flat, strict=True)
    ]
    return PredictResult(tuple(written), tuple(wanted[len(files) :]), note)


def _best(scores: Float32) -> npt.NDArray[np.intp]:
    """Of `(B, C)` scores, the flat index of each prompt's best mask."""
    best: npt.NDArray[np.intp] = np.arange(len(scores)) * scores.shape[1] + scores.argmax(axis=1)
    return best


def _best_logits(scores: Float32, low_res: Float32) -> Float32:
    """Each prompt's best low-resolution mask: `(1, s, s)`, or `(B, 1, s, s)` for several prompts."""
    best = low_res.reshape(-1, 1, *low_res.shape[2:])[_best(scores)]
    return best[0] if len(best) == 1 else best


# What numpy's reader raises for files that are broken, or whose header claims more than memory or an integer holds.
_UNREADABLE = (
    OSError,
    EOFError,
    MemoryError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    tokenize.TokenError,
)


def _read_logits(path: Path, side: int) -> Float32:
    """Low-resolution logits `(1, 1, S/4, S/4)` from a `.npy` file of that many numbers."""
    cells = side // MASK_STRIDE
    try:
        if not path.is_file():
            raise UsageError(f"{path} does not exist: name a .npy file that --save-logits wrote")
        with path.open("rb") as stream:  # not np.load, which opens zip archives too
            logits = np.lib.format.read_array(stream, allow_pickle=False)
    except _UNREADABLE as error:
        raise UsageError(f"{path} is no .npy file of logits: name one that --save-logits wrote") from error
    if logits.dtype.kind not in "fiu" or logits.size != cells * cells:
        raise UsageError(
            f"{path} holds {logits.dtype} values of shape {logits.shape}: this bundle takes {cells} x {cells} logits"
        )
    return logits.reshape(1, 1, cells, cells).astype(np.float32)


def _npy(array: Float32) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _json(
    job: PredictJob,
    photo: npt.NDArray[np.uint8],
    bundle: Bundle,
    files: list[Path],
    masks: npt.NDArray[np.bool_],
    scores: Float32,
    outputs: int,
    note: str | None,
) -> bytes:
    """The answers as JSON; masks as COCO RLE, boxes as x, y, width, height in pixels."""
    records: list[dict[str, Any]] = [
        {
            "prompt": index // outputs,
            "output": index % outputs,
            "file": path.name,
            "predicted_iou": float(score),
            "area": int(np.count_nonzero(mask)),
            "bbox": _bounding_box(mask),
            "segmentation": rle.encode(mask),
        }
        for index, (path, mask, score) in enumerate(zip(files, masks, scores, strict=True))
    ]
    manifest = bundle.manifest
    document: dict[str, Any] = {
        "photo": job.photo.name,
        "height": photo.shape[0],
        "width": photo.shape[1],
        "model": {"variant": manifest.variant, "target": manifest.target, "precision": manifest.precision},
        "points": [list(point) for point in job.points],
        "boxes": [list(box) for box in job.boxes],
        "masks": records,
    }
    if note is not None:
        document["note"] = note
    return (json.dumps(document, indent=2) + "\n").encode()


def _bounding_box(mask: npt.NDArray[np.bool_]) -> list[int]:
    """x, y, width, height of the smallest box around the mask; zeros when it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return [0, 0, 0, 0]
    x, y = int(columns[0]), int(rows[0])
    return [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y]
