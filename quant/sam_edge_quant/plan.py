"""What a quantizer is to do with one artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from .layers import fingerprint
from .recipe import Recipe


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

    def scheme(self, weight: npt.NDArray[Any]) -> str:
        """The recipe's name for the layer with this weight; `fp32` where it is not known."""
        layer = self.layer(weight)
        return "fp32" if layer is None else self.recipe.scheme_of(layer)
