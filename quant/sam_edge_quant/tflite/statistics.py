"""Ranges in the form of AI Edge Quantizer's own calibration result: minima and maxima by tensor name.

Two corrections are made. Signatures that share a weight get one range for its input and one for its output.
And a weight gets wider bounds than its own where its scale has to be larger: for its bias, or to stay the scale to
which the weight was rounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sam_edge_quant.methods.weight_scales import INT8_MAX, preserved_scales
from sam_edge_quant.ranges.ranges import Range, Ranges
from sam_edge_quant.recipe import CALIBRATED
from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.errors import ExportError

from .assignment import Assignment
from .graph import TfliteFile

ACTIVATION_BITS = {"w8a8": 8, "w8a16": 16}
# The weight's axis of output channels, each of which has a bias. BATCH_MATMUL has no bias.
_CHANNEL_AXIS = {"FULLY_CONNECTED": 0, "CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "TRANSPOSE_CONV": 0}
_LARGEST_BIAS = 1 << 30  # of the 2^31 of 32 bits; the rest is for the sum of products
_NARROWEST = 1e-9  # width of a range; below it the quantizer takes a scale that no kernel can compute with


def statistics_of(file: TfliteFile, assignments: Sequence[Assignment], ranges: Ranges) -> dict[str, dict[str, Float32]]:
    """`min` and `max` of all quantized activations, and of the weights that need wider bounds than their own.

    Raises:
        ExportError: a range is missing or not finite.
    """
    known = _shared(file, assignments, {name: _checked(name, ranges) for each in assignments for name in each.ranged})
    activations = {name: (np.float32(each.low), np.float32(each.high)) for name, each in known.items()}
    weights = {name: (-bound, bound) for name, bound in _weight_bounds(file, assignments, known).items()}
    return {
        name: {"min": np.asarray(low), "max": np.asarray(high)} for name, (low, high) in (activations | weights).items()
    }


def _checked(name: str, ranges: Ranges) -> Range:
    """A range that a kernel can compute with."""
    if name not in ranges:
        raise ExportError(f"no range for the tensor {name!r}: calibrate with samples of this file")
    low, high = ranges[name].low, ranges[name].high
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ExportError(f"the range of the tensor {name!r} is {low} to {high}: keep its layer in fp32")
    if max(high, 0.0) - min(low, 0.0) < _NARROWEST:  # all values are zero: any range holds them
        return Range(0.0, 1.0)
    return Range(low, high)


def _shared(file: TfliteFile, assignments: Sequence[Assignment], ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges, made equal across signatures where they belong to the same weight.

    A bias has the product of the activation's scale and the weight's. With a range for each signature, biases would be
    stored once a signature, and the signatures' outputs would differ.
    """
    groups: dict[tuple[int, bool], set[str]] = {}
    for each in assignments:
        for operation, _ in each.static:
            buffer = file.buffer(operation.weight or "")
            groups.setdefault((buffer, True), set()).add(each.source(operation))
            groups.setdefault((buffer, False), set()).update(operation.outputs)
    shared = dict(ranges)
    changed = len(assignments) > 1
    while changed:
        changed = False
        for names in groups.values():
            widest = Range(min(shared[name].low for name in names), max(shared[name].high for name in names))
            changed |= any(shared[name] != widest for name in names)
            shared.update(dict.fromkeys(names, widest))
    return shared


def _weight_bounds(
    file: TfliteFile, assignments: Sequence[Assignment], ranges: Mapping[str, Range]
) -> dict[str, Float32]:
    """Bounds of the weights of quantized operations whose own are too small.

    A bias is stored in 32 bits, with the product of the activation's scale and the channel's. A channel whose weights
    are all zero, or nearly, has hardly any scale: the quantizer's bias overflows, and comes out small and with the
    wrong sign. So the channel's scale is made large enough for the bias, beside which its weights are negligible. A
    channel that has an exact scale keeps it, which takes a wider bound as well.

    Returns:
        The largest absolute value of each output channel by the weight's name, in the weight's rank.
    """
    least: dict[int, Float32] = {}  # by buffer: operations that share a weight share its bounds
    names: dict[str, tuple[int, Float32]] = {}
    for each in assignments:
        for index, scheme in each.weighted.items():
            operation = each.graph.operations[index]
            if operation.weight is None or operation.kind not in _CHANNEL_AXIS or scheme == "w4":
                continue
            axis, weight = _CHANNEL_AXIS[operation.kind], file.constant(operation.weight)
            others = tuple(other for other in range(weight.ndim) if other != axis)
            largest = np.abs(weight).max(axis=others)
            bound = np.where(largest > 0, INT8_MAX * preserved_scales(np.moveaxis(weight, axis, 0)), 0.0)
            if operation.bias is not None and scheme in CALIBRATED:
                scale = _activation_scale(ranges[each.source(operation)], ACTIVATION_BITS[scheme])
                least_scale = np.abs(file.constant(operation.bias)) / (scale * _LARGEST_BIAS)
                bound = np.maximum(bound, INT8_MAX * least_scale)
            bound = np.expand_dims(bound.astype(np.float32), others)
            buffer = file.buffer(operation.weight)
            names[operation.weight] = buffer, np.expand_dims(largest, others)
            least[buffer] = np.maximum(least.get(buffer, bound), bound)
    return {name: least[buffer] for name, (buffer, own) in names.items() if (least[buffer] > own).any()}


def _activation_scale(each: Range, bits: int) -> float:
    """The scale of an activation: asymmetric in 8 bits, with a range that holds zero; symmetric in 16."""
    if bits == ACTIVATION_BITS["w8a16"]:
        return max(abs(each.low), abs(each.high)) / ((1 << (bits - 1)) - 1)
    return (max(each.high, 0.0) - min(each.low, 0.0)) / ((1 << bits) - 1)
