"""Quantizers: an fp32 artifact, a recipe and calibration samples in; a smaller artifact out.

A package for each target wraps its vendor's quantizer: `onnx` (ONNX Runtime), `tflite` (AI Edge Quantizer), `coreml`
(coremltools). None imports torch or knows SAM: a layer is identified by a fingerprint of its weight (`layers`), and the
recipe assigns it a scheme.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import ExportError, missing_package

from .layers import fingerprint
from .plan import Plan
from .ranges.ranges import Observer, Range, RangeObserver, Ranges, calibrate
from .recipe import AUTO, FLOAT, NPU, RECIPES, Recipe, read_recipe, recipe_named, write_recipe


@dataclass(frozen=True)
class Quantizer:
    """The functions that quantize one target's artifacts.

    Attributes:
        tensors: names the activations of an artifact whose ranges a plan needs.
        observer: makes a function that runs the fp32 artifact on a sample and passes the named activations on.
        quantize: writes an fp32 artifact, quantized by a plan and ranges of activations, to another path; returns a
            report with at least `layers`, the scheme of each layer by name, and `unknown`, operations with a weight
            that is no layer's.
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
        raise ExportError(f"target {target} needs {missing_package(error)}: pip install 'sam-edge[export]'") from error
    return Quantizer(module.tensors, module.observer, module.quantize)


__all__ = [
    "AUTO",
    "FLOAT",
    "NPU",
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
