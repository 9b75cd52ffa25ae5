"""A traced graph and its contract to a TFLite file, through litert-torch.

TFLite's tensors have fixed shapes, so the contract must have no free axis. The inputs and outputs of the file's
signature have the contract's names. The interpreter reads the file again, and its tensors are compared with the
contract; the bundle's verification checks the numbers.
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

from .conversion import Inspection
from .delegates import DELEGATES, missing_from, notes
from .tflite_fp16 import halve_weights
from .tracing import example, free_axes, weight_bytes

ONLY = "serving_default"  # TFLite's name for the signature of a file that has one
FP32, FP16 = "fp32", "fp16"
_BYTES = {FP32: 4, FP16: 2}  # of a weight
MOST_BYTES = (1 << 31) - 1  # flatbuffers count with 32 bits
_SPACE_FOR_GRAPH = 16 << 20  # bytes of these that operations and names may take
_DELEGATE = "DELEGATE"
_LOGGERS = ("torch", "jax", "absl", "root")
_EXPECTED_WARNINGS: tuple[tuple[str, type[Warning]], ...] = ((r".*", FutureWarning), (r".*", UserWarning))


def export(graph: nn.Module, contract: GraphContract, path: Path, precision: str = FP32) -> None:
    """Write `graph` to `path`.

    Args:
        graph: a module whose forward takes and returns the contract's tensors in order.
        contract: names and fixed shapes.
        path: the `.tflite` file to write.
        precision: `fp32`, or `fp16` for weights in float16.

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
        precision: `fp32`, or `fp16` for weights in float16.

    Raises:
        ExportError: the precision is unknown, a shape is free, the weights exceed two gigabytes, the graph cannot be
            converted, or the file is rejected or breaks a contract.
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
            _convert(graph, contracts, full)  # may exceed 2 GB: weights are then stored after the flatbuffer
            halve_weights(full, path)
    check(path, contracts)


def refusal(graph: nn.Module, name: str, precision: str = FP32) -> str | None:
    """The reason why a graph cannot become a TFLite file, known before it is converted; None if it can.

    Args:
        graph: a module, on the meta device if need be: only sizes are read.
        name: the graph's name in the message.
        precision: `fp32` or `fp16`.
    """
    if precision not in _BYTES:
        return f"TFLite has no precision {precision!r}: choose one of {', '.join(_BYTES)}"
    sizes = {each: weight_bytes(graph) * share // _BYTES[FP32] for each, share in _BYTES.items()}
    most = MOST_BYTES - _SPACE_FOR_GRAPH
    if sizes[precision] <= most:
        return None
    fitting = [f"--precision {each} ({size / 1e9:.1f} GB)" for each, size in sizes.items() if size <= most]
    return (
        f"TFLite files end at 2 GB and {name} has {sizes[precision] / 1e9:.1f} GB of weights in {precision}: choose "
        f"{', '.join([*fitting, 'a smaller variant or --target onnx'])}"
    )


def _convert(graph: nn.Module, contracts: Mapping[str, GraphContract], path: Path) -> None:
    """Write an fp32 file with one signature for each contract."""
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
            printed = f"; it printed: {last_line()}" if last_line() else ""
            raise ExportError(f"litert-torch failed on {path.stem}: {root_cause(error)}{printed}") from error


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
                raise ExportError(f"{path.name} has {have}, the contract has {want}")


def inspect(path: Path) -> Inspection:
    """Statistics of a file's first signature, and the operations that delegates lack.

    The other signatures have the same operations in other shapes.

    Returns:
        `operations`, the number of each kind; `highest_rank` of the tensors; `not_in_xnnpack`, the number of each kind
        that LiteRT's CPU delegate left to the slower built-in kernels on this machine; `not_in_DELEGATE`, the kinds
        that are missing from each table of `delegates`; `notes`, a line on each of them where more is known.
    """
    with captured_stderr():
        interpreter = _interpreter(path)
        operations = interpreter._get_ops_details()  # no public function lists the nodes
        ranks = [len(tensor["shape"]) for tensor in interpreter.get_tensor_details()]
    nodes = [operation for operation in operations if operation["op_name"] != _DELEGATE]
    taken = _taken(operations)
    names = Counter(str(operation["op_name"]) for operation in nodes)
    left = Counter(str(operation["op_name"]) for operation in nodes if operation["index"] not in taken)
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
    """Indices of the nodes that a delegate has replaced: those between its inputs and its outputs."""
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
    """The graph with named inputs and outputs, which become the signature's."""

    def __init__(self, graph: nn.Module, contract: GraphContract) -> None:
        super().__init__()
        self.wrapped = graph  # torch.fx reserves the name `graph`
        self.inputs, self.outputs = contract.input_names, contract.output_names

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The outputs by name."""
        outputs = self.wrapped(*(inputs[name] for name in self.inputs))
        return dict(zip(self.outputs, outputs if isinstance(outputs, tuple) else (outputs,), strict=True))
