"""`sam-edge predict`: a bundle answers prompts on one photo, and the masks are written to files.

Files in the output folder, for a photo `cat.jpg`: `cat_mask.png` (or `cat_mask_0.png`, ..) and `cat_overlay.png`; on
demand `cat_logits.npy` and `cat.json`. Each mask in `cat.json` has

    prompt, output     number of the prompt, and of the mask among its outputs, both from 0
    file               name of its PNG
    predicted_iou      the model's estimate, 0..1 (a network may exceed 1 slightly)
    area               pixels inside
    bbox               x, y, width, height in pixels, as SAM's own JSON and `sam-edge segment` count them: width is last
                       column minus first column, height is last row minus first row
    segmentation       COCO RLE, compressed
    text, presence     of a prompt with text: the text, and where the model knows words, the probability 0..1 that it
                       is in the photo
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sam_edge.data.sa1b import bbox_of
from sam_edge_runtime import Bundle, SamPredictor, draw_overlay, read_photo
from sam_edge_runtime.arrays import Float32, Mask
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.manifest import RANDOM_WEIGHTS_NOTE
from sam_edge_runtime.decoding import masks_per_prompt
from sam_edge_runtime.errors import PromptError, UsageError
from sam_edge_runtime.photo.draw import draw_names, middle_of
from sam_edge_runtime.photo.frame import fitting_frame, waste_warning
from sam_edge_runtime.photo.write import png_bytes
from sam_edge_runtime.system.documents import json_text, parse_npy
from sam_edge_runtime.system.files import check_file, write_files
from sam_edge_runtime.system.text import read_regular

Point = tuple[float, float, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PredictJob:
    """The prompts, the photo and the files to write.

    Attributes:
        bundle: folder of the bundle.
        photo: the photo's file.
        points: x, y, label of each click, in pixels of the photo; together they are one prompt.
        boxes: x0, y0, x1, y1 in pixels; each is a prompt of its own. A single box may be combined with points.
        mask_input: `.npy` file of low-resolution logits, or None.
        multimask: three masks for each prompt instead of one.
        out: folder for the results.
        json_file: also write scores, boxes and RLEs.
        save_logits: also write the low-resolution logits.
        threads: threads of the engine; None for its default.
        provider: execution provider of ONNX Runtime; None for the CPU.
        overwrite: replace results of an earlier run.
        texts: words that the bundle knows; each is a prompt of its own. A single one may be combined with points, a
            box and a mask input.

    Raises:
        PromptError: no prompt, or points or a mask input beside several boxes or texts.
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
    texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.points and not self.boxes and self.mask_input is None and not self.texts:
            raise PromptError(
                "there is no prompt: give --point X,Y, --box X0,Y0,X1,Y1, --mask-input FILE, or --text WORD"
            )
        if len(self.texts) > 1 and (self.points or self.boxes or self.mask_input is not None):
            raise PromptError(
                f"{len(self.texts)} texts are {len(self.texts)} prompts, but points, a box and a mask input belong to "
                "one prompt: run one command for each text"
            )
        if len(self.boxes) > 1 and self.texts:
            raise PromptError("several boxes are several prompts, but a text belongs to one: run one command for each")
        if len(self.boxes) > 1 and (self.points or self.mask_input is not None):
            raise PromptError(
                f"{len(self.boxes)} boxes are {len(self.boxes)} prompts, but points and a mask input belong to one "
                "prompt: run one command for each box"
            )


@dataclass(frozen=True)
class MaskFile:
    """One mask that was written: its file, predicted IoU, and area in pixels; of text also word and presence."""

    file: Path
    score: float
    area: int
    text: str | None = None
    presence: float | None = None


@dataclass(frozen=True)
class PredictResult:
    """The masks, the other files, and notes about them: random weights, a frame that the photo hardly fills."""

    masks: tuple[MaskFile, ...]
    others: tuple[Path, ...]
    notes: tuple[str, ...]


def predict(job: PredictJob) -> PredictResult:
    """Answer the prompts of `job` and write the results.

    Raises:
        SamEdgeError: the bundle, the photo or a prompt cannot be used, or a result cannot be written. All destinations
            are checked before the model runs; either all results are written or none.
    """
    bundle = Bundle.open(job.bundle)
    photo = read_photo(job.photo)
    predictor = SamPredictor(bundle, threads=job.threads, provider=job.provider)
    frame = fitting_frame(bundle.manifest, photo.shape[:2])
    mask_prompt = None if job.mask_input is None else _read_logits(job.mask_input, frame.size)
    texts = [predictor.text_reader.spelled(text) for text in job.texts]  # refused if unknown
    prompts = max(1, len(job.boxes), len(texts))
    outputs = masks_per_prompt(bundle.manifest.conventions, multimask=job.multimask)
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
    masks, scores, low_res = predictor.predict_batch(
        points, labels, boxes, mask_prompt, job.multimask, texts=texts or None
    )
    presence = _presence(predictor) if texts else []
    flat = masks.reshape(-1, *masks.shape[2:]).astype(np.bool_)

    contents = [png_bytes(mask) for mask in flat]
    shown = flat if not job.multimask else flat[_best(scores)]
    drawn = draw_overlay(
        photo, shown, None if points is None else points[0], None if labels is None else labels[0], boxes
    )
    if texts:
        places = [(text, middle_of(mask)) for text, mask in zip(texts, shown, strict=True)]
        drawn = draw_names(drawn, [(text, place) for text, place in places if place is not None])
    contents.append(png_bytes(drawn))
    if job.save_logits:
        contents.append(_npy(_best_logits(scores, low_res)))
    note = RANDOM_WEIGHTS_NOTE if bundle.manifest.checkpoint.random else None
    if job.json_file:
        records = [
            {
                "prompt": index // outputs,
                "output": index % outputs,
                "file": path.name,
                **_mask_record(mask, score),
                **({"text": texts[index // outputs]} if texts else {}),
                **({"presence": presence[index // outputs]} if presence else {}),
            }
            for index, (path, mask, score) in enumerate(zip(files, flat, scores.ravel(), strict=True))
        ]
        contents.append(_json(job, (photo.shape[0], photo.shape[1]), bundle, records, note))
    write_files(dict(zip(wanted, contents, strict=True)), overwrite=job.overwrite)
    written = [
        MaskFile(
            path,
            float(score),
            int(np.count_nonzero(mask)),
            texts[index // outputs] if texts else None,
            presence[index // outputs] if presence else None,
        )
        for index, (path, score, mask) in enumerate(zip(files, scores.ravel(), flat, strict=True))
    ]
    notes = (note, *(predictor.text_reader.notes if texts else ()), waste_warning(bundle.manifest, photo.shape[:2]))
    return PredictResult(tuple(written), tuple(wanted[len(files) :]), tuple(filter(None, notes)))


def _presence(predictor: SamPredictor) -> list[float]:
    """For each prompt the probability that its word is in the photo."""
    scores = predictor.object_scores
    return [] if scores is None else [float(1 / (1 + np.exp(-score.clip(-60, 60)))) for score in scores[:, 0]]


def _best(scores: Float32) -> npt.NDArray[np.intp]:
    """Flat index of each prompt's best mask in `scores` `(B, C)`."""
    best: npt.NDArray[np.intp] = np.arange(len(scores)) * scores.shape[1] + scores.argmax(axis=1)
    return best


def _best_logits(scores: Float32, low_res: Float32) -> Float32:
    """Each prompt's best low-resolution mask: `(1, s, s)`, or `(B, 1, s, s)` for several prompts."""
    best = low_res.reshape(-1, 1, *low_res.shape[2:])[_best(scores)]
    return best[0] if len(best) == 1 else best


LARGEST_LOGITS = 1 << 20  # bytes of a file with 256 x 256 numbers of eight bytes, and its header, are half of it


def _read_logits(path: Path, frame: FrameSize) -> Float32:
    """Low-resolution logits `(1, 1, H/4, W/4)` of a frame, from a `.npy` file."""
    rows, columns = frame.cells
    try:
        if not path.is_file():
            raise UsageError(f"{path} does not exist: name a .npy file that --save-logits wrote")
        logits = parse_npy(read_regular(path, LARGEST_LOGITS))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a .npy file of logits: name one that --save-logits wrote") from error
    if logits.dtype.kind not in "fiu" or logits.size != rows * columns:
        raise UsageError(
            f"{path} holds {logits.dtype} values of shape {logits.shape}: this bundle takes {rows} x {columns} logits "
            "for this photo"
        )
    return logits.reshape(1, 1, rows, columns).astype(np.float32)


def _npy(array: Float32) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _mask_record(mask: Mask, score: np.float32) -> dict[str, Any]:
    """What the JSON says of one mask."""
    encoded = rle.encode(mask)
    return {
        "predicted_iou": float(score),
        "area": int(np.count_nonzero(mask)),
        "bbox": bbox_of(encoded),
        "segmentation": encoded,
    }


def _json(
    job: PredictJob, size: tuple[int, int], bundle: Bundle, records: list[dict[str, Any]], note: str | None
) -> bytes:
    """The content of the JSON file; `size` is (H, W) of the photo."""
    manifest = bundle.manifest
    document: dict[str, Any] = {
        "photo": job.photo.name,
        "height": size[0],
        "width": size[1],
        "model": {"variant": manifest.variant, "target": manifest.target, "precision": manifest.precision},
        "points": [list(point) for point in job.points],
        "boxes": [list(box) for box in job.boxes],
        **({"texts": list(job.texts)} if job.texts else {}),
        "masks": records,
    }
    if note is not None:
        document["note"] = note
    return json_text(document).encode()
