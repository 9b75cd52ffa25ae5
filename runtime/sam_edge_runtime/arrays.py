"""Array types used throughout the project, and what the mask decoder returns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
"""`(H, W)` bool: True inside the object."""
Photo = npt.NDArray[np.uint8]
"""`(H, W, 3)` uint8: RGB, 0..255."""
Features = tuple[Float32, ...]
"""The image encoder's outputs for a photo: the embedding `(1, C, H/16, W/16)`, then the family's further features."""
Call = dict[str, Float32]
"""Inputs of one call of a graph, by name."""


class TextInputs(NamedTuple):
    """Text of B prompts, for one call of the mask decoder.

    Attributes:
        embeddings: `(B, D)` float32.
        has_text: `(B,)` float32, 1 where the embedding counts, else 0.
    """

    embeddings: Float32
    has_text: Float32


class Decoded(NamedTuple):
    """Outputs of the mask decoder for B prompts.

    Attributes:
        low_res_masks: `(B, 4, H/4, W/4)` float32 logits; 0 is the single mask, 1, 2, 3 are whole, part, subpart.
        iou_predictions: `(B, 4)` float32, the model's estimate of each mask's IoU.
        object_scores: `(B, 1)` float32 logits, above 0 where the prompt has an object; None where the model has none.
    """

    low_res_masks: Float32
    iou_predictions: Float32
    object_scores: Float32 | None = None

    @property
    def tensors(self) -> tuple[Float32, ...]:
        """What the graph returns, in the contract's order: all but an object score that the model does not have."""
        return tuple(each for each in self if each is not None)

    def object_score(self, row: int) -> Float32 | None:
        """`(1,)` float32 logit of one prompt; None where the model has none."""
        return None if self.object_scores is None else self.object_scores[row]
