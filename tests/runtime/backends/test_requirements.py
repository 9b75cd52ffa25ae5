"""The oldest engines of a bundle, read from its files, and the refusal of files that an engine computes wrongly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import flatbuffers
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import helper

from sam_edge_runtime.backends import BackendOptions
from sam_edge_runtime.backends.graphs import DECODER
from sam_edge_runtime.backends.requirements import ir_version, oldest_engines
from sam_edge_runtime.backends.tflite import PREDECESSOR, TfliteBackend
from sam_edge_runtime.backends.tflite_file import tensor_types
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.errors import BackendError
from tests.runtime.standin import manifest, write_onnx_bundle

FLOAT, INT4, INT8, INT16 = (getattr(schema.TensorType, name) for name in ("FLOAT32", "INT4", "INT8", "INT16"))
LITERT, BOTH = ("LiteRT 2.1 or later",), ("LiteRT 2.1 or later", "tflite-runtime 2.14 with numpy 1")


def write_tflite(path: Path, *types: int) -> None:
    """A TFLite file of one subgraph with a tensor of each type."""
    model, subgraph = schema.ModelT(), schema.SubGraphT()
    model.subgraphs, model.buffers = [subgraph], [schema.BufferT()]
    subgraph.tensors = []
    for kind in types:
        tensor = schema.TensorT()
        tensor.type, tensor.shape = kind, [1]
        subgraph.tensors.append(tensor)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))


def tflite_bundle(root: Path, *types: int) -> Bundle:
    """The encoder in float32, the decoder with the types."""
    write_tflite(root / "encoder.tflite", FLOAT)
    write_tflite(root / "decoder.tflite", FLOAT, *types)
    return Bundle(root, manifest(target="tflite", encoder="encoder.tflite", decoder="decoder.tflite"))


@pytest.mark.parametrize(
    ("types", "engines"), [((), BOTH), ((INT8,), BOTH), ((INT8, INT16), LITERT), ((INT4,), LITERT)]
)
def test_tflite_files_name_the_engines_that_run_their_tensors(tmp_path, types, engines):
    bundle = tflite_bundle(tmp_path, *types)
    assert tensor_types(bundle.decoder_path) == {kind for kind in types if kind != FLOAT}
    assert oldest_engines(bundle) == engines


def test_dynamic_tflite_bundles_need_litert(tmp_path):
    bundle = tflite_bundle(tmp_path, INT8)
    for recipe in ({"name": "dynamic", "dynamic": True}, {"dynamic": False, "layers": {"a": "dynamic"}}):
        assert oldest_engines(Bundle(tmp_path, replace(bundle.manifest, recipe=recipe))) == LITERT
    assert oldest_engines(Bundle(tmp_path, replace(bundle.manifest, recipe={"dynamic": False}))) == BOTH


def test_tflite_bundles_for_npus_need_a_newer_litert(tmp_path):
    bundle = tflite_bundle(tmp_path, INT8)
    for recipe in ({"name": "npu"}, {"name": "custom", "layers": {"a": "npu"}}):
        assert oldest_engines(Bundle(tmp_path, replace(bundle.manifest, recipe=recipe))) == ("LiteRT 2.3 or later",)


@pytest.mark.parametrize(("kind", "says"), [(INT4, "cannot read INT4"), (INT16, "computes INT16 activations wrongly")])
def test_tflite_runtime_refuses_what_it_would_compute_wrongly(tmp_path, kind, says):
    backend = TfliteBackend(tflite_bundle(tmp_path, kind), BackendOptions())
    backend._name = PREDECESSOR
    with pytest.raises(BackendError, match=rf"decoder.tflite' needs LiteRT \(tflite-runtime 2.14 {says}") as refusal:
        backend._graph(DECODER, backend._bundle.manifest.frame)
    assert "\n" not in str(refusal.value)


def test_a_damaged_tflite_file_has_no_tensor_types(tmp_path):
    path = tmp_path / "cut.tflite"
    write_tflite(path, INT4)
    content = path.read_bytes()
    for length in range(8, len(content), 7):
        path.write_bytes(content[:length])
        assert tensor_types(path) <= {INT4}


@pytest.mark.parametrize(
    ("version", "engines"), [(9, ("ONNX Runtime 1.17 or later",)), (10, ("ONNX Runtime 1.18 or later",)), (13, ())]
)
def test_onnx_files_name_the_version_that_reads_their_format(tmp_path, version, engines):
    bundle = write_onnx_bundle(tmp_path / "bundle")
    for path in (bundle.encoder_path, bundle.decoder_path):
        model = onnx.load(path)
        model.ir_version = version
        onnx.save(model, path)
        assert ir_version(path) == version
    assert oldest_engines(bundle) == engines


@pytest.mark.parametrize("content", [b"", b"\x08", b"no ONNX file"])
def test_what_is_no_onnx_file_has_no_ir_version(tmp_path, content):
    path = tmp_path / "graph.onnx"
    path.write_bytes(content)
    assert ir_version(path) is None


def test_a_model_that_the_package_wrote_starts_with_its_ir_version(tmp_path):
    path = tmp_path / "graph.onnx"
    graph = helper.make_graph([], "empty", [], [])
    onnx.save(helper.make_model(graph, ir_version=7), path)
    assert ir_version(path) == 7


@pytest.mark.parametrize(
    ("frames", "engine"),
    [
        ((), "Core ML from iOS 17 or macOS 14 on"),
        ((FrameSize(192, 256), FrameSize(256, 192)), "Core ML from iOS 18 or macOS 15 on"),  # functions
    ],
)
def test_packages_of_several_frames_need_a_newer_core_ml(frames, engine):
    bundle = Bundle(Path("nowhere"), manifest(target="coreml", frames=frames))
    assert oldest_engines(bundle) == (engine,)
