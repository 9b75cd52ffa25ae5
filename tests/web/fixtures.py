"""What the Python runtime computes, for the tests of the TypeScript package: `python -m tests.web.fixtures FILE`.

Arrays are written as dtype, shape and base64, so that they can be compared to the bit.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam_edge_runtime import Bundle, SamPredictor
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.agreement import bounds_of
from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.mask_statistics import MaskStatistics
from sam_edge_runtime.automatic.nms import nms
from sam_edge_runtime.automatic.regions import bounding_box, remove_small_regions
from sam_edge_runtime.backends import load_backend
from sam_edge_runtime.bundle.bundle import GOLDEN_FILE, record_files
from sam_edge_runtime.bundle.contract import FrameSize, image_size
from sam_edge_runtime.bundle.conventions import EFFICIENT_SAM, EFFICIENTVIT_SAM, SAM, SAM_2, SAM_HQ
from sam_edge_runtime.bundle.manifest import FileRecord, Manifest
from sam_edge_runtime.bundle.text import VECTORS_FILE, WORDS_FILE
from sam_edge_runtime.decoding import select_masks
from sam_edge_runtime.errors import PromptError
from sam_edge_runtime.photo.frame import Frame, fitting_frame
from sam_edge_runtime.photo.masks import upscale
from sam_edge_runtime.prompts import Prompts, build_prompts
from tests.runtime.automatic.discs import RADII
from tests.runtime.standin import NumpyBackend, manifest, write_onnx_bundle

from .automatic_fixtures import REFINED_RADIUS, automatic, crops
from .family_bundles import FAMILIES, WORDS, text_part, write_family_bundle, write_vocabulary
from .packed import array, camel, folder, size, smooth

# Photo sizes (H, W) and frames: larger and smaller than the frame, narrow, square, of the frame's shape. Photos of more
# rows than are read at once are among them.
GEOMETRIES = (
    ((480, 640), FrameSize(256, 256), SAM),
    ((61, 33), FrameSize(256, 256), SAM),
    ((300, 700), FrameSize(160, 256), SAM),
    ((256, 256), FrameSize(256, 256), SAM),
    ((9, 500), FrameSize(256, 256), SAM),
    ((701, 403), FrameSize(256, 256), SAM),
    ((350, 211), FrameSize(256, 256), SAM_2),
    ((40, 90), FrameSize(256, 256), SAM_2),
    ((350, 211), FrameSize(256, 256), EFFICIENT_SAM),
    ((40, 90), FrameSize(256, 256), EFFICIENT_SAM),
    ((256, 600), FrameSize(256, 256), EFFICIENT_SAM),
    ((701, 403), FrameSize(256, 256), EFFICIENTVIT_SAM),
    ((61, 90), FrameSize(192, 256), EFFICIENTVIT_SAM),
)


def across_then_down(frame: Frame, photo: np.ndarray) -> np.ndarray:
    """`frame.image` by two resizes of Pillow, one axis each, rows first. Pillow 13 begins with the columns of some."""
    if frame.conventions.image_stride > 1:
        whole = replace(frame.conventions, image_stride=1)
        return across_then_down(Frame(image_size(frame.size, frame.conventions), frame.original_size, whole), photo)
    if not frame.conventions.antialiased:
        return frame.image(photo)
    height, width = frame.resized_size

    def resized(picture: Image.Image) -> np.ndarray:
        wide = picture.resize((width, picture.height), Image.Resampling.BILINEAR)
        return np.asarray(wide.resize((width, height), Image.Resampling.BILINEAR))

    image = frame.image(photo)
    if frame.conventions.stretched:
        planes = [resized(Image.fromarray(photo[:, :, channel].astype(np.float32))) for channel in range(3)]
        return np.stack(planes)[None]
    image[0, :, :height, :width] = resized(Image.fromarray(photo)).transpose(2, 0, 1)
    return image


def geometry(rng: np.random.Generator) -> list[dict[str, Any]]:
    cases = []
    for original, frame_size, conventions in GEOMETRIES:
        frame = Frame(frame_size, original, conventions)
        photo = rng.integers(0, 256, (*original, 3), dtype=np.uint8)
        low_res = smooth(rng, 3, *frame.size.cells)
        statistics = MaskStatistics(frame)
        coords = rng.uniform(0, 1, (5, 2)) * original[::-1]
        at, large = (7, 5), (original[0] + 11, original[1] + 20)
        cases.append(
            {
                "original": size(original),
                "frame": size(frame_size),
                "conventions": camel(conventions),
                "resized": size(frame.resized_size),
                "photo": array(photo),
                "image": array(frame.image(photo)),
                "across_then_down": array(across_then_down(frame, photo)),
                "coords": coords.tolist(),
                "in_frame": frame.to_frame(coords).tolist(),
                "low_res": array(low_res),
                "logits": array(upscale(low_res, frame)),
                "stability": statistics.stability(low_res, 0.0, 0.7).tolist(),
                "boxes": statistics.boxes(low_res, 0.0).tolist(),
                "run_lengths": [statistics.run_lengths(each, 0.0, at, large).tolist() for each in low_res],
                "at": at,
                "large": size(large),
            }
        )
    return cases


def frame_choices() -> list[dict[str, Any]]:
    several = manifest(frames=(FrameSize(256, 256), FrameSize(160, 256), FrameSize(256, 192), FrameSize(256, 128)))
    sizes = ((100, 100), (90, 160), (160, 90), (300, 400), (400, 300), (1000, 400), (255, 257), (200, 100))
    chosen = [fitting_frame(several, each) for each in sizes]
    frames = [size(each) for each in several.frames]
    return [
        {"frames": frames, "original": size(original), "frame": size(each.size), "resized": size(each.resized_size)}
        for original, each in zip(sizes, chosen, strict=True)
    ]


PROMPTS: dict[str, dict[str, Any]] = {
    "click": {"pointCoords": [[10.5, 20]], "pointLabels": [1]},
    "three clicks": {"pointCoords": [[10, 20], [0, 0], [90, 60]], "pointLabels": [1, 0, 1]},
    "box": {"box": [5, 6, 70.25, 50]},
    "box beyond the photo": {"box": [-5, 6, 170, 50]},
    "clicks and box": {"pointCoords": [[10, 20], [30, 31]], "pointLabels": [0, 1], "box": [5, 6, 70, 50]},
    "nothing": {},
    "no clicks": {"pointCoords": [], "pointLabels": []},
}


MASKED = {**PROMPTS["box"], "maskInput": True}
WITH_TEXT = (
    {"text": "cat"},
    {"text": " Dining-Table ", **PROMPTS["click"]},
    {"text": "STRASSE", **PROMPTS["clicks and box"]},
    {"text": "tee", **MASKED},
)
UNKNOWN = ("", "  ", "kat", "dinning tabel", "light", "zzz", "dog house", "T_Shirts", "ß")


def arranged(frame: Frame, prompt: dict[str, Any]) -> Prompts:
    coords, labels, box = (prompt.get(name) for name in ("pointCoords", "pointLabels", "box"))
    return build_prompts(
        frame,
        None if coords is None else np.array(coords, float).reshape(1, -1, 2),
        None if labels is None else np.array(labels, float).reshape(1, -1),
        None if box is None else [box],
        None,
    )


def prompts() -> list[dict[str, Any]]:
    cases = []
    for conventions, (name, prompt) in product((SAM, SAM_2, EFFICIENT_SAM), PROMPTS.items()):
        of_family = {"name": name, "conventions": camel(conventions), "prompt": prompt}
        try:
            built = arranged(Frame(FrameSize.square(256), (80, 120), conventions), prompt)
        except PromptError:
            cases.append({**of_family, "refused": True})
            continue
        (feed,) = built.feeds((), 8)
        cases.append(
            {
                **of_family,
                "coords": built.coords[0].tolist(),
                "labels": built.labels[0].tolist(),
                "fed_coords": array(feed.point_coords),
                "fed_labels": array(feed.point_labels),
            }
        )
    return cases


def selections(rng: np.random.Generator) -> list[dict[str, Any]]:
    decoded = Decoded(
        (smooth(rng, 24, 8, 8) * np.geomspace(0.005, 1, 24)[:, None, None]).astype(np.float32).reshape(6, 4, 8, 8),
        rng.uniform(0, 1, (6, 4)).astype(np.float32),
        rng.normal(size=(6, 1)).astype(np.float32),
    )
    cases = []
    for name, conventions in (("SAM", SAM), ("SAM-HQ", SAM_HQ), ("SAM 2", SAM_2)):
        for multimask in (False, True):
            low_res, iou = select_masks(decoded, conventions, multimask=multimask)
            cases.append(
                {
                    "name": name,
                    "conventions": camel(conventions),
                    "multimask": multimask,
                    "decoded": {"lowRes": array(decoded.low_res_masks), "iou": array(decoded.iou_predictions)},
                    "iou": iou.tolist(),
                    "low_res": array(low_res),
                }
            )
    return cases


def masks(rng: np.random.Generator) -> list[dict[str, Any]]:
    pictures = [smooth(rng, 1, 23, 31)[0] > 1, rng.random((19, 17)) < 0.4, rng.random((40, 40)) < 0.6]
    pictures += [np.zeros((3, 4), np.bool_), np.ones((5, 2), np.bool_), np.eye(9, dtype=np.bool_)]
    cases = []
    for mask in pictures:
        lengths = rle.run_lengths(mask)
        cleaned, changed = remove_small_regions(lengths, len(mask), 6)
        cases.append(
            {
                "mask": array(mask),
                "lengths": lengths.tolist(),
                "string": rle.compress(lengths),
                "cleaned": cleaned.tolist(),
                "changed": changed,
                "box": bounding_box(lengths, len(mask)),
            }
        )
    return cases


def suppression(rng: np.random.Generator) -> dict[str, Any]:
    corners = rng.integers(0, 60, (60, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    scores = np.round(rng.uniform(0, 1, 60), 1).astype(np.float32)
    return {
        "boxes": boxes.tolist(),
        "scores": scores.tolist(),
        "kept": {str(limit): nms(boxes, scores, limit).tolist() for limit in (0.1, 0.3, 0.7)},
    }


def bundles(root: Path, rng: np.random.Generator) -> dict[str, Any]:
    """The stand-in's bundles of any and of fixed shape, and one of each family; what the predictor answers."""
    photo = rng.integers(0, 256, (80, 120, 3), dtype=np.uint8)
    cases = {}
    kinds = {"any": (None, None, SAM), "fixed": (2, 6, SAM)}
    kinds |= {name: (None, conventions.slots, conventions) for name, conventions in FAMILIES.items()}
    for name, (rows, points, conventions) in kinds.items():
        path = root / name
        path.mkdir()
        if name in FAMILIES:
            write_family_bundle(path, conventions)
            if conventions.text_channels is not None:
                write_vocabulary(path)
        else:
            write_onnx_bundle(path, rows, points)

        def write_manifest(path=path, sizes=(rows, points), conventions=conventions) -> Manifest:
            made = manifest(
                *sizes,
                files=record_files(path),
                recipe={"note": "façade 😀", "share": 1.0, "small": 1e-05, "bound": 0.5},
                tools={"torch": "2.13.0+cpu"},
                conventions=conventions,
                text=text_part(conventions),
            )
            (path / "manifest.json").write_text(made.to_json())
            return made

        made = write_manifest()
        reference = load_backend(Bundle.open(path)) if name in FAMILIES else NumpyBackend()
        texts = {} if made.text is None else {name: WORDS.embed([name])[0] for name in WORDS.names[:2]}
        golden.record(reference, made, texts).save(path / GOLDEN_FILE)
        write_manifest()
        predictor = SamPredictor(Bundle.open(path))
        predictor.set_image(photo)
        mask, of_words = smooth(rng, 1, 64, 64), () if made.text is None else WITH_TEXT
        answers = [
            answer_of(predictor, prompt, mask, multimask=multimask)
            for prompt, multimask in product((*PROMPTS.values(), MASKED, *of_words), (True, False))
        ]
        cases[name] = {"files": folder(path), "photo": array(photo), "mask": array(mask), "answers": answers}
        assert bounds_of(predictor.bundle.manifest).mask_miou == 0.5
    return cases


def answer_of(predictor: SamPredictor, prompt: dict[str, Any], mask: np.ndarray, *, multimask: bool) -> dict[str, Any]:
    asked = {"prompt": prompt, "multimask": multimask}
    try:
        found, scores, low_res = predictor.predict(
            np.array(prompt["pointCoords"], float).reshape(-1, 2) if "pointCoords" in prompt else None,
            prompt.get("pointLabels"),
            prompt.get("box"),
            mask if "maskInput" in prompt else None,
            multimask_output=multimask,
            text=prompt.get("text"),
        )
    except PromptError:
        return {**asked, "refused": True}
    return {
        **asked,
        "masks": array(found),
        "scores": scores.tolist(),
        "low_res": array(low_res),
        "object_score": None if predictor.object_scores is None else float(predictor.object_scores[0, 0]),
    }


def unknown_words() -> list[dict[str, str]]:
    """Texts that the vocabulary refuses, and its message up to the names that are near."""
    cases = []
    for text in UNKNOWN:
        try:
            WORDS.row(text)
        except PromptError as error:
            cases.append({"text": text, "message": str(error).split("; `")[0]})
    return cases


def manifests() -> dict[str, str]:
    """Manifests of every kind, without files."""
    record = FileRecord("0" * 64, 1)
    names = ("encoder.onnx", "decoder.onnx")
    frames = (FrameSize(256, 256), FrameSize(192, 256))
    further = ("encoder_256x192.onnx", "decoder_256x192.onnx", "encoder.onnx.data")
    return {
        "SAM": manifest(files=dict.fromkeys(names, record)).to_json(),
        "SAM 2": manifest(files=dict.fromkeys(names, record), conventions=SAM_2).to_json(),
        "EfficientSAM": manifest(None, 6, files=dict.fromkeys(names, record), conventions=EFFICIENT_SAM).to_json(),
        "EfficientViT-SAM": manifest(
            files=dict.fromkeys((*names, *further), record), frames=frames, conventions=EFFICIENTVIT_SAM
        ).to_json(),
        "frames": manifest(files=dict.fromkeys((*names, *further), record), frames=frames).to_json(),
        "words": manifest(
            files=dict.fromkeys((*names, WORDS_FILE, VECTORS_FILE), record),
            conventions=FAMILIES["words"],
            text=text_part(FAMILIES["words"]),
        ).to_json(),
        "coreml": manifest(target="coreml").to_json(),
        "official": manifest(interface="official").to_json(),
    }


def fixtures() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as root:
        made = bundles(Path(root), rng)
    return {
        "geometry": geometry(rng),
        "frames": frame_choices(),
        "prompts": prompts(),
        "selections": selections(rng),
        "masks": masks(rng),
        "nms": suppression(rng),
        "radii": RADII,
        "refined_radius": REFINED_RADIUS,
        "automatic": automatic(),
        "crops": crops(),
        "bundles": made,
        "manifests": manifests(),
        "unknown_words": unknown_words(),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(fixtures()), encoding="utf-8")
