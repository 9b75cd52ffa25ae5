"""Ranges: streamed histograms, four estimators against plain numpy on all values, and refused input."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from sam_edge_quant.ranges import estimators
from sam_edge_quant.ranges.estimators import ESTIMATORS
from sam_edge_quant.ranges.histogram import BINS, LARGEST_COUNT, Histogram
from sam_edge_quant.ranges.ranges import Range, RangeObserver, Receive, calibrate
from sam_edge_quant.recipe import ESTIMATORS as NAMES
from sam_edge_runtime.arrays import Call, Float32
from sam_edge_runtime.errors import ExportError, UsageError


def outliers(seed: int, size: int = 12_000) -> Float32:
    """Mostly near zero, a few values fifty times as large on one side: a range cannot serve both."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, size)
    values[:4] = 50.0
    return values.astype(np.float32)


SHAPES = {
    "normal": np.random.default_rng(0).normal(0, 3, 12_000).astype(np.float32),
    "outliers": outliers(1),
    "after a ReLU": np.maximum(np.random.default_rng(2).normal(-0.5, 1, 12_000), 0).astype(np.float32),
    "heavy tails": np.random.default_rng(3).standard_t(2.5, 12_000).astype(np.float32),
    "far from zero": np.random.default_rng(4).normal(90, 1, 12_000).astype(np.float32),
    "below zero": -np.random.default_rng(5).exponential(2, 12_000).astype(np.float32),
}


def observed(*arrays: Float32) -> RangeObserver:
    observer = RangeObserver("tensor")
    for array in arrays:
        observer.observe(array)
    return observer


def quantization_error(values: Float32, low: float, high: float) -> float:
    """Mean squared error of INT8, computed value by value."""
    scale = (high - low) / 255
    zero_point = np.rint(-low / scale)
    levels = np.clip(np.rint(values.astype(np.float64) / scale) + zero_point, 0, 255)
    return float(np.mean(((levels - zero_point) * scale - values) ** 2))


def test_every_estimator_of_a_recipe_exists():
    assert tuple(ESTIMATORS) == NAMES


@pytest.mark.parametrize("name", SHAPES)
def test_counts_are_those_of_numpy_with_the_same_edges(name):
    histogram = observed(SHAPES[name]).histogram
    values = SHAPES[name][SHAPES[name] != 0].astype(np.float64)
    expected, _ = np.histogram(values, histogram.edges)
    np.testing.assert_array_equal(histogram.counts, expected)
    assert histogram.zeros == np.count_nonzero(SHAPES[name] == 0)
    assert np.log2(histogram.width) == round(np.log2(histogram.width))
    assert (histogram.high - histogram.low) / histogram.width > BINS / 2 - 2


def test_order_and_pieces_of_the_values_make_no_difference():
    values = np.concatenate([np.zeros(100, np.float32), outliers(1) / 1000, outliers(2), -outliers(3) * 7])
    whole = observed(values)
    for pieces in (np.array_split(values, 50), np.array_split(values[::-1], 7)):
        parts = observed(*pieces)
        np.testing.assert_array_equal(parts.histogram.counts, whole.histogram.counts)
        for estimator in ESTIMATORS:
            assert parts.range(estimator) == whole.range(estimator)


def test_many_arrays_take_no_more_memory_than_one():
    def numbers_kept(observer: RangeObserver) -> int:
        parts = [*vars(observer).values(), *vars(observer.histogram).values()]
        return sum(part.size if isinstance(part, np.ndarray) else 1 for part in parts)

    observer = RangeObserver("tensor")
    observer.observe(outliers(0).reshape(8, -1))
    after_one = numbers_kept(observer)
    for seed in range(1, 20):
        observer.observe(outliers(seed).reshape(8, -1) * 1.5**seed)
    assert numbers_kept(observer) == after_one
    assert observer.histogram.total == 20 * 12_000


def test_a_large_array_is_subsampled_evenly_over_channels_and_its_ends_are_exact():
    channels = 6
    values = np.zeros((LARGEST_COUNT, channels), np.float32) + np.arange(1, channels + 1, dtype=np.float32)
    values[12345, 3], values[54321, 2] = -17.125, 123.5
    observer = observed(values)
    assert observer.range("minmax") == Range(-17.125, 123.5)
    histogram = observer.histogram
    shares = [histogram.counts[int(c / histogram.width) - histogram.first] / values.size for c in range(1, 7)]
    np.testing.assert_allclose(shares, 1 / channels, rtol=1e-3)
    assert histogram.total == pytest.approx(values.size, rel=1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_minmax_is_exact_and_holds_zero(name):
    found = observed(*np.array_split(SHAPES[name], 3)).range("minmax")
    assert found == Range(min(0.0, float(SHAPES[name].min())), max(0.0, float(SHAPES[name].max())))


@pytest.mark.parametrize("name", SHAPES)
def test_percentile_clips_its_share_at_either_end(name, monkeypatch):
    monkeypatch.setattr(estimators, "CUT_OFF", 0.01)
    values = SHAPES[name]
    observer = observed(values)
    found, width = observer.range("percentile"), observer.histogram.width
    for cut, share in ((found.low, 0.01), (found.high, 0.99)):
        if cut != 0.0:  # within a bin's width of the cut
            below, above = np.mean(values < cut - width), np.mean(values < cut + width)
            assert below <= share <= above


def test_percentile_clips_values_rarer_than_its_share(monkeypatch):
    monkeypatch.setattr(estimators, "CUT_OFF", 1e-5)
    values = np.random.default_rng(0).uniform(-1, 1, 1_000_000).astype(np.float32)
    values[:3] = 1000.0
    found = observed(values).range("percentile")
    assert found.high < 1.5
    assert -1 <= found.low < -0.99


@pytest.mark.parametrize("name", SHAPES)
def test_mse_is_as_good_as_an_exhaustive_search(name):
    values = SHAPES[name]
    found = observed(*np.array_split(values, 4)).range("mse")
    shares = np.linspace(0.025, 1.0, 40)
    lows = np.unique(min(0.0, float(values.min())) * shares)
    highs = np.unique(max(0.0, float(values.max())) * shares)
    best = min(quantization_error(values, low, high) for low, high in itertools.product(lows, highs) if high > low)
    assert quantization_error(values, found.low, found.high) <= 1.03 * best


def test_mse_clips_outliers_that_cost_more_than_they_gain():
    values = outliers(0, 2_000_000)
    found = observed(*np.array_split(values, 4)).range("mse")
    assert 4 < found.high < 30
    assert quantization_error(values, found.low, found.high) < 0.7 * quantization_error(values, -5.5, 50.0)


def plain_divergence(counts: npt.NDArray[np.float64], threshold: int) -> float:
    """TensorRT's procedure for a histogram of magnitudes, step by step as on its slides, with 256 levels."""
    reference = counts[:threshold].copy()
    reference[-1] += counts[threshold:].sum()
    coarse = np.zeros(threshold)
    for level in range(256):
        start, end = -(-level * threshold // 256), -(-(level + 1) * threshold // 256)
        inside = counts[start:end]
        if (inside > 0).any():
            coarse[start:end][inside > 0] = inside.sum() / np.count_nonzero(inside)
    reference, coarse = reference / reference.sum(), coarse / coarse.sum()
    if (coarse[reference > 0] == 0).any():
        return float("inf")
    some = reference > 0
    return float(np.sum(reference[some] * np.log(reference[some] / coarse[some])))


def test_entropy_finds_the_least_divergence():
    rng = np.random.default_rng(0)
    values = np.abs(rng.laplace(0, 1, 400_000)).astype(np.float32)
    values[0] = 31.999  # 8,192 bins of 1/256
    counts, _ = np.histogram(values, np.arange(BINS + 1) / 256)
    found = observed(values).range("entropy").high
    every = {bins: plain_divergence(counts.astype(np.float64), bins) for bins in range(256, BINS + 1, 64)}
    assert found < 16
    at_found = plain_divergence(counts.astype(np.float64), int(np.floor(found * 256)) + 1)
    assert at_found < 1.1 * min(every.values())
    assert at_found < 0.8 * every[BINS]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", SHAPES)
def test_every_range_holds_zero_and_lies_within_the_values(name, estimator):
    values = SHAPES[name]
    found = observed(values).range(estimator)
    assert min(0.0, float(values.min())) <= found.low <= 0.0 <= found.high <= max(0.0, float(values.max()))
    assert found.low < found.high


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("value", [0.0, 3.0, -2.5e-6, 1e-38, 3e38])
def test_a_constant_has_a_range_that_holds_it(value, estimator):
    found = observed(np.full((2, 5), value, np.float32), np.full(3, value, np.float32)).range(estimator)
    assert found.low < found.high
    assert quantization_error(np.array([value]), found.low, found.high) <= (1e-2 * abs(value)) ** 2 + 1e-60


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_nan_and_infinity_are_refused_in_one_line(value, word):
    array = np.ones((3, 4), np.float32)
    array[1, 2] = value
    with pytest.raises(ExportError, match=rf"activation blocks\.3/out has {word}") as caught:
        RangeObserver("blocks.3/out").observe(array)
    assert "\n" not in str(caught.value)


def doubling(sample: Call, receive: Receive) -> None:
    """An artifact of one operation."""
    receive("doubled", sample["x"] * 2)
    receive("beside it", sample["x"] * 100)


def samples() -> list[Call]:
    return [{"x": np.array([-1.0, 2.0], np.float32)}, {"x": np.array([3.0], np.float32)}]


def test_calibrate_runs_every_sample_once_and_reports_progress():
    done: list[int] = []
    found = calibrate(doubling, ["doubled"], iter(samples()), "minmax", done.append)
    assert found == {"doubled": Range(-2.0, 6.0)}
    assert done == [1, 2]


def test_an_activation_without_values_is_named():
    with pytest.raises(ExportError, match="gave activation missing a value"):
        calibrate(doubling, ["doubled", "missing"], samples(), "minmax")
    with pytest.raises(ExportError, match="gave activation doubled a value"):
        calibrate(doubling, ["doubled"], [], "minmax")


def test_an_unknown_estimator_is_refused_before_anything_runs():
    def never(sample: Call, receive: Receive) -> None:
        raise AssertionError("it was run")

    with pytest.raises(UsageError, match="no estimator called 'best': choose one of minmax, percentile, entropy, mse"):
        calibrate(never, ["x"], samples(), "best")


def test_an_empty_array_leaves_the_range_as_it_was():
    observer = observed(np.zeros((0, 4), np.float32), np.array([1.0], np.float32))
    assert observer.range("minmax") == Range(0.0, 1.0)
    assert isinstance(observer.histogram, Histogram)
