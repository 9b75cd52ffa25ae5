"""A traced graph and its contract to a TFLite file, through litert-torch.

TFLite's tensors have fixed shapes, so the contract must have no free axis. The file has one signature whose inputs and
outputs have the contract's names. What the converter says is checked, not believed: the interpreter reads the file
again and its tensors are compared with the contract; whether the numbers are right is for the verification to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import litert_torch
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from torch import Tensor, nn

from sam_edge_runtime.bundle.contract import GraphContract
from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.system.quiet import captured_stderr, last_line_of, quiet, root_cause

from .delegates import DELEGATES, missing_from, notes
from .tflite_fp16 import halve_weights
from .tracing import example, free_axes, weight_bytes

ONLY = "serving_default"  # TFLite's name for a signature that is alone
FP32, FP16 = "fp32", "fp16"
_BYTES = {FP32: 4, FP16: 2}  # of a weight
MOST_BYTES = (1 << 31) - 1  # flatbuffers count with 32 bits
_ROOM_FOR_GRAPH = 16 << 20  # of these, what operations and names may take
_DELEGATE = "DELEGATE"
_LOGGERS = ("torch", "jax", "absl", "root")
_EXPECTED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = ((r".*", FutureWarning), (r".*", UserWarning))


def export(graph: nn.Module, contract: GraphContract, path: Path, precision: str = FP32) -> None:
    """Write `graph` to `path`.

    Args:
        graph: a module whose forward takes and returns the contract's tensors in order.
        contract: names and fixed shapes.
        path: the `.tflite` file to write.
        precision: `fp32`, or `fp16` for weights in half the bytes.

    Raises:
        ExportError: as `export_signatures`.
    """
    export_signatures(graph, {ONLY: contract}, path, precision)


def export_signatures(
    graph: nn.Module, contracts: Mapping[str, GraphContract], path: Path, precision: str = FP32
) -> None:
    """Write `graph` to `path` in several shapes: a signature for each, and one copy of the weights.

    Args:
        graph: a module whose forward takes and returns each contract's tensors in order.
        contracts: names and fixed shapes of each signature, by its name.
        path: the `.tflite` file to write.
        precision: `fp32`, or `fp16` for weights in half the bytes.

    Raises:
        ExportError: the precision is unknown, a shape is free, the weights exceed two gigabytes, the graph cannot be
            converted, or the result is rejected or breaks a contract.
    """
    free = sorted({axis for contract in contracts.values() for axis in free_axes(contract)})
    if free:
        raise ExportError(f"TFLite has no free axes, and {path.stem} has {', '.join(free)}: fix --points and --prompts")
    if reason := refusal(graph, path.stem, precision):
        raise ExportError(reason)
    if precision == FP32:
        _convert(graph, contracts, path)
    else:
        with TemporaryDirectory(dir=path.parent, prefix=".fp32-") as folder:
            full = Path(folder, path.name)
            _convert(graph, contracts, full)  # beyond 2 GB too: then its weights lie behind the flatbuffer
            halve_weights(full, path)
    check(path, contracts)


def refusal(graph: nn.Module, name: str, precision: str = FP32) -> str | None:
    """Why a graph cannot become a TFLite file, known before it is converted; None if it can.

    Args:
        graph: a module; its tensors' sizes count, so it may be on the meta device.
        name: the graph's name in the answer.
        precision: `fp32` or `fp16`.
    """
    if precision not in _BYTES:
        return f"TFLite has no precision {precision!r} here: choose one of {', '.join(_BYTES)}"
    sizes = {each: weight_bytes(graph) * share // _BYTES[FP32] for each, share in _BYTES.items()}
    most = MOST_BYTES - _ROOM_FOR_GRAPH
    if sizes[precision] <= most:
        return None
    fitting = [f"--precision {each} ({size / 1e9:.1f} GB)" for each, size in sizes.items() if size <= most]
    return (
        f"TFLite files end at 2 GB and {name} has {sizes[precision] / 1e9:.1f} GB of weights in {precision}: choose "
        f"{', '.join([*fitting, 'a smaller variant or --target onnx'])}"
    )


def _convert(graph: nn.Module, contracts: Mapping[str, GraphContract], path: Path) -> None:
    """Write an fp32 file with one signature a contract."""
    litert_torch.config.show_progress = False
    with captured_stderr() as last_line:
        try:
            with quiet(_LOGGERS, _EXPECTED_WARNINGS):
                converter = litert_torch.Converter()
                for name, contract in contracts.items():
                    examples = {spec.name: example(spec) for spec in contract.inputs}
                    converter.add_signature(name, _Named(graph, contract).eval(), sample_kwargs=examples)
                model = converter.convert()
            model.export(str(path))
        except Exception as error:  # the converter's own errors have no common class
            said = last_line()
            raise ExportError(
                f"litert-torch failed on {path.stem}: {root_cause(error)}{f'; it said: {said}' if said else ''}"
            ) from error


def check(path: Path, contracts: Mapping[str, GraphContract]) -> None:
    """Have LiteRT read the file, and compare its signatures with their contracts.

    Raises:
        ExportError: it is rejected, or an input or output differs.
    """
    with captured_stderr():
        try:
            interpreter = _interpreter(path)
            runners = {name: interpreter.get_signature_runner(name) for name in contracts}
        except (ValueError, RuntimeError) as error:
            raise ExportError(f"LiteRT rejects {path.name}: {last_line_of(error)}") from error
    for name, contract in contracts.items():
        inputs, outputs = runners[name].get_input_details(), runners[name].get_output_details()
        for specs, found in ((contract.inputs, inputs), (contract.outputs, outputs)):
            want = {spec.name: tuple(spec.shape) for spec in specs}
            have = {tensor: tuple(int(size) for size in detail["shape"]) for tensor, detail in found.items()}
            if want != have:
                raise ExportError(f"{path.name} has {have}, the contract says {want}")


def inspect(path: Path) -> dict[str, Any]:
    """What accelerators will make of a file, or of its first signature: the others are the same in another shape.

    Returns:
        `operations` by name with their number; `highest_rank` of its tensors; `not_in_xnnpack`, the operations that
        LiteRT's CPU delegate left to the slower built-in kernels here; and `not_in_DELEGATE` for each table of
        `delegates`, the operations that it does not have; `notes`, what is known of these, in words.
    """
    with captured_stderr():
        interpreter = _interpreter(path)
        operations = interpreter._get_ops_details()  # there is no public way to see the nodes
        ranks = [len(tensor["shape"]) for tensor in interpreter.get_tensor_details()]
    own = [operation for operation in operations if operation["op_name"] != _DELEGATE]
    taken = _taken(operations)
    names = Counter(str(operation["op_name"]) for operation in own)
    left = Counter(str(operation["op_name"]) for operation in own if operation["index"] not in taken)
    return {
        "operations": dict(sorted(names.items())),
        "highest_rank": max(ranks),
        "not_in_xnnpack": dict(sorted(left.items())),
        **{f"not_in_{delegate}": missing_from(delegate, names) for delegate in DELEGATES},
        "notes": notes(names, left),
    }


def _interpreter(path: Path) -> Interpreter:
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter


def _taken(operations: Sequence[dict[str, Any]]) -> set[int]:
    """Indices of the nodes that a delegate has replaced: those on the way from its outputs back to its inputs."""
    makers = {
        int(tensor): operation
        for operation in operations
        if operation["op_name"] != _DELEGATE
        for tensor in operation["outputs"]
    }
    taken: set[int] = set()
    for delegate in operations:
        if delegate["op_name"] != _DELEGATE:
            continue
        inputs = set(np.asarray(delegate["inputs"]).tolist())
        open_ends = [int(tensor) for tensor in delegate["outputs"]]
        while open_ends:
            tensor = open_ends.pop()
            maker = makers.get(tensor)
            if tensor in inputs or maker is None or maker["index"] in taken:
                continue
            taken.add(int(maker["index"]))
            open_ends += [int(each) for each in maker["inputs"]]
    return taken


class _Named(nn.Module):
    """The graph with named inputs and outputs, which become those of the signature."""

    def __init__(self, graph: nn.Module, contract: GraphContract) -> None:
        super().__init__()
        self.wrapped = graph  # torch.fx has a meaning of its own for the name `graph`
        self.inputs, self.outputs = contract.input_names, contract.output_names

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The outputs by name."""
        found = self.wrapped(*(inputs[name] for name in self.inputs))
        return dict(zip(self.outputs, found if isinstance(found, tuple) else (found,), strict=True))
