"""Runs the operations of a package in order, and frees each tensor after its last use.

Compressed weights are decompressed at the first run and kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Array
from sam_edge_runtime.errors import BackendError

from .operations import MOVES, OPERATIONS
from .package import CONSTEXPR, Operation, Package, Reference, Shape
from .rounding import round_to_float16

Watcher = Callable[[Operation, dict[str, Any], tuple[Array, ...]], None]
"""Takes an operation, its inputs by parameter name, and its outputs."""


class Program:
    """A package, ready to run.

    Tensors declared float16 are float32 arrays of float16 values: computed in float32 and rounded after each operation,
    with float16's overflow and underflow.

    Args:
        package: as `read_package` returns it.

    Raises:
        BackendError: an operation type is not supported.
    """

    def __init__(self, package: Package) -> None:
        unknown = sorted({operation.op_type for operation in package.operations} - set(OPERATIONS))
        if unknown:
            raise BackendError(f"the evaluator of ML Programs does not support: {', '.join(unknown)}")
        self.package = package
        self._operations = [each for each in package.operations if not each.op_type.startswith(CONSTEXPR)]
        self._inputs = [_widened(operation.inputs) for operation in self._operations]
        last_use = {name: number for number, each in enumerate(self._operations) for name in references(each)}
        self._freed: list[list[str]] = [[] for _ in self._operations]
        for name, number in last_use.items():
            if name not in package.outputs:
                self._freed[number].append(name)

    @cached_property
    def _weights(self) -> dict[str, Array]:
        """Outputs of the `constexpr_...` operations that other operations or the program's outputs need."""
        values: dict[str, Array] = {}
        for operation in self.package.operations:
            if operation.op_type.startswith(CONSTEXPR):
                inputs = {name: _resolve(_widened(value), values) for name, value in operation.inputs.items()}
                values.update(zip(operation.outputs, _execute(operation, inputs), strict=True))
        needed = {name for operation in self._operations for name in references(operation)} | set(self.package.outputs)
        return {name: array for name, array in values.items() if name in needed}

    def run(self, inputs: dict[str, Array], watch: Watcher | None = None) -> dict[str, Array]:
        """Run the program; its outputs by name.

        Args:
            inputs: arrays by name, of the package's shapes.
            watch: called after each operation.

        Raises:
            BackendError: an input is missing or of another shape, or an operation failed.
        """
        values = dict(self._weights)
        for name, (shape, dtype) in self.package.inputs.items():
            if name not in inputs or not _fits(inputs[name].shape, shape):
                given = inputs[name].shape if name in inputs else "nothing"
                raise BackendError(f"the program takes {name} of shape {_format_shape(shape)}, not {given}")
            values[name] = rounded(np.asarray(inputs[name]), dtype)
        for operation, unresolved, freed in zip(self._operations, self._inputs, self._freed, strict=True):
            resolved = {name: _resolve(value, values) for name, value in unresolved.items()}
            outputs = _execute(operation, resolved)
            values.update(zip(operation.outputs, outputs, strict=True))
            if watch is not None:
                watch(operation, resolved, outputs)
            for name in freed:
                values.pop(name, None)
        return {name: values[name] for name in self.package.outputs}


def rounded(array: Array, dtype: str) -> Array:
    """An array as a declared dtype: float16 as float32 rounded to float16's precision, other floats as float32."""
    if dtype == "float16":
        return round_to_float16(array)
    return np.asarray(array, np.float32 if dtype.startswith("float") else dtype)


def _execute(operation: Operation, inputs: dict[str, Any]) -> tuple[Array, ...]:
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            outputs: Any = OPERATIONS[operation.op_type](**inputs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            return tuple(
                _as_declared(output, dtype, operation.op_type, inputs)
                for output, dtype in zip(outputs, operation.dtypes, strict=True)
            )
    except (TypeError, ValueError, IndexError, MemoryError) as error:
        raise BackendError(f"the evaluator failed in {operation.op_type} '{operation.outputs[0]}' ({error})") from error


def _as_declared(output: Any, dtype: str, op_type: str, inputs: dict[str, Any]) -> Array:
    """An operation's output as its declared dtype, rounded in place if no input shares its memory."""
    array: Array = np.asarray(output)
    if dtype != "float16" or array.dtype != np.float32:
        return rounded(array, dtype)
    if op_type in MOVES:
        return np.asarray(array)
    new = array.flags.owndata and array.flags.c_contiguous and all(array is not each for each in inputs.values())
    return round_to_float16(array, out=array if new else None)


def _fits(shape: tuple[int, ...], declared: Shape) -> bool:
    return len(shape) == len(declared) and all(
        expected is None or size == expected for size, expected in zip(shape, declared, strict=True)
    )


def _format_shape(shape: Shape) -> str:
    """A shape as Python writes it, with ? for a flexible axis."""
    return str(tuple("?" if size is None else size for size in shape)).replace("'", "")


def references(operation: Operation) -> list[str]:
    """Names of the tensors among an operation's inputs; constants have none."""
    inputs = [each for value in operation.inputs.values() for each in (value if isinstance(value, list) else [value])]
    return [each.name for each in inputs if isinstance(each, Reference)]


def _resolve(value: Any, values: dict[str, Array]) -> Any:
    if isinstance(value, list):
        return [_resolve(each, values) for each in value]
    if not isinstance(value, Reference):
        return value
    if value.name not in values:
        raise BackendError(f"the package refers to {value.name!r:.200}, which no operation computes: export it again")
    return values[value.name]


def _widened(value: Any) -> Any:
    """Float16 constants as float32, converted once, not at every run."""
    if isinstance(value, dict):
        return {name: _widened(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_widened(each) for each in value]
    return value.astype(np.float32) if getattr(value, "dtype", None) == np.float16 else value
