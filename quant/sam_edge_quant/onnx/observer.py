"""An observer of an ONNX file's activations: ONNX Runtime with the wanted tensors as outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from sam_edge_quant.ranges.ranges import Receive
from sam_edge_runtime.arrays import Call
from sam_edge_runtime.errors import ExportError, first_line

BYTES_AT_ONCE = 1 << 30  # of activations that an observer holds
BYTES_REDUCED = 1 << 28  # of an activation of which only the extremes are passed on, such as attention's scores


def observer(path: Path, names: Sequence[str]) -> Callable[[Call, Receive], None]:
    """A function that runs the fp32 artifact on a sample and passes the values of the named activations on.

    Where these exceed 1 GiB, the artifact is run several times, for some of them at a time. Of an activation of more
    than 256 MiB, only the least and the largest value are passed on.

    Raises:
        ExportError: ONNX Runtime rejects the artifact; the function raises it if ONNX Runtime rejects the sample.
    """
    model = onnx.load(path, load_external_data=False)
    inputs = {each.name for each in model.graph.input}
    extremes = _add_extremes(model.graph, [name for name in names if name not in inputs])
    parts = _parts(model.graph, [extremes.get(name, name) for name in names if name not in inputs])
    original = {made: name for name, made in extremes.items()}
    # A single session is kept; several, each with all the weights, would take more memory than the values.
    single = _session(model, parts[0], path) if len(parts) == 1 else None

    def observe(sample: Call, receive: Receive) -> None:
        for name in inputs.intersection(names):
            receive(name, sample[name])
        for part in parts:
            session = single or _session(model, part, path)
            try:
                values = session.run(part, sample)
            except Exception as error:  # ONNX Runtime's errors have no common class
                raise ExportError(f"ONNX Runtime fails on {path.name}: {first_line(error)}") from error
            for name, value in zip(part, values, strict=True):
                receive(original.get(name, name), value)

    return observe


def _add_extremes(graph: GraphProto, names: Sequence[str]) -> dict[str, str]:
    """Append the extremes (2,) of large activations to a graph; returns the new tensors' names by the activations'."""
    sizes = _bytes(graph)
    added = {}
    for name in names:
        if sizes[name] <= BYTES_REDUCED:
            continue
        made = f"{name}_extremes"
        ends = [f"{name}_{kind}" for kind in ("ReduceMin", "ReduceMax")]
        for kind, end in zip(("ReduceMin", "ReduceMax"), ends, strict=True):
            graph.node.append(onnx.helper.make_node(kind, [name], [end], keepdims=0))
        shape = [f"{name}_row"]
        graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), shape[0]))
        rows = [f"{end}_row" for end in ends]
        for end, row in zip(ends, rows, strict=True):
            graph.node.append(onnx.helper.make_node("Reshape", [end, *shape], [row]))
        graph.node.append(onnx.helper.make_node("Concat", rows, [made], axis=0))
        graph.value_info.append(onnx.helper.make_tensor_value_info(made, TensorProto.FLOAT, [2]))
        added[name] = made
    return added


def _parts(graph: GraphProto, names: Sequence[str]) -> list[list[str]]:
    """Names in groups whose values are held at once."""
    sizes = _bytes(graph)
    parts: list[list[str]] = []
    space = 0
    for name in names:
        if sizes[name] > space:
            parts.append([])
            space = BYTES_AT_ONCE
        parts[-1].append(name)
        space -= sizes[name]
    return parts


def _bytes(graph: GraphProto) -> dict[str, int]:
    """Bytes of each activation; a free axis counts as 1."""
    shapes = {each.name: each.type.tensor_type.shape.dim for each in (*graph.value_info, *graph.output)}
    return {name: 4 * prod(each.dim_value or 1 for each in shape) for name, shape in shapes.items()}


def _session(model: ModelProto, names: Sequence[str], path: Path) -> ort.InferenceSession:
    """A session whose outputs are the named tensors; changes the outputs of `model`."""
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Extended optimizations compute in other layouts: more memory for copies, the same values.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    try:
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ExportError(f"ONNX Runtime rejects {path.name}: {first_line(error)}") from error
