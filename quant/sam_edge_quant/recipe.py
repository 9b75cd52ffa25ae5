"""A recipe assigns a quantization scheme to every layer of a network.

| scheme    | weights | activations                                                    |
|-----------|---------|----------------------------------------------------------------|
| `fp32`    | float32 | float32: as trained; the reference for all others              |
| `fp16`    | float16 | float16 (a target's CPU may compute in float32 all the same)   |
| `mixed`   | float16 | float16, float32 where measurement finds float16 unsafe        |
| `w8`      | INT8    | float32                                                        |
| `dynamic` | INT8    | INT8, with ranges computed in each call                        |
| `w8a8`    | INT8    | INT8, with ranges from calibration                             |
| `w8a16`   | INT8    | INT16, with ranges from calibration                            |
| `w4`      | INT4    | float32                                                        |
| `npu`     | INT8    | INT8 in convolutions and linear layers, INT16 around them      |

A recipe has one scheme for the whole network and, in `layers`, exceptions for parts of it. An exception names a layer
as torch does (`image_encoder.blocks.3.project`) or a module that contains several (`mask_decoder`); the longest
matching name wins. Such a recipe is a JSON file that people can read and edit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.system.documents import parse_json
from sam_edge_runtime.system.text import read_text

FILE_FORMAT = "sam-edge-recipe"
ESTIMATORS = ("minmax", "percentile", "entropy", "mse")
DTYPES = ("float32", "float16", "int16", "int8", "int4")
FLOAT = "fp32"  # the scheme of a layer that is not quantized
NPU = "npu"  # the scheme of a layer in a graph that is computed in integers as a whole
SCHEMES = (FLOAT, "fp16", "mixed", "w8", "dynamic", "w8a8", "w8a16", "w4", NPU)
# Schemes with integer weights, and those among them that need ranges of activations.
QUANTIZED = frozenset({"w8", "dynamic", "w8a8", "w8a16", "w4", NPU})
CALIBRATED = frozenset({"w8a8", "w8a16", NPU})
GPTQ = "gptq"
ROUNDINGS = (GPTQ, "nc-rtn", "nc-gptq")
# Methods of neural-compressor whose results no target's quantizer can hold, and why.
REFUSED_ROUNDINGS = {
    "nc-awq": "scales a layer's inputs, which have to be folded into the layer before: equalization does that already",
    "nc-hqq": "has fractions as zero points, which no target stores",
    "nc-autoround": "needs auto-round, which is made for language models",
}
AUTO = "auto"  # a precision that stands for a search; its result is a recipe with exceptions


def _check(what: str, value: Any, choices: Sequence[str], where: str = "") -> None:
    if value not in choices:
        raise UsageError(f"no {what} called {value!r:.60}{where}: choose one of {', '.join(choices)}")


@dataclass(frozen=True)
class Recipe:
    """A scheme for the whole network, and exceptions.

    Attributes:
        name: the scheme, one of `SCHEMES`.
        weights: dtype of stored weights, one of `DTYPES`.
        activations: dtype that activations are computed in, one of `DTYPES`.
        unsafe: dtype of operations that measurement finds unsafe in `activations`; None: nothing is measured.
        layers: scheme of each exception, by the name of a layer or of a module that contains several.
        estimator: how calibration turns observed values into the range of an activation, one of `ESTIMATORS`.
        dynamic: whether ranges are computed in each call instead.
        rounding: how weights are rounded, one of `ROUNDINGS`: our GPTQ for all layers, or a method of neural-compressor
            for the linear layers in `w8` and `w4`.

    Raises:
        UsageError: an unknown scheme, dtype, estimator or rounding.
    """

    name: str
    weights: str
    activations: str
    unsafe: str | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    estimator: str = "minmax"
    dynamic: bool = False
    rounding: str = GPTQ

    def __post_init__(self) -> None:
        _check("precision", self.name, SCHEMES)
        for dtype in (self.weights, self.activations, *(() if self.unsafe is None else (self.unsafe,))):
            _check("dtype", dtype, DTYPES)
        _check("estimator", self.estimator, ESTIMATORS)
        if self.rounding in REFUSED_ROUNDINGS:
            raise UsageError(
                f"rounding {self.rounding} is not possible, because it {REFUSED_ROUNDINGS[self.rounding]}: choose one "
                f"of {', '.join(ROUNDINGS)}"
            )
        _check("rounding", self.rounding, ROUNDINGS)
        if not isinstance(self.layers, Mapping) or not all(isinstance(name, str) for name in self.layers):
            raise UsageError(
                f"layers is {self.layers!r:.60}: an object is expected, with a scheme for each layer's name"
            )
        for layer, scheme in self.layers.items():
            _check("precision", scheme, SCHEMES, f" for {layer!r:.60}")

    @property
    def schemes(self) -> frozenset[str]:
        """The schemes that its layers may have."""
        return frozenset({self.name, *self.layers.values()})

    @property
    def is_quantized(self) -> bool:
        """Whether any layer is quantized to integers."""
        return any(scheme in QUANTIZED for scheme in self.schemes)

    def scheme_of(self, layer: str) -> str:
        """The scheme of one layer, such as `image_encoder.stem`."""
        holders = [name for name in self.layers if layer == name or layer.startswith(f"{name}.")]
        return self.layers[max(holders, key=len)] if holders else self.name

    def check_layers(self, known: Iterable[str]) -> None:
        """Check that every exception names a layer or module of the network.

        Args:
            known: names of the network's layers.

        Raises:
            UsageError: one does not.
        """
        known = list(known)
        for name in self.layers:
            if not any(layer == name or layer.startswith(f"{name}.") for layer in known):
                parts = ", ".join(sorted({layer.rpartition(".")[0] or layer for layer in known})[:5])
                raise UsageError(
                    f"recipe {self.name} names {name!r}, which the model does not have; it has {parts}, ..."
                )

    def to_json(self) -> dict[str, Any]:
        """The recipe as a manifest stores it. The usual rounding is left out: older readers do not know the field."""
        document = {**asdict(self), "layers": dict(self.layers)}
        if self.rounding == GPTQ:
            del document["rounding"]
        return document


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
        Recipe(NPU, "int8", "int8"),
    )
}


def recipe_named(name: str) -> Recipe:
    """The recipe that gives every layer the scheme `name`.

    Raises:
        UsageError: no such scheme.
    """
    _check("precision", name, SCHEMES)
    return RECIPES[name]


def write_recipe(recipe: Recipe, evidence: Mapping[str, Any] | None = None) -> str:
    """The text of a recipe file.

    Args:
        recipe: what to write.
        evidence: measurements that led to the recipe, for people; ignored when the file is read.
    """
    document = {"format": FILE_FORMAT, "version": 1, **recipe.to_json(), "evidence": dict(evidence or {})}
    return json.dumps(document, indent=2) + "\n"


def read_recipe(path: Path) -> Recipe:
    """The recipe in a file of `write_recipe`'s format.

    Raises:
        UsageError: the file cannot be read, is no recipe, or names something unknown.
    """
    try:
        document = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as a recipe ({error})") from error
    if not isinstance(document, dict) or document.get("format") != FILE_FORMAT or document.get("version") != 1:
        raise UsageError(f'{path} is no recipe: it does not say "format": "{FILE_FORMAT}", "version": 1')
    known = {each.name for each in fields(Recipe)}
    unknown = sorted(set(document) - known - {"format", "version", "evidence"})
    if unknown:
        raise UsageError(
            f"{path}: {unknown[0]!r:.60} is no field of a recipe: its fields are {', '.join(sorted(known))}"
        )
    try:
        base = recipe_named(document.get("name", ""))
        return replace(base, **{key: document[key] for key in ("layers", "estimator", "rounding") if key in document})
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
