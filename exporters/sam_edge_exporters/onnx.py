"""A traced graph and its contract to an ONNX file.

`torch.onnx.export` on top of `torch.export`, opset 18: LayerNormalization is one operator from 17 on, and 18 is what
browsers' and phones' builds of ONNX Runtime have had for years. Weights go beside the graph only where protobuf's two
gigabytes force it, because one file is easier to ship. The result counts as exported once `onnx.checker` and ONNX
Runtime both took it and its inputs and outputs are those of the contract.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from sam_edge_runtime.contract import GraphContract, TensorSpec
from sam_edge_runtime.errors import ExportError

OPSET = 18
SUFFIX = ".onnx"
EXTERNAL_DATA_ABOVE = 1 << 31  # bytes of weights; protobuf ends at 2 GiB
_ROOM_FOR_GRAPH = 16 << 20  # of these two gigabytes, what the nodes and names may take
# What torch 2.13 says on every export: one name for a free axis is enough, and torch's own use of an old class test.
_EXPECTED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r"# The axis name: \w+ will not be used", UserWarning),
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
)
_EXAMPLE_SIZES = {"B": 2, "N": 3}  # sizes to trace free axes with; 0 and 1 would be taken for constants


def export(graph: nn.Module, contract: GraphContract, path: Path) -> None:
    """Write `graph` to `path`, with its weights in `path` + `.data` if they exceed 2 GiB.

    Args:
        graph: a module whose forward takes and returns the contract's tensors in order.
        contract: names and shapes; letters in a shape become free axes.
        path: the `.onnx` file to write.

    Raises:
        ExportError: the graph cannot be traced, or the result is rejected or breaks the contract.
    """
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                tuple(_example(spec) for spec in contract.inputs),
                dynamo=True,
                opset_version=OPSET,
                input_names=contract.input_names,
                output_names=contract.output_names,
                dynamic_shapes=_dynamic_shapes(contract),
                verbose=False,
            )
    except Exception as error:  # the converter's own errors have no common class
        raise ExportError(f"torch.onnx.export failed on {path.stem}: {_cause(error)}") from error
    if program is None:
        raise ExportError(f"torch.onnx.export returned nothing for {path.stem}")
    program.save(path, external_data=_weight_bytes(graph) > EXTERNAL_DATA_ABOVE - _ROOM_FOR_GRAPH)
    del program
    check(path, contract)


def check(path: Path, contract: GraphContract) -> None:
    """Have `onnx.checker` and ONNX Runtime read the file, and compare its face with the contract.

    Raises:
        ExportError: either rejects it, or an input or output differs.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"onnx.checker rejects {path.name}: {_last_line(error)}") from error
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # only to be read, not to be run
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ExportError(f"ONNX Runtime rejects {path.name}: {_last_line(error)}") from error
    for specs, found in ((contract.inputs, session.get_inputs()), (contract.outputs, session.get_outputs())):
        want = [(spec.name, tuple(spec.shape)) for spec in specs]
        have = [(arg.name, tuple(arg.shape)) for arg in found]
        if want != have:
            raise ExportError(f"{path.name} has {have}, the contract says {want}")


def _example(spec: TensorSpec) -> Tensor:
    return torch.zeros([_EXAMPLE_SIZES[size] if isinstance(size, str) else size for size in spec.shape])


def _dynamic_shapes(contract: GraphContract) -> tuple[dict[int, torch.export.Dim], ...] | None:
    """For each input, its free axes; the same letter is the same size everywhere."""
    letters = {size for spec in contract.inputs for size in spec.shape if isinstance(size, str)}
    if not letters:
        return None
    dims = {letter: torch.export.Dim(letter, min=1) for letter in letters}
    return tuple(
        {axis: dims[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)} for spec in contract.inputs
    )


def _weight_bytes(graph: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*graph.parameters(), *graph.buffers()))


def _cause(error: BaseException) -> str:
    """First line of the error at the root: the exporter wraps it in others that only point to a stack trace."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes and the warnings that are known to mean nothing here off the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message, category in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=message, category=category)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
