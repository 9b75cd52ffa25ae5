"""A recipe: which numbers of a network are kept in how many bits, under a name that decodes.

`fp32` is the weights and activations as trained, which every other recipe is measured against. `fp16` halves the file;
where a target's CPU computes in fp32 all the same, its GPU does not. `mixed` is fp16 but for the operations that
measurement on samples finds unsafe in it. `w8` keeps weights in eight bits and computes in float; `dynamic` finds the
range of activations anew in each call, `w8a8` and `w8a16` have them from calibration; `w4` keeps weights in four.

What a recipe says of the whole network, `layers` says otherwise of parts of it: by the name of a layer as torch has it
(`image_encoder.blocks.3.project`) or of what holds several (`mask_decoder`); the longest name that fits wins. A recipe
with such exceptions is a file that people read, edit and use again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sam_edge_runtime.errors import UsageError

FILE_FORMAT = "sam-edge-recipe"
ESTIMATORS = ("minmax", "percentile", "entropy", "mse")
FLOAT = "fp32"  # the way of a layer that is left as it is


@dataclass(frozen=True)
class Recipe:
    """Numbers of weights and activations.

    Attributes:
        name: how it is asked for.
        weights: dtype that weights are stored in.
        activations: dtype that activations are computed in.
        unsafe: dtype of the operations that are measured to be unsafe in `activations`; None: they are not looked for.
        layers: other recipes' names for parts of the network, by layer or by what holds several.
        estimator: how the range of an activation is found from what calibration saw of it.
        dynamic: whether that range is found in each call instead.
    """

    name: str
    weights: str
    activations: str
    unsafe: str | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    estimator: str = "minmax"
    dynamic: bool = False

    @property
    def schemes(self) -> frozenset[str]:
        """Names of the recipes that its layers may have."""
        return frozenset({self.name, *self.layers.values()})

    @property
    def is_quantized(self) -> bool:
        """Whether any layer is quantized to integers."""
        return any(scheme in QUANTIZED for scheme in self.schemes)

    @property
    def needs_calibration(self) -> bool:
        """Whether ranges of activations have to be found beforehand."""
        return any(scheme in CALIBRATED for scheme in self.schemes)

    def scheme_of(self, layer: str) -> str:
        """The recipe's name for one layer, such as `image_encoder.stem`."""
        holders = [name for name in self.layers if layer == name or layer.startswith(f"{name}.")]
        return self.layers[max(holders, key=len)] if holders else self.name

    def check_layers(self, known: Iterable[str]) -> None:
        """Whether every exception is about something that is there.

        Args:
            known: names of the network's layers.

        Raises:
            UsageError: one is not.
        """
        known = list(known)
        for name in self.layers:
            if not any(layer == name or layer.startswith(f"{name}.") for layer in known):
                parts = ", ".join(sorted({layer.rpartition(".")[0] or layer for layer in known})[:5])
                raise UsageError(
                    f"recipe {self.name} names {name!r}, which the model does not have; it has {parts}, ..."
                )

    def to_json(self) -> dict[str, Any]:
        """The recipe as it stands in a manifest."""
        return {**asdict(self), "layers": dict(self.layers)}


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("fp32", "float32", "float32"),
        Recipe("fp16", "float16", "float16"),
        Recipe("mixed", "float16", "float16", unsafe="float32"),
        Recipe("w8", "int8", "float32"),
        Recipe("dynamic", "int8", "int8", dynamic=True),
        Recipe("w8a8", "int8", "int8"),
        Recipe("w8a16", "int8", "int16"),
        Recipe("w4", "int4", "float32"),
    )
}
AUTO = "auto"  # a precision that stands for the search of a mixture; what comes out of it is a recipe
# Recipes that keep weights in whole numbers, and those among them that have to know ranges of activations.
QUANTIZED = frozenset({"w8", "dynamic", "w8a8", "w8a16", "w4"})
CALIBRATED = frozenset({"w8a8", "w8a16"})


def recipe_named(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in RECIPES:
        raise UsageError(f"no precision called {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def write_recipe(recipe: Recipe, evidence: Mapping[str, Any] | None = None) -> str:
    """The text of a recipe file: the recipe, and what led to it for those who read it."""
    document = {"format": FILE_FORMAT, "version": 1, **recipe.to_json(), "evidence": dict(evidence or {})}
    return json.dumps(document, indent=2) + "\n"


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file that `write_recipe` wrote, or a person after its pattern.

    Raises:
        UsageError: it cannot be read, is no recipe, or names something unknown.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a recipe ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FILE_FORMAT or document.get("version") != 1:
        raise UsageError(f'{path} is no recipe: it does not say "format": "{FILE_FORMAT}", "version": 1')
    known = {each.name for each in fields(Recipe)}
    unknown = sorted(set(document) - known - {"format", "version", "evidence"})
    if unknown:
        raise UsageError(f"{path}: {unknown[0]!r} is nothing that a recipe says: it says {', '.join(sorted(known))}")
    base = recipe_named(_text(path, document, "name"))
    layers = document.get("layers", {})
    if not isinstance(layers, dict) or not all(isinstance(way, str) for way in layers.values()):
        raise UsageError(f"{path}: layers is no list of names with a recipe for each")
    for name, way in layers.items():
        if way not in RECIPES:
            raise UsageError(f"{path}: no precision called {way!r} for {name}: choose one of {', '.join(RECIPES)}")
    estimator = document.get("estimator", base.estimator)
    if estimator not in ESTIMATORS:
        raise UsageError(f"{path}: no estimator called {estimator!r}: choose one of {', '.join(ESTIMATORS)}")
    return replace(base, layers=layers, estimator=estimator)


def _text(path: Path, document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise UsageError(f"{path}: {key} is {value!r:.60}, a name is expected")
    return value
