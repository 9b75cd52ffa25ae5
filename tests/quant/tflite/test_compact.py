"""Files with shared vectors and short names: smaller, and the same numbers."""

from __future__ import annotations

import numpy as np
from ai_edge_litert.tools import flatbuffer_utils

from sam_edge_quant import Plan, fingerprint, quantizer_for, recipe_named
from sam_edge_quant.tflite import quantizer
from sam_edge_quant.tflite.compact import short_name
from tests.quant.tflite.network import Net, run

CHANNELS = 64
RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, 4, CHANNELS)).astype(np.float32)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def long_file(tmp_path):
    """Three layers of equally many channels, with names as litert-torch gives them."""
    net = Net().start(x=X.shape)
    source = "x"
    for index in range(3):
        name = f"package.Graph/package.Encoder/package.Block_{index}/torch.nn.Linear_{index};1"
        net.dense(name, X.shape, source, normal(CHANNELS, CHANNELS), normal(CHANNELS))
        source = name
    return net.finish(source, key="serving_default").write(tmp_path / "long.tflite")


def quantized(source, path):
    file = quantizer.TfliteFile(source)
    names = {
        fingerprint(file.constant(each.weight)): f"layer_{index}"
        for index, each in enumerate(file.graphs[0].operations)
    }
    quantizer_for("tflite").quantize(source, path, Plan(recipe_named("w8"), names), {})
    return path


def test_vectors_are_shared_and_names_are_short(tmp_path, monkeypatch):
    from contextlib import nullcontext

    source = long_file(tmp_path)
    small = quantized(source, tmp_path / "small.tflite")
    monkeypatch.setattr(quantizer, "compact_files", nullcontext)
    large = quantized(source, tmp_path / "large.tflite")
    zeros = 8 * CHANNELS
    assert large.stat().st_size - small.stat().st_size > 2 * zeros  # of three vectors of zeros one is left
    (key,) = run(large, {"x": X})
    np.testing.assert_array_equal(run(small, {"x": X})[key], run(large, {"x": X})[key])

    (graph,) = flatbuffer_utils.read_model(str(small)).subgraphs
    names = {tensor.name for tensor in graph.tensors}
    assert b"torch.nn.Linear_1" in names
    assert not any(b"/" in name or b";" in name for name in names)
    weights = [each.quantization for each in graph.tensors if each.quantization is not None]
    each_has_its_own = [(len(each.scale), list(each.zeroPoint)) for each in weights if each.scale is not None]
    assert each_has_its_own == [(CHANNELS, [0] * CHANNELS)] * 3  # what every reader expects


def test_a_short_name_is_the_last_module():
    assert short_name(b"a.Graph/b.Block_3/torch.nn.Linear_fc1;1") == b"torch.nn.Linear_fc1"
    assert short_name(b"x") == b"x"
    assert short_name(b"") == b""
    assert short_name("a.Graph/b.Block_3_requantized") == b"b.Block_3_requantized"
