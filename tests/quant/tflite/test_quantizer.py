"""TFLite files are quantized layer by layer, and compute the same as rounding in numpy."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import qtyping

from sam_edge_quant import Plan, Range, fingerprint, quantizer_for, recipe_named
from sam_edge_quant.tflite import observer as tflite_observer
from sam_edge_quant.tflite.graph import TfliteFile
from sam_edge_runtime.bundle.targets import TARGETS
from sam_edge_runtime.errors import ExportError, UsageError
from tests.quant.tflite.network import Net, kinds, run

RNG = np.random.default_rng(0)
TFLITE = quantizer_for("tflite")
SIDE, INPUTS, OUTPUTS = 6, 8, 12
X = RNG.normal(size=(1, SIDE, SIDE, INPUTS)).astype(np.float32)
STATIC = ("w8a8", "w8a16")


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


# The axis of the output channels, the weight's shape, and the method of `Net` that adds such a layer.
LAYERS = {
    "FULLY_CONNECTED": (0, (OUTPUTS, INPUTS), "dense"),
    "CONV_2D": (0, (OUTPUTS, 3, 3, INPUTS), "conv"),
    "DEPTHWISE_CONV_2D": (3, (1, 3, 3, INPUTS), "depthwise"),
    "TRANSPOSE_CONV": (0, (OUTPUTS, 2, 2, INPUTS), "upwards"),
    "BATCH_MATMUL": (None, (SIDE, INPUTS, OUTPUTS), "matmul"),
}


def layer(kind, weight, bias):
    """A file with one layer, from `x` to `y`."""
    axis, _, method = LAYERS[kind]
    side = 2 * SIDE if kind == "TRANSPOSE_CONV" else SIDE
    shape = (1, side, side, OUTPUTS if axis is None else weight.shape[axis])
    net = Net().start(x=X.shape)
    getattr(net, method)("y", shape, "x", weight, *([] if bias is None else [bias]))
    return net.finish("y")


def plan_for(path, scheme, **schemes):
    """A plan in which a layer has the name of its output."""
    file = TfliteFile(path)
    names = {
        fingerprint(file.constant(operation.weight)): operation.outputs[0]
        for graph in file.graphs
        for operation in graph.operations
        if operation.weight
    }
    return Plan(replace(recipe_named(scheme), layers=schemes), names)


def observed(path, plan, *samples):
    """Smallest and largest values of the tensors whose ranges a plan needs."""
    ranges = {}

    def receive(name, value):
        known = ranges.get(name, Range(np.inf, -np.inf))
        ranges[name] = Range(min(known.low, float(value.min())), max(known.high, float(value.max())))

    if names := TFLITE.tensors(path, plan):
        observe = TFLITE.observer(path, names)
        for sample in samples:
            observe(sample, receive)
    return ranges


def quantized(path, scheme, *samples, **schemes):
    """The quantized file, its report, and the ranges."""
    plan = plan_for(path, scheme, **schemes)
    ranges = observed(path, plan, *(samples or ({"x": X},)))
    out = path.with_name(f"{path.stem}-{scheme}.tflite")
    return out, TFLITE.quantize(path, out, plan, ranges), ranges


def rounded(values, low, high, scheme):
    """Values quantized as an activation and dequantized, and the scale."""
    low, high = min(low, 0.0), max(high, 0.0)
    if scheme == "w8a16":
        scale = max(-low, high) / 32767
        return np.clip(np.rint(values / scale), -32767, 32767) * scale, scale
    scale = (high - low) / 255
    zero = np.rint(-128 - low / scale)
    return (np.clip(np.rint(values / scale) + zero, -128, 127) - zero) * scale, scale


def rounded_weight(weight, axis, bits=8):
    """A weight rounded with a scale for each channel, or with one for all if there is no axis."""
    most = 2 ** (bits - 1) - 1
    others = tuple(each for each in range(weight.ndim) if axis not in (None, each)) if axis is not None else None
    scale = np.abs(weight).max(axis=others, keepdims=True) / most
    return (np.rint(weight / np.maximum(scale, 1e-30)) * scale).astype(np.float32)


def snr(reference, output):
    """In decibels."""
    return 10 * np.log10(np.square(reference).sum() / np.square(reference - output).sum())


def example(kind):
    _, shape, _ = LAYERS[kind]
    axis = LAYERS[kind][0]
    return normal(*shape), None if axis is None else normal(shape[axis])


@pytest.mark.parametrize("scheme", STATIC)
@pytest.mark.parametrize("kind", LAYERS)
def test_static_layers_are_within_one_scale_of_the_same_rounding_in_numpy(tmp_path, kind, scheme):
    weight, bias = example(kind)
    path = layer(kind, weight, bias).write(tmp_path / "net.tflite")
    out, report, ranges = quantized(path, scheme)
    inputs, _ = rounded(X, ranges["x"].low, ranges["x"].high, scheme)
    reference = layer(kind, rounded_weight(weight, LAYERS[kind][0]), bias).write(tmp_path / "reference.tflite")
    want, scale = rounded(
        run(reference, {"x": inputs.astype(np.float32)})["y"], ranges["y"].low, ranges["y"].high, scheme
    )
    have = run(out, {"x": X})["y"]
    assert np.abs(have - want).max() <= 1.01 * scale
    assert snr(run(path, {"x": X})["y"], have) > 35
    assert report == {"layers": {"y": scheme}, "unknown": [], "operations": {kind: 1}}
    assert kinds(out) == ["QUANTIZE", kind, "DEQUANTIZE"]


@pytest.mark.parametrize("kind", LAYERS)
def test_w8_weights_are_those_rounded_in_numpy(tmp_path, kind):
    weight, bias = example(kind)
    path = layer(kind, weight, bias).write(tmp_path / "net.tflite")
    out, _, ranges = quantized(path, "w8")
    axis = 2 if kind == "BATCH_MATMUL" else LAYERS[kind][0]
    reference = layer(kind, rounded_weight(weight, axis), bias).write(tmp_path / "reference.tflite")
    assert not ranges
    assert np.allclose(run(out, {"x": X})["y"], run(reference, {"x": X})["y"], atol=1e-4)


@pytest.mark.parametrize("kind", ["FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"])
@pytest.mark.parametrize("scheme", ["w8a8", "w8"])
def test_a_weight_with_an_exact_scale_is_not_rounded_again(tmp_path, kind, scheme):
    axis, shape, _ = LAYERS[kind]
    rng = np.random.default_rng(1)
    integers = np.moveaxis(rng.integers(-64, 65, shape), axis, 0)
    integers.reshape(len(integers), -1)[:, 0] = 64
    weight = (np.moveaxis(integers, 0, axis) * np.float32(0.00390625)).astype(np.float32)
    bias = rng.normal(size=shape[axis]).astype(np.float32)
    out, report, _ = quantized(layer(kind, weight, bias).write(tmp_path / "net.tflite"), scheme)
    assert list(report["layers"].values()) == [scheme]
    wanted = np.moveaxis(integers, 0, axis).astype(np.int8).tobytes()
    assert wanted in [
        bytes(buffer.data) for buffer in flatbuffer_utils.read_model(str(out)).buffers if buffer.data is not None
    ]


@pytest.mark.parametrize("kind", LAYERS)
def test_dynamic_layers_compute_nearly_the_same_as_float(tmp_path, kind):
    path = layer(kind, *example(kind)).write(tmp_path / "net.tflite")
    out, report, ranges = quantized(path, "dynamic")
    assert not ranges
    assert snr(run(path, {"x": X})["y"], run(out, {"x": X})["y"]) > 35
    # LiteRT's own kernel for this one is slow, and XNNPACK has none.
    assert report["layers"] == {"y": "w8" if kind == "DEPTHWISE_CONV_2D" else "dynamic"}


@pytest.mark.parametrize("kind", LAYERS)
def test_w4_is_used_where_the_quantizer_has_it(tmp_path, kind):
    path = layer(kind, *example(kind)).write(tmp_path / "net.tflite")
    out, report, _ = quantized(path, "w4")
    has_none = kind in {"DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"}
    assert report["layers"] == {"y": "w8" if has_none else "w4"}
    assert snr(run(path, {"x": X})["y"], run(out, {"x": X})["y"]) > (35 if has_none else 15)


@pytest.mark.parametrize("scheme", STATIC)
@pytest.mark.parametrize("kind", ["FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"])
def test_channels_of_zeros_keep_their_bias(tmp_path, kind, scheme):
    """AI Edge Quantizer warns of an invalid cast and gives the bias a wrong sign."""
    weight, bias = example(kind)
    channels = np.moveaxis(weight, LAYERS[kind][0], 0)
    channels[2], channels[3] = 0, channels[3] * 1e-9
    bias[2:4] = 3.0, -2.0
    path = layer(kind, weight, bias).write(tmp_path / "net.tflite")
    out, _, ranges = quantized(path, scheme)
    _, scale = rounded(X, ranges["y"].low, ranges["y"].high, scheme)
    error = np.abs(run(out, {"x": X})["y"] - run(path, {"x": X})["y"])
    assert error[..., 2:4].max() <= scale


@pytest.mark.parametrize("order", [1, -1])
def test_layers_that_share_a_weight_keep_their_biases(tmp_path, order):
    weight, small, large = normal(8, 8), normal(8), normal(8)
    weight[2], small[2], large[2] = 0, 0.0, 900.0
    first, second = (small, large)[::order]
    net = Net().start(x=(1, 8)).dense("a", (1, 8), "x", weight, first).dense("y", (1, 8), "a", weight, second)
    path, sample = net.finish("y").write(tmp_path / "net.tflite"), {"x": normal(1, 8)}
    out, _, _ = quantized(path, "w8a8", sample)
    assert snr(run(path, sample)["y"], run(out, sample)["y"]) > 35


def test_an_activation_of_zeros_leaves_the_bias(tmp_path):
    weight, bias = example("CONV_2D")
    path = layer("CONV_2D", weight, bias).write(tmp_path / "net.tflite")
    zeros = np.zeros_like(X)
    out, _, _ = quantized(path, "w8a8", {"x": zeros})
    assert np.allclose(run(out, {"x": zeros})["y"], bias, atol=np.abs(bias).max() / 100)


def blocks():
    """Two convolutions and a residual one, with moves between them, then another and a softmax."""
    return (
        Net()
        .start(x=X.shape)
        .conv("a", (1, 6, 6, 12), "x", normal(12, 3, 3, 8), normal(12))
        .add("PAD", "padded", (1, 7, 6, 12), "a", np.array([[0, 0], [0, 1], [0, 0], [0, 0]], np.int32))
        .reshape("transposed", (1, 6, 7, 12), "padded")
        .conv("b", (1, 6, 7, 12), "transposed", normal(12, 1, 1, 12) / 4, normal(12))
        .sum("sum", (1, 6, 7, 12), "transposed", "b")
        .conv("c", (1, 6, 7, 4), "sum", normal(4, 1, 1, 12) / 4, normal(4))
        .add("SOFTMAX", "y", (1, 6, 7, 4), "c", options="SoftmaxOptions", beta=1.0)
        .finish("y")
    )


@pytest.mark.parametrize("scheme", STATIC)
def test_nothing_is_dequantized_between_quantized_operations(tmp_path, scheme):
    path = blocks().write(tmp_path / "net.tflite")
    out, report, _ = quantized(path, scheme)
    chain = ["CONV_2D", "PAD", "RESHAPE", "CONV_2D", "ADD", "CONV_2D"]
    assert kinds(out) == ["QUANTIZE", *chain, "DEQUANTIZE", "SOFTMAX"]
    assert report["operations"] == {"ADD": 1, "CONV_2D": 3, "PAD": 1, "RESHAPE": 1}
    file = TfliteFile(out)
    ends = {**file.inputs(0), **file.outputs(0)}
    assert [file.dtype(tensor) for tensor in ends.values()] == [0, 0]  # float32
    assert snr(run(path, {"x": X})["y"], run(out, {"x": X})["y"]) > 25


def test_only_the_tensors_that_a_plan_needs_are_named(tmp_path):
    path = blocks().write(tmp_path / "net.tflite")
    assert list(TFLITE.tensors(path, plan_for(path, "w8a8"))) == ["x", "a", "sum", "b", "c"]
    assert not TFLITE.tensors(path, plan_for(path, "dynamic"))
    assert set(TFLITE.tensors(path, plan_for(path, "w8", b="w8a8"))) == {"transposed", "b"}


def test_each_layer_has_its_own_scheme(tmp_path):
    path = blocks().write(tmp_path / "net.tflite")
    out, report, _ = quantized(path, "fp32", b="w8a8", c="dynamic")
    assert report == {"layers": {"a": "fp32", "b": "w8a8", "c": "dynamic"}, "unknown": [], "operations": {"CONV_2D": 2}}
    before, after = TfliteFile(path), TfliteFile(out)
    types = [after.dtype(after_weight) for after_weight in _weights(before)]
    assert types == [0, 9, 9]  # float32, int8, int8
    assert np.array_equal(after.constant(_weights(before)[0]), before.constant(_weights(before)[0]))
    assert kinds(out)[:5] == ["CONV_2D", "PAD", "RESHAPE", "QUANTIZE", "CONV_2D"]


def _weights(file):
    return [operation.weight for operation in file.graphs[0].operations if operation.weight]


def test_layer_names_with_regex_characters_or_common_beginnings_are_distinguished(tmp_path):
    net = Net().start(x=(1, 8))
    for name, source in (("a.+|b", "x"), ("b", "a.+|b"), ("a.+", "b")):
        net.dense(name, (1, 8), source, normal(8, 8))
    path = net.finish("a.+").write(tmp_path / "net.tflite")
    out, report, _ = quantized(path, "fp32", {"x": normal(1, 8)}, **{"a.+": "w8a8", "b": "w8a8"})
    assert report["layers"] == {"a.+|b": "fp32", "b": "w8a8", "a.+": "w8a8"}
    dense = "FULLY_CONNECTED"
    assert kinds(out) == [dense, "QUANTIZE", dense, dense, "DEQUANTIZE"]


def test_weights_of_no_layer_stay_in_float_and_are_reported(tmp_path):
    path = blocks().write(tmp_path / "net.tflite")
    plan = plan_for(path, "w8")
    known = {digest: name for digest, name in plan.names.items() if name != "b"}
    report = TFLITE.quantize(path, tmp_path / "out.tflite", replace(plan, names=known), {})
    assert report["unknown"] == ["b"]
    assert report["layers"] == {"a": "w8", "c": "w8"}


def test_outputs_are_the_same_if_no_layer_is_quantized(tmp_path):
    path = blocks().write(tmp_path / "net.tflite")
    out, report, _ = quantized(path, "fp32")
    assert report["operations"] == {}
    assert np.array_equal(run(out, {"x": X})["y"], run(path, {"x": X})["y"])


def test_every_scheme_of_the_target_is_carried_out(tmp_path):
    path = blocks().write(tmp_path / "net.tflite")
    for scheme in set(TARGETS["tflite"].schemes) - {"fp32"}:
        out, report, _ = quantized(path, scheme)
        assert set(report["layers"].values()) == {scheme}
        assert snr(run(path, {"x": X})["y"], run(out, {"x": X})["y"]) > 8


def test_a_missing_or_nan_range_is_named(tmp_path):
    path = blocks().write(tmp_path / "net.tflite")
    plan = plan_for(path, "w8a8")
    ranges = observed(path, plan, {"x": X})
    for wrong, said in (({"sum": Range(0.0, np.nan)}, "'sum' is 0.0 to nan"), ({"sum": None}, "no range .* 'sum'")):
        broken = {name: value for name, value in {**ranges, **wrong}.items() if value is not None}
        with pytest.raises(ExportError, match=said) as caught:
            TFLITE.quantize(path, tmp_path / "out.tflite", plan, broken)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out.tflite").exists()


def test_an_output_that_an_operation_reads_is_refused(tmp_path):
    weight = normal(8, 8)
    net = Net().start(x=(1, 8)).dense("a", (1, 8), "x", weight).dense("y", (1, 8), "a", 2 * weight).finish("a", "y")
    path = net.write(tmp_path / "net.tflite")
    sample = {"x": normal(1, 8)}
    for layers in ({"a": "w8a8"}, {"y": "w8a8"}):
        with pytest.raises(ExportError, match=r"'a'.*fp32"):
            quantized(path, "fp32", sample, **layers)
    out, _, _ = quantized(path, "w8", sample)
    assert snr(run(path, sample)["y"], run(out, sample)["y"]) > 35


def test_a_failure_of_the_quantizer_is_one_line(tmp_path, monkeypatch):
    path = blocks().write(tmp_path / "net.tflite")

    def fail(*_, **__):
        raise RuntimeError("no luck\nat all")

    monkeypatch.setattr("ai_edge_quantizer.model_modifier.ModelModifier.modify_model", fail)
    with pytest.raises(ExportError, match=r"^ai-edge-quantizer failed on net\.tflite: no luck$"):
        quantized(path, "w8")


def test_the_file_is_not_run_to_be_quantized(tmp_path, monkeypatch):
    """AI Edge's `Quantizer.quantize` allocates every tensor at once, which kills it for a ViT-B at 1024."""
    path = blocks().write(tmp_path / "net.tflite")
    plan = plan_for(path, "w8a8")
    ranges = observed(path, plan, {"x": X})
    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter.__init__", pytest.fail)
    TFLITE.quantize(path, tmp_path / "out.tflite", plan, ranges)


def test_nothing_is_printed(tmp_path):
    """In a process of its own: LiteRT notes its delegate once, and the quantizer each bias that signatures share."""
    path = pair().write(tmp_path / "net.tflite")
    script = f"""
from pathlib import Path
from tests.quant.tflite.test_quantizer import decoder_sample, quantized
quantized(Path({str(path)!r}), "w8a8", decoder_sample(3))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def pair(sizes=(1, 3)):
    """A decoder in two call sizes: `maps` is one for all prompts, `points` one for each; the weights are shared."""
    rng = np.random.default_rng(1)
    weights = [rng.normal(size=(16, 16)).astype(np.float32) for _ in range(4)]
    biases = [rng.normal(size=16).astype(np.float32) for _ in range(4)]
    net = Net()
    for size in sizes:
        key, shape = f"prompts_{size}", (size, 4, 16)
        moved = (size, 1, 4, 16) if size > 1 else shape  # the converter optimizes each call size separately

        def of(name, key=key):
            return f"{name}@{key}"

        net.start(**{of("points"): shape, of("maps"): (1, 4, 16)})
        net.dense(of("mixed"), shape, of("points"), weights[0], biases[0])
        net.reshape(of("moved"), moved, of("mixed"))
        net.dense(of("wide"), moved, of("moved" if size > 1 else "mixed"), weights[1], biases[1])
        net.add("LOGISTIC", of("hidden"), moved, of("wide"))
        net.reshape(of("flat"), shape, of("hidden"))
        net.dense(of("key"), (1, 4, 16), of("maps"), weights[2], biases[2])
        net.sum(of("all"), shape, of("flat"), of("key"))
        net.dense(of("scores"), shape, of("all"), weights[3], biases[3]).finish(of("scores"), key=key)
    return net


def decoder_sample(prompts):
    return {"points": normal(prompts, 4, 16), "maps": normal(1, 4, 16)}


@pytest.mark.parametrize("scheme", ["w8", *STATIC])
def test_signatures_share_their_weights_and_have_equal_outputs(tmp_path, scheme):
    path = pair().write(tmp_path / "net.tflite")
    alone = pair((1,)).write(tmp_path / "alone.tflite")
    sample = decoder_sample(3)
    single, _, _ = quantized(alone, scheme, {**sample, "points": sample["points"][:1]})
    plan = plan_for(path, scheme)
    ranges = {
        name: Range(each.low, each.high * (1.01 if name.endswith("_1") else 1))  # other calls, other rounding errors
        for name, each in observed(path, plan, sample).items()
    }
    out = tmp_path / "out.tflite"
    report = TFLITE.quantize(path, out, plan, ranges)
    assert constants(out) <= constants(single) + 64  # the shapes of a few more reshapes
    assert report["operations"]["FULLY_CONNECTED"] == 8
    together = run(out, sample, "prompts_3")["scores"]
    for prompt in range(3):
        call = {**sample, "points": sample["points"][prompt : prompt + 1]}
        assert np.allclose(run(out, call, "prompts_1")["scores"][0], together[prompt], atol=1e-5)
    assert snr(run(path, sample, "prompts_3")["scores"], together) > 35


def constants(path):
    """Bytes of all constants in a file."""
    buffers = flatbuffer_utils.read_model(str(path)).buffers
    return sum(len(buffer.data) for buffer in buffers if buffer.data is not None)


@pytest.mark.parametrize("prompts", [1, 2, 3, 4])
def test_every_prompt_is_seen_in_every_signature(tmp_path, prompts):
    path = pair().write(tmp_path / "net.tflite")
    seen = {}
    sample = decoder_sample(prompts)
    names = [f"{name}@prompts_{size}" for size in (1, 3) for name in ("points", "mixed")]
    TFLITE.observer(path, names)(sample, lambda name, value: seen.setdefault(name, []).append(value))
    file = TfliteFile(path)
    mixing = file.graphs[0].operations[0]
    weight, bias = file.constant(mixing.weight), file.constant(mixing.bias)
    for size in (1, 3):
        received = np.concatenate(seen[f"mixed@prompts_{size}"])
        want = sample["points"] @ weight.T + bias
        assert len(received) == -(-prompts // size) * size
        assert np.allclose(received[:prompts], want, atol=1e-4)
        assert np.allclose(received[prompts:], want[np.arange(len(received) - prompts) % prompts], atol=1e-4)
        assert np.array_equal(np.concatenate(seen[f"points@prompts_{size}"])[:prompts], sample["points"])


@pytest.mark.parametrize("at_once", [1, 4000, 1 << 30])
def test_the_observer_passes_on_the_same_values_however_many_at_once(tmp_path, monkeypatch, at_once):
    path = blocks().write(tmp_path / "net.tflite")
    monkeypatch.setattr(tflite_observer, "_BYTES_AT_ONCE", at_once)
    names = ["c", "x", "padded", "a", "y"]
    observe = TFLITE.observer(path, names)
    first = {1: ["a"], 4000: ["a", "padded"], 1 << 30: ["a", "padded", "c", "y"]}[at_once]
    assert list(observe._parts[0].names) == first
    for sample in (X, 2 * X):
        seen = {}
        observe({"x": sample}, seen.__setitem__)
        assert set(seen) == set(names)
        assert np.array_equal(seen["x"], sample)
        assert np.allclose(seen["y"], run(path, {"x": sample})["y"], atol=1e-6)
        assert np.allclose(seen["padded"][:, :6], seen["a"])
        logits = np.exp(seen["c"] - seen["c"].max(axis=-1, keepdims=True))
        assert np.allclose(logits / logits.sum(axis=-1, keepdims=True), seen["y"], atol=1e-5)


def test_operations_after_the_last_tensor_are_not_computed(tmp_path):
    path = blocks().write(tmp_path / "net.tflite")
    observe = TFLITE.observer(path, ["a", "padded"])
    observe({"x": X}, lambda name, value: None)
    (part,) = observe._folder.iterdir()
    assert kinds(part) == ["CONV_2D", "PAD"]
    assert part.stat().st_size < path.stat().st_size


def test_samples_and_names_that_do_not_fit_are_refused(tmp_path):
    path = pair().write(tmp_path / "net.tflite")
    with pytest.raises(ExportError, match="no tensor called 'else'"):
        TFLITE.observer(path, ["else"])
    observe = TFLITE.observer(path, ["mixed@prompts_1"])
    good = decoder_sample(3)
    for wrong in (
        {"points": good["points"]},
        {**good, "more": good["maps"]},
        {**good, "points": good["points"][:, :2]},
        {**good, "points": good["points"][0]},
        {**good, "maps": good["maps"].repeat(2, axis=0)},
    ):
        with pytest.raises(UsageError, match=r"a sample for net\.tflite has the shapes"):
            observe(wrong, lambda name, value: None)


def test_for_an_npu_products_of_activations_have_16_bits_among_layers_of_8(tmp_path):
    size = (1, SIDE, INPUTS)
    rows = X[:, 0]
    net = Net().start(x=size)
    net.dense("a", size, "x", normal(INPUTS, INPUTS), normal(INPUTS))
    net.add("GELU", "bent", size, "a", options="GeluOptions", approximate=False)
    net.matmul("scores", (1, SIDE, SIDE), "bent", "a", transposed=True)
    net.add("SOFTMAX", "shares", (1, SIDE, SIDE), "scores", options="SoftmaxOptions", beta=1.0)
    net.matmul("attended", size, "shares", "bent")
    net.dense("b", size, "attended", normal(INPUTS, INPUTS), normal(INPUTS))
    source = net.sum("y", size, "a", "b").finish("y").write(tmp_path / "npu.tflite")
    out, report, _ = quantized(source, "npu", {"x": rows})
    assert report["layers"] == {"a": "npu", "b": "npu"}
    assert report["operations"] == {"ADD": 1, "BATCH_MATMUL": 2, "FULLY_CONNECTED": 2, "GELU": 1, "SOFTMAX": 1}
    file = TfliteFile(out)
    made = {each.kind: file.dtype(each.outputs[0]) for each in file.graphs[0].operations if each.kind != "QUANTIZE"}
    narrow, wide = qtyping.TensorType.INT8, qtyping.TensorType.INT16
    assert made.pop("DEQUANTIZE") == qtyping.TensorType.FLOAT32
    assert made == {
        "FULLY_CONNECTED": narrow,
        "GELU": wide,
        "BATCH_MATMUL": wide,
        "SOFTMAX": wide,
        "ADD": wide,
    }
    assert snr(run(source, {"x": rows})["y"], run(out, {"x": rows})["y"]) > 30
