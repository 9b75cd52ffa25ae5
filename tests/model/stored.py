"""Stored outputs of other projects' code: weights seeded by official names, and how prompts and photos were given.

Each model's own code computed them in fp32 on a CPU, with weights seeded by name (`sam_edge.weights.seeded`), for
standard normal numbers as the normalized photo. Prompts are in pixels of a photo of 480 x 640.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sam_edge.model.sam import Sam
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.weights.families import shapes_of_variant
from sam_edge.weights.layouts import Layout, from_official, to_official
from sam_edge.weights.seeded import seeded_array
from sam_edge_runtime import SamPredictor
from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import PIXEL_MEAN, PIXEL_STD
from sam_edge_runtime.photo.frame import Frame
from tests.model.builders import gap
from tests.runtime.standin import manifest

DATA = Path(__file__).parent / "data"
SIZE = (480, 640)  # (H, W) of the photo
SCORES = 1e-5  # largest difference of IoU predictions and tokens


def normal_image(side: int) -> Tensor:
    """The normalized photo, `(1, 3, side, side)`."""
    return torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, side, side)).astype(np.float32))


def random_photo() -> np.ndarray:
    """The photo whose preprocessed pixels are stored."""
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def photo_gap(frame: Frame, file: str) -> float:
    """Largest difference of that photo in a frame, normalized, from the `preprocessed` pixels in a file of `DATA`."""
    image = frame.image(random_photo())[0]
    normalized = (image - np.reshape(PIXEL_MEAN, (3, 1, 1))) / np.reshape(PIXEL_STD, (3, 1, 1))
    with np.load(DATA / file) as stored:
        return gap(normalized[:, ::31, ::31], stored["preprocessed"])


def mask_prompt() -> np.ndarray:
    """The mask prompt, `(1, 256, 256)`."""
    return (4 * np.random.default_rng([0, 7]).standard_normal((1, 256, 256))).astype(np.float32)


def with_official_weights(sam: Sam, layout: Layout, smaller: tuple[str, ...] = ()) -> Sam:
    """Weights seeded by the official names; those that end with one of `smaller` times 0.3."""
    state = from_official(sam.state_dict(), layout)
    drawn = {
        name: torch.from_numpy(seeded_array(name, tuple(tensor.shape), 0)) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    for name, tensor in drawn.items():
        if smaller and name.endswith(smaller):
            tensor.mul_(np.float32(0.3))
    sam.load_state_dict(to_official(drawn, layout, "seeded"))
    return sam


def converted_shapes(variant: str, layout: Layout) -> dict[str, tuple[int, ...]]:
    """Official names and shapes of the tensors that our model of a variant has."""
    zeros = {name: torch.zeros(()).expand(shape) for name, shape in shapes_of_variant(variant).items()}
    return {name: tuple(each.shape) for name, each in from_official(zeros, layout).items()}


def official_shapes(file: str, model: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an official checkpoint, which are stored as a tree of the names' segments."""
    flat: dict[str, tuple[int, ...]] = {}

    def walk(tree: Mapping[str, Any], before: str) -> None:
        for segment, value in tree.items():
            if isinstance(value, list):
                flat[before + segment] = tuple(value)
            else:
                walk(value, f"{before}{segment}.")

    walk(json.loads((DATA / file).read_text(encoding="utf-8"))[model], "")
    return flat


class Encoded(TorchBackend):
    """The model, with the features of the stored photo whatever the photo is.

    Attributes:
        decoded: what the decoder returned for each call, for all outputs.
    """

    def __init__(self, sam: Sam, *features: Tensor) -> None:
        super().__init__(sam)
        self._features = tuple(each.numpy() for each in features)
        self.decoded: list[Decoded] = []

    def encode(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        return self._features

    def decode(self, *inputs: Any) -> Decoded:
        self.decoded.append(super().decode(*inputs))
        return self.decoded[-1]


# Points (x, y) with labels, and corners of a box, in pixels of the photo, as SAM's predictors get them.
SAM_PROMPTS: dict[str, list[tuple[float, float, int]]] = {
    "point": [(320, 200, 1)],
    "points": [(100, 50, 1), (500, 400, 0)],
    "box": [(80, 60, 2), (420, 390, 3)],
    "box_point": [(250, 300, 0), (80, 60, 2), (420, 390, 3)],
    "mask": [(320, 200, 1)],
}
# EfficientSAM knows neither points outside the object nor mask prompts.
EFFICIENT_SAM_PROMPTS: dict[str, list[tuple[float, float, int]]] = {
    "point": [(320, 200, 1)],
    "points": [(100, 50, 1), (500, 400, 1)],
    "box": [(80, 60, 2), (420, 390, 3)],
    "point_box": [(250, 300, 1), (80, 60, 2), (420, 390, 3)],
}


def prompt_arguments(name: str, slots: list[tuple[float, float, int]]) -> dict[str, Any]:
    """Arguments of `SamPredictor.predict` for a prompt; only the one called `mask` has a mask."""
    points = [(x, y) for x, y, label in slots if label < 2]
    labels = [label for *_, label in slots if label < 2]
    corners = [coordinate for x, y, label in slots if label > 1 for coordinate in (x, y)]
    return {
        "point_coords": points or None,
        "point_labels": labels or None,
        "box": corners or None,
        "mask_input": mask_prompt() if name == "mask" else None,
    }


def compare_sam_predictions(sam: Sam, embedding: Tensor, stored: Mapping[str, np.ndarray], bound: float) -> None:
    """`SamPredictor` answers as the model's own predictor: masks of all outputs, their IoU, logits of the photo's size.

    Args:
        sam: the model.
        embedding: of the stored photo, `(1, 256, 64, 64)`.
        stored: for each prompt `masks` (4, 19, 19) and `iou` (4), and for some `full` of tokens 1..3 or `single_full`.
        bound: largest difference of logits.
    """
    predictor = predictor_of(sam, embedding)
    for name, slots in SAM_PROMPTS.items():
        given = prompt_arguments(name, slots)
        for multimask, outputs, full in ((True, slice(1, 4), "full"), (False, slice(0, 1), "single_full")):
            logits, iou, low_res = predictor.predict(**given, multimask_output=multimask, return_logits=True)
            assert gap(iou, stored[f"{name}.iou"][outputs]) <= SCORES, name
            assert gap(low_res[:, ::14, ::14], stored[f"{name}.masks"][outputs]) <= bound, name
            if f"{name}.{full}" in stored:
                assert gap(logits[:, ::29, ::31], stored[f"{name}.{full}"]) <= bound, name


def predictor_of(sam: Sam, *features: Tensor) -> SamPredictor:
    """A predictor on the stored photo, whose features are those that the decoder takes."""
    about = manifest(input_side=1024, embedding_channels=256, conventions=sam.conventions, points=sam.conventions.slots)
    predictor = SamPredictor(Bundle(Path("none"), about), backend=Encoded(sam, *features))
    predictor.set_image(np.zeros((*SIZE, 3), np.uint8))
    return predictor
