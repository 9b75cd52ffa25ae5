"""Whole graphs in integers for NPUs: right numbers, no float in between, and the forms that QNN's provider takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from sam_edge_quant import recipe_named
from sam_edge_quant.onnx import observer as onnx_observer
from sam_edge_quant.onnx import quantizer
from sam_edge_quant.onnx.weights import MICROSOFT
from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.errors import ExportError, UsageError
from tests.quant.onnx.networks import Net, plan_for, ranges_of, run

NPU, WIDE = recipe_named("npu"), recipe_named("w8a16")
PAIRS = ("QuantizeLinear", "DequantizeLinear")
RNG = np.random.default_rng(0)


def net_of_all():
    """A convolution, GELU, a normalization, attention with a table of positions, and a residual addition."""
    net = Net(x=(1, 8, 4, 4))
    net.add("Gelu", net.conv("x", "stem", kernel=3), to="bent")
    net.add("Relu", net.conv("bent", "next"), to="bounded")
    net.add("Transpose", "bounded", to="moved", perm=[0, 2, 3, 1])
    rows = net.constant(np.array([1, 16, 8]), "rows_shape")
    net.add("Reshape", "moved", rows, to="rows")
    scale, shift = net.weight("norm.scale", 8, size=1.0), net.weight("norm.shift", 8)
    net.add("LayerNormalization", "rows", scale, shift, to="normed", axis=-1)
    net.linear("normed", "query")
    net.linear("normed", "value")
    net.add("Transpose", "normed", to="keys", perm=[0, 2, 1])
    net.add("MatMul", "query", "keys", to="scores")
    table, index = net.weight("positions", 5, 1, size=1.0), RNG.integers(0, 5, (16, 16, 1))
    net.add("GatherND", table, net.constant(index, "index"), to="picked")
    net.add("Reshape", "picked", net.constant(np.array([1, 16, 16]), "scores_shape"), to="bias")
    net.add("Add", "scores", "bias", to="biased")
    net.add("Softmax", "biased", to="shares", axis=-1)
    net.add("MatMul", "shares", "value", to="attended")
    net.linear("attended", "projected")
    net.add("Add", "rows", "projected", to="y")
    return net


def made(tmp_path, net, recipe, *samples, output="y"):
    """The fp32 artifact, the one for the NPU, and its report."""
    source, path = net.save(tmp_path, output), tmp_path / "npu.onnx"
    plan = plan_for(source, recipe)
    report = quantizer.quantize(source, path, plan, ranges_of(source, plan, *samples))
    onnx.checker.check_model(str(path), full_check=True)
    return source, path, report


def sample_of(net):
    return {name: net.rng.normal(size=shape).astype(np.float32) for name, shape in net.inputs.items()}


@pytest.fixture(autouse=True)
def _gelu(monkeypatch):
    """GELU is an operation from opset 20 on."""
    plain = onnx.helper.make_model
    monkeypatch.setattr(
        onnx.helper,
        "make_model",
        lambda graph, **given: plain(graph, **{**given, "opset_imports": [onnx.helper.make_opsetid("", 20)]}),
    )


def widths(path):
    """The integer types between which each operation stands, by its type: input, output."""
    graph = onnx.load(path).graph
    dtypes = {each.name: TensorProto.DataType.Name(each.data_type) for each in graph.initializer}
    dequantized = {node.output[0]: dtypes[node.input[2]] for node in graph.node if node.op_type == PAIRS[1]}
    quantized = {node.input[0]: dtypes[node.input[2]] for node in graph.node if node.op_type == PAIRS[0]}
    return Counter(
        (node.op_type, dequantized[node.input[0]], quantized[node.output[0]])
        for node in graph.node
        if node.op_type not in PAIRS
    )


def test_a_graph_is_in_integers_as_a_whole(tmp_path):
    net = net_of_all()
    sample = sample_of(net)
    source, path, report = made(tmp_path, net, NPU, sample)
    narrow, wide = ("UINT8", "UINT8"), ("UINT16", "UINT16")
    assert widths(path) == {
        ("Conv", *narrow): 2,  # the Relu is gone
        ("Gemm", *narrow): 3,
        ("Gelu", *wide): 1,
        ("LayerNormalization", *wide): 1,
        ("MatMul", *wide): 2,
        ("Softmax", *wide): 1,
        ("Add", *wide): 2,
        ("Gather", *wide): 1,  # was a GatherND
        ("Transpose", *narrow): 1,
        ("Transpose", *wide): 1,
        ("Reshape", *narrow): 7,  # one of the net's, and two around each product
        ("Reshape", *wide): 1,
    }
    assert {node.domain for node in onnx.load(path).graph.node if node.op_type in PAIRS} == {MICROSOFT}
    assert report["activations"]["float"] == {}
    assert report["layers"] == dict.fromkeys(("stem", "next", "query", "value", "projected"), "npu")
    assert snr_db(run(source, sample)[0], run(path, sample)[0]) > 25


def test_16_bits_keep_what_8_lose(tmp_path):
    net = net_of_all()
    sample = sample_of(net)
    source, path, _ = made(tmp_path, net, WIDE, sample)
    assert {pair[1:] for pair in widths(path)} == {("UINT16", "UINT16")}
    assert snr_db(run(source, sample)[0], run(path, sample)[0]) > 38


def test_a_layer_may_have_16_bits_or_float_among_others(tmp_path):
    net = net_of_all()
    sample = sample_of(net)
    recipe = replace(NPU, layers={"stem": "w8a16", "query": "fp32"})
    source, path, report = made(tmp_path, net, recipe, sample)
    assert (report["layers"]["stem"], report["layers"]["query"]) == ("w8a16", "fp32")
    assert report["activations"]["float"] == {"MatMul": 1}
    assert report["activations"]["uint16"]["Conv"] == 1
    assert snr_db(run(source, sample)[0], run(path, sample)[0]) > 25


def test_a_picture_enters_as_bytes_and_loses_nothing(tmp_path):
    net = Net(image=(1, 3, 4, 4))
    net.add("Sub", "image", net.constant(np.float32(128), "mean"), to="y")
    sample = {"image": RNG.integers(0, 256, (1, 3, 4, 4)).astype(np.float32)}
    net.conv("y", "z", channels=(4, 3))
    source, path, _ = made(tmp_path, net, WIDE, sample, output="z")
    constants = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    first = onnx.load(path).graph.node[0]
    scale, zero = (constants[name] for name in first.input[1:])
    assert (first.op_type, first.input[0], float(scale), zero.dtype, int(zero)) == (
        "QuantizeLinear",
        "image",
        1.0,
        np.uint8,
        0,
    )
    assert snr_db(run(source, sample)[0], run(path, sample)[0]) > 38


def test_an_enlargement_becomes_copies_that_depth_to_space_lays_out(tmp_path):
    net = Net(x=(1, 3, 2, 5))
    net.conv("x", "small", channels=(4, 3))
    scales = net.constant(np.array([1, 1, 2, 2], np.float32), "scales")
    net.add(
        "Resize",
        "small",
        "",
        scales,
        to="y",
        mode="nearest",
        nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )
    sample = sample_of(net)
    _, path, _ = made(tmp_path, net, WIDE, sample)
    kinds = [node.op_type for node in onnx.load(path).graph.node if node.op_type not in PAIRS]
    assert kinds == ["Conv", "Concat", "DepthToSpace"]
    (large,) = run(path, sample)
    np.testing.assert_array_equal(large, large[:, :, ::2, ::2].repeat(2, axis=2).repeat(2, axis=3))
    assert len(np.unique(large)) > 20


def test_a_large_bias_beside_zero_weights_does_not_overflow(tmp_path):
    net = Net(x=(1, 4, 3, 3))
    net.conv("x", "y", channels=(4, 4))
    net.constants["y.weight"][1] *= 1e-9
    net.constants["y.bias"][1] = 50.0
    sample = sample_of(net)
    source, path, _ = made(tmp_path, net, WIDE, sample)
    want, have = run(source, sample)[0], run(path, sample)[0]
    np.testing.assert_allclose(have[:, 1], want[:, 1], atol=0.01)


def test_a_range_of_a_large_activation_is_found_from_its_extremes(tmp_path, monkeypatch):
    net = net_of_all()
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    plan = plan_for(source, NPU)
    whole = ranges_of(source, plan, sample)
    monkeypatch.setattr(onnx_observer, "BYTES_REDUCED", 0)
    assert ranges_of(source, plan, sample) == whole


def test_a_scheme_without_activations_is_refused_among_integers(tmp_path):
    net = net_of_all()
    source = net.save(tmp_path, "y")
    with pytest.raises(UsageError, match=r"layer stem has the scheme 'w8' .* choose one of fp32, npu"):
        quantizer.tensors(source, plan_for(source, replace(NPU, layers={"stem": "w8"})))


def test_a_free_axis_is_refused(tmp_path):
    net = Net(x=("B", 4, 8))
    net.linear("x", "y")
    source, sample = net.save(tmp_path, "y"), {"x": RNG.normal(size=(2, 4, 8)).astype(np.float32)}
    plan = plan_for(source, NPU)
    with pytest.raises(ExportError, match="the shape of 'x' is not fixed"):
        quantizer.quantize(source, tmp_path / "npu.onnx", plan, ranges_of(source, plan, sample))


def test_a_range_that_is_missing_or_infinite_is_refused(tmp_path):
    net = net_of_all()
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    plan = plan_for(source, NPU)
    ranges = ranges_of(source, plan, sample)
    with pytest.raises(ExportError, match="no range for the activation 'scores'"):
        quantizer.quantize(
            source, tmp_path / "npu.onnx", plan, {name: each for name, each in ranges.items() if name != "scores"}
        )
    with pytest.raises(ExportError, match="the range of 'scores' is 0"):
        quantizer.quantize(
            source, tmp_path / "npu.onnx", plan, {**ranges, "scores": replace(ranges["scores"], low=0, high=np.inf)}
        )
