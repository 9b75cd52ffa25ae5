"""Quantization methods on planted outliers: fp32 outputs stay the same, and INT8 outputs lose less."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_quantizer import qtyping
from ai_edge_quantizer.algorithms.uniform_quantize import uniform_quantize_tensor
from onnx import TensorProto
from onnxruntime.quantization.quant_utils import quantize_data

from sam_edge_quant.methods import Reader, bias_correction, bimodal, choose_scales, cross_layer, gptq, smoothquant
from sam_edge_quant.methods.channel_scales import SMALLEST_SCALE, balancing_scales, expected_noise
from sam_edge_quant.methods.weight_scales import symmetric_scales

CHANNELS = 48
EXACT = 1e-4  # of the largest output


def outliers(rng, every=8, factor=30.0):
    """A factor for each channel, a few of them large."""
    return np.where(np.arange(CHANNELS) % every == 0, factor, 1.0) * rng.uniform(0.5, 1.0, CHANNELS)


def int8(values):
    """A tensor after asymmetric INT8 quantization with one scale, zero represented exactly."""
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    scale = (high - low) / 255
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale


def nearest(weight, levels=127):
    """A weight rounded to the nearest, with a symmetric scale for each output."""
    flat = weight.reshape(len(weight), -1)
    return gptq.round_to_nearest(flat, symmetric_scales(flat, levels)).reshape(weight.shape)


def gap(found, wanted):
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def noise(found, wanted):
    """Mean square error, relative."""
    return float(np.square(found - wanted).mean() / np.square(wanted).mean())


def reader(weight, values):
    """A linear layer `(outputs, channels)` that reads `values (positions, channels)`."""
    return Reader(weight[:, :, None], values.min(axis=0), values.max(axis=0), np.square(values).mean(axis=0))


# Scales --------------------------------------------------------------------------------------------------------------


def test_smoothing_keeps_the_outputs_and_lowers_the_error():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(400, CHANNELS))
    norm_weight, norm_bias = outliers(rng), outliers(rng) * rng.normal(size=CHANNELS) * 0.1
    values = normal * norm_weight + norm_bias
    weights = [rng.normal(size=(outputs, CHANNELS)) for outputs in (24, 40)]
    smoothed = smoothquant.smooth(norm_weight, norm_bias, [reader(weight, values) for weight in weights])
    narrow = (normal * smoothed.weight + smoothed.bias).astype(np.float32)
    assert np.ptp(np.abs(narrow).max(axis=0)) < 0.5 * np.ptp(np.abs(values).max(axis=0))
    for weight, new in zip(weights, smoothed.readers, strict=True):
        wanted, matrix = values @ weight.T, new[..., 0].astype(np.float32)
        assert gap(narrow @ matrix.T, wanted) < EXACT
        before = noise(int8(values) @ nearest(weight).T, wanted)
        assert noise(int8(narrow) @ nearest(matrix).T, wanted) < before / 4


def test_equalization_across_a_relu_and_a_residual_keeps_the_outputs_and_lowers_the_error():
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(400, 20))
    scale = outliers(rng)
    first, second = (rng.normal(size=(CHANNELS, 20)) * scale[:, None] for _ in range(2))
    offset = rng.normal(size=CHANNELS) * scale
    readers = [rng.normal(size=(outputs, CHANNELS)) / scale for outputs in (24, 40)]

    def stream(one, two, shift):
        return np.maximum(inputs @ one.T + shift, 0) + np.maximum(inputs @ two.T, 0)

    values = stream(first, second, offset)
    choice = choose_scales([reader(weight, values) for weight in readers])
    written = [cross_layer.divided_outputs(each, choice.scales) for each in (first, second, offset)]
    narrow = stream(*written).astype(np.float32)
    assert choice.after < choice.before / 4
    for weight in readers:
        new = cross_layer.multiplied_inputs(weight[..., None], choice.scales)[..., 0].astype(np.float32)
        wanted = values @ weight.T
        assert gap(narrow @ new.T, wanted) < EXACT
        before = noise(int8(values) @ nearest(weight).T, wanted)
        assert noise(int8(narrow) @ nearest(new).T, wanted) < before / 4


def test_expected_noise_is_near_the_measured_noise():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(4000, CHANNELS)) * outliers(rng, factor=5.0)
    weight = rng.normal(size=(64, CHANNELS))
    scales = rng.uniform(0.5, 2.0, CHANNELS)
    expected = expected_noise(reader(weight, values), scales)
    found = noise(int8(values / scales) @ nearest(weight * scales).T, values @ weight.T)
    assert found == pytest.approx(expected, rel=0.25)


def test_scales_are_one_where_none_lowers_the_noise():
    values = np.tile(np.linspace(-1, 1, 100)[:, None], CHANNELS)
    choice = choose_scales([reader(np.ones((4, CHANNELS)), values)])
    assert choice.strength is None
    assert choice.after == choice.before
    np.testing.assert_array_equal(choice.scales, 1.0)


def test_a_channel_that_was_quiet_in_calibration_is_enlarged_only_to_a_limit():
    activations, weights = np.full(CHANNELS, 2.0), np.full(CHANNELS, 3.0)
    activations[:4] = 0.0, 1e-9, 2.0, 90.0
    weights[2] = 0.0
    scales = balancing_scales(activations, weights, 1.0)
    scales = scales / np.median(scales)
    assert scales[1] == pytest.approx(SMALLEST_SCALE)
    assert scales[3] == pytest.approx(45.0)
    np.testing.assert_allclose(scales[[0, 2]], 1.0)  # without values or weights


def test_strength_one_makes_ranges_equal_and_one_half_is_the_papers_formula():
    rng = np.random.default_rng(3)
    activations, weights = rng.uniform(2, 6, (2, CHANNELS))
    np.testing.assert_allclose(np.ptp(activations / balancing_scales(activations, weights, 1.0)), 0, atol=1e-9)
    paper = np.sqrt(activations / weights)  # equation 11 of arXiv 1906.04721
    halfway = balancing_scales(activations, weights, 0.5)
    np.testing.assert_allclose(halfway / halfway[0], paper / paper[0])


# Bimodal keys --------------------------------------------------------------------------------------------------------


def test_folding_signs_keeps_the_products_to_the_bit_and_halves_the_range():
    rng = np.random.default_rng(4)
    signs = np.where(rng.random(CHANNELS) < 0.5, -1.0, 1.0)
    tokens = rng.normal(size=(200, 32)).astype(np.float32)
    key, query = (rng.normal(size=(CHANNELS, 32)).astype(np.float32) * 0.2 for _ in range(2))
    key_bias = (8 * signs).astype(np.float32)
    keys, queries = tokens @ key.T + key_bias, tokens @ query.T
    chosen = bimodal.choose_signs(keys.min(axis=0), keys.max(axis=0), keys.mean(axis=0))
    np.testing.assert_array_equal(chosen, signs)
    new_query, new_key, new_bias = (
        bimodal.signed_outputs(each, chosen).astype(np.float32) for each in (query, key, key_bias)
    )
    folded = tokens @ new_key.T + new_bias
    scores = (queries[:, None] * keys[None]).sum(axis=-1)
    np.testing.assert_array_equal(((tokens @ new_query.T)[:, None] * folded[None]).sum(axis=-1), scores)
    assert np.ptp(int8(folded)) < 0.7 * np.ptp(int8(keys))
    wanted = queries @ keys.T
    before = noise(queries @ int8(keys).T, wanted)
    assert noise((queries * chosen) @ int8(folded).T, wanted) < before / 2


def test_signs_are_changed_only_where_they_narrow_the_range():
    low, high, mean = np.array([-2.0, -1.0]), np.array([1.0, 2.0]), np.array([-0.1, 0.1])
    narrowing = bimodal.choose_signs(low, high, mean)
    np.testing.assert_array_equal(narrowing, [-1.0, 1.0])  # -1..2 instead of -2..2
    widening = bimodal.choose_signs(low, high, -mean)
    np.testing.assert_array_equal(widening, [1.0, -1.0])
    alike = bimodal.choose_signs(np.array([-2.0]), np.array([1.0]), mean[:1])
    np.testing.assert_array_equal(alike, [1.0])  # nothing gained


# Rounding ------------------------------------------------------------------------------------------------------------


def correlated(rng, positions=2000, inputs=CHANNELS):
    """Correlated inputs that are never negative, as after a ReLU."""
    return np.maximum(rng.normal(size=(positions, 6)) @ rng.normal(size=(6, inputs)) + 1.0, 0.0)


def rounded_to(levels, rng, rows=32):
    values, weight = correlated(rng), rng.normal(size=(rows, CHANNELS)).astype(np.float32).astype(np.float64)
    scales = symmetric_scales(weight, levels)
    covariance = np.cov(values.T, bias=True)
    return values, weight, gptq.round_compensating(weight[None], covariance[None], scales[None], levels)[0]


@pytest.mark.parametrize("levels", [127, 64, 7])
def test_gptq_and_bias_correction_lose_less_than_rounding_to_the_nearest(levels):
    values, weight, rounded = rounded_to(levels, np.random.default_rng(5))
    shift = bias_correction.correction(weight, rounded, values.mean(axis=0))
    wanted = values @ weight.T
    np.testing.assert_allclose((values @ rounded.T + shift).mean(axis=0), wanted.mean(axis=0))
    before = noise(values @ nearest(weight, levels).T, wanted)
    assert before < 0.1  # not hopeless
    assert noise(values @ rounded.T, wanted) > 2 * noise(values @ rounded.T + shift, wanted)
    assert noise(values @ rounded.T + shift, wanted) < before / 10


@pytest.mark.parametrize("levels", [127, 64, 7])
def test_rounded_weights_are_multiples_of_their_scale_and_the_largest_is_kept(levels):
    _, weight, rounded = rounded_to(levels, np.random.default_rng(6))
    assert np.abs(rounded - nearest(weight, levels)).max() > 0.5 * symmetric_scales(weight, levels).min()
    np.testing.assert_array_equal(np.abs(rounded).max(axis=1), np.abs(weight).max(axis=1))
    codes = rounded / symmetric_scales(weight, levels)[:, None]
    np.testing.assert_allclose(codes, np.rint(codes), atol=1e-6)


@pytest.mark.parametrize("reduced", [False, True])
def test_onnx_runtime_keeps_every_rounded_weight(reduced):
    _, _, rounded = rounded_to(64 if reduced else 127, np.random.default_rng(7))
    for row in rounded.astype(np.float32):
        zero, scale, codes = quantize_data(row, TensorProto.INT8, True, reduce_range=reduced)
        np.testing.assert_allclose((codes.astype(np.float64) - zero) * scale, row, rtol=1e-6, atol=0)


@pytest.mark.parametrize("bits", [8, 4])
def test_ai_edge_quantizer_keeps_every_rounded_weight(bits):
    _, _, rounded = rounded_to(2 ** (bits - 1) - 1, np.random.default_rng(8))
    row = rounded.astype(np.float32)
    zero, scale = uniform_quantize_tensor.tensor_zp_scale_from_min_max(
        row.min(axis=1, keepdims=True), row.max(axis=1, keepdims=True), bits, True, qtyping.QuantGranularity.CHANNELWISE
    )
    grid = qtyping.UniformQuantParams(bits, 0, scale, zero, symmetric=True)
    codes = uniform_quantize_tensor.uniform_quantize(row, grid)
    np.testing.assert_allclose(codes.astype(np.float64) * scale, row, rtol=1e-6, atol=0)


def test_groups_are_rounded_independently_and_block_size_changes_nothing(monkeypatch):
    rng = np.random.default_rng(9)
    values = np.stack([correlated(rng, inputs=200), rng.normal(size=(2000, 200))])
    moments = values.transpose(0, 2, 1) @ values / 2000
    weight = rng.normal(size=(2, 8, 200))
    scales = symmetric_scales(weight.reshape(16, 200), 7).reshape(2, 8)
    both = gptq.round_compensating(weight, moments, scales, 7)
    monkeypatch.setattr(gptq, "BLOCK", 1000)
    for group in (0, 1):
        one = slice(group, group + 1)
        alone = gptq.round_compensating(weight[one], moments[one], scales[one], 7)
        np.testing.assert_array_equal(both[one], alone)


def test_inputs_that_are_always_zero_give_rounding_to_the_nearest():
    weight = np.random.default_rng(10).normal(size=(1, 4, 9))
    scales = symmetric_scales(weight[0], 127)[None]
    found = gptq.round_compensating(weight, np.zeros((1, 9, 9)), scales, 127)
    np.testing.assert_allclose(found, gptq.round_to_nearest(weight, scales))


def test_an_output_without_weights_stays_zero():
    weight = np.zeros((1, 2, 9))
    scales = symmetric_scales(weight[0], 127)[None]
    np.testing.assert_array_equal(gptq.round_compensating(weight, np.eye(9)[None], scales, 127), 0.0)
