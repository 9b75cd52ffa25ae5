"""Quantization: a recipe and calibration samples turn an artifact in fp32 into a smaller one.

Each target has a module that works through its vendor's own quantizer: `onnx` (ONNX Runtime), `tflite` (AI Edge
Quantizer), `coreml` (coremltools). They know nothing of SAM or of torch: layers are told apart by their weights'
numbers (`layers`), and which are kept in what is the recipe's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import ExportError

from .layers import fingerprint
from .plan import Plan
from .ranges.ranges import Observer, Range, RangeObserver, Ranges, calibrate
from .recipe import AUTO, FLOAT, RECIPES, Recipe, read_recipe, recipe_named, write_recipe


@dataclass(frozen=True)
class Quantizer:
    """The functions that quantize one target's artifacts.

    Attributes:
        tensors: names of the activations of an artifact whose ranges a plan needs.
        observer: a function that runs the fp32 artifact on a sample and tells the values of the named activations.
        quantize: from an fp32 artifact, a new one at another path, by a plan and ranges of activations; returns what
            is to be said of it in the report: `layers`, the name of each layer with the way it was given, and
            `unknown`, operations with weights that belong to no layer.
    """

    tensors: Callable[[Path, Plan], Sequence[str]]
    observer: Callable[[Path, Sequence[str]], Observer]
    quantize: Callable[[Path, Path, Plan, Ranges], dict[str, Any]]


def quantizer_for(target: str) -> Quantizer:
    """The quantizer of `target`.

    Raises:
        UsageError: no such target.
        ExportError: a package that it needs is not installed.
    """
    package = target_named(target).name
    try:
        module = import_module(f"{__name__}.{package}.quantizer")
    except ImportError as error:
        if (error.name or "").startswith("sam_edge"):
            raise  # a mistake of ours, and no missing package
        raise ExportError(f"target {target} needs {error.name}: pip install 'sam-edge[export]'") from error
    return Quantizer(module.tensors, module.observer, module.quantize)


__all__ = [
    "AUTO",
    "FLOAT",
    "RECIPES",
    "Observer",
    "Plan",
    "Quantizer",
    "Range",
    "RangeObserver",
    "Ranges",
    "Recipe",
    "calibrate",
    "fingerprint",
    "quantizer_for",
    "read_recipe",
    "recipe_named",
    "write_recipe",
]
