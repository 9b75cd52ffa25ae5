"""Weights that neural-compressor rounds: what it gains, and that no target's quantizer rounds them a second time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("neural_compressor", reason="an extra, which Python 3.10 has not")

from sam_edge.export.context import _check_rounding
from sam_edge.model import build_sam
from sam_edge.quantization.artifacts import _rounders
from sam_edge.quantization.gptq import round_weights
from sam_edge.quantization.layers import LAYERS
from sam_edge.quantization.neural_compressor.rounding import Grid, rounder
from sam_edge_quant import quantizer_for, recipe_named
from sam_edge_quant.onnx import quantizer as onnx_quantizer
from sam_edge_quant.onnx.weights import BLOCK
from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.bundle.targets import TARGETS
from sam_edge_runtime.errors import UsageError
from tests.quant.onnx.networks import Net, plan_for, run
from tests.quant.tflite.test_quantizer import Net as TfliteNet
from tests.quant.tflite.test_quantizer import plan_for as tflite_plan_for
from tests.quant.tflite.test_quantizer import run as run_tflite
from tests.quantization.equalization.test_equalize import calls, model, outputs

METHODS = ("nc-rtn", "nc-gptq")
GRIDS = {"w8": Grid(8), "w4": Grid(4), "w4 in blocks": Grid(4, 32)}
INPUTS, OUTPUTS = 80, 24  # two blocks and a half


def layer(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A weight `(outputs, inputs)`, correlated inputs `(samples, inputs)`, and their second moments."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(400, 12)) @ rng.normal(size=(12, INPUTS)) + 0.1 * rng.normal(size=(400, INPUTS))
    weight = rng.normal(size=(OUTPUTS, INPUTS)) * np.geomspace(0.01, 1, OUTPUTS)[:, None]
    return weight.astype(np.float32).astype(np.float64), inputs, inputs.T @ inputs / len(inputs)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("method", METHODS)
def test_rounded_weights_lie_on_the_grid_of_their_own_range(method, name):
    weight, _, moments = layer()
    grid = GRIDS[name]
    rounded = rounder(method, grid)(weight, moments)
    for place in grid.blocks(INPUTS):
        part = rounded[:, place]
        if grid.block is None:
            scales = np.abs(part).max(axis=1, keepdims=True) / (2 ** (grid.bits - 1) - 1)
        else:
            low, high = np.minimum(part.min(axis=1), 0.0), np.maximum(part.max(axis=1), 0.0)
            scales = ((high - low) / 15)[:, None]
        codes = part / scales
        np.testing.assert_allclose(codes, np.rint(codes), atol=2e-3)
    assert not np.allclose(rounded, weight, rtol=1e-4)


@pytest.mark.parametrize("name", GRIDS)
def test_gptq_changes_the_outputs_less_than_rounding_to_nearest(name):
    weight, inputs, moments = layer()
    nearest, compensated = (
        snr_db(inputs @ weight.T, inputs @ rounder(method, GRIDS[name])(weight, moments).T) for method in METHODS
    )
    assert compensated > nearest + 6


def test_an_input_that_is_always_zero_and_an_output_of_zeros_are_no_obstacle():
    weight, inputs, _ = layer()
    inputs[:, 3], weight[5] = 0.0, 0.0
    for method in METHODS:
        rounded = rounder(method, Grid(8))(weight, inputs.T @ inputs / len(inputs))
        assert np.isfinite(rounded).all()
        assert not rounded[5].any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", ["w8", "w4"])
def test_onnx_keeps_every_weight(tmp_path, method, scheme):
    weight, inputs, moments = layer()
    grid = Grid(8) if scheme == "w8" else Grid(4, TARGETS["onnx"].int4_block)
    rounded = rounder(method, grid)(weight, moments).astype(np.float32)
    net = Net(x=(len(inputs), INPUTS))
    net.add("MatMul", "x", net.constant(np.ascontiguousarray(rounded.T), "w"), to="y")
    source, path = net.save(tmp_path, "y"), tmp_path / "small.onnx"
    onnx_quantizer.quantize(source, path, plan_for(source, recipe_named(scheme)), {})
    x = inputs.astype(np.float32)
    assert snr_db(run(source, {"x": x})[0], run(path, {"x": x})[0]) > 80


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scheme", ["w8", "w4"])
def test_tflite_keeps_every_weight(tmp_path, scheme, method):
    weight, inputs, moments = layer()
    rounded = rounder(method, GRIDS[scheme])(weight, moments).astype(np.float32)
    x = inputs[:36].astype(np.float32).reshape(1, 6, 6, INPUTS)
    net = TfliteNet().start(x=x.shape)
    net.dense("y", (1, 6, 6, OUTPUTS), "x", rounded)
    source = net.finish("y").write(tmp_path / "net.tflite")
    path = tmp_path / "small.tflite"
    quantizer_for("tflite").quantize(source, path, tflite_plan_for(source, scheme), {})
    want, have = (run_tflite(each, {"x": x})["y"] for each in (source, path))
    assert snr_db(want, have) > 80


def test_the_blocks_are_those_of_the_target():
    assert TARGETS["onnx"].int4_block == BLOCK
    recipe = replace(recipe_named("w4"), rounding="nc-gptq")
    assert TARGETS["tflite"].int4_block is None
    with pytest.raises(UsageError, match=r"w4 of target coreml, .* palette: use w8, or rounding gptq"):
        _check_rounding(recipe, "coreml")
    _check_rounding(replace(recipe, name="w8"), "coreml")


def test_a_recipe_chooses_the_linear_layers_that_are_rounded():
    sam = build_sam("nano")
    recipe = replace(recipe_named("w8"), rounding="nc-rtn", layers={"mask_decoder.transformer.layers.0": "w8a8"})
    chosen = _rounders(sam, recipe, "onnx")
    linear = {name for name, module in sam.named_modules() if isinstance(module, nn.Linear)}
    skipped = {name for name in linear if name.startswith("mask_decoder.transformer.layers.0.")}
    assert skipped
    assert set(chosen) == linear - skipped
    assert _rounders(sam, recipe_named("w8"), "onnx") == {}


def test_a_model_is_rounded_by_two_methods_at_once():
    sam = model("nano")
    expected = outputs(sam)
    levels = {name: 7 for name, module in sam.named_modules() if isinstance(module, LAYERS)}
    recipe = replace(recipe_named("w4"), rounding="nc-gptq")
    report = round_weights(sam, *calls(sam), levels, _rounders(sam, recipe, "tflite"))
    linear = [name for name, module in sam.named_modules() if isinstance(module, nn.Linear)]
    assert set(linear) <= set(report)
    gains = [report[name].snr_db - report[name].nearest_db for name in linear]
    assert np.median(gains) > 3
    for actual, expect in zip(outputs(sam), expected, strict=True):
        assert torch.isfinite(actual).all()
        assert not torch.equal(actual, expect)
