"""SQuant preserves each channel's sum of weights; scales of rounded weights are recognized."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge_quant.methods.squant import round_preserving_sums
from sam_edge_quant.methods.weight_scales import exact_scales

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("axis", [0, 1, 3])
def test_each_channel_keeps_its_sum_and_each_number_is_next_to_the_exact_one(axis):
    weight = RNG.normal(size=(6, 5, 3, 4)).astype(np.float32)
    scales = np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1).max(axis=1) / np.float32(127)
    along = np.moveaxis(weight, axis, -1) / scales
    numbers = np.moveaxis(round_preserving_sums(weight, scales, axis), axis, -1)
    assert numbers.dtype == np.int8
    assert np.abs(numbers - along).max() < 1
    assert np.abs((numbers - along).sum(axis=(0, 1, 2))).max() <= 0.51


def test_equal_inputs_lose_less_than_by_rounding_to_the_nearest():
    weight = RNG.normal(size=(64, 9)).astype(np.float32)
    scales = np.abs(weight).max(axis=1) / np.float32(7)
    alike = (3 + 0.1 * RNG.normal(size=(9, 500))).astype(np.float32)
    kept, nearest = round_preserving_sums(weight, scales, 0), np.rint(weight / scales[:, None])
    lost = [np.square((numbers * scales[:, None] - weight) @ alike).mean() for numbers in (kept, nearest)]
    assert lost[0] < lost[1] / 3


def test_integers_stay_and_none_exceeds_int8():
    integers = RNG.integers(-127, 128, size=(8, 40)).astype(np.int8)
    scales = RNG.uniform(0.001, 0.01, 8).astype(np.float32)
    assert np.array_equal(round_preserving_sums(integers * scales[:, None], scales, 0), integers)
    largest = np.full((1, 5), 127.4, np.float32)  # preserving the sum would take 128
    assert round_preserving_sums(largest, np.ones(1, np.float32), 0).max() == 127


def test_the_exact_scale_of_a_channel_is_found_in_any_part_of_it():
    scales = RNG.uniform(0.001, 0.01, 8).astype(np.float32)
    whole = RNG.integers(-40, 41, size=(8, 30)) * scales[:, None]
    assert np.allclose(exact_scales(whole), scales, rtol=1e-6)
    whole[3] += 0.3 * scales[3]
    whole[5] = 0
    whole[6] *= 4  # the largest scale is meant
    found = exact_scales(whole.astype(np.float32))
    assert (found[3], found[5]) == (0, 0)
    assert np.isclose(found[6], 4 * scales[6])
