"""Quantized ONNX artifacts: right numbers, the same inputs and outputs, and the report."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sam_edge_quant import Range, fingerprint, quantizer_for, recipe_named
from sam_edge_quant.onnx import observer, quantizer
from sam_edge_quant.onnx.graph import layers_of
from sam_edge_quant.onnx.weights import scales_of
from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.errors import ExportError, UsageError
from tests.quant.onnx.networks import Net, executed, plan_for, ranges_of, run

RNG = np.random.default_rng(1)


def layer_net(kind):
    """One layer, whose channels differ in size by a thousand: a wrong axis costs more than any rounding."""
    net = Net(x=(1, 8, 6, 6) if "Conv" in kind else (24, 16) if "Gemm" in kind else (1, 24, 16))
    if kind == "Conv":
        net.add("Conv", "x", net.weight("w", 12, 8, 3, 3, spread=0), net.weight("b", 12), to="y")
    elif kind == "Conv by groups":
        net.add("Conv", "x", net.weight("w", 12, 4, 3, 3, spread=0), net.weight("b", 12), to="y", group=2)
    elif kind == "Conv depthwise":
        net.add("Conv", "x", net.weight("w", 8, 1, 3, 3, spread=0), net.weight("b", 8), to="y", group=8)
    elif kind == "ConvTranspose":
        net.add("ConvTranspose", "x", net.weight("w", 8, 6, 2, 2, spread=1), net.weight("b", 6), to="y", strides=[2, 2])
    elif kind == "ConvTranspose by groups":
        net.add("ConvTranspose", "x", net.weight("w", 8, 3, 2, 2, spread=1), net.weight("b", 6), to="y", group=2)
    elif kind == "Gemm":
        net.add("Gemm", "x", net.weight("w", 16, 12, spread=1), net.weight("b", 12), to="y")
    elif kind == "Gemm, transposed":
        net.add("Gemm", "x", net.weight("w", 12, 16, spread=0), net.weight("b", 12), to="y", transB=1)
    elif kind == "Gemm without bias":
        net.add("Gemm", "x", net.weight("w", 12, 16, spread=0), to="y", transB=1)
    else:
        net.add("MatMul", "x", net.weight("w", 16, 12, spread=1), to="y" if kind == "MatMul" else "p")
        if kind == "MatMul and bias":
            net.add("Add", net.weight("b", 12), "p", to="y")
    return net


CONVOLUTIONS = ("Conv", "Conv by groups", "Conv depthwise", "ConvTranspose", "ConvTranspose by groups")
PRODUCTS = ("Gemm", "Gemm, transposed", "Gemm without bias", "MatMul", "MatMul and bias")


def quantized(tmp_path, source, recipe, *samples, arm=False):
    """The new artifact and the report, with ranges from samples."""
    plan = plan_for(source, recipe, arm)
    path = tmp_path / "small.onnx"
    report = quantizer.quantize(source, path, plan, ranges_of(source, plan, *samples))
    onnx.checker.check_model(str(path), full_check=True)
    return path, report


def sample_of(net):
    return {name: net.rng.normal(size=shape).astype(np.float32) for name, shape in net.inputs.items()}


def by_channel(source, path, sample, kind):
    """The signal-to-noise ratio in dB of the worst output channel."""
    want, have = (np.moveaxis(run(each, sample)[0], 1 if "Conv" in kind else -1, 0) for each in (source, path))
    return min(snr_db(w - w.mean(), h - w.mean()) for w, h in zip(want, have, strict=True))


@pytest.mark.parametrize("kind", [*CONVOLUTIONS, *PRODUCTS])
def test_w8_weights_are_right_in_every_channel(tmp_path, kind):
    net = layer_net(kind)
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    path, report = quantized(tmp_path, source, recipe_named("w8"), sample)
    assert report["layers"] == {"w": "w8"}
    stored = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    assert stored["w_w8_numbers"].dtype == np.int8
    assert "w" not in stored
    assert by_channel(source, path, sample, kind) > 36
    assert executed(path, tmp_path) == executed(source, tmp_path)  # as fast as fp32


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (2,)])
def test_weights_split_by_heads_keep_their_scales(tmp_path, axes):
    """As in a lean decoder: whichever axes are those of channels, nothing is rounded again."""
    net, shape = Net(x=(2, 4, 5, 6)), (4, 6, 8)
    scales = net.rng.uniform(0.001, 0.01, [size if axis in axes else 1 for axis, size in enumerate(shape)])
    integers = net.rng.integers(-100, 101, shape)
    weight = (integers * scales).astype(np.float32)
    net.add("MatMul", "x", net.constant(weight, "w"), to="y")
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    path, report = quantized(tmp_path, source, recipe_named("w8a8"), sample)  # which has no kernel for three axes
    assert report["layers"] == {"w": "w8"}
    stored = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    integers, scales = stored["w_w8_numbers"], stored["w_w8_scale"]
    assert (integers.dtype, scales.size) == (np.int8, 4 * 6 if axes == (0, 1) else 4 * 8)
    assert np.allclose(integers * scales, weight, rtol=1e-6, atol=0)
    assert snr_db(run(source, sample)[0], run(path, sample)[0]) > 110


def weight_in(path):
    """The weight that an artifact's DequantizeLinear gives, and its scales along the axis of channels."""
    graph = onnx.load(path).graph
    stored = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    node = next(each for each in graph.node if each.op_type == "DequantizeLinear" and each.input[0] == "w_quantized")
    integers, scales = stored[node.input[0]], stored[node.input[1]]
    along = [-1 if axis == node.attribute[0].i else 1 for axis in range(integers.ndim)]
    return integers * scales.reshape(along), scales.reshape(along)


@pytest.mark.parametrize("arm", [False, True])
@pytest.mark.parametrize("kind", [*(each for each in CONVOLUTIONS if "Transpose" not in each), *PRODUCTS])
def test_w8a8_layers_are_right_in_every_channel(tmp_path, kind, arm):
    net = layer_net(kind)
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    path, report = quantized(tmp_path, source, recipe_named("w8a8"), sample, arm=arm)
    assert report["layers"] == {"w": "w8a8"}
    weight, scales = weight_in(path)
    assert np.abs((weight - net.constants["w"]) / scales).max() < 1.01
    assert snr_db(run(source, sample)[0], run(path, sample)[0]) > 33
    if kind in PRODUCTS:  # their outputs are float
        assert by_channel(source, path, sample, kind) > 28


@pytest.mark.parametrize("kind", PRODUCTS)
def test_dynamic_products_are_right_in_every_channel(tmp_path, kind):
    net = layer_net(kind)
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    path, report = quantized(tmp_path, source, recipe_named("dynamic"))
    assert report["layers"] == {"w": "dynamic"}
    assert by_channel(source, path, sample, kind) > 28
    larger = {"x": sample["x"] * 1000}
    assert by_channel(source, path, larger, kind) > 28
    assert executed(path, tmp_path)[0] == "DynamicQuantizeMatMul"


def test_dynamic_products_have_the_form_of_onnx_runtimes_own_quantizer(tmp_path):
    from onnxruntime.quantization import quantize_dynamic

    net = layer_net("MatMul and bias")
    source = net.save(tmp_path, "y")
    path, _ = quantized(tmp_path, source, recipe_named("dynamic"))
    quantize_dynamic(source, tmp_path / "theirs.onnx", per_channel=True)
    ours, theirs = (onnx.load(each).graph for each in (path, tmp_path / "theirs.onnx"))
    assert sorted(node.op_type for node in ours.node) == sorted(node.op_type for node in theirs.node)


@pytest.mark.parametrize("kind", PRODUCTS)
def test_w4_weights_are_right_in_every_channel(tmp_path, kind):
    net = layer_net(kind)
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    path, report = quantized(tmp_path, source, recipe_named("w4"))
    assert report["layers"] == {"w": "w4"}
    assert "MatMulNBits" in executed(path, tmp_path)
    assert by_channel(source, path, sample, kind) > 10


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [(kind, scheme) for kind in CONVOLUTIONS for scheme in ("dynamic", "w4")] + [("ConvTranspose", "w8a8")],
)
def test_convolutions_get_w8_where_onnx_runtime_lacks_a_kernel(tmp_path, kind, scheme):
    source = layer_net(kind).save(tmp_path, "y")
    assert quantized(tmp_path, source, recipe_named(scheme))[1]["layers"] == {"w": "w8"}


@pytest.mark.parametrize(("kind", "inputs"), [("Conv", 15), ("Gemm", 32), ("MatMul", 33)])
def test_16_bit_sums_of_products_do_not_saturate(tmp_path, kind, inputs):
    """All weights and all inputs at their largest; on a processor with VNNI this always holds."""
    net = Net(x=(1, inputs, 4, 4) if kind == "Conv" else (16, inputs))
    same = np.full((8, inputs, 3, 3) if kind == "Conv" else (inputs, 8), 0.5, np.float32)
    net.add(kind, "x", net.constant(same, "w"), to="y")
    source, sample = net.save(tmp_path, "y"), {"x": np.full(net.inputs["x"], 3.0, np.float32)}
    for recipe, arm in (("w8a8", False), ("w8a8", True), ("dynamic", False)):
        path, _ = quantized(tmp_path, source, recipe_named(recipe), sample, arm=arm)
        assert snr_db(run(source, sample)[0], run(path, sample)[0]) > 35


def test_weight_scales_grow_only_as_far_as_neighbours_need():
    net = Net(x=(1, 6, 8, 8))
    net.add("Conv", "x", net.weight("w", 200, 6, 3, 3), to="y")
    (layer,) = layers_of(net.model("y").graph)
    safe, free = scales_of(layer, avoid_saturation=True), scales_of(layer, avoid_saturation=False)
    in_order = layer.weight.transpose(0, 2, 3, 1).reshape(200, 27, 2) / safe[:, None, None]
    sums = np.maximum(in_order.clip(min=0).sum(axis=2), -in_order.clip(max=0).sum(axis=2))
    assert sums.max() <= 126.01
    assert 1 <= np.mean(safe / free) < 1.5  # 2 would be 7 bits everywhere
    assert np.allclose(free * 127, np.abs(layer.weight).max(axis=(1, 2, 3)))


def test_a_bias_far_above_its_scale_keeps_its_value(tmp_path):
    """With weights of 1e-7 the bias's scale is so small that 1000 exceeds int32."""
    for kind, shape in (("Conv", (4, 8, 1, 1)), ("Gemm", (8, 4))):
        net = Net(x=(1, 8, 4, 4) if kind == "Conv" else (16, 8))
        bias = net.constant(np.array([1000, -1000, 500, 1], np.float32), "b")
        net.add(kind, "x", net.weight("w", *shape, size=1e-7), bias, to="y")
        source, sample = net.save(tmp_path, "y"), sample_of(net)
        path, _ = quantized(tmp_path, source, recipe_named("w8a8"), sample)
        assert np.abs(run(path, sample)[0] - run(source, sample)[0]).max() < 4  # half the output's scale is 3.9


def test_a_bound_after_a_convolution_becomes_its_range(tmp_path):
    net = Net(x=(1, 8, 6, 6))
    net.conv("x", "a", kernel=3)
    net.add("Clip", "a", net.constant(np.float32(0)), net.constant(np.float32(0.5)), to="bounded")
    net.conv("bounded", "y")
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    plan = plan_for(source, recipe_named("w8a8"))
    ranges = {**ranges_of(source, plan, sample), "bounded": Range(-3.0, 9.0)}  # as a coarse estimator might give
    quantizer.quantize(source, tmp_path / "small.onnx", plan, ranges)
    graph = onnx.load(tmp_path / "small.onnx").graph
    stored = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    assert stored["bounded_zero_point"] == 0
    assert np.isclose(stored["bounded_scale"], 0.5 / 255)
    assert executed(tmp_path / "small.onnx", tmp_path).count("QLinearConv") == 2
    assert "Clip" not in [node.op_type for node in graph.node]
    assert snr_db(run(source, sample)[0], run(tmp_path / "small.onnx", sample)[0]) > 30


def residual_net():
    """Convolutions with what lies between them, then products around a sum in float."""
    net = Net(x=(1, 8, 6, 6))
    net.add("Relu", net.conv("x", "a", kernel=3), to="r")
    net.conv("r", "b", kernel=3, channels=(8, 1), group=8)
    net.conv(net.add("Add", "r", "b", to="sum"), "c")
    net.add("Reshape", "c", net.constant(np.array([1, 8, 36])), to="flat")
    net.add("Transpose", "flat", to="rows", perm=[0, 2, 1])
    gain, shift = net.constant(np.ones(8, np.float32)), net.constant(np.zeros(8, np.float32))
    net.add("LayerNormalization", "rows", gain, shift, to="normal")
    net.linear("normal", "d", wide=(8, 32))
    net.linear(net.add("Relu", "d", to="s"), "e", wide=(32, 8))
    net.add("Add", "normal", "e", to="y")
    return net


def test_a_net_is_computed_in_int8_except_where_float_is_as_good(tmp_path):
    net = residual_net()
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    path, report = quantized(tmp_path, source, recipe_named("w8a8"), sample)
    assert report["operations"] == {"Add": 1, "Conv": 3, "MatMul": 2, "Relu": 2}
    ran = executed(path, tmp_path)
    assert [ran.count(kind) for kind in ("QLinearConv", "QLinearAdd", "QGemm")] == [3, 1, 2]
    assert {"Conv", "MatMul", "Gemm", "Relu"}.isdisjoint(ran)
    last = next(node for node in onnx.load(path).graph.node if node.output[0] == "y")
    assert last.input[0] == "normal"  # and not its dequantized form
    assert snr_db(run(source, sample)[0], run(path, sample)[0]) > 30


def test_each_layer_of_a_net_can_have_its_own_scheme(tmp_path):
    net = residual_net()
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    recipe = replace(recipe_named("w8a8"), layers={"b": "w8", "c": "fp32", "d": "dynamic", "e": "w4"})
    path, report = quantized(tmp_path, source, recipe, sample)
    assert report["layers"] == {"a": "w8a8", "b": "w8", "c": "fp32", "d": "dynamic", "e": "w4"}
    assert report["operations"] == {"Conv": 2, "MatMul": 2, "Relu": 1}
    ran = executed(path, tmp_path)
    assert {"QLinearConv", "Conv", "DynamicQuantizeMatMul", "MatMulNBits"} <= set(ran)
    assert snr_db(run(source, sample)[0], run(path, sample)[0]) > 15
    untouched, _ = quantized(tmp_path, source, recipe_named("fp32"))
    assert np.array_equal(run(source, sample)[0], run(untouched, sample)[0])


def test_an_unknown_layer_is_left_and_reported(tmp_path):
    source = residual_net().save(tmp_path, "y")
    plan = plan_for(source, recipe_named("w8"), without=("b", "d"))
    report = quantizer.quantize(source, tmp_path / "small.onnx", plan, {})
    assert report["unknown"] == ["node_b", "node_d_product"]
    assert set(report["layers"]) == {"a", "c", "e"}
    whole = {each.name for each in onnx.load(tmp_path / "small.onnx").graph.initializer}
    assert {"b.weight", "d.weight"} <= whole
    assert "a.weight" not in whole


@pytest.mark.parametrize("scheme", ["w8", "dynamic", "w8a8", "w4"])
def test_free_axes_inputs_and_outputs_stay_as_they_are(tmp_path, scheme):
    net = Net(prompts=("B", "N", 16), image=(1, 16))
    net.linear("prompts", "a", wide=(16, 16))
    weight = net.weight("b.weight", 16, 16)
    net.add("Gemm", "image", weight, net.weight("b.bias", 16), to="b", transB=1)
    net.add("Add", net.add("Relu", "a", to="r"), "b", to="sum")
    net.linear("sum", "y", wide=(16, 4))
    source = net.save(tmp_path, "y", "b")
    samples = [
        {name: RNG.normal(size=shape).astype(np.float32) for name, shape in (("prompts", shape), ("image", (1, 16)))}
        for shape in ((1, 2, 16), (3, 5, 16))
    ]
    path, _ = quantized(tmp_path, source, recipe_named(scheme), *samples)
    signatures = [
        [(each.name, str(each.type)) for each in (*graph.input, *graph.output)]
        for graph in (onnx.load(source).graph, onnx.load(path).graph)
    ]
    assert signatures[0] == signatures[1]
    for sample in samples:
        for want, have in zip(run(source, sample), run(path, sample), strict=True):
            assert want.shape == have.shape
            assert snr_db(want, have) > (12 if scheme == "w4" else 30)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("scheme", ["w8", "dynamic", "w8a8", "w4"])
def test_a_weight_that_two_layers_share_stays_shared(tmp_path, scheme, transposed):
    net = Net(x=(5, 16))
    weight = net.weight("w", 16, 16)
    net.add("Tanh", net.add("MatMul", "x", weight, to="p"), to="t")
    net.add("Gemm", "t", weight, to="y", transB=transposed)
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    path, report = quantized(tmp_path, source, recipe_named(scheme), sample)
    assert report["layers"] == {"w": scheme}
    names = [each.name for each in onnx.load(path).graph.initializer]
    assert len(names) == len(set(names))
    assert snr_db(run(source, sample)[0], run(path, sample)[0]) > (12 if scheme == "w4" else 30)


def test_an_observer_passes_on_all_activations_in_one_run_or_several(tmp_path, monkeypatch):
    net = residual_net()
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    names = quantizer.tensors(source, plan_for(source, recipe_named("w8a8")))
    assert names == ["x", "r", "b", "sum", "c", "normal", "s"]
    received = []
    for space in (observer.BYTES_AT_ONCE, 2000, 0):
        monkeypatch.setattr(observer, "BYTES_AT_ONCE", space)
        received.append({})
        quantizer.observer(source, names)(sample, received[-1].__setitem__)
    assert all(set(each) == set(names) for each in received)
    assert all(np.array_equal(each[name], received[0][name]) for each in received for name in names)
    whole = net.model("y", *names[1:])
    onnx.save(whole, tmp_path / "whole.onnx")
    for name, value in zip(names[1:], run(tmp_path / "whole.onnx", sample)[1:], strict=True):
        assert np.allclose(received[0][name], value, atol=1e-5)
    assert np.array_equal(received[0]["x"], sample["x"])


@pytest.mark.parametrize("scheme", ["w8", "w8a8"])
def test_external_weights_are_read_and_stay_external_only_above_the_limit(tmp_path, monkeypatch, scheme):
    net = Net(x=(1, 5, 64))
    net.linear(net.add("Tanh", net.linear("x", "a", wide=(64, 64)), to="t"), "y", wide=(64, 64))
    plain, sample = net.save(tmp_path, "y"), sample_of(net)
    source = tmp_path / "apart" / "net.onnx"
    source.parent.mkdir()
    onnx.save_model(onnx.load(plain), source, save_as_external_data=True, location="net.onnx.data")
    assert (tmp_path / "apart" / "net.onnx.data").exists()
    plan = plan_for(source, recipe_named(scheme))
    ranges = ranges_of(source, plan, sample)
    assert ranges == ranges_of(plain, plan, sample)
    found = []
    for limit, files in ((quantizer.EXTERNAL_DATA_ABOVE, 1), (100, 2)):
        monkeypatch.setattr(quantizer, "EXTERNAL_DATA_ABOVE", limit)
        folder = tmp_path / str(files)
        folder.mkdir()
        quantizer.quantize(source, folder / "small.onnx", plan, ranges)
        assert len(list(folder.iterdir())) == files
        found.append(run(folder / "small.onnx", sample)[0])
    assert np.array_equal(*found)
    assert snr_db(run(plain, sample)[0], found[0]) > 30


def test_faulty_input_is_named_in_one_line(tmp_path):
    net = residual_net()
    source, sample = net.save(tmp_path, "y"), sample_of(net)
    plan = plan_for(source, recipe_named("w8a8"))
    ranges = ranges_of(source, plan, sample)
    missing = {name: each for name, each in ranges.items() if name != "sum"}
    broken = {**ranges, "sum": Range(-1.0, float("nan"))}
    odd = plan_for(source, replace(recipe_named("w8"), layers={"d": "mixed"}))
    for work, error, said in (
        (lambda: quantizer.quantize(source, tmp_path / "new.onnx", plan, missing), ExportError, "'sum'.*calibrate"),
        (lambda: quantizer.quantize(source, tmp_path / "new.onnx", plan, broken), ExportError, "'sum'.*nan"),
        (
            lambda: quantizer.tensors(source, odd),
            UsageError,
            "'mixed' for layer d: choose one of fp32",
        ),
        (lambda: quantizer.observer(source, ["r"])({"x": sample["x"][:, :4]}, print), ExportError, "fails on net.onnx"),
    ):
        with pytest.raises(error, match=said) as caught:
            work()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "new.onnx").exists()


def test_a_failure_of_the_quantizer_is_one_line(tmp_path, monkeypatch):
    source = layer_net("Conv").save(tmp_path, "y")

    def break_down(*_):
        raise RuntimeError("no such luck\nat line 3")

    monkeypatch.setattr(quantizer.WeightRewriter, "apply_w8", break_down)
    with pytest.raises(ExportError, match=r"^ONNX Runtime's quantizer failed on net.onnx: no such luck$"):
        quantizer.quantize(source, tmp_path / "new.onnx", plan_for(source, recipe_named("w8")), {})


def test_quantizing_neither_loads_torch_nor_configures_logging_nor_prints(tmp_path):
    source = layer_net("MatMul and bias").save(tmp_path, "y")
    weight = fingerprint(layer_net("MatMul and bias").constants["w"])
    program = f"""
import logging, sys
from pathlib import Path
from sam_edge_quant import Plan, quantizer_for, recipe_named
quantizer_for("onnx").quantize(Path({str(source)!r}), Path({str(tmp_path / "new.onnx")!r}),
                               Plan(recipe_named("w4"), {{{weight!r}: "w"}}), {{}})
assert "torch" not in sys.modules
assert not logging.getLogger().handlers and logging.getLogger().level == logging.WARNING
assert logging.getLogger().manager.disable == 0
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_quantizer_is_found_by_its_targets_name():
    assert quantizer_for("onnx").quantize is quantizer.quantize
