"""An observer of a TFLite file's activations.

LiteRT returns outputs only, unless it keeps every tensor: 16 GB for the attention of a ViT-B at 1024. So the wanted
tensors become outputs in a copy of the file: as many at once as fit into a bounded memory, and without the operations
after the last of them.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from weakref import finalize

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer.utils import tfl_flatbuffer_utils as flatbuffer

from sam_edge_quant.ranges.ranges import Receive
from sam_edge_runtime.arrays import Call
from sam_edge_runtime.errors import ExportError, UsageError, first_line
from sam_edge_runtime.system.quiet import captured_stderr

from .graph import TfliteFile

_BYTES_AT_ONCE = 1 << 30  # of the outputs of one copy of the file
_THREADS = 2


@dataclass(frozen=True)
class _Part:
    """Some tensors of one signature.

    Attributes:
        signature: its index in the file.
        names: tensors in the order of the operations that make them.
    """

    signature: int
    names: tuple[str, ...]


class TfliteObserver:
    """Runs a file on samples and passes the values of some of its tensors on.

    A sample is run in every signature that has any of these tensors. A signature for fewer prompts gets the sample in
    several calls, the last one padded with the first prompts: repeated values change no range.

    Args:
        path: an fp32 file.
        names: inputs or computed tensors, as `TfliteFile` names them.

    Raises:
        ExportError: the file cannot be read, has no such tensor, or LiteRT fails on it.
    """

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self._file = TfliteFile(path)
        self._folder = Path(mkdtemp(prefix="sam-edge-"))
        finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._inputs = [self._file.inputs(index) for index in range(len(self._file.graphs))]
        self._wanted_inputs = [
            {name: tensor for name, tensor in inputs.items() if tensor in names} for inputs in self._inputs
        ]
        self._parts = [part for index in range(len(self._file.graphs)) for part in self._split(index, set(names))]
        known = {name for part in self._parts for name in part.names}.union(
            *(wanted.values() for wanted in self._wanted_inputs)
        )
        if missing := sorted(set(names) - known):
            raise ExportError(f"{path.name} computes no tensor called {missing[0]!r}; name it as the file does")
        self._running: tuple[_Part, Interpreter] | None = None

    def __call__(self, sample: Call, receive: Receive) -> None:
        """Run one sample.

        Args:
            sample: inputs by their names in the signature, in the file's layout.
            receive: called with the name and the value of each tensor, once for each call of the file.

        Raises:
            UsageError: the sample does not fit the file.
            ExportError: LiteRT fails.
        """
        calls = [list(self._calls(sample, inputs)) for inputs in self._inputs]
        for wanted, some in zip(self._wanted_inputs, calls, strict=True):
            for call in some:
                for name, tensor in wanted.items():
                    receive(tensor, call[name])
        for part in self._parts:
            for call in calls[part.signature]:
                self._run(part, call, receive)

    def _split(self, index: int, names: set[str]) -> Iterator[_Part]:
        """The wanted tensors of a signature, in parts of a bounded size."""
        some: list[str] = []
        size = 0
        for name in [name for operation in self._file.graphs[index].operations for name in operation.outputs]:
            if name not in names:
                continue
            more = math.prod(self._file.shape(name)) * np.dtype(np.float32).itemsize
            if some and size + more > _BYTES_AT_ONCE:
                yield _Part(index, tuple(some))
                some, size = [], 0
            some.append(name)
            size += more
        if some:
            yield _Part(index, tuple(some))

    def _calls(self, sample: Call, inputs: dict[str, str]) -> Iterator[Call]:
        """The calls of a signature that cover all prompts of a sample."""
        want = {name: self._file.shape(tensor) for name, tensor in inputs.items()}
        have = {name: tuple(array.shape) for name, array in sample.items()}
        other = {name for name in want if have.get(name) != want[name]}
        sizes = {(*have.get(name, ())[:1], *want[name][:1]) for name in other}
        if (
            have.keys() != want.keys()
            or any(have[name][1:] != want[name][1:] for name in other)
            or any(len(pair) != 2 for pair in sizes)
            or len(sizes) > 1
        ):
            raise UsageError(f"a sample for {self._file.path.name} has the shapes {have}, and the file takes {want}")
        prompts, capacity = sizes.pop() if sizes else (1, 1)
        for first in range(0, prompts, capacity):
            rows = np.arange(first, first + capacity) % prompts
            yield {name: array[rows] if name in other else array for name, array in sample.items()}

    def _run(self, part: _Part, call: Call, receive: Receive) -> None:
        try:
            interpreter = self._loaded(part)
            for name, detail in zip(self._inputs[part.signature], interpreter.get_input_details(), strict=True):
                interpreter.set_tensor(detail["index"], np.asarray(call[name], np.float32))
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise ExportError(f"LiteRT fails on {self._file.path.name} in calibration ({first_line(error)})") from error
        for name, detail in zip(part.names, interpreter.get_output_details(), strict=True):
            receive(name, interpreter.get_tensor(detail["index"]))

    def _loaded(self, part: _Part) -> Interpreter:
        """An interpreter whose outputs are a part's tensors; only the last is kept, because each copies the weights."""
        if self._running is None or self._running[0] != part:
            self._running = None
            path = self._folder / f"{self._parts.index(part)}.tflite"
            if not path.exists():
                _write_part(self._file.path, part, path)
            with captured_stderr():  # LiteRT's notes on its delegate
                interpreter = Interpreter(model_path=str(path), num_threads=_THREADS)
                interpreter.allocate_tensors()
            self._running = part, interpreter
        return self._running[1]


def _write_part(source: Path, part: _Part, path: Path) -> None:
    """Write one signature of a file, with a part's tensors as outputs, and only the operations that they need."""
    file = TfliteFile(source)
    model, signature = file.model, file.signatures[part.signature]
    subgraph: Any = model.subgraphs[signature.subgraphIndex]
    indices = {flatbuffer.get_tensor_name(tensor): index for index, tensor in enumerate(subgraph.tensors)}
    subgraph.inputs = [each.tensorIndex for each in signature.inputs]
    subgraph.outputs = [indices[name] for name in part.names]
    last = file.graphs[part.signature].makers[part.names[-1]]
    subgraph.operators = subgraph.operators[: last + 1]
    model.subgraphs, model.signatureDefs = [subgraph], []
    needed = {subgraph.tensors[index].buffer for operation in subgraph.operators for index in operation.inputs}
    for index, buffer in enumerate(model.buffers):
        if index not in needed:
            buffer.data = None
    flatbuffer.write_model(model, str(path))
