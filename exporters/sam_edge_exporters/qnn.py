"""The ONNX operations that Qualcomm's HTP backend, the NPU of Snapdragon chips, computes: a table, and a check by it.

Names are those of QNN's execution provider, the page "QNN Execution Provider", "Supported ONNX operators"
(https://github.com/onnxruntime/onnxruntime-qnn/blob/main/docs/execution_providers/QNN-ExecutionProvider.md). That page
gives types for few of them and refers to
https://docs.qualcomm.com/doc/80-63442-10/topic/HtpOpDefSupplement.html. So each operation was compiled alone, in each
type, by onnxruntime-qnn 2.7.0 for Hexagon V68 and V73 on Linux; `tests/exporters/test_qnn.py` repeats that where the
package is installed. A compiler accepts more than a device computes well: nothing here was run on one.

A backend may still reject an operation of the table for its shapes. One that is missing is left to the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import GraphProto, NodeProto, TensorProto

from .conversion import Inspection

TYPES = ("uint8", "uint16", "float")  # of activations; float is computed in float16, from V69 on
# Operations that compiled in all of `TYPES`.
_COMPILED = (
    "Abs Add AveragePool Clip Concat Conv ConvTranspose Cos DepthToSpace Div Exp Expand Floor Gather GatherND Gelu "
    "Gemm GlobalAveragePool HardSwish LayerNormalization Log MatMul Max MaxPool Min Mul Neg Pad Pow Reciprocal "
    "ReduceMax ReduceMean ReduceSum Relu Reshape Resize Sigmoid Sin Slice Softmax SpaceToDepth Split Sqrt Squeeze "
    "Sub Tanh Tile Transpose Unsqueeze"
)
HTP_OPERATIONS = frozenset(_COMPILED.split())
# Those of them that did not compile for V68, which has no float16: (operation, type).
MISSING_ON_V68 = frozenset({("Gather", "float"), ("Gelu", "float")})
HIGHEST_RANK = 5  # of a tensor; a Reshape to six axes did not compile
PAIRS = ("QuantizeLinear", "DequantizeLinear")
_INTEGERS: dict[int, str] = {
    TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16",
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
}


def inspect(path: Path) -> Inspection:
    """Statistics of an ONNX file, and what keeps its operations off the HTP.

    Returns:
        `operations`, the number of each kind without pairs of QuantizeLinear and DequantizeLinear; `activations`, the
        same by the type that they compute in; `not_in_qnn_htp`, a line on each kind of operation that is missing from
        the table in its type, on tensors of too many axes, and on free axes, which QNN has not.
    """
    graph = onnx.load(path, load_external_data=False).graph
    types = _types(graph)
    quantized = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    counts: dict[str, dict[str, int]] = {}
    total: dict[str, int] = {}
    for node in graph.node:
        kind = types.get(node.input[0] if node.input else "")
        if node.op_type in PAIRS or kind is None:
            continue
        kind = kind if node.output[0] in quantized else "float"  # QNN computes in integers between pairs only
        by_kind = counts.setdefault(kind, {})
        by_kind[node.op_type] = by_kind.get(node.op_type, 0) + 1
        total[node.op_type] = total.get(node.op_type, 0) + 1
    return {
        "operations": dict(sorted(total.items())),
        "activations": {kind: dict(sorted(each.items())) for kind, each in sorted(counts.items())},
        "not_in_qnn_htp": _missing(graph, counts),
    }


def _missing(graph: GraphProto, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    found = []
    for kind, operations in sorted(counts.items()):
        for name, count in sorted(operations.items()):
            if name not in HTP_OPERATIONS or kind not in TYPES:
                found.append(f"{name}: {count} in {kind}")
    free = sorted({size.dim_param for each in graph.input for size in _sizes(each) if size.dim_param})
    if free:
        found.append(f"free axes {', '.join(free)}: fix --prompts and --points, or run this graph on the CPU")
    high = sorted(each.name for each in graph.value_info if len(_sizes(each)) > HIGHEST_RANK)
    if high:
        found.append(f"{len(high)} tensors of more than {HIGHEST_RANK} axes, such as {high[0]}")
    return found


def _sizes(value: Any) -> Any:
    return value.type.tensor_type.shape.dim


def _types(graph: GraphProto) -> dict[str, str]:
    """The type that an activation has in integers where it comes from a DequantizeLinear, else `float`.

    Tensors of other types, such as indices, are left out.
    """
    constants = {each.name: each.data_type for each in graph.initializer}
    described = (*graph.value_info, *graph.input, *graph.output)
    floats = {each.name for each in described if each.type.tensor_type.elem_type == TensorProto.FLOAT}
    found = dict.fromkeys((*floats, *(name for name, kind in constants.items() if kind == TensorProto.FLOAT)), "float")
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            found[node.output[0]] = _stored(node, constants)
    return found


def _stored(node: NodeProto, constants: Mapping[str, int]) -> str:
    """The integer type that a DequantizeLinear reads: that of its zero point, uint8 where it has none."""
    zero = node.input[2] if len(node.input) > 2 else ""
    return _INTEGERS.get(constants.get(zero, TensorProto.UINT8), "float")
