"""coremltools' passes over an ML Program: weights to int8, weights to a palette of 16 values, activations to int8.

Weights go through coremltools' public functions. Activations cannot: `linear_quantize_activations` runs the model to
find their ranges, which takes a Mac. So its passes are called here with ranges from the MIL evaluator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_quant.methods.weight_scales import qat_scales
from sam_edge_quant.ranges.ranges import Range
from sam_edge_runtime.arrays import Array
from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.system.quiet import last_line_of, no_logging, no_progress_bars, quiet

from .graph import WEIGHTED
from .palette import palettize

LEAST_SIZE = 4096  # elements of a table; smaller ones save little
LARGEST_HALF = float(np.finfo(np.float16).max)
_NARROWEST = 255 * 2.0**-20  # of a range: a scale of 2^-20 is a float16 number, too
_EXPECTED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r".*", DeprecationWarning),  # coremltools' use of its own old functions
    (r".*", RuntimeWarning),  # numpy's, while coremltools folds constants
)

with no_logging(), quiet((), _EXPECTED_WARNINGS):  # it logs which of macOS' libraries it cannot load
    import coremltools as ct
    from coremltools import _SPECIFICATION_VERSION_IOS_17 as IOS_17
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813 - coremltools' own name for it
    from coremltools.converters.mil.mil.passes.defs.optimize_conv import fuse_conv_bias
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass, PassOption
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
    from coremltools.models.utils import _apply_graph_pass
    from coremltools.optimize import _utils as optimize_utils
    from coremltools.optimize import coreml as optimize


@contextmanager
def failing_as(what: str) -> Iterator[None]:
    """Keep coremltools quiet, and turn any of its errors, which have no common class, into one line.

    Raises:
        ExportError: coremltools failed; the message ends with the last line of its own.
    """
    try:
        with no_logging(), no_progress_bars(), quiet((), _EXPECTED_WARNINGS):
            yield
    except ExportError:
        raise
    except Exception as error:
        raise ExportError(f"coremltools failed on {what}: {last_line_of(error)}") from error


def load(path: Path) -> Any:
    """A package to change, without loading it for prediction."""
    return ct.models.MLModel(str(path), skip_model_load=True)


def operation_names(model: Any) -> dict[str, str]:
    """Operation names, by which coremltools selects, for the name of each operation's first output."""
    (block,) = model.get_spec().mlProgram.functions["main"].block_specializations.values()
    return {
        operation.outputs[0].name: operation.attributes["name"].immediateValue.tensor.strings.values[0]
        for operation in block.operations
        if operation.type != "const" and "name" in operation.attributes
    }


def quantize_weights(model: Any, operations: Iterable[str]) -> Any:
    """Quantize weights of the named operations to int8, symmetrically, with a scale for each output channel."""
    config = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", weight_threshold=0)
    with _keep_qat_scales(), _no_fusion_of_compressed_weights():
        return optimize.linear_quantize_weights(model, _only(operations, config))


@contextmanager
def _patched(owner: Any, **functions: Any) -> Iterator[None]:
    """Replace functions of a module or class within the context."""
    originals = {name: vars(owner)[name] for name in functions}
    for name, function in functions.items():
        setattr(owner, name, function)
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(owner, name, function)


@contextmanager
def _keep_qat_scales() -> Iterator[None]:
    """Have coremltools 9.0 keep the scale of a channel that quantization-aware training has rounded.

    By itself it takes 1/127 of a channel's largest weight, whatever the others are.
    """
    original = optimize_utils.quantize_weight_by_dtype

    def quantize(weight: Array, axes: Any, dtype: Any, quantization_mode: str) -> tuple[Array, Array, Array | None]:
        integers, scale, zero_point = original(weight, axes, dtype, quantization_mode)
        (channels,) = {*range(weight.ndim)} - {each % weight.ndim for each in np.atleast_1d(axes)} or {None}
        if channels is None or zero_point is not None:
            return integers, scale, zero_point
        kept = qat_scales(np.moveaxis(weight, channels, 0))
        scales = np.where(kept > 0, kept, scale.reshape(-1)).astype(weight.dtype)
        along = [-1 if axis == channels else 1 for axis in range(weight.ndim)]
        exact = np.rint(weight / scales.reshape(along))
        return np.where(kept.reshape(along) > 0, exact, integers), scales.reshape(scale.shape), None

    with _patched(optimize_utils, quantize_weight_by_dtype=quantize):
        yield


@contextmanager
def _no_fusion_of_compressed_weights() -> Iterator[None]:
    """Keep coremltools 9.0 from fusing an addition into a convolution whose weight is compressed.

    With a transposition in between, as where a ViT adds position embeddings to its patches, its pass `fuse_conv_bias`
    (`converters/mil/mil/passes/defs/optimize_conv.py`) reads the weight's value, which is None by then.
    """
    original = fuse_conv_bias._try_to_transform_transpose_pattern

    def transform(conv_op: Any, block: Any) -> bool:
        weight = getattr(conv_op, "weight", None)  # the pass calls it with other operations, too
        return weight is not None and weight.val is not None and bool(original(conv_op, block))

    with _patched(fuse_conv_bias, _try_to_transform_transpose_pattern=staticmethod(transform)):
        yield


def halve_tables(model: Any) -> Any:
    """Store lookup tables in float16: large float32 constants that are no layer's weight or bias.

    Position embeddings, and relative ones of a number for each pair of cells, are nearly as large as TinyViT's weights
    in INT8. Their values are small and only added to activations. A `constexpr_cast` makes them float32 again when the
    package is loaded.
    """
    with _no_fusion_of_compressed_weights():
        return _apply_graph_pass(model, [_HalveTables()], spec_version=IOS_17, skip_model_load=True)


class _HalveTables(AbstractGraphPass):  # type: ignore[misc]  # coremltools has no types
    """The pass of `halve_tables`."""

    def apply(self, prog: Any) -> None:
        """Change the program in place."""
        for function in prog.functions.values():
            for operation in list(function.operations):
                if operation.op_type == "const" and _is_table(operation):
                    _store_in_half(function, operation)


def _is_table(operation: Any) -> bool:
    (variable,) = operation.outputs
    values = variable.val
    if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.size < LEAST_SIZE:
        return False
    readers = variable.child_ops
    of_layers = any(each.op_type in WEIGHTED or each.op_type.startswith("constexpr") for each in readers)
    return bool(readers) and not of_layers and float(np.abs(values).max()) <= LARGEST_HALF


def _store_in_half(block: Any, operation: Any) -> None:
    (variable,) = operation.outputs
    halves = variable.val.astype(np.float16)
    with block:
        whole = mb.constexpr_cast(
            source_val=halves, output_dtype="fp32", before_op=operation, name=f"{operation.name}_half"
        )
    block.replace_uses_of_var_after_op(
        anchor_op=whole.op, old_var=variable, new_var=whole, force_replace=True, no_check_var_types=True
    )
    block.remove_ops([operation])


def palettize_weights(model: Any, operations: Iterable[str]) -> Any:
    """Reduce weights of the named operations to 4-bit indices into one palette a tensor; iOS 18 has finer ones."""
    config = optimize.OpPalettizerConfig(mode="custom", lut_function=palettize, weight_threshold=0)
    with _no_fusion_of_compressed_weights():
        return optimize.palettize_weights(model, _only(operations, config))


def _only(operations: Iterable[str], config: Any) -> Any:
    return optimize.OptimizationConfig(op_name_configs=dict.fromkeys(operations, config))


def quantize_activations(
    model: Any, operations: Iterable[str], ranges: Mapping[str, Range], dtypes: Mapping[str, str]
) -> Any:
    """Put quantize and dequantize around the named operations: int8, asymmetric, with zero represented exactly.

    This is coremltools 9.0's `linear_quantize_activations` (`optimize/coreml/_post_training_quantization.py`) without
    its run on a Mac.

    Args:
        model: the package to change.
        operations: names as in `operation_names`.
        ranges: of their inputs and outputs.
        dtypes: numpy's names of these tensors' types.
    """
    config = optimize.OpLinearQuantizerConfig(mode="linear")
    stats = {name: _statistics(each, dtypes[name]) for name, each in ranges.items()}
    options = [PassOption("config", _only(operations, config)), PassOption("activation_stats", stats)]
    around = [PASS_REGISTRY[f"compression::insert_{place}_quantize_dequantize_pair"] for place in ("prefix", "suffix")]
    for each in around:
        each.set_options(options)
    with _ranges_in_their_own_dtype():
        return _apply_graph_pass(
            model,
            [*around, PASS_REGISTRY["common::dequantize_quantize_pair_elimination"]],
            spec_version=IOS_17,
            skip_model_load=True,
        )


def _statistics(found: Range, dtype: str) -> dict[str, Any]:
    return {"rmin": found.low, "rmax": max(found.high, found.low + _NARROWEST), "dtype": dtype}


@contextmanager
def _ranges_in_their_own_dtype() -> Iterator[None]:
    """Replace two functions of coremltools 9.0's `optimize/_utils.py`, which take every range to be float16.

    With them, scales after an operation are float16, which a float32 program rejects, and the zero point of a range
    beyond 511 overflows to NaN. Parameters have coremltools' names.
    """
    original = optimize_utils.quantize_weight_by_dtype

    def lookup(activation_stats: Mapping[str, Mapping[str, Any]], var_name: str) -> Array:
        found = activation_stats[var_name]
        return np.array([found["rmin"], found["rmax"]], found["dtype"])

    def in_float32(weight: Array, axes: Any, dtype: Any, quantization_mode: str) -> tuple[Array, Array, Array | None]:
        quantized, scale, zero_point = original(weight.astype(np.float32), axes, dtype, quantization_mode)
        return quantized, scale.astype(weight.dtype), zero_point

    with _patched(optimize_utils, get_min_and_max_values=lookup, quantize_weight_by_dtype=in_float32):
        yield
