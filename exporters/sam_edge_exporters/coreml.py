"""A traced graph and its contract to a Core ML package (ML Program, iOS 17), through coremltools.

coremltools converts on Linux too, and can run what it made on a Mac only; the numbers are checked by the runtime, which
has an evaluator of its own for that (`sam_edge_runtime.mil`). Shapes are fixed: so the Neural Engine may take them.
"""

from __future__ import annotations

import logging
from pathlib import Path

import coremltools as ct
import torch
from torch import nn

from sam_edge_runtime.contract import GraphContract, TensorSpec
from sam_edge_runtime.errors import ExportError

from .quiet import captured_stderr, no_progress_bars, quiet, root_cause
from .tracing import example, free_axes

SUFFIX = ".mlpackage"
TARGET = ct.target.iOS17
AUTHOR = "sam-edge"
_LEFT_BEHIND = "executorch_debug_handle_mapping.json"  # coremltools 9 writes it; nothing reads it
_LOGGERS = ("torch", "coremltools")
_EXPECTED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
    (r".*", DeprecationWarning),  # coremltools' use of its own old functions
    (r".*", RuntimeWarning),  # numpy's, while coremltools folds constants
)


def export(graph: nn.Module, contract: GraphContract, path: Path) -> None:
    """Write `graph` to the package `path`.

    Args:
        graph: a module whose forward takes and returns the contract's tensors in order.
        contract: names and fixed shapes; meanings become the package's descriptions.
        path: the `.mlpackage` folder to write.

    Raises:
        ExportError: a shape is free, the graph cannot be converted, or the result breaks the contract.
    """
    free = free_axes(contract)
    if free:
        raise ExportError(
            f"{path.stem} has free axes ({', '.join(free)}) and Core ML wants fixed ones: fix --points and --prompts"
        )
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # coremltools logs its progress to the root
    try:
        with captured_stderr(), no_progress_bars(), quiet(_LOGGERS, _EXPECTED_WARNINGS):
            program = torch.export.export(graph, tuple(example(spec) for spec in contract.inputs))
            model = ct.convert(
                program.run_decompositions({}),
                convert_to="mlprogram",
                minimum_deployment_target=TARGET,
                compute_precision=ct.precision.FLOAT32,
                inputs=[ct.TensorType(name=spec.name, shape=spec.shape) for spec in contract.inputs],
                outputs=[ct.TensorType(name=spec.name) for spec in contract.outputs],
                skip_model_load=True,
            )
            _describe(model, contract)
            model.save(str(path))
    except Exception as error:  # the converter's own errors have no common class
        raise ExportError(f"coremltools failed on {path.stem}: {root_cause(error)}") from error
    finally:
        logging.disable(disabled)
    (path / _LEFT_BEHIND).unlink(missing_ok=True)
    check(path, contract)


def check(path: Path, contract: GraphContract) -> None:
    """Read the package again and compare its face with the contract.

    Raises:
        ExportError: an input or output differs.
    """
    description = ct.utils.load_spec(str(path)).description
    for specs, found in ((contract.inputs, description.input), (contract.outputs, description.output)):
        want = {spec.name: _known(spec) for spec in specs}
        have = {each.name: tuple(each.type.multiArrayType.shape) for each in found}
        # An output's shape may be left open: coremltools does not always write it down.
        if want.keys() != have.keys() or any(have[name] not in {(), want[name]} for name in want):
            raise ExportError(f"{path.name} has {have}, the contract says {want}")


def _known(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(size for size in spec.shape if isinstance(size, int))


def _describe(model: ct.models.MLModel, contract: GraphContract) -> None:
    model.author = AUTHOR
    model.short_description = "Segment Anything, one of its two graphs; the bundle's manifest.json describes both"
    for spec in contract.inputs:
        model.input_description[spec.name] = spec.meaning
    for spec in contract.outputs:
        model.output_description[spec.name] = spec.meaning
