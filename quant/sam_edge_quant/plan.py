"""The plan by which a quantizer assigns a scheme to each layer of one artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sam_edge_runtime.arrays import Array

from .layers import fingerprint
from .recipe import FLOAT, Recipe


@dataclass(frozen=True)
class Plan:
    """The schemes of an artifact's layers.

    Attributes:
        recipe: the scheme of each layer by name.
        names: the layers' names by the fingerprint of their weight.
        arm: whether the artifact is for an Arm processor, whose fast kernels take signed activations; else for x86.
    """

    recipe: Recipe
    names: Mapping[str, str]
    arm: bool = False

    def layer(self, weight: Array) -> str | None:
        """The name of the layer with this weight, such as `image_encoder.stem`; None if no layer has it."""
        return self.names.get(fingerprint(weight))

    def scheme(self, weight: Array) -> str:
        """The scheme of the layer with this weight; `fp32` if no layer has it."""
        layer = self.layer(weight)
        return FLOAT if layer is None else self.recipe.scheme_of(layer)
