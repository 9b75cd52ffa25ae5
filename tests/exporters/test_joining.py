"""Graphs of several frames share one copy of their weights, and compute what they did alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import Tensor, nn

from sam_edge_exporters import Part, exporter_for
from sam_edge_exporters.conversion import PLAIN
from sam_edge_runtime.bundle.contract import FrameSize, Layout, encoder_contract, frame_signature
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import BundleError
from sam_edge_runtime.mil import Program, read_package
from tests.model.builders import seeded_tensor

FRAMES = (FrameSize(192, 256), FrameSize(256, 192), FrameSize(256, 256))
CHANNELS = 256
NAMES = [frame_signature(frame) for frame in FRAMES]


class Small(nn.Module):
    """A convolution with a position for each cell: 262,144 weights that frames share, and a table that they do not."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        self.patches, self.mix = nn.Conv2d(3, CHANNELS, 16, 16), nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.positions = nn.Parameter(seeded_tensor("positions", 1, 16, 16))

    def forward(self, image: Tensor) -> Tensor:
        if self.layout is Layout.NHWC:
            image = image.permute(0, 3, 1, 2)
        x = self.mix(torch.relu(self.patches(image / 255)))
        x = x + self.positions[:, : x.shape[2], : x.shape[3]]
        return x.permute(0, 2, 3, 1) if self.layout is Layout.NHWC else x


@pytest.fixture(scope="module", params=["onnx", "tflite", "coreml"])
def joined(request, tmp_path_factory) -> tuple[str, nn.Module, list[Part]]:
    target, exporter = target_named(request.param), exporter_for(request.param)
    torch.manual_seed(0)
    graph = Small(target.layout).eval().requires_grad_(requires_grad=False)
    folder, parts = tmp_path_factory.mktemp(target.name), []
    for number, frame in enumerate(FRAMES):
        source = folder / f"alone-{number}{target.suffix}"
        exporter.export(graph, encoder_contract(frame, CHANNELS, target.layout), source, PLAIN)
        name = f"encoder_{frame.name}" if target.file_per_frame and number else "encoder"
        parts.append(Part(frame_signature(frame), source, folder / "joined" / f"{name}{target.suffix}"))
    (folder / "joined").mkdir()
    exporter.join(parts)
    return target.name, graph, parts


def size_of(path: Path) -> int:
    return sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file())


def computed(target: str, part: Part, image: np.ndarray) -> np.ndarray:
    if target == "onnx":
        return ort.InferenceSession(str(part.path)).run(None, {"image": image})[0]
    if target == "tflite":
        interpreter = Interpreter(str(part.path))
        return interpreter.get_signature_runner(part.name)(image=image)["image_embeddings"]
    return Program(read_package(part.path, part.name)).run({"image": image})["image_embeddings"]


def test_each_frame_computes_what_torch_does(joined):
    target, graph, parts = joined
    for frame, part in zip(FRAMES, parts, strict=True):
        image = (seeded_tensor("image", *graph.layout.shape(3, frame)) * 60 + 120).clamp(0, 255)
        expected = graph(image).numpy()
        found = computed(target, part, image.numpy())
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_weights_are_stored_once(joined):
    _, _, parts = joined
    alone = [size_of(part.source) for part in parts]
    assert size_of(parts[0].path.parent) < 1.4 * max(alone) < sum(alone) / 2  # LiteRT's converter expands the table


def test_a_package_of_several_functions_begins_with_the_first_frame(joined):
    target, _, parts = joined
    if target != "coreml":
        pytest.skip("functions are Core ML's")
    assert read_package(parts[0].path).inputs == read_package(parts[0].path, NAMES[0]).inputs
    assert read_package(parts[0].path, NAMES[1]).inputs["image"][0] == (1, 3, 256, 192)
    with pytest.raises(BundleError, match="no function 'frame_1x1'"):
        read_package(parts[0].path, "frame_1x1")


def test_a_file_of_several_signatures_names_them(joined):
    target, _, parts = joined
    if target != "tflite":
        pytest.skip("signatures are TFLite's")
    assert sorted(Interpreter(str(parts[0].path)).get_signature_list()) == sorted(NAMES)


def test_onnx_weights_lie_on_boundaries_in_one_file(joined):
    target, _, parts = joined
    if target != "onnx":
        pytest.skip("external data is ONNX's")
    import onnx

    places = set()
    for part in parts:
        model = onnx.load(part.path, load_external_data=False)
        for tensor in model.graph.initializer:
            found = {entry.key: entry.value for entry in tensor.external_data}
            if found:
                assert found["location"] == "encoder.onnx.data"
                assert int(found["offset"]) % 64 == 0
                places.add((int(found["offset"]), int(found["length"])))
    ends = sorted(places)
    assert all(offset + length <= following for (offset, length), (following, _) in pairwise(ends))
    assert len(places) >= 3  # two weights and the table
