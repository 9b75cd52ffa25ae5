"""The table of QNN's HTP operations: what a graph has that is not in it, and the compiler that it was made with."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sam_edge_exporters.delegates import DELEGATES
from sam_edge_exporters.qnn import HTP_OPERATIONS, TYPES, inspect

ROOT = Path(__file__).parents[2]
needs_qnn = pytest.mark.skipif(find_spec("onnxruntime_qnn") is None, reason="onnxruntime-qnn is not installed")
MICROSOFT = "com.microsoft"
# What operations need beside their activations: the number of these, further inputs, attributes.
_SHAPE = (1, 8, 16, 16)
_TWO = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Concat")
_FURTHER = {
    "Clip": [np.float32(0), np.float32(6)],
    "Reshape": [np.array([1, 8, 256])],
    "Slice": [np.array([0]), np.array([4]), np.array([1])],
    "Pad": [np.array([0, 0, 0, 0, 0, 0, 1, 1])],
    "Gather": [np.array([1, 2])],
    "GatherND": [np.array([[0, 1], [0, 2]])],
    "Resize": [np.array([], np.float32), np.array([1, 1, 2, 2], np.float32)],
    "Squeeze": [np.array([0])],
    "Unsqueeze": [np.array([0])],
    "Expand": [np.array([2, 8, 16, 16])],
    "Tile": [np.array([2, 1, 1, 1])],
    "Split": [np.array([4, 4])],
    **{kind: [np.array([-1])] for kind in ("ReduceMean", "ReduceMax", "ReduceSum")},
}
_ATTRIBUTES = {
    "Concat": {"axis": 1},
    "Gather": {"axis": 1},
    "Split": {"axis": 1},
    "Softmax": {"axis": -1},
    "LayerNormalization": {"axis": -1},
    "Transpose": {"perm": [0, 2, 3, 1]},
    "DepthToSpace": {"blocksize": 2, "mode": "DCR"},
    "SpaceToDepth": {"blocksize": 2},
    "Resize": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    **{kind: {"kernel_shape": [2, 2], "strides": [2, 2]} for kind in ("MaxPool", "AveragePool")},
    "ConvTranspose": {"strides": [2, 2]},
}
_WEIGHTS = {"Conv": (8, 8, 1, 1), "ConvTranspose": (8, 8, 2, 2), "Gemm": (16, 16), "LayerNormalization": (16,)}


class OneOperation:
    """A graph of one operation between pairs of QuantizeLinear and DequantizeLinear; in `float` without them."""

    def __init__(self, kind: str, dtype: str) -> None:
        self.dtype, self.nodes, self.constants = dtype, [], {}
        shape = (16, 16) if kind == "Gemm" else (1, 2, 16, 16) if kind == "MatMul" else _SHAPE
        names = ["x0", "x1"] if kind in (*_TWO, "MatMul") else ["x0"]
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names]
        given = [self.pair(name) for name in names]
        if kind in _WEIGHTS:
            given += self.weights(kind, _WEIGHTS[kind])
        for index, value in enumerate(_FURTHER.get(kind, [])):
            given.append(self.store(f"further_{index}", value))
        outputs = ["y0", "y1"] if kind == "Split" else ["y0"]
        self.nodes.append(helper.make_node(kind, given, outputs, **_ATTRIBUTES.get(kind, {})))
        ends = [self.pair(name) for name in outputs]
        graph = helper.make_graph(
            self.nodes,
            kind,
            inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ends],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1)]
        self.model = helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def store(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = np.asarray(value)
        return name

    def pair(self, name: str) -> str:
        if self.dtype == "float":
            return name
        wide = self.dtype == "uint16"
        self.store(f"{name}_scale", np.float32(1e-4 if wide else 0.02))
        self.store(f"{name}_zero", np.array(32768 if wide else 128, self.dtype))
        for kind, read, to in (
            ("QuantizeLinear", name, f"{name}_q"),
            ("DequantizeLinear", f"{name}_q", f"{name}_dq"),
        ):
            parameters = [read, f"{name}_scale", f"{name}_zero"]
            self.nodes.append(helper.make_node(kind, parameters, [to], domain=MICROSOFT))
        return f"{name}_dq"

    def weights(self, kind: str, shape: tuple[int, ...]) -> list[str]:
        channels = shape[-1] if kind == "Gemm" else shape[0]
        if self.dtype == "float":
            return [self.store("w", np.ones(shape, np.float32)), self.store("b", np.ones(channels, np.float32))]
        scalar, axis = kind == "LayerNormalization", {"Gemm": 1, "ConvTranspose": 1}.get(kind, 0)
        dtype = np.uint8 if scalar else np.int8
        rng = np.random.default_rng(0)
        found = []
        for name, values, scale in (
            ("w", rng.integers(1, 100, shape).astype(dtype), 0.01),
            ("b", np.zeros(channels, np.int32), 1e-4),
        ):
            self.store(name, values)
            scales = () if scalar else (channels,)
            self.store(f"{name}_scale", np.full(scales, scale, np.float32))
            self.store(f"{name}_zero", np.zeros(scales, values.dtype))
            along = {} if scalar else {"axis": axis if name == "w" else 0}
            read = [name, f"{name}_scale", f"{name}_zero"]
            self.nodes.append(helper.make_node("DequantizeLinear", read, [f"{name}_f"], domain=MICROSOFT, **along))
            found.append(f"{name}_f")
        return found


_COMPILE = """
import json, sys
from pathlib import Path
sys.path.insert(0, "benchmarks")
from qnn_htp import compiled
print(json.dumps({path: compiled(Path(path), int(sys.argv[1]))["left_out"] for path in sys.argv[2:]}))
"""


def left_out(folder: Path, kinds: list[str], arch: int = 73) -> dict[tuple[str, str], list[str]]:
    """What QNN's compiler leaves out of each operation alone, in a process of its own."""
    paths = {}
    for kind in kinds:
        for dtype in TYPES:
            paths[kind, dtype] = folder / f"{kind}_{dtype}.onnx"
            onnx.save(OneOperation(kind, dtype).model, paths[kind, dtype])
    said = subprocess.run(
        [sys.executable, "-c", _COMPILE, str(arch), *map(str, paths.values())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(said.stdout.strip().splitlines()[-1])
    return {key: found[str(path)] for key, path in paths.items()}


@needs_qnn
def test_operations_of_the_table_compile_in_each_type_and_others_do_not(tmp_path):
    found = left_out(tmp_path, ["Gelu", "LayerNormalization", "MatMul", "Conv", "Erf"])
    assert {kind for (kind, _), reasons in found.items() if reasons} == {"Erf"}


@needs_qnn
@pytest.mark.slow
def test_the_whole_table_compiles(tmp_path):
    found = left_out(tmp_path, sorted(HTP_OPERATIONS))
    assert {key for key, reasons in found.items() if reasons} == set()


def test_what_the_htp_lacks_is_listed(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(onnx.shape_inference.infer_shapes(OneOperation("Gelu", "uint16").model), path)
    found = inspect(path)
    assert found["not_in_qnn_htp"] == []
    assert found["activations"] == {"uint16": {"Gelu": 1}}
    assert found["operations"] == {"Gelu": 1}

    model = onnx.shape_inference.infer_shapes(OneOperation("Erf", "float").model)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "B"
    onnx.save(model, path)
    assert inspect(path)["not_in_qnn_htp"] == [
        "Erf: 1 in float",
        "free axes B: fix --prompts and --points, or run this graph on the CPU",
    ]


def test_a_tensor_of_six_axes_is_listed(tmp_path):
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["wide"]),
        helper.make_node("Transpose", ["wide"], ["y"], perm=[0, 1, 3, 2, 4, 5]),
    ]
    graph = helper.make_graph(
        nodes,
        "six",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array([1, 8, 4, 4, 4, 4]), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / "six.onnx")
    assert inspect(tmp_path / "six.onnx")["not_in_qnn_htp"] == ["1 tensors of more than 5 axes, such as wide"]


def test_tflite_has_a_table_of_the_same_backend():
    assert {"GELU", "BATCH_MATMUL", "DEPTH_TO_SPACE", "RSQRT"} <= DELEGATES["qnn_htp"]
    assert "RESIZE_NEAREST_NEIGHBOR" in DELEGATES["qnn_htp"]
    assert "ERF" not in DELEGATES["qnn_htp"]
