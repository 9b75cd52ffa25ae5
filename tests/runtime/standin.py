"""Two small graphs for tests: their outputs are a simple, known function of every input.

The function exists in numpy (`NumpyBackend`, which also records its inputs) and as two ONNX graphs
(`write_onnx_bundle`). Each slot adds (label + 2) * (x + 2 y) to its prompt's sum s; empty slots add nothing, as the
contract requires. IoU prediction k is s * (k + 1) / 1000. Mask k is that plus the mask prompt plus the mean embedding.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
from onnx import TensorProto, helper

from sam_edge_runtime.arrays import Decoded
from sam_edge_runtime.bundle.bundle import Bundle, record_files
from sam_edge_runtime.bundle.contract import FrameSize, GraphContract, TensorSpec, decoder_contract, encoder_contract
from sam_edge_runtime.bundle.manifest import Checkpoint, Manifest

SIDE, CHANNELS = 256, 3
CELLS = SIDE // 4
OPSET, IR_VERSION = 18, 9


def encode(image: np.ndarray) -> np.ndarray:
    grid = SIDE // 16
    return image.reshape(1, 3, grid, 16, grid, 16).mean(axis=(3, 5)).astype(np.float32)


def decode(embeddings, coords, labels, masks, has_mask) -> tuple[np.ndarray, np.ndarray]:
    weights = np.where(labels > -1.5, labels + 2, 0) * (coords[:, :, 0] + 2 * coords[:, :, 1])
    sums = weights.sum(axis=1)[:, None] * np.arange(1, 5) / 1000  # (B, 4)
    prompt = masks * has_mask[:, None, None, None] + embeddings.mean()  # (B, 1, S/4, S/4)
    return (sums[:, :, None, None] + prompt).astype(np.float32), sums.astype(np.float32)


class NumpyBackend:
    """The function in numpy; records the inputs of every call."""

    def __init__(self) -> None:
        self.images: list[np.ndarray] = []
        self.calls: list[SimpleNamespace] = []

    def encode(self, image):
        self.images.append(image)
        return (encode(image),)

    def decode(self, features, point_coords, point_labels, mask_input, has_mask_input):
        self.calls.append(
            SimpleNamespace(coords=point_coords, labels=point_labels, masks=mask_input, has_mask=has_mask_input)
        )
        (embeddings,) = features
        return Decoded(*decode(embeddings, point_coords, point_labels, mask_input, has_mask_input))


def manifest(prompts: int | None = None, points: int | None = None, **changes) -> Manifest:
    fields = {
        "variant": "standin",
        "parameters": 1,
        "licence": "Apache-2.0",
        "checkpoint": Checkpoint("random:0", None, True),
        "target": "onnx",
        "precision": "fp32",
        "recipe": {},
        "input_side": SIDE,
        "embedding_channels": CHANNELS,
        "prompts": prompts,
        "points": points,
        "encoder": "encoder.onnx",
        "decoder": "decoder.onnx",
        "files": {},
    }
    return Manifest(**{**fields, **changes})


def bundle_without_files(prompts: int | None = None, points: int | None = None) -> Bundle:
    return Bundle(Path("nowhere"), manifest(prompts, points))


# The two graphs -----------------------------------------------------------------------------------------------------


def _values(specs: tuple[TensorSpec, ...], dtype: int) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(spec.name, dtype, list(spec.shape)) for spec in specs]


def _constant(name: str, values) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.asarray(values), name)


def _model(nodes, contract: GraphContract, constants, dtype: int = TensorProto.FLOAT) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes, "standin", _values(contract.inputs, dtype), _values(contract.outputs, dtype), constants
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return model


def encoder_model(contract: GraphContract | None = None) -> onnx.ModelProto:
    contract = contract or encoder_contract(FrameSize.square(SIDE), CHANNELS)
    (image,), (embeddings,) = contract.input_names, contract.output_names
    pool = helper.make_node("AveragePool", [image], [embeddings], kernel_shape=[16, 16], strides=[16, 16])
    return _model([pool], contract, [])


def decoder_model(contract: GraphContract) -> onnx.ModelProto:
    embeddings, coords, labels, masks, has_mask = contract.input_names
    low_res, scores = contract.output_names
    node = helper.make_node
    f32 = np.float32
    constants = [
        _constant("xy", np.array([1, 2], f32)),
        _constant("empty", f32(-1.5)),
        _constant("two", f32(2)),
        _constant("factors", np.arange(1, 5, dtype=f32) / f32(1000)),
        _constant("last", np.array([-1], np.int64)),
        _constant("first", np.array([1], np.int64)),
        _constant("planes", np.array([2, 3], np.int64)),
        _constant("behind", np.array([1, 2, 3], np.int64)),
    ]
    nodes = [
        node("Mul", [coords, "xy"], ["weighted"]),
        node("ReduceSum", ["weighted", "last"], ["positions"], keepdims=0),
        node("Greater", [labels, "empty"], ["used"]),
        node("Cast", ["used"], ["used_f"], to=TensorProto.FLOAT),
        node("Add", [labels, "two"], ["label2"]),
        node("Mul", ["label2", "used_f"], ["weights"]),
        node("Mul", ["weights", "positions"], ["terms"]),
        node("ReduceSum", ["terms", "first"], ["sums"], keepdims=1),
        node("Mul", ["sums", "factors"], [scores]),
        node("Unsqueeze", [scores, "planes"], ["scores4"]),
        node("Unsqueeze", [has_mask, "behind"], ["has4"]),
        node("Mul", [masks, "has4"], ["prompt"]),
        node("ReduceMean", [embeddings], ["mean"], keepdims=0),
        node("Add", ["prompt", "mean"], ["plane"]),
        node("Add", ["plane", "scores4"], [low_res]),
    ]
    return _model(nodes, contract, constants)


def write_onnx_bundle(folder: Path, prompts: int | None = None, points: int | None = None, **models) -> Bundle:
    """A complete bundle in `folder`; `models` replace `encoder` or `decoder`."""
    folder.mkdir(parents=True, exist_ok=True)
    contract = decoder_contract(FrameSize.square(SIDE), CHANNELS, prompts, points)
    onnx.save(models.get("encoder") or encoder_model(), folder / "encoder.onnx")
    onnx.save(models.get("decoder") or decoder_model(contract), folder / "decoder.onnx")
    (folder / "manifest.json").write_text(manifest(prompts, points, files=record_files(folder)).to_json())
    return Bundle.open(folder)
