"""Runs one artifact of any target: named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Call
from sam_edge_runtime.backends.onnx import open_session
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import BackendError, first_line, missing_package
from sam_edge_runtime.mil import Program, read_package

Artifact = Callable[[Call], Call]


def open_artifact(path: Path, target: str) -> Artifact:
    """A function that runs the artifact at `path`. Core ML packages run in the MIL evaluator.

    Raises:
        UsageError: no such target.
        BackendError: the engine is not installed, or rejects the file.
        BundleError: a package is damaged.
    """
    try:
        return {"onnx": _onnx, "tflite": _tflite, "coreml": _coreml}[target_named(target).name](path)
    except ImportError as error:
        raise BackendError(f"{path.name} needs {missing_package(error)}: {target_named(target).install}") from error


def _onnx(path: Path) -> Artifact:
    import onnxruntime  # noqa: PLC0415  # an extra

    session = open_session(onnxruntime, path, None, ["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]

    def run(call: Call) -> Call:
        return dict(zip(names, session.run(names, call), strict=True))

    return run


def _tflite(path: Path) -> Artifact:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  # an extra

    try:
        interpreter = Interpreter(model_path=str(path))
        runner: Any = interpreter.get_signature_runner()
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"LiteRT cannot load '{path}' ({first_line(error)}): export it again") from error
    return lambda call: {name: np.array(value) for name, value in runner(**call).items()}


def _coreml(path: Path) -> Artifact:
    program = Program(read_package(path))
    return lambda call: dict(program.run(call))
