"""Exporters: a traced graph and its contract in, one artifact out; a module for each target.

Each module has `export(graph, contract, path, conversion)`. None knows SAM, its weights or bundles: `sam_edge.export`
does. What a target can do stands in `sam_edge_runtime.bundle.targets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import ExportError, missing_package
from sam_edge_runtime.system.quiet import captured_stderr, quiet

from .conversion import Conversion, Inspection, Metadata
from .joining import Part

if TYPE_CHECKING:
    from torch import nn

    from sam_edge_runtime.bundle.contract import GraphContract


@dataclass(frozen=True)
class Exporter:
    """The functions that make one target's artifacts.

    Attributes:
        export: writes a graph to a path.
        join: writes the graphs of several frames over one copy of their weights.
        export_signatures: writes a graph in several fixed shapes, each a named signature, to one file; None if the
            format has no signatures.
        refusal: returns the reason why a graph (module, its name, precision) cannot become an artifact, or None, before
            anything is converted; None if the target refuses no graph.
        inspect: returns statistics of an artifact for the report; None if the target has none.
    """

    export: Callable[[nn.Module, GraphContract, Path, Conversion], None]
    join: Callable[[Sequence[Part]], None]
    export_signatures: Callable[[nn.Module, Mapping[str, GraphContract], Path, Conversion], None] | None = None
    refusal: Callable[[nn.Module, str, str], str | None] | None = None
    inspect: Callable[[Path], Inspection] | None = None


def _onnx() -> Exporter:
    from . import onnx, qnn  # noqa: PLC0415  # brings torch and the converter
    from .joining import onnx as joining  # noqa: PLC0415

    return Exporter(onnx.export, joining.join, inspect=qnn.inspect)


def _tflite() -> Exporter:
    with captured_stderr(), quiet(("torch", "torchao")):
        from . import tflite  # noqa: PLC0415  # brings torch and the converter
        from .joining import tflite as joining  # noqa: PLC0415

    return Exporter(
        lambda graph, contract, path, conversion: tflite.export(graph, contract, path, conversion.precision),
        joining.join,
        export_signatures=lambda graph, contracts, path, conversion: tflite.export_signatures(
            graph, contracts, path, conversion.precision
        ),
        refusal=tflite.refusal,
        inspect=tflite.inspect,
    )


def _coreml() -> Exporter:
    with captured_stderr(), quiet(("torch", "torchao", "coremltools")):
        from . import coreml  # noqa: PLC0415  # brings torch and the converter
        from .joining import coreml as joining  # noqa: PLC0415

    return Exporter(coreml.export, joining.join, inspect=coreml.inspect)


EXPORTERS: dict[str, Callable[[], Exporter]] = {"onnx": _onnx, "coreml": _coreml, "tflite": _tflite}


def exporter_for(target: str) -> Exporter:
    """The exporter of `target`.

    Raises:
        UsageError: no such target.
        ExportError: a package that it needs is not installed.
    """
    load = EXPORTERS[target_named(target).name]
    try:
        return load()
    except ImportError as error:
        raise ExportError(f"target {target} needs {missing_package(error)}: pip install 'sam-edge[export]'") from error


__all__ = [
    "EXPORTERS",
    "Conversion",
    "Exporter",
    "Inspection",
    "Metadata",
    "Part",
    "exporter_for",
]
