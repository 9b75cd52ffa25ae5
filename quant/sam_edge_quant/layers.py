"""Which of an artifact's operations is which of the network's layers.

Converters rename, transpose and reorder, each in its own way, but they leave the numbers of a weight alone. So a layer
is known by the numbers of its weight in whatever order. An operation whose weight a converter changed has no name; it
stays in float and is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from .recipe import Recipe


def fingerprint(weight: npt.NDArray[Any]) -> str:
    """A digest of a weight's numbers in float32, whatever their order and shape.

    Zero has one sign: rounded weights have many of both, which sorting leaves in the order in which they were found.
    """
    return blake2b(np.sort(np.asarray(weight, np.float32) + 0.0, axis=None).tobytes(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Plan:
    """What a quantizer is to do with an artifact.

    Attributes:
        recipe: what each layer is kept in.
        names: the layers' names by the fingerprint of their weight.
        arm: whether the artifact is for an Arm processor, whose fast path is signed activations; else x86.
    """

    recipe: Recipe
    names: Mapping[str, str]
    arm: bool = False

    def layer(self, weight: npt.NDArray[Any]) -> str | None:
        """The name of the layer with this weight, such as `image_encoder.stem`; None where it has none."""
        return self.names.get(fingerprint(weight))

    def way(self, weight: npt.NDArray[Any]) -> str:
        """The recipe's name for the layer with this weight; `fp32` where it is not known."""
        layer = self.layer(weight)
        return "fp32" if layer is None else self.recipe.way_of(layer)
