"""Layers are identified by their weights' numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam_edge_quant import Plan, fingerprint, recipe_named

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(8, 4, 3, 3)).astype(np.float32)


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (2, 3, 1, 0), (0, 2, 3, 1)])
def test_a_weight_has_one_fingerprint_in_any_order_of_axes(axes):
    assert fingerprint(WEIGHT.transpose(axes)) == fingerprint(WEIGHT)
    assert fingerprint(WEIGHT.reshape(8, -1)) == fingerprint(WEIGHT)


def test_another_number_gives_another_fingerprint():
    other = WEIGHT.copy()
    other[0, 0, 0, 0] = np.nextafter(other[0, 0, 0, 0], np.float32(9))
    assert fingerprint(other) != fingerprint(WEIGHT)


def test_an_unknown_layer_stays_in_float():
    recipe = replace(recipe_named("w8a8"), layers={"decoder": "w8"})
    plan = Plan(recipe, {fingerprint(WEIGHT): "decoder.lin1", fingerprint(WEIGHT * 2): "encoder.stem"})
    assert plan.layer(WEIGHT.T) == "decoder.lin1"
    assert [plan.scheme(weight) for weight in (WEIGHT, WEIGHT * 2, WEIGHT * 3)] == ["w8", "w8a8", "fp32"]


def test_negative_zeros_count_as_zeros():
    weight = np.array([[0.0, -0.0, 1.0], [-0.0, 0.0, -1.0]], np.float32)
    assert fingerprint(weight) == fingerprint(weight.T) == fingerprint(np.abs(weight) * [[1, 1, 1], [1, 1, -1]])
