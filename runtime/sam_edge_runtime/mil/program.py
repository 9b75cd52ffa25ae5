"""Runs the operations of a package in their order, and lets go of every tensor after its last use.

Compressed weights are computed when a program first runs, and kept.
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
from .rounding import to_half

Watcher = Callable[[Operation, dict[str, Any], tuple[Array, ...]], None]


class Program:
    """A package ready to run.

    Tensors that the package declares float16 are held as float32 numbers that float16 has: computed in float32 and
    rounded after the operation, so that overflow and underflow show as they would.

    Raises:
        BackendError: an operation is not known.
    """

    def __init__(self, package: Package) -> None:
        unknown = sorted({operation.kind for operation in package.operations} - set(OPERATIONS))
        if unknown:
            raise BackendError(f"the evaluator of ML Programs does not know: {', '.join(unknown)}")
        self.package = package
        self._steps = [each for each in package.operations if not each.kind.startswith(CONSTEXPR)]
        self._inputs = [_widened(operation.inputs) for operation in self._steps]
        last: dict[str, int] = {}
        for number, operation in enumerate(self._steps):
            for name in references(operation):
                last[name] = number
        kept = set(package.outputs)
        self._dropped: list[list[str]] = [[] for _ in self._steps]
        for name, number in last.items():
            if name not in kept:
                self._dropped[number].append(name)

    @cached_property
    def _weights(self) -> dict[str, Array]:
        """What the `constexpr_...` operations make, of which the steps need something."""
        values: dict[str, Array] = {}
        for operation in self.package.operations:
            if operation.kind.startswith(CONSTEXPR):
                given = {name: _resolve(_widened(value), values) for name, value in operation.inputs.items()}
                values.update(zip(operation.outputs, _computed(operation, given), strict=True))
        needed = {name for operation in self._steps for name in references(operation)} | set(self.package.outputs)
        return {name: array for name, array in values.items() if name in needed}

    def run(self, inputs: dict[str, Array], watch: Watcher | None = None) -> dict[str, Array]:
        """The program's outputs by name.

        Args:
            inputs: arrays by name, of the package's shapes.
            watch: told of each operation, the arrays and constants it was given by parameter name, and what it made.

        Raises:
            BackendError: an input is missing or of another shape, or an operation failed.
        """
        values = dict(self._weights)
        for name, (shape, dtype) in self.package.inputs.items():
            if name not in inputs or not _fits(inputs[name].shape, shape):
                found = inputs[name].shape if name in inputs else "nothing"
                raise BackendError(f"the program takes {name} of shape {_written(shape)}, not {found}")
            values[name] = rounded(np.asarray(inputs[name]), dtype)
        for operation, inputs_of, dropped in zip(self._steps, self._inputs, self._dropped, strict=True):
            given = {name: _resolve(value, values) for name, value in inputs_of.items()}
            made = _computed(operation, given)
            values.update(zip(operation.outputs, made, strict=True))
            if watch is not None:
                watch(operation, given, made)
            for name in dropped:
                values.pop(name, None)
        return {name: values[name] for name in self.package.outputs}


def rounded(array: Array, dtype: str) -> Array:
    """Numbers of a declared type: float16 as float32 that float16 has, other floats as float32."""
    if dtype == "float16":
        return to_half(array)
    return np.asarray(array, np.float32 if dtype.startswith("float") else dtype)


def _computed(operation: Operation, given: dict[str, Any]) -> tuple[Array, ...]:
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            made: Any = OPERATIONS[operation.kind](**given)
            made = made if isinstance(made, tuple) else (made,)
            return tuple(
                _as_declared(array, dtype, operation.kind, given)
                for array, dtype in zip(made, operation.dtypes, strict=True)
            )
    except (TypeError, ValueError, IndexError, MemoryError) as error:
        raise BackendError(f"the evaluator failed on {operation.kind} '{operation.outputs[0]}' ({error})") from error


def _as_declared(made: Any, dtype: str, kind: str, given: dict[str, Any]) -> Array:
    """What an operation made, rounded in place where it is nobody else's."""
    array: Array = np.asarray(made)
    if dtype != "float16" or array.dtype != np.float32:
        return rounded(array, dtype)
    if kind in MOVES:
        return np.asarray(array)
    new = array.flags.owndata and array.flags.c_contiguous and all(array is not each for each in given.values())
    return to_half(array, out=array if new else None)


def _fits(shape: tuple[int, ...], declared: Shape) -> bool:
    return len(shape) == len(declared) and all(
        want is None or size == want for size, want in zip(shape, declared, strict=True)
    )


def _written(shape: Shape) -> str:
    """A shape as Python writes it, with ? for any size."""
    return str(tuple("?" if size is None else size for size in shape)).replace("'", "")


def references(operation: Operation) -> list[str]:
    """Names of the tensors that an operation is given; constants have none."""
    given = [each for value in operation.inputs.values() for each in (value if isinstance(value, list) else [value])]
    return [each.name for each in given if isinstance(each, Reference)]


def _resolve(value: Any, values: dict[str, Array]) -> Any:
    if isinstance(value, list):
        return [_resolve(each, values) for each in value]
    return values[value.name] if isinstance(value, Reference) else value


def _widened(value: Any) -> Any:
    """Float16 constants as float32, once and not at every run."""
    if isinstance(value, dict):
        return {name: _widened(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_widened(each) for each in value]
    return value.astype(np.float32) if getattr(value, "dtype", None) == np.float16 else value
