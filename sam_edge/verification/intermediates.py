"""Every tensor that an artifact computes, in the order of its operations: a reader for each target.

Engines do not show these by default. ONNX Runtime returns them as additional outputs, LiteRT keeps them when its
delegates are off, and Core ML packages run in the MIL evaluator, on a Mac too. Each tensor is reported once and then
released, because those of a large encoder do not fit into memory together.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Array
from sam_edge_runtime.errors import BackendError, first_line

_AT_ONCE = 32  # tensors that ONNX Runtime returns from one run
_PROTOBUF_LIMIT = 1 << 31


@dataclass(frozen=True)
class Intermediate:
    """One output of an operation.

    Attributes:
        name: name of the tensor.
        operation: kind of the operation, as the artifact names it.
        inputs: names of the operation's inputs, without constants.
        value: the tensor.
        output: name of the graph's output if it is one, else empty.
    """

    name: str
    operation: str
    inputs: tuple[str, ...]
    value: Array
    output: str = ""


Report = Callable[[Intermediate], None]


def onnx_intermediates(path: Path, inputs: dict[str, Array], report: Report) -> None:
    """Tensors of an `.onnx` file, from ONNX Runtime without graph optimizations."""
    import onnx  # noqa: PLC0415 - only where an ONNX file is traced
    import onnxruntime as ort  # noqa: PLC0415

    model = onnx.load(str(path))
    constants = {tensor.name for tensor in model.graph.initializer}
    constants |= {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    made = [(name, node) for node in model.graph.node for name in node.output if name and name not in constants]
    shown = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name, _ in made if name not in shown)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / path.name
        onnx.save(model, str(file), save_as_external_data=path.stat().st_size + _beside(path) > _PROTOBUF_LIMIT // 2)
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        for start in range(0, len(made), _AT_ONCE):
            some = made[start : start + _AT_ONCE]
            values = session.run([name for name, _ in some], inputs)
            for (name, node), value in zip(some, values, strict=True):
                sources = tuple(source for source in node.input if source and source not in constants)
                report(Intermediate(name, node.op_type, sources, np.asarray(value), name if name in shown else ""))


def _beside(path: Path) -> int:
    data = path.with_name(f"{path.name}.data")
    return data.stat().st_size if data.is_file() else 0


def tflite_intermediates(path: Path, inputs: dict[str, Array], report: Report) -> None:
    """Tensors of a `.tflite` file's first graph, from LiteRT's built-in kernels, named by number and last name."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: PLC0415 - only where it is traced

    interpreter = Interpreter(
        model_path=str(path),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    # The public API for these keeps a reference into the interpreter, which forbids the next steps.
    signatures = interpreter._get_full_signature_list().values()
    first = {int(detail["index"]) for detail in interpreter.get_input_details()}
    signature = next(each for each in signatures if {int(index) for index in each["inputs"].values()} == first)
    fed = {int(index): str(name) for name, index in signature["inputs"].items()}
    given = {int(index): str(name) for name, index in signature["outputs"].items()}
    for index, name in fed.items():
        interpreter.set_tensor(index, inputs[name])
    interpreter.invoke()
    names = {int(tensor["index"]): str(tensor["name"]) for tensor in interpreter.get_tensor_details()}
    operations = interpreter._get_ops_details()  # no public API lists the nodes
    made = {int(index) for operation in operations for index in operation["outputs"]} | set(fed)
    for operation in operations:
        sources = tuple(_short(int(index), names) for index in operation["inputs"] if int(index) in made)
        for index in operation["outputs"]:
            value = np.asarray(interpreter.get_tensor(int(index)))
            name, output = _short(int(index), names), given.get(int(index), "")
            report(Intermediate(name, str(operation["op_name"]), sources, value, output))


def _short(index: int, names: dict[int, str]) -> str:
    """A tensor's number, and the last part of its name, which is a path of modules."""
    last = names.get(index, "").rsplit("/", 1)[-1]
    return f"{index}:{last.split(';')[0]}" if last else str(index)


def coreml_intermediates(path: Path, inputs: dict[str, Array], report: Report) -> None:
    """Tensors of a `.mlpackage`, from the MIL evaluator."""
    from sam_edge_runtime.mil import Program, read_package  # noqa: PLC0415 - only where a package is traced
    from sam_edge_runtime.mil.package import Operation  # noqa: PLC0415
    from sam_edge_runtime.mil.program import references  # noqa: PLC0415

    package = read_package(path)

    def watch(operation: Operation, given: dict[str, Any], made: tuple[Array, ...]) -> None:
        for name, value in zip(operation.outputs, made, strict=True):
            output = name if name in package.outputs else ""
            report(Intermediate(name, operation.op_type, tuple(references(operation)), value, output))

    Program(package).run(inputs, watch)


INTERMEDIATES: dict[str, Callable[[Path, dict[str, Array], Report], None]] = {
    "coreml": coreml_intermediates,
    "onnx": onnx_intermediates,
    "tflite": tflite_intermediates,
}


def walk(target: str, path: Path, inputs: dict[str, Array], report: Report) -> None:
    """Report the tensors of an artifact.

    Args:
        target: target of the artifact, such as `onnx`.
        path: the graph's file or folder.
        inputs: by the contract's names, in the artifact's layout.
        report: called with each tensor.

    Raises:
        BackendError: the engine failed.
    """
    try:
        INTERMEDIATES[target](path, inputs, report)
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"{path} cannot be traced ({first_line(error)})") from error
