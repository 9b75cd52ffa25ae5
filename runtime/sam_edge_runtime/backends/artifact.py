"""Runs one artifact of any target: named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Call
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import BackendError, first_line, missing_package

Artifact = Callable[[Call], Call]


def open_artifact(path: Path, target: str, threads: int | None = None) -> Artifact:
    """A function that runs the artifact at `path` on the CPU. Without a Mac, Core ML packages run in the MIL evaluator.

    Args:
        path: the artifact.
        target: that it was exported for.
        threads: within an operator; None: the engine's own number. Core ML has no such choice.

    Raises:
        UsageError: no such target.
        BackendError: the engine is not installed, or rejects the file.
        BundleError: a package is damaged.
    """
    try:
        return {"onnx": _onnx, "tflite": _tflite, "coreml": _coreml}[target_named(target).name](path, threads)
    except ImportError as error:
        raise BackendError(f"{path.name} needs {missing_package(error)}: {target_named(target).install}") from error


def _onnx(path: Path, threads: int | None) -> Artifact:
    import onnxruntime  # noqa: PLC0415  # an extra

    from .onnx import open_session  # noqa: PLC0415

    session = open_session(onnxruntime, path, threads, ["CPUExecutionProvider"])
    names = [each.name for each in session.get_outputs()]

    def run(call: Call) -> Call:
        try:
            return dict(zip(names, session.run(names, call), strict=True))
        except Exception as error:  # the engine's errors have no common class
            raise BackendError(f"ONNX Runtime failed in '{path}' ({first_line(error)})") from error

    return run


def _tflite(path: Path, threads: int | None) -> Artifact:
    from .tflite import find_engine  # noqa: PLC0415

    engine = find_engine()
    try:
        runner: Any = engine[0](model_path=str(path), num_threads=threads).get_signature_runner()
    except (RuntimeError, ValueError) as error:
        raise BackendError(f"{engine[1]} cannot load '{path}' ({first_line(error)}): export it again") from error

    def run(call: Call) -> Call:
        try:
            return {name: np.array(value) for name, value in runner(**call).items()}
        except (RuntimeError, ValueError) as error:
            raise BackendError(f"{engine[1]} failed in '{path}' ({first_line(error)})") from error

    return run


def _coreml(path: Path, threads: int | None) -> Artifact:
    from .coreml import open_package  # noqa: PLC0415

    package = open_package(path)
    return lambda call: dict(package.run(call))
