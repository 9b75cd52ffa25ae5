"""What the Python runtime computes, for the tests of the TypeScript package: `python -m tests.web.fixtures FILE`.

Arrays are written as dtype, shape and base64, so that they can be compared to the bit.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from sam_edge_runtime import Bundle, SamPredictor
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.agreement import bounds_of
from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.automatic import rle
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.grids import generate_crops
from sam_edge_runtime.automatic.mask_statistics import MaskStatistics
from sam_edge_runtime.automatic.nms import nms
from sam_edge_runtime.automatic.regions import bounding_box, remove_small_regions
from sam_edge_runtime.automatic.settings import COCO_RLE, AutomaticSettings
from sam_edge_runtime.backends import load_backend
from sam_edge_runtime.bundle.bundle import GOLDEN_FILE, record_files
from sam_edge_runtime.bundle.contract import FrameSize, decoder_contract, encoder_contract, image_size
from sam_edge_runtime.bundle.conventions import (
    EFFICIENT_SAM,
    EFFICIENTVIT_SAM,
    SAM,
    SAM_2,
    SAM_HQ,
    Conventions,
    FeatureMap,
)
from sam_edge_runtime.bundle.manifest import FileRecord, Manifest
from sam_edge_runtime.decoding import select_masks
from sam_edge_runtime.errors import PromptError
from sam_edge_runtime.photo.frame import Frame, fitting_frame
from sam_edge_runtime.photo.masks import upscale
from sam_edge_runtime.prompts import Prompts, build_prompts
from tests.runtime.automatic.discs import RADII, SIDE, DiscBackend
from tests.runtime.standin import NumpyBackend, manifest, write_onnx_bundle

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


def array(values: Any) -> dict[str, Any]:
    values = np.ascontiguousarray(values)
    if values.dtype == np.bool_:
        values = values.astype(np.uint8)
    data = base64.b64encode(values.tobytes()).decode()
    return {"dtype": values.dtype.name, "shape": list(values.shape), "data": data}


def size(height_width) -> dict[str, int]:
    height, width = map(int, height_width)
    return {"height": height, "width": width}


def smooth(rng: np.random.Generator, count: int, rows: int, columns: int) -> np.ndarray:
    """Logits (count, rows, columns) of blobs: sums of a few waves."""
    y, x = np.mgrid[:rows, :columns] / max(rows, columns)
    waves = rng.normal(size=(count, 6, 3)) * (9, 9, 3)
    parts = np.sin(waves[:, :, 0, None, None] * x + waves[:, :, 1, None, None] * y + waves[:, :, 2, None, None])
    return (parts.sum(axis=1) * 2).astype(np.float32)


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


def camel(conventions: Conventions) -> dict[str, Any]:
    every = {**asdict(conventions), "features": [each._asdict() for each in conventions.features]}
    words = ((key.split("_"), value) for key, value in every.items())
    return {first + "".join(each.capitalize() for each in rest): value for (first, *rest), value in words}


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


REFINED_RADIUS = 25.0


class RefinedDiscs(DiscBackend):
    """The discs, and an output 0 that is one, too, where the prompt has a mask."""

    def decode(self, features, point_coords, point_labels, mask_input, has_mask_input):
        low_res, iou = super().decode(features, point_coords, point_labels, mask_input, has_mask_input)[:2]
        low_res[:, 0] += np.float32(2 * REFINED_RADIUS) * has_mask_input[:, None, None]
        iou[:, 0] += np.float32(0.9) * has_mask_input
        return Decoded(low_res, iou)


def automatic() -> list[dict[str, Any]]:
    capacity = manifest(frames=(FrameSize.square(SIDE),))
    covered = np.zeros((150, 200), np.bool_)
    covered[:70] = True
    cases = []
    for given, known in (
        ({"points_per_side": 4}, None),
        ({"points_per_side": 3}, covered),
        ({"points_per_side": 5, "points_per_batch": 7, "crop_n_layers": 1, "min_mask_region_area": 900}, None),
        ({"points_per_side": 3, "use_m2m": True}, None),
    ):
        settings = AutomaticSettings(**{"stability_score_thresh": 0.5, **given}, output_mode=COCO_RLE)
        generator = AutomaticMaskGenerator.from_backend(RefinedDiscs(), capacity, settings)
        words = {**given, "stability_score_thresh": 0.5, "output_mode": COCO_RLE}
        split = ((key.split("_"), value) for key, value in words.items())
        cases.append(
            {
                "settings": {first + "".join(map(str.capitalize, rest)): value for (first, *rest), value in split},
                "covered": None if known is None else array(known),
                "records": generator.generate(np.zeros((150, 200, 3), np.uint8), known),
            }
        )
    return cases


def crops() -> list[dict[str, Any]]:
    return [
        {
            "size": size(photo),
            "layers": layers,
            "crops": [[*crop.box, crop.layer] for crop in generate_crops(photo, layers, 512 / 1500)],
        }
        for photo, layers in (((150, 200), 1), ((333, 120), 2))
    ]


def folder(path: Path) -> dict[str, str]:
    return {
        each.relative_to(path).as_posix(): base64.b64encode(each.read_bytes()).decode()
        for each in sorted(path.rglob("*"))
        if each.is_file()
    }


def of_three_channels(conventions: Conventions) -> Conventions:
    """A family's conventions, with features of three channels."""
    return replace(conventions, features=tuple(FeatureMap(name, 3, stride) for name, _, stride in conventions.features))


# The families whose conventions differ from SAM 1's. EdgeTAM has SAM 2's, RepViT-SAM has SAM's.
FAMILIES = {
    "sam_2": of_three_channels(SAM_2),
    "sam_hq": of_three_channels(SAM_HQ),
    "efficient_sam": EFFICIENT_SAM,
    "efficientvit_sam": EFFICIENTVIT_SAM,
}


def write_family_bundle(path: Path, conventions: Conventions) -> None:
    """Graphs with a family's tensors: masks are the photo's brightness, moved by the prompt's slots."""
    frame = FrameSize.square(256)
    contracts = [
        encoder_contract(frame, 3, conventions=conventions),
        decoder_contract(frame, 3, None, conventions.slots, conventions=conventions),
    ]
    strides = [each // conventions.image_stride for each in (16, *(each.stride for each in conventions.features))]
    pools = [
        helper.make_node("AveragePool", ["image"], [name], kernel_shape=[stride] * 2, strides=[stride] * 2)
        for name, stride in zip(contracts[0].output_names, strides, strict=True)
    ]
    for name, nodes, contract, values in (
        ("encoder", pools, contracts[0], {}),
        ("decoder", _decoder_nodes(conventions), contracts[1], _CONSTANTS),
    ):
        inputs, outputs = (
            [helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape)) for spec in specs]
            for specs in (contract.inputs, contract.outputs)
        )
        used = {each for made in nodes for each in made.input}
        initializers = [
            numpy_helper.from_array(np.asarray(value), each) for each, value in values.items() if each in used
        ]
        graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path / f"{name}.onnx"
        )


_CONSTANTS = {
    "last": np.array([-1], np.int64),
    "channels": np.array([1], np.int64),
    "planes": np.array([2, 3], np.int64),
    "behind": np.array([1, 2, 3], np.int64),
    "factors": np.arange(1, 5, dtype=np.float32) / np.float32(20000),
    "enlarged": np.array([1, 1, 4, 4], np.float32),
    "half": np.float32(128),
    "one": np.float32(1),
    "two": np.float32(2),
}


def _decoder_nodes(conventions: Conventions) -> list[onnx.NodeProto]:
    """A slot moves a mask by its coordinates times its label plus 2, so that one that is empty does not."""
    node = helper.make_node
    features = [each.name for each in conventions.features]
    nodes = [
        node("ReduceSum", ["point_coords", "last"], ["positions"], keepdims=0),  # (B, N)
        node("Add", ["point_labels", "two"], ["weights"]),
        node("Mul", ["positions", "weights"], ["weighted"]),
        node("ReduceSum", ["weighted", "channels"], ["column"], keepdims=1),  # (B, 1)
        node("Mul", ["column", "factors"], ["iou_predictions"]),
        node("Unsqueeze", ["iou_predictions", "planes"], ["moved"]),
        node("ReduceMean", ["image_embeddings"], ["mean"], keepdims=0),
        node("Sub", ["mean", "half"], ["shift"]),
    ]
    if features:
        nodes.append(node("ReduceMean", [features[0], "channels"], ["plane_0"], keepdims=1))
    else:
        nodes.append(node("ReduceMean", ["image_embeddings", "channels"], ["small"], keepdims=1))
        nodes.append(node("Resize", ["small", "", "enlarged"], ["plane_0"], mode="nearest"))
    added = ["shift", "moved"]
    for name in features[1:]:
        nodes.append(node("ReduceMean", [name], [f"mean_of_{name}"], keepdims=0))
        added.append(f"mean_of_{name}")
    if conventions.mask_prompts:
        nodes.append(node("Unsqueeze", ["has_mask_input", "behind"], ["with_mask"]))
        nodes.append(node("Mul", ["mask_input", "with_mask"], ["prompted"]))
        added.append("prompted")
    if conventions.object_score:
        nodes.append(node("Sub", ["column", "one"], ["object_score_logits"]))
    names = ["plane_0", *(f"plane_{index}" for index in range(1, len(added))), "low_res_masks"]
    return nodes + [node("Add", [names[index], each], [names[index + 1]]) for index, each in enumerate(added)]


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
        else:
            write_onnx_bundle(path, rows, points)

        def write_manifest(path=path, sizes=(rows, points), conventions=conventions) -> Manifest:
            made = manifest(
                *sizes,
                files=record_files(path),
                recipe={"note": "façade 😀", "share": 1.0, "small": 1e-05, "bound": 0.5},
                tools={"torch": "2.13.0+cpu"},
                conventions=conventions,
            )
            (path / "manifest.json").write_text(made.to_json())
            return made

        made = write_manifest()
        reference = load_backend(Bundle.open(path)) if name in FAMILIES else NumpyBackend()
        golden.record(reference, made).save(path / GOLDEN_FILE)
        write_manifest()
        predictor = SamPredictor(Bundle.open(path))
        predictor.set_image(photo)
        mask = smooth(rng, 1, 64, 64)
        answers = [
            answer_of(predictor, prompt, mask, multimask=multimask)
            for prompt, multimask in product((*PROMPTS.values(), MASKED), (True, False))
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
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(fixtures()), encoding="utf-8")
