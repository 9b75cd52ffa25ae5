"""coremltools' own passes over a program: weights to eight bits, weights to a table of sixteen, activations to int8.

Weights go through its public functions. Activations cannot: `linear_quantize_activations` runs the model to find their
ranges, which takes a Mac. So the passes behind it are given ranges found elsewhere.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_quant.methods.weight_scales import qat_scales
from sam_edge_quant.ranges.ranges import Range
from sam_edge_runtime.arrays import Array
from sam_edge_runtime.errors import ExportError

_TABLE = 16  # what four bits tell apart
_GRID = 512
_MOST_ROUNDS = 100
_NARROWEST = 255 * 2.0**-20  # of a range: scales of 2^-20 are numbers in float16, too
_LONGEST = 300  # characters of a line that end up in an error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what coremltools logs and warns of, and its progress bars, off the terminal."""
    from tqdm import tqdm  # noqa: PLC0415 - comes with coremltools

    kept, disabled = tqdm.__init__, logging.root.manager.disable

    def without_bar(self: object, *arguments: object, **options: object) -> None:
        kept(self, *arguments, **{**options, "disable": True})

    tqdm.__init__ = without_bar
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # its use of its own old functions
            warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, while constants are folded
            yield
    finally:
        logging.disable(disabled)
        tqdm.__init__ = kept


with quiet():  # it tells which libraries of a Mac's it cannot load
    import coremltools as ct
    from coremltools import _SPECIFICATION_VERSION_IOS_17 as IOS_17
    from coremltools.converters.mil.mil.passes.defs.optimize_conv import fuse_conv_bias
    from coremltools.converters.mil.mil.passes.graph_pass import PassOption
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
    from coremltools.models.utils import _apply_graph_pass
    from coremltools.optimize import _utils as optimize_utils
    from coremltools.optimize import coreml as optimize


@contextmanager
def failing_as(what: str) -> Iterator[None]:
    """Turn any failure of coremltools, which have no common class, into one line.

    Raises:
        ExportError: what was said last.
    """
    try:
        with quiet():
            yield
    except ExportError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        last = lines[-1][:_LONGEST] if lines else type(error).__name__
        raise ExportError(f"coremltools failed on {what}: {last}") from error


def load(path: Path) -> Any:
    """A package to work on, which is not run."""
    return ct.models.MLModel(str(path), skip_model_load=True)


def operation_names(model: Any) -> dict[str, str]:
    """The names that coremltools selects operations by, by the name of their first output."""
    (block,) = model.get_spec().mlProgram.functions["main"].block_specializations.values()
    return {
        operation.outputs[0].name: operation.attributes["name"].immediateValue.tensor.strings.values[0]
        for operation in block.operations
        if operation.type != "const" and "name" in operation.attributes
    }


def quantize_weights(model: Any, operations: Iterable[str]) -> Any:
    """Weights of the named operations in int8, symmetric, a scale for each channel of the output."""
    way = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
    with _own_grids(), _compressed_are_not_fused():
        return optimize.linear_quantize_weights(model, _only(operations, way))


@contextmanager
def _standing_in(owner: Any, **functions: Any) -> Iterator[None]:
    """Have other functions answer by these names of a module or class for a while."""
    kept = {name: vars(owner)[name] for name in functions}
    for name, function in functions.items():
        setattr(owner, name, function)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(owner, name, function)


@contextmanager
def _own_grids() -> Iterator[None]:
    """Have coremltools 9.0 keep the grid of a channel whose weights lie on one already (`rounding`).

    It takes 1/127 of the largest weight for the step, whatever the others are.
    """
    kept = optimize_utils.quantize_weight_by_dtype

    def quantize(weight: Array, axes: Any, dtype: Any, quantization_mode: str) -> tuple[Array, Array, Array | None]:
        numbers, scale, zero_point = kept(weight, axes, dtype, quantization_mode)
        (channels,) = {*range(weight.ndim)} - {each % weight.ndim for each in np.atleast_1d(axes)} or {None}
        if channels is None or zero_point is not None:
            return numbers, scale, zero_point
        own = qat_scales(np.moveaxis(weight, channels, 0))
        steps = np.where(own > 0, own, scale.reshape(-1)).astype(weight.dtype)
        along = [-1 if axis == channels else 1 for axis in range(weight.ndim)]
        exact = np.rint(weight / steps.reshape(along))
        return np.where(own.reshape(along) > 0, exact, numbers), steps.reshape(scale.shape), None

    with _standing_in(optimize_utils, quantize_weight_by_dtype=quantize):
        yield


@contextmanager
def _compressed_are_not_fused() -> Iterator[None]:
    """Keep coremltools 9.0 from fusing what is added to a convolution with a compressed weight.

    Where a transposition lies between, as where a ViT adds positions to its patches, its pass `fuse_conv_bias`
    (`converters/mil/mil/passes/defs/optimize_conv.py`) asks the weight for its numbers, which are none by then.
    """
    kept = fuse_conv_bias._try_to_transform_transpose_pattern

    def transform(conv_op: Any, block: Any) -> bool:
        weight = getattr(conv_op, "weight", None)  # it is called with other operations, too
        return weight is not None and weight.val is not None and bool(kept(conv_op, block))

    with _standing_in(fuse_conv_bias, _try_to_transform_transpose_pattern=staticmethod(transform)):
        yield


def palettize_weights(model: Any, operations: Iterable[str]) -> Any:
    """Weights of the named operations in four bits, which choose from a table of a tensor's own; iOS 18 has finer."""
    way = optimize.OpPalettizerConfig(mode="custom", lut_function=nearest_of_table, weight_threshold=0)
    with _compressed_are_not_fused():
        return optimize.palettize_weights(model, _only(operations, way))


def _only(operations: Iterable[str], way: Any) -> Any:
    return optimize.OptimizationConfig(op_name_configs=dict.fromkeys(operations, way))


def nearest_of_table(weight: Array) -> tuple[Array, Array]:
    """Sixteen numbers, and for each of a weight's the index of the nearest: the sum of squared differences is small.

    K-means in one dimension: clusters are stretches of the sorted numbers, so the best cuts on a fine grid are found by
    dynamic programming (Wang and Song, Ckmeans.1d.dp, The R Journal 3/2, 2011), and Lloyd's method moves them from
    there. coremltools' own k-means wants scikit-learn where weights are float32.

    Returns:
        The table `(16,)` in ascending order, and indices `(weight.size,)`.
    """
    values = np.sort(weight, axis=None).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    edges = _best_cuts(values, sums)
    table = np.full(_TABLE, values[0])
    for _ in range(_MOST_ROUNDS):
        counts = np.diff(edges)
        means = np.where(counts > 0, np.diff(sums[edges]) / np.maximum(counts, 1), table)
        if np.array_equal(means, table):
            break
        table = np.sort(means)
        edges = np.concatenate([[0], np.searchsorted(values, _middles(table)), [len(values)]])
    table = table.astype(weight.dtype)
    return table, np.searchsorted(_middles(table), weight.reshape(-1)).astype(np.uint8)


def _best_cuts(values: Array, sums: Array) -> Array:
    """Where sixteen clusters of sorted `values (n,)` begin and the last one ends, `(17,)`, on a grid of values.

    Args:
        values: in ascending order.
        sums: of the first 0 to n values.
    """
    grid = np.linspace(values[0], values[-1], _GRID)
    places = np.unique(np.concatenate([[0], np.searchsorted(values, grid, side="right")]))
    counts = np.maximum(places[None, :] - places[:, None], 1)  # [from, to]
    squares = np.concatenate([[0.0], np.cumsum(values * values)])[places]
    cost = (squares[None, :] - squares[:, None]) - (sums[places][None, :] - sums[places][:, None]) ** 2 / counts
    cost[np.tril_indices(len(places), -1)] = np.inf
    least, cuts = cost[0], []
    for _ in range(_TABLE - 1):
        total = least[:, None] + cost
        cuts.append(total.argmin(0))
        least = total.min(0)
    found = [len(places) - 1]
    for cut in reversed(cuts):
        found.append(int(cut[found[-1]]))
    return np.asarray(places[[0, *found[::-1]]])


def _middles(table: Array) -> Array:
    return np.asarray((table[1:] + table[:-1]) / 2)


def quantize_activations(
    model: Any, operations: Iterable[str], ranges: Mapping[str, Range], dtypes: Mapping[str, str]
) -> Any:
    """Quantize and dequantize around the named operations: int8 in `ranges`, whose zero is kept exactly.

    This is coremltools 9.0's `linear_quantize_activations` (`optimize/coreml/_post_training_quantization.py`) without
    the run on a Mac.

    Args:
        model: what to work on.
        operations: names as in `operation_names`.
        ranges: of their inputs and outputs.
        dtypes: numpy's names of these tensors' types.
    """
    way = optimize.OpLinearQuantizerConfig(mode="linear")
    stats = {name: _stat(found, dtypes[name]) for name, found in ranges.items()}
    chosen = [PassOption("config", _only(operations, way)), PassOption("activation_stats", stats)]
    around = [PASS_REGISTRY[f"compression::insert_{place}_quantize_dequantize_pair"] for place in ("prefix", "suffix")]
    for each in around:
        each.set_options(chosen)
    with _ranges_of_their_own_type():
        return _apply_graph_pass(
            model,
            [*around, PASS_REGISTRY["common::dequantize_quantize_pair_elimination"]],
            spec_version=IOS_17,
            skip_model_load=True,
        )


def _stat(found: Range, dtype: str) -> dict[str, Any]:
    return {"rmin": found.low, "rmax": max(found.high, found.low + _NARROWEST), "dtype": dtype}


@contextmanager
def _ranges_of_their_own_type() -> Iterator[None]:
    """Stand in for two functions of coremltools 9.0's `optimize/_utils.py`, which take every range to be float16.

    So its scales after an operation are float16, with which a program in float32 is refused, and the zero point of a
    range beyond 511 overflows to NaN. Parameters are called as coremltools calls them.
    """
    kept = optimize_utils.quantize_weight_by_dtype

    def lookup(activation_stats: Mapping[str, Mapping[str, Any]], var_name: str) -> Array:
        found = activation_stats[var_name]
        return np.array([found["rmin"], found["rmax"]], found["dtype"])

    def in_float32(weight: Array, axes: Any, dtype: Any, quantization_mode: str) -> tuple[Array, Array, Array | None]:
        quantized, scale, zero_point = kept(weight.astype(np.float32), axes, dtype, quantization_mode)
        return quantized, scale.astype(weight.dtype), zero_point

    with _standing_in(optimize_utils, get_min_and_max_values=lookup, quantize_weight_by_dtype=in_float32):
        yield
