"""GPTQ on the grid of ONNX Runtime's INT4: what it gains, and that its quantizer keeps every weight."""

from __future__ import annotations

import numpy as np

from sam_edge_quant import recipe_named
from sam_edge_quant.methods.gptq import round_in_blocks
from sam_edge_quant.onnx import quantizer
from sam_edge_quant.onnx.weights import BLOCK
from sam_edge_runtime.agreement.metrics import snr_db
from tests.quant.onnx.networks import Net, plan_for, run

INPUTS, OUTPUTS = 80, 24  # two blocks and a half


def layer() -> tuple[np.ndarray, np.ndarray]:
    """A weight `(outputs, inputs)` and correlated inputs `(samples, inputs)`."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 12)) @ rng.normal(size=(12, INPUTS)) + 0.1 * rng.normal(size=(400, INPUTS))
    weight = rng.normal(size=(OUTPUTS, INPUTS)) * np.geomspace(0.01, 1, OUTPUTS)[:, None]
    weight[0, :BLOCK] = np.abs(weight[0, :BLOCK])  # a range that ends at zero
    weight[1, BLOCK : 2 * BLOCK] = 0.0
    return weight, inputs


def nearest(weight: np.ndarray) -> np.ndarray:
    """Rounded on the same grid, without compensation: inputs that do not correlate need none."""
    return round_in_blocks(weight, np.eye(INPUTS), BLOCK)


def test_blocks_hold_sixteen_evenly_spaced_values_with_zero_and_both_ends():
    weight, _ = layer()
    rounded = nearest(weight)
    for start in range(0, INPUTS, BLOCK):
        before, after = weight[:, start : start + BLOCK], rounded[:, start : start + BLOCK]
        spread = np.maximum(before.max(axis=1), 0) - np.minimum(before.min(axis=1), 0)
        scale = np.where(spread > 0, spread, 15.0) / 15
        codes = after / scale[:, None]
        np.testing.assert_allclose(codes, np.rint(codes), atol=1e-9)
        assert (np.abs(after - before) <= 1.01 * scale[:, None]).all()  # a zero point moves both ends by half a scale
        assert (np.ptp(after, axis=1) >= np.ptp(before, axis=1) - 1.01 * scale).all()


def test_compensation_keeps_the_outputs_of_correlated_inputs():
    weight, inputs = layer()
    rounded = round_in_blocks(weight, inputs.T @ inputs / len(inputs), BLOCK)
    expected = inputs @ weight.T
    assert snr_db(expected, inputs @ rounded.T) > snr_db(expected, inputs @ nearest(weight).T) + 6


def test_onnx_runtime_rounds_nothing_a_second_time(tmp_path):
    weight, inputs = layer()
    rounded = round_in_blocks(weight, inputs.T @ inputs / len(inputs), BLOCK).astype(np.float32)
    net = Net(x=(len(inputs), INPUTS))
    net.add("MatMul", "x", net.constant(np.ascontiguousarray(rounded.T), "w"), to="y")
    source, path = net.save(tmp_path, "y"), tmp_path / "small.onnx"
    quantizer.quantize(source, path, plan_for(source, recipe_named("w4")), {})
    x = inputs.astype(np.float32)
    assert snr_db(run(source, {"x": x})[0], run(path, {"x": x})[0]) > 80
