"""Which operations of an ML Program cannot be computed in half precision: found by measurement, one by one.

float16 ends at 65504, has 11 bits, and loses everything below 6e-8. A network that leaves this range gives no error but
a wrong answer: MobileSAM's TinyViT has been reported to give one embedding for all photos
(https://github.com/open-edge-platform/geti/pull/7354). So the fp32 program is run on samples by the MIL evaluator, and
every operation is computed a second time from inputs and constants rounded to float16, with its own result rounded as
well. It is unsafe where that overflows, where a normalization squares more than float16 holds, or where more is lost
than `LOCAL_SNR_DB` allows. Where the loss is in what comes in, as with large scores before a softmax, the operations
that make it are kept in float32 as well. What rounding adds up to over the whole program is not judged here but by the
bundle's verification.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.arrays import Array
from sam_edge_runtime.mil import Program
from sam_edge_runtime.mil.operations import MOVES, OPERATIONS
from sam_edge_runtime.mil.package import Operation, Package
from sam_edge_runtime.mil.program import references, rounded

from .conversion import Sample

LARGEST = 65504.0  # the largest float16
LOCAL_SNR_DB = 30.0  # what one operation must keep; rounding in and out leaves a healthy one about 70 dB
_MOST_COMPARED = 1 << 24  # numbers of one result
_SCALING = frozenset({"add", "mul", "real_div", "sub"})
# Normalizations square what lies off the mean; the squares are numbers of the same precision on the way.
_SQUARING = frozenset({"layer_norm", "reduce_l2_norm", "reduce_sum_square"})


def unsafe_in_half(package: Package, samples: Iterable[Sample]) -> dict[str, str]:
    """The operations that need float32.

    Args:
        package: a program in float32.
        samples: inputs by name; the more kinds of content, the better.

    Returns:
        For each, the name of its first output, and why, with the figure of the first sample that shows it.
    """
    found: dict[str, str] = {}
    imprecise: list[Operation] = []

    def judge(operation: Operation, given: dict[str, Any], made: tuple[Array, ...]) -> None:
        name = operation.outputs[0]
        if name in found or not all(dtype.startswith("float") for dtype in operation.dtypes):
            return
        reason = _out_of_range(operation, given, made)
        if not reason and operation.kind not in MOVES:
            reason = _loss(operation, given, made)
            if reason:
                imprecise.append(operation)
        if reason:
            found[name] = f"{operation.kind}: {reason}"

    program = Program(package)
    for sample in samples:
        program.run({name: sample[name] for name in package.inputs}, judge)
    makers = {output: operation for operation in package.operations for output in operation.outputs}
    for operation in imprecise:
        for maker in _makers_of(operation, makers):
            found.setdefault(maker.outputs[0], f"{maker.kind}: {operation.outputs[0]} needs it whole")
    return found


def _makers_of(operation: Operation, makers: dict[str, Operation]) -> list[Operation]:
    """What computes an operation's inputs up to the first product, and what only moves, scales or shifts on the way."""
    found = []
    for name in references(operation):
        if name in makers:
            maker = makers[name]
            found.append(maker)
            if maker.kind in MOVES | _SCALING:
                found += _makers_of(maker, makers)
    return found


def _out_of_range(operation: Operation, given: dict[str, Any], made: tuple[Array, ...]) -> str:
    """Why an operation leaves float16's range; empty where it does not."""
    largest = max((float(np.abs(array).max(initial=0.0)) for array in made), default=0.0)
    if largest > LARGEST:
        return f"its result reaches {largest:.2g}, float16 ends at {LARGEST:.0f}"
    if operation.kind in _SQUARING:
        off = float(np.abs(_squared(operation.kind, given)).max(initial=0.0))
        if off * off > LARGEST:
            return f"it squares {off:.2g}, float16 ends at {LARGEST:.0f}"
    return ""


def _squared(kind: str, given: dict[str, Any]) -> Array:
    x: Array = given["x"]
    if kind != "layer_norm":
        return x
    off: Array = x - x.mean(axis=tuple(int(axis) for axis in given["axes"]), keepdims=True)
    return off


def _loss(operation: Operation, given: dict[str, Any], made: tuple[Array, ...]) -> str:
    """How much float16 takes away from an operation; empty where that is little."""
    with np.errstate(all="ignore"):
        again = OPERATIONS[operation.kind](**{name: _half(value) for name, value in given.items()})
        again = again if isinstance(again, tuple) else (again,)
        lost = min(_snr_db(one, other) for one, other in zip(made, again, strict=True))
    if lost >= LOCAL_SNR_DB:
        return ""
    return f"float16 leaves {lost:.0f} dB of it" if lost > 0 else "float16 leaves nothing of it"


def _snr_db(reference: Array, found: Array) -> float:
    """Of an even sample where there are many numbers: attention scores take a gigabyte."""
    step = max(1, reference.size // _MOST_COMPARED)
    return snr_db(reference.reshape(-1)[::step], rounded(found.reshape(-1)[::step], "float16"))


def _half(value: Any) -> Any:
    if isinstance(value, list):
        return [_half(each) for each in value]
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return rounded(value, "float16")
    return value
