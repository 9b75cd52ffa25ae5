"""MobileNetV2 from a TFLite file: dequantization, layouts, and files that are refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sam_edge.model.nano import NanoImageEncoder
from sam_edge.weights.mobilenet import PARTS, dequantized, read_mobilenet_v2, with_sam_normalization
from sam_edge_runtime.bundle.contract import PIXEL_MEAN, PIXEL_STD
from sam_edge_runtime.errors import CheckpointError

NAME = "tf2_mobilenet_v2_1.0_224_ptq.tflite"
REAL = Path(os.environ.get("SAM_EDGE_TEST_WEIGHTS", "nowhere")) / NAME
schema = pytest.importorskip("ai_edge_litert.schema_py_generated")


def test_each_channel_is_dequantized_with_its_scale_and_zero_point():
    numbers = np.array([[-128, 0], [5, 127]], np.int8)
    found = dequantized(numbers, [0.5, 2.0], [0, 5], axis=0)
    np.testing.assert_array_equal(found, [[-64.0, 0.0], [0.0, 244.0]])
    np.testing.assert_array_equal(dequantized(numbers, [0.5, 2.0], [0, 5], axis=1), [[-64, -10], [2.5, 244]])


def test_parts_are_the_stem_and_blocks_of_nano_s_encoder():
    own = {name.rsplit(".", 1)[0] for name in NanoImageEncoder().state_dict()}
    assert set(PARTS) == {name for name in own if name.startswith(("stem", "blocks"))}
    assert len(PARTS) == 1 + 17 * 3 - 1


def test_sam_s_normalization_is_folded_into_the_stem():
    generator = torch.Generator().manual_seed(0)
    state = {"stem.weight": torch.randn(4, 3, 3, 3, generator=generator), "stem.bias": torch.randn(4)}
    pixels = torch.rand(1, 3, 9, 9, generator=generator) * 255
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    moved = with_sam_normalization(state)
    expected = F.conv2d(pixels / 127.5 - 1.0, state["stem.weight"], state["stem.bias"])
    found = F.conv2d((pixels - mean) / std, moved["stem.weight"], moved["stem.bias"])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def convolution(model, kind: int, shape: tuple[int, ...], channels: int, axis: int, rng: np.random.Generator) -> None:
    """Add a quantized convolution with its constants to the flatbuffer's objects."""
    graph = model.subgraphs[0]
    indices = []
    for numbers, dimension in (
        (rng.integers(-127, 128, shape).astype(np.int8), axis),
        (rng.integers(-999, 999, channels).astype(np.int32), 0),
    ):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(numbers.tobytes(), np.uint8)
        model.buffers.append(buffer)
        tensor = schema.TensorT()
        tensor.shape, tensor.buffer = list(numbers.shape), len(model.buffers) - 1
        tensor.type = schema.TensorType.INT8 if numbers.dtype == np.int8 else schema.TensorType.INT32
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = [float(scale) for scale in rng.uniform(0.01, 0.1, channels)]
        tensor.quantization.zeroPoint = [0] * channels
        tensor.quantization.quantizedDimension = dimension
        graph.tensors.append(tensor)
        indices.append(len(graph.tensors) - 1)
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs = kind, [0, *indices]
    graph.operators.append(operator)


@pytest.fixture
def written(tmp_path) -> Path:
    """All of MobileNetV2 as quantized constants, without a runnable graph."""
    import flatbuffers

    rng = np.random.default_rng(0)
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    graph.tensors, graph.operators = [schema.TensorT()], []
    codes = []
    for kind in (schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        codes.append(code)
    model.operatorCodes = codes
    own = NanoImageEncoder().state_dict()
    for name in PARTS:
        out, inner, height, width = own[f"{name}.weight"].shape
        if "depthwise" in name:
            convolution(model, 1, (1, height, width, out), out, 3, rng)
        else:
            convolution(model, 0, (out, height, width, inner), out, 0, rng)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "mobilenet.tflite"
    path.write_bytes(bytes(builder.Output()))
    return path


def test_every_constant_arrives_in_torch_s_layout(written):
    state = read_mobilenet_v2(written)
    encoder = NanoImageEncoder()
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(not name.startswith(("stem", "blocks")) for name in missing)
    # The first numbers drawn are the stem's kernel (out, h, w, in) and its bias, then the kernel's scales.
    rng = np.random.default_rng(0)
    kernel, _ = rng.integers(-127, 128, (32, 3, 3, 3)).astype(np.int8), rng.integers(-999, 999, 32)
    scales = rng.uniform(0.01, 0.1, 32)
    expected = kernel.astype(np.float64).transpose(0, 3, 1, 2) * scales[:, None, None, None]
    np.testing.assert_allclose(state["stem.weight"], expected, rtol=1e-6)


def test_kernels_of_older_files_have_one_scale_and_zero_point(written):
    """DeepLab's file has uint8 kernels."""
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(written.read_bytes()))
    graph = model.subgraphs[0]
    kernel = graph.tensors[graph.operators[0].inputs[1]]
    kernel.type = schema.TensorType.UINT8
    kernel.quantization.scale, kernel.quantization.zeroPoint = [0.5], [146]
    numbers = np.frombuffer(bytes(model.buffers[kernel.buffer].data), np.uint8).reshape(kernel.shape)
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    written.write_bytes(bytes(builder.Output()))
    expected = (numbers.astype(np.float32).transpose(0, 3, 1, 2) - 146) * 0.5
    np.testing.assert_array_equal(read_mobilenet_v2(written)["stem.weight"], expected)


def test_files_that_are_no_mobilenet_are_refused(written, tmp_path):
    cases = {
        "missing.tflite": (None, "cannot read"),
        "text.tflite": (b"not a model at all", "no TFLite model"),
        "cut.tflite": (written.read_bytes()[:5000], "damaged"),
    }
    for name, (content, says) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=says) as caught:
            read_mobilenet_v2(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.tflite")
    with pytest.raises(CheckpointError, match=r"pipe.tflite: it is no regular file"):
        read_mobilenet_v2(tmp_path / "pipe.tflite")


@pytest.mark.parametrize("fault", ["another width", "float16 kernels", "one convolution more"])
def test_another_network_is_refused(written, fault):
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(written.read_bytes()))
    graph = model.subgraphs[0]
    kernel, bias = (graph.tensors[index] for index in graph.operators[0].inputs[1:])
    if fault == "another width":
        for tensor, size in ((kernel, 24 * 27), (bias, 24 * 4)):
            tensor.shape = [24, *tensor.shape[1:]]
            tensor.quantization.scale = tensor.quantization.scale[:24]
            tensor.quantization.zeroPoint = tensor.quantization.zeroPoint[:24]
            model.buffers[tensor.buffer].data = model.buffers[tensor.buffer].data[:size]
    elif fault == "float16 kernels":
        kernel.type = schema.TensorType.FLOAT16
    else:
        graph.operators.insert(3, graph.operators[2])
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    written.write_bytes(bytes(builder.Output()))
    with pytest.raises(CheckpointError, match="no MobileNetV2"):
        read_mobilenet_v2(written)


@pytest.mark.skipif(not REAL.is_file(), reason=f"SAM_EDGE_TEST_WEIGHTS names no folder with {NAME}")
def test_features_of_the_real_file_correlate_with_tensorflow_lite_s():
    """The last block's features of a photo, from dequantized weights in torch and from the quantized network."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType
    from PIL import Image
    from skimage import data

    encoder = NanoImageEncoder().eval()
    encoder.load_state_dict(with_sam_normalization(read_mobilenet_v2(REAL)), strict=False)
    photo = np.asarray(Image.fromarray(data.chelsea()).resize((224, 224)), np.float32)
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    with torch.no_grad():
        x = F.relu6(encoder.stem((torch.from_numpy(photo).permute(2, 0, 1)[None] - mean) / std))
        for block in encoder.blocks:
            x = block(x)
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    engine = Interpreter(str(REAL), experimental_op_resolver_type=kernels, experimental_preserve_all_tensors=True)
    engine.allocate_tensors()
    entry = engine.get_input_details()[0]
    scale, zero = entry["quantization"]
    engine.set_tensor(
        entry["index"],
        np.round(photo / 127.5 - 1.0).astype(np.uint8)[None]
        if not scale
        else np.clip(np.round((photo / 127.5 - 1.0) / scale + zero), 0, 255).astype(np.uint8)[None],
    )
    engine.invoke()
    features = next(t for t in engine.get_tensor_details() if list(t["shape"]) == [1, 7, 7, 320])
    scale, zero = features["quantization"]
    theirs = scale * (engine.get_tensor(features["index"]).astype(np.float32) - zero)
    assert np.corrcoef(theirs.ravel(), x.permute(0, 2, 3, 1).numpy().ravel())[0, 1] > 0.98
