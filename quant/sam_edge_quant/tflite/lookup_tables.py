"""Lookup tables of a TFLite file in float16: constants that are large and no layer's weight.

litert-torch folds constants. Relative position embeddings become a number for each pair of cells, and absolute ones,
computed from four tables of sines, a number for each cell and channel: 9 MB in TinyViT's graphs, nearly as much as all
weights in INT8. Their values are small and only added to activations, so they are stored as float16 behind a
DEQUANTIZE, like the weights of an fp16 file: LiteRT unpacks them once and computes in fp32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_quantizer import qtyping
from ai_edge_quantizer.transformations import transformation_utils

from .graph import TfliteFile

LEAST_SIZE = 4096  # elements of a table; smaller ones save little
LARGEST = float(np.finfo(np.float16).max)


def halve_tables(file: TfliteFile) -> int:
    """Convert the lookup tables of a file's model to float16, in place.

    Returns:
        The number of tables.
    """
    model = file.model
    operations = [operation for graph in file.graphs for operation in graph.operations]
    own = {file.buffer(name) for each in operations for name in (each.weight, each.bias) if name is not None}
    halved: set[int] = set()  # buffers, which signatures share
    for graph in model.subgraphs:
        outputs = {int(index) for index in graph.outputs}
        for index, tensor in enumerate(list(graph.tensors)):
            if tensor.type != qtyping.TensorType.FLOAT32 or tensor.buffer in own or index in outputs:
                continue
            if tensor.buffer not in halved:
                if model.buffers[tensor.buffer].data is None:
                    continue
                values = file.constant(tensor.name.decode())
                if values.size < LEAST_SIZE or np.abs(values).max() > LARGEST:
                    continue
                model.buffers[tensor.buffer].data = values.astype(np.float16).ravel().view(np.uint8)
                halved.add(tensor.buffer)
            _unpack(model, graph, index)
    return len(halved)


def _unpack(model: Any, graph: Any, index: int) -> None:
    """Put a DEQUANTIZE between a table, which is float16 now, and its readers."""
    table = graph.tensors[index]
    table.type = qtyping.TensorType.FLOAT16
    whole = transformation_utils.add_new_activation_tensor(
        table.name + b"_unpacked", table.shape, qtyping.TensorType.FLOAT32, graph
    )
    for operation in graph.operators:
        operation.inputs = [whole if each == index else each for each in operation.inputs]
    unpacking = qtyping.OperatorT()
    unpacking.opcodeIndex = transformation_utils.add_op_code(qtyping.BuiltinOperator.DEQUANTIZE, model.operatorCodes)
    unpacking.inputs, unpacking.outputs = [index], [whole]
    graph.operators.insert(0, unpacking)
