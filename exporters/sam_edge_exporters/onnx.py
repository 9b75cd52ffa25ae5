"""A traced graph and its contract to an ONNX file.

`torch.onnx.export` on top of `torch.export`, opset 20: LayerNormalization is one operator from 17 on and GELU from 20,
which browsers' and phones' builds of ONNX Runtime have had since 1.17, of January 2024. Where GELU is five operators,
the runtime finds the one again in fp32 but not behind eight bits. Weights go beside the graph only where protobuf's two
gigabytes force it, because one file is easier to ship. The result counts as exported once `onnx.checker` and ONNX
Runtime both took it and its inputs and outputs are those of the contract.

`fp16` traces the graph in half precision between casts, so that inputs and outputs stay float32. ONNX Runtime's CPU
computes most of it in float32 all the same; browsers' WebGPU and phones' accelerators do not.
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
EXTERNAL_DATA_ABOVE = 1 << 31  # bytes of weights; protobuf ends at 2 GiB
_ROOM_FOR_GRAPH = 16 << 20  # of these two gigabytes, what the nodes and names may take
_FEW = 1024  # numbers, which it is not worth to count
# What torch 2.13 says on every export besides: one name for a free axis is enough.
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
        conversion: its precision; for `fp16` the graph's weights are halved in place.

    Raises:
        ExportError: the graph cannot be traced, or the result is rejected or breaks the contract.
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
                optimize_ir(program.model, should_fold=_unless_it_grows)
    except Exception as error:  # the converter's own errors have no common class
        raise ExportError(f"torch.onnx.export failed on {path.stem}: {root_cause(error)}") from error
    if program is None:
        raise ExportError(f"torch.onnx.export returned nothing for {path.stem}")
    _share_indices(program.model)
    _forget_where_it_came_from(program.model)
    program.save(path, external_data=weight_bytes(graph) > EXTERNAL_DATA_ABOVE - _ROOM_FOR_GRAPH)
    del program
    check(path, contract)


def _unless_it_grows(node: Any) -> bool | None:
    """Whether constants are multiplied out: not to more numbers than they are, for that is done on loading.

    None leaves it to the optimizer's own rules.
    """
    given = sum(value.const_value.size for value in node.inputs if value is not None)
    made = sum(math.prod(value.shape) for value in node.outputs if value.shape is not None and value.shape.is_static())
    return False if made > max(given, _FEW) else None


def _share_indices(model: Any) -> None:
    """Keep tables of whole numbers once: each of TinyViT's attentions has those of its window."""
    kept: dict[tuple[Any, ...], Any] = {}
    for value in list(model.graph.initializers.values()):
        if value.dtype == ir.DataType.INT64 and value.const_value.size > _FEW:
            first = kept.setdefault((*value.shape, value.const_value.tobytes()), value)
            if first is not value:
                value.replace_all_uses_with(first)
                del model.graph.initializers[value.name]


def _forget_where_it_came_from(model: Any) -> None:
    """Take torch's notes off a graph: each node's lines of source code, with the paths of the machine that exported.

    They are a sixth of nano's decoder, and nobody's business.
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
    """Have `onnx.checker` and ONNX Runtime read the file, and compare its face with the contract.

    Raises:
        ExportError: either rejects it, or an input or output differs.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"onnx.checker rejects {path.name}: {last_line_of(error)}") from error
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # only to be read, not to be run
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ExportError(f"ONNX Runtime rejects {path.name}: {last_line_of(error)}") from error
    for specs, found in ((contract.inputs, session.get_inputs()), (contract.outputs, session.get_outputs())):
        want = [(spec.name, tuple(spec.shape)) for spec in specs]
        have = [(arg.name, tuple(arg.shape)) for arg in found]
        if want != have:
            raise ExportError(f"{path.name} has {have}, the contract says {want}")


class _Half(nn.Module):
    """A graph in float16 behind float32 inputs and outputs."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.wrapped = graph.half()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The graph's outputs."""
        found = self.wrapped(*(each.half() for each in inputs))
        return tuple(each.float() for each in (found if isinstance(found, tuple) else (found,)))
