"""ONNX Runtime sessions for the tests: torch tensors in, numpy arrays out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
from torch import Tensor


def session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(runner: ort.InferenceSession, *inputs: Tensor) -> list[np.ndarray]:
    names = [argument.name for argument in runner.get_inputs()]
    return runner.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})
