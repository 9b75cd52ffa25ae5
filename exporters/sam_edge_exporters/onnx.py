"""A traced graph and its contract to an ONNX file.

`torch.onnx.export` on top of `torch.export`, opset 20: LayerNormalization is one operator from 17 on and GELU from 20,
which ONNX Runtime's builds for browsers and phones have had since 1.17 (January 2024). ONNX Runtime fuses a GELU of
five operators in fp32, but not next to INT8 operations. Weights are external only above protobuf's 2 GiB, because one
file is easier to ship. `onnx.checker` and ONNX Runtime both have to accept the file, and its inputs and outputs have to
be those of the contract.

`fp16` traces the graph in half precision between casts, so that inputs and outputs stay float32. ONNX Runtime's CPU
provider computes most of it in float32 all the same; browsers' WebGPU and phones' accelerators do not.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
import torch
from onnxscript import ir
from onnxscript.optimizer import optimize_ir
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import GraphContract
from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.system.quiet import last_line_of, quiet, root_cause

from .conversion import PLAIN, Conversion
from .tracing import EXPECTED_OF_TORCH, dynamic_shapes, example, weight_bytes

OPSET = 20
IR_VERSION = 9  # of the file format; ONNX Runtime 1.17, the first with opset 20, reads no newer one
EXTERNAL_DATA_ABOVE = 1 << 31  # bytes of weights; protobuf ends at 2 GiB
_SPACE_FOR_GRAPH = 16 << 20  # bytes of these that nodes and names may take
_FEW = 1024  # elements of a constant that may always be folded or repeated
# torch 2.13 warns on every export that it uses one name for each free axis.
_EXPECTED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r"# The axis name: \w+ will not be used", UserWarning),
    *EXPECTED_OF_TORCH,
)
_LOGGERS = ("torch", "onnxscript", "onnx_ir")


def export(graph: nn.Module, contract: GraphContract, path: Path, conversion: Conversion = PLAIN) -> None:
    """Write `graph` to `path`, with its weights in `path` + `.data` if they exceed 2 GiB.

    Args:
        graph: a module whose forward takes and returns the contract's tensors in order.
        contract: names and shapes; letters in a shape become free axes.
        path: the `.onnx` file to write.
        conversion: the precision; `fp16` converts the graph's weights in place.

    Raises:
        ExportError: the graph cannot be traced, or the file is rejected or breaks the contract.
    """
    shapes: Any = dynamic_shapes(contract)
    if conversion.precision == "fp16":
        graph = _Half(graph).eval()
        shapes = shapes and (shapes,)  # its inputs are one argument, *inputs
    try:
        with quiet(_LOGGERS, _EXPECTED_WARNINGS):
            program = torch.onnx.export(
                graph,
                tuple(example(spec) for spec in contract.inputs),
                dynamo=True,
                opset_version=OPSET,
                input_names=contract.input_names,
                output_names=contract.output_names,
                dynamic_shapes=shapes,
                optimize=False,
                verbose=False,
            )
            if program is not None:
                optimize_ir(program.model, should_fold=_may_fold)
    except Exception as error:  # the converter's own errors have no common class
        raise ExportError(f"torch.onnx.export failed on {path.stem}: {root_cause(error)}") from error
    if program is None:
        raise ExportError(f"torch.onnx.export returned nothing for {path.stem}")
    _share_indices(program.model)
    _remove_source_notes(program.model)
    program.model.ir_version = IR_VERSION
    program.save(path, external_data=weight_bytes(graph) > EXTERNAL_DATA_ABOVE - _SPACE_FOR_GRAPH)
    del program
    check(path, contract)


def _may_fold(node: Any) -> bool | None:
    """False if folding a node's constants would enlarge the file; ONNX Runtime folds them when it loads it.

    None leaves the decision to the optimizer's own rules.
    """
    given = sum(value.const_value.size for value in node.inputs if value is not None)
    made = sum(math.prod(value.shape) for value in node.outputs if value.shape is not None and value.shape.is_static())
    return False if made > max(given, _FEW) else None


def _share_indices(model: Any) -> None:
    """Store equal index tables once: each of TinyViT's attentions has those of its window."""
    kept: dict[tuple[Any, ...], Any] = {}
    for value in list(model.graph.initializers.values()):
        if value.dtype == ir.DataType.INT64 and value.const_value.size > _FEW:
            first = kept.setdefault((*value.shape, value.const_value.tobytes()), value)
            if first is not value:
                value.replace_all_uses_with(first)
                del model.graph.initializers[value.name]


def _remove_source_notes(model: Any) -> None:
    """Remove torch's notes from a graph: each node's lines of source code, with paths of the exporting machine.

    They are a sixth of nano's decoder, and should not be published.
    """
    for graph in (model.graph, *model.functions.values()):
        for node in ir.traversal.RecursiveGraphIterator(graph):
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
        for value in (*graph.inputs, *graph.outputs, *getattr(graph, "initializers", {}).values()):
            value.metadata_props.clear()
        graph.metadata_props.clear()


def check(path: Path, contract: GraphContract) -> None:
    """Have `onnx.checker` and ONNX Runtime read the file, and compare its inputs and outputs with the contract.

    Raises:
        ExportError: either rejects it, or an input or output differs.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"onnx.checker rejects {path.name}: {last_line_of(error)}") from error
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # only read, not run
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ExportError(f"ONNX Runtime rejects {path.name}: {last_line_of(error)}") from error
    for specs, found in ((contract.inputs, session.get_inputs()), (contract.outputs, session.get_outputs())):
        want = [(spec.name, tuple(spec.shape)) for spec in specs]
        have = [(arg.name, tuple(arg.shape)) for arg in found]
        if want != have:
            raise ExportError(f"{path.name} has {have}, the contract has {want}")


class _Half(nn.Module):
    """A graph in float16 behind float32 inputs and outputs."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.wrapped = graph.half()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The graph's outputs."""
        outputs = self.wrapped(*(each.half() for each in inputs))
        return tuple(each.float() for each in (outputs if isinstance(outputs, tuple) else (outputs,)))
