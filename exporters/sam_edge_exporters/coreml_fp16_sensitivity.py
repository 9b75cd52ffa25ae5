"""The operations of an ML Program that are unsafe in float16, measured one by one.

float16 ends at 65504, has 11 significant bits, and flushes everything below 6e-8 to zero. A network that leaves this
range raises no error and computes wrong outputs: MobileSAM's TinyViT has been reported to give the same embedding for
all photos (https://github.com/open-edge-platform/geti/pull/7354). So the MIL evaluator runs the fp32 program on
samples, and computes every operation a second time with inputs, constants and output rounded to float16. An operation
is unsafe if that overflows, if a normalization squares more than float16 holds, or if the SNR falls below
`LOCAL_SNR_DB`. If its inputs cause the loss, as large scores before a softmax do, the operations that make them are
kept in float32 as well. Rounding errors that accumulate over the whole program are left to the bundle's verification.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from sam_edge_runtime.agreement.metrics import snr_db
from sam_edge_runtime.arrays import Array, Call
from sam_edge_runtime.mil import Program
from sam_edge_runtime.mil.operations import MOVES, OPERATIONS
from sam_edge_runtime.mil.package import Operation, Package
from sam_edge_runtime.mil.program import references, rounded

LARGEST = 65504.0  # the largest float16
LOCAL_SNR_DB = 30.0  # the least for one operation; rounding of inputs and output alone leaves about 70 dB
_MOST_COMPARED = 1 << 24  # elements of one output
_SCALING = frozenset({"add", "mul", "real_div", "sub"})
# Normalizations square differences from the mean, in the same precision.
_SQUARING = frozenset({"layer_norm", "reduce_l2_norm", "reduce_sum_square"})


def fp16_unsafe_operations(package: Package, samples: Iterable[Call]) -> dict[str, str]:
    """The operations that have to stay in float32.

    Args:
        package: a program in float32.
        samples: inputs of calls; the more different the better.

    Returns:
        A reason for each, by the name of its first output, with the figure of the first sample that shows it.
    """
    found: dict[str, str] = {}
    imprecise: list[Operation] = []

    def evaluate(operation: Operation, inputs: dict[str, Any], outputs: tuple[Array, ...]) -> None:
        name = operation.outputs[0]
        if name in found or not all(dtype.startswith("float") for dtype in operation.dtypes):
            return
        reason = _out_of_range(operation, inputs, outputs)
        if not reason and operation.op_type not in MOVES:
            reason = _loss(operation, inputs, outputs)
            if reason:
                imprecise.append(operation)
        if reason:
            found[name] = f"{operation.op_type}: {reason}"

    program = Program(package)
    for sample in samples:
        program.run({name: sample[name] for name in package.inputs}, evaluate)
    makers = {output: operation for operation in package.operations for output in operation.outputs}
    for operation in imprecise:
        for maker in _makers_of(operation, makers):
            found.setdefault(maker.outputs[0], f"{maker.op_type}: {operation.outputs[0]} needs it in full precision")
    return found


def _makers_of(operation: Operation, makers: dict[str, Operation]) -> list[Operation]:
    """The operations that compute an operation's inputs, back to the first that does more than move, scale or shift."""
    found = []
    for name in references(operation):
        if name in makers:
            maker = makers[name]
            found.append(maker)
            if maker.op_type in MOVES | _SCALING:
                found += _makers_of(maker, makers)
    return found


def _out_of_range(operation: Operation, inputs: dict[str, Any], outputs: tuple[Array, ...]) -> str:
    """The reason why an operation leaves float16's range; empty if it does not."""
    largest = max((float(np.abs(array).max(initial=0.0)) for array in outputs), default=0.0)
    if largest > LARGEST:
        return f"its output reaches {largest:.2g}, float16 ends at {LARGEST:.0f}"
    if operation.op_type in _SQUARING:
        off = float(np.abs(_squared(operation.op_type, inputs)).max(initial=0.0))
        if off * off > LARGEST:
            return f"it squares {off:.2g}, float16 ends at {LARGEST:.0f}"
    return ""


def _squared(kind: str, inputs: dict[str, Any]) -> Array:
    """The values that a normalization squares."""
    x: Array = inputs["x"]
    if kind != "layer_norm":
        return x
    off: Array = x - x.mean(axis=tuple(int(axis) for axis in inputs["axes"]), keepdims=True)
    return off


def _loss(operation: Operation, inputs: dict[str, Any], outputs: tuple[Array, ...]) -> str:
    """The loss of an operation in float16; empty if it is small."""
    with np.errstate(all="ignore"):
        again = OPERATIONS[operation.op_type](**{name: _half(value) for name, value in inputs.items()})
        again = again if isinstance(again, tuple) else (again,)
        kept = min(_snr_db(one, other) for one, other in zip(outputs, again, strict=True))
    if kept >= LOCAL_SNR_DB:
        return ""
    return f"float16 leaves {kept:.0f} dB of it" if kept > 0 else "float16 leaves nothing of it"


def _snr_db(reference: Array, found: Array) -> float:
    """SNR in dB, of evenly spaced elements if there are many: attention scores take a gigabyte."""
    stride = max(1, reference.size // _MOST_COMPARED)
    return snr_db(reference.reshape(-1)[::stride], rounded(found.reshape(-1)[::stride], "float16"))


def _half(value: Any) -> Any:
    if isinstance(value, list):
        return [_half(each) for each in value]
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return rounded(value, "float16")
    return value
