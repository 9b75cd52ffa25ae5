"""Exporters: a traced graph and its contract to one artifact, a file per target.

Each module has `export(graph, contract, path, conversion)` and the artifact's file `SUFFIX`. They know nothing of SAM,
of weights or of bundles; that is the pipeline's business in `sam_edge`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sam_edge_runtime.bundle.contract import Layout
from sam_edge_runtime.errors import ExportError, UsageError

from .conversion import About, Conversion, Findings, Sample
from .quiet import captured_stderr, quiet

if TYPE_CHECKING:
    from torch import nn

    from sam_edge_runtime.bundle.contract import GraphContract


@dataclass(frozen=True)
class Exporter:
    """How one target's artifacts are made.

    Attributes:
        suffix: the artifact's file suffix.
        packages: what its conversion depends on, for the manifest's list of versions.
        export: writes a graph to a path.
        layout: axes of photos and embeddings that the target's engines are fastest with.
        fixed_shapes: whether the artifact takes one number of prompts and slots only.
        export_signatures: writes a graph in several fixed shapes, each a named signature, to one file; None where the
            format has no such thing.
        refusal: why a graph (module, its name, precision) cannot become an artifact, known before anything is
            converted, or None; None where there is nothing to know beforehand.
        inspect: what a written artifact is made of, for the report; None where there is nothing to say.
    """

    suffix: str
    packages: tuple[str, ...]
    export: Callable[[nn.Module, GraphContract, Path, Conversion], None]
    layout: Layout = Layout.NCHW
    fixed_shapes: bool = False
    export_signatures: Callable[[nn.Module, Mapping[str, GraphContract], Path, Conversion], None] | None = None
    refusal: Callable[[nn.Module, str, str], str | None] | None = None
    inspect: Callable[[Path], Findings] | None = None


def _onnx() -> Exporter:
    from . import onnx  # noqa: PLC0415  # brings torch and the converter

    return Exporter(onnx.SUFFIX, ("torch", "onnx", "onnxscript", "onnxruntime"), onnx.export)


def _tflite() -> Exporter:
    with captured_stderr(), quiet(("torch", "torchao")):
        from . import tflite  # noqa: PLC0415  # brings torch and the converter

    return Exporter(
        tflite.SUFFIX,
        ("torch", "litert-torch", "ai-edge-litert", "ai-edge-quantizer"),
        lambda graph, contract, path, conversion: tflite.export(graph, contract, path, conversion.precision),
        layout=Layout.NHWC,
        fixed_shapes=True,
        export_signatures=lambda graph, contracts, path, conversion: tflite.export_signatures(
            graph, contracts, path, conversion.precision
        ),
        refusal=tflite.refusal,
        inspect=tflite.inspect,
    )


def _coreml() -> Exporter:
    with captured_stderr(), quiet(("torch", "torchao", "coremltools")):
        from . import coreml  # noqa: PLC0415  # brings torch and the converter

    return Exporter(
        coreml.SUFFIX,
        ("torch", "coremltools"),
        coreml.export,
        fixed_shapes=True,
        inspect=coreml.inspect,
    )


# Recipes that each target can carry out.
PRECISIONS: dict[str, tuple[str, ...]] = {
    "onnx": ("fp32", "fp16"),
    "coreml": ("fp32", "fp16", "mixed"),
    "tflite": ("fp32", "fp16"),
}
EXPORTERS: dict[str, Callable[[], Exporter]] = {"onnx": _onnx, "coreml": _coreml, "tflite": _tflite}


# Targets whose files can have a signature for each of several prompt capacities.
SEVERAL_SIGNATURES = ("tflite",)


def exporter_for(target: str) -> Exporter:
    """The exporter of `target`.

    Raises:
        UsageError: no such target.
        ExportError: a package that it needs is not installed.
    """
    if target not in EXPORTERS:
        raise UsageError(f"no target called {target!r}: choose one of {', '.join(EXPORTERS)}")
    try:
        return EXPORTERS[target]()
    except ImportError as error:
        if (error.name or "").startswith("sam_edge"):
            raise  # a mistake of ours, and no missing package
        raise ExportError(f"target {target} needs {error.name}: pip install 'sam-edge[export]'") from error


__all__ = [
    "EXPORTERS",
    "PRECISIONS",
    "SEVERAL_SIGNATURES",
    "About",
    "Conversion",
    "Exporter",
    "Findings",
    "Sample",
    "exporter_for",
]
