"""Small ONNX graphs for the quantizer's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from sam_edge_quant import Plan, Range, Recipe, fingerprint
from sam_edge_quant.onnx import quantizer
from sam_edge_quant.onnx.graph import layers_of


class Net:
    """A graph built one operation at a time; weights are drawn from a seed."""

    def __init__(self, seed: int = 0, **inputs: Sequence[int | str]) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.inputs = {name: list(shape) for name, shape in inputs.items()}

    def constant(self, value: np.ndarray, name: str = "") -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def weight(self, name: str, *shape: int, spread: int | None = None, size: float = 0.3) -> str:
        """A constant; `spread` is an axis whose channels differ in size by up to a thousand."""
        value = self.rng.normal(size=shape) * size
        if spread is not None:
            value *= np.geomspace(0.001, 1, shape[spread]).reshape(
                [-1 if i == spread else 1 for i in range(len(shape))]
            )
        return self.constant(value.astype(np.float32), name)

    def add(self, kind: str, *inputs: str, to: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [to], f"node_{to}", **attributes))
        return to

    def conv(
        self, read: str, to: str, channels: tuple[int, int] = (8, 8), kernel: int = 1, **attributes: object
    ) -> str:
        out, in_group = channels
        weight, bias = self.weight(f"{to}.weight", out, in_group, kernel, kernel), self.weight(f"{to}.bias", out)
        return self.add("Conv", read, weight, bias, to=to, pads=[kernel // 2] * 4, **attributes)

    def linear(self, read: str, to: str, wide: tuple[int, int] = (8, 8)) -> str:
        product = self.add("MatMul", read, self.weight(f"{to}.weight", *wide), to=f"{to}_product")
        return self.add("Add", product, self.weight(f"{to}.bias", wide[1]), to=to)

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in self.inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)

    def save(self, folder: Path, *outputs: str) -> Path:
        path = folder / "net.onnx"
        onnx.save(self.model(*outputs), path)
        return path


def plan_for(path: Path, recipe: Recipe, arm: bool = False, without: Sequence[str] = ()) -> Plan:
    """A plan in which a layer has the name of its weight without `.weight`."""
    layers = layers_of(onnx.load(path).graph)
    names = {layer.node.input[1].removesuffix(".weight"): layer for layer in layers}
    return Plan(recipe, {fingerprint(each.weight): name for name, each in names.items() if name not in without}, arm)


def ranges_of(path: Path, plan: Plan, *samples: Mapping[str, np.ndarray]) -> dict[str, Range]:
    """Smallest and largest values of the tensors whose range the plan needs."""
    found: dict[str, Range] = {}

    def receive(name: str, value: np.ndarray) -> None:
        before = found.get(name, Range(np.inf, -np.inf))
        found[name] = Range(min(before.low, float(value.min())), max(before.high, float(value.max())))

    observe = quantizer.observer(path, quantizer.tensors(path, plan))
    for sample in samples:
        observe(dict(sample), receive)
    return found


def run(path: Path, sample: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The artifact's outputs."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, dict(sample))


def executed(path: Path, folder: Path) -> list[str]:
    """Types of the operations in ONNX Runtime's optimized graph."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
