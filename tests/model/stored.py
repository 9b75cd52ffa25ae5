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
from sam_edge.weights.layouts import Layout, from_official, to_official
from sam_edge.weights.seeded import seeded_array
from sam_edge_runtime import SamPredictor
from sam_edge_runtime.bundle.bundle import Bundle
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


def mask_prompt() -> np.ndarray:
    """The mask prompt, `(1, 256, 256)`."""
    return (4 * np.random.default_rng([0, 7]).standard_normal((1, 256, 256))).astype(np.float32)


def with_official_weights(sam: Sam, layout: Layout) -> Sam:
    """Weights seeded by the official names."""
    state = from_official(sam.state_dict(), layout)
    drawn = {
        name: torch.from_numpy(seeded_array(name, tuple(tensor.shape), 0)) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    sam.load_state_dict(to_official(drawn, layout, "seeded"))
    return sam


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
    """The model, with the embedding of the stored photo whatever the photo is."""

    def __init__(self, sam: Sam, embedding: Tensor) -> None:
        super().__init__(sam)
        self._features = (embedding.numpy(),)

    def encode(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        return self._features


def predictor_of(sam: Sam, embedding: Tensor) -> SamPredictor:
    """A predictor on the stored photo."""
    about = manifest(input_side=1024, embedding_channels=256, conventions=sam.conventions, points=sam.conventions.slots)
    predictor = SamPredictor(Bundle(Path("none"), about), backend=Encoded(sam, embedding))
    predictor.set_image(np.zeros((*SIZE, 3), np.uint8))
    return predictor
