"""The backend for TFLite: LiteRT (`ai-edge-litert`), or its predecessor `tflite-runtime`.

Each signature is checked against the contract before its first run. TFLite's kernels take photos and embeddings in
NHWC, the `Backend` protocol in NCHW, so arrays are transposed before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge_runtime.arrays import Decoded, Features, Float32, TextInputs
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import FrameSize, GraphContract, TensorSpec, in_contract_order
from sam_edge_runtime.bundle.targets import TARGETS
from sam_edge_runtime.errors import BackendError, BundleError, first_line
from sam_edge_runtime.system.cores import usable_cores

from . import BackendOptions
from .graphs import LazyGraphs
from .requirements import needs_litert
from .tflite_file import is_complete, is_tflite

TARGET = TARGETS["tflite"]
PREDECESSOR = "tflite-runtime"  # of LiteRT
CPU_NAMES = ("cpu", "xnnpack")


class TfliteBackend(LazyGraphs["_Graph"]):
    """Runs the two `.tflite` graphs of a bundle.

    Attributes:
        engine: the installed engine's name and version.

    Raises:
        BackendError: no engine is installed, or tflite-runtime together with numpy 2; or a provider other than the CPU
            is wanted, which these packages do not have.
        BundleError: on first use of a graph that is no TFLite model or breaks the manifest's contract.
    """

    def __init__(self, bundle: Bundle, options: BackendOptions) -> None:
        if options.provider is not None and options.provider.strip().lower() not in CPU_NAMES:
            raise BackendError(
                f"provider '{options.provider}' is not in LiteRT's Python package, which runs on the CPU with XNNPACK; "
                "leave the provider out"
            )
        self._interpreter, self._name, self.engine = find_engine()
        super().__init__(bundle)
        self._threads = options.threads or usable_cores()  # LiteRT's default is one
        self._layout = bundle.manifest.layout

    def _graph(self, part: str, frame: FrameSize) -> _Graph:
        """The graph of all frames: one interpreter has a signature for each."""
        return super()._graph(part, self._bundle.manifest.frame)

    def _load(self, path: Path, contract: GraphContract, frame: FrameSize) -> _Graph:
        manifest = self._bundle.manifest
        is_decoder = contract == manifest.decoder_contract
        signatures = manifest.decoder_signatures if is_decoder else manifest.encoder_signatures
        return self._open(path, signatures or {None: contract})

    def _open(self, path: Path, contracts: Mapping[str, GraphContract] | Mapping[None, GraphContract]) -> _Graph:
        if not is_tflite(path):
            raise BundleError(f"'{path}' is no TFLite model; export it again")
        if not is_complete(path):
            raise BundleError(f"'{path}' is truncated: weights lie beyond its end; copy it or export it again")
        if self._name == PREDECESSOR and (reason := needs_litert(path)):
            raise BackendError(f"'{path}' needs LiteRT ({reason}): {TARGET.install}, or export another precision")
        try:
            interpreter = self._interpreter(model_path=str(path), num_threads=self._threads)
            interpreter.allocate_tensors()
            runners = {name: interpreter.get_signature_runner(name) for name in contracts}
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"{self._name} cannot load '{path}' ({first_line(error)}); export it again") from error
        for name, contract in contracts.items():
            _check_tensors(path, "input", runners[name].get_input_details(), contract.inputs)
            _check_tensors(path, "output", runners[name].get_output_details(), contract.outputs)
        return _Graph(
            self._name, path, interpreter, [(runners[name], contract) for name, contract in contracts.items()]
        )

    def encode(self, image: Float32) -> Features:
        """The features of a photo; see `Backend.encode`."""
        return tuple(map(self._layout.to_nchw, self._encoder_for(image).run(self._layout.from_nchw(image))))

    def decode(
        self,
        features: Features,
        point_coords: Float32,
        point_labels: Float32,
        mask_input: Float32,
        has_mask_input: Float32,
        text: TextInputs | None = None,
    ) -> Decoded:
        """Masks and scores of B prompts; see `Backend.decode`."""
        in_layout = tuple(map(self._layout.from_nchw, features))
        prompts = (point_coords, point_labels, mask_input, has_mask_input, *(text or ()))
        inputs = in_contract_order(self._bundle.manifest.conventions, in_layout, *prompts)
        return Decoded(*self._decoder_for(features).run(*inputs))


class _Graph:
    """An interpreter, and each of its signatures with its contract."""

    def __init__(
        self, engine: str, path: Path, interpreter: Any, signatures: Sequence[tuple[Any, GraphContract]]
    ) -> None:
        self._engine, self._path, self._signatures = engine, path, signatures
        self._owner = interpreter  # the runners do not keep it alive

    def run(self, *inputs: Float32) -> list[Float32]:
        """The outputs for inputs in the contract's order, from the signature with their shapes."""
        runner, contract = self._signature_for(inputs)
        try:
            outputs = runner(**dict(zip(contract.input_names, inputs, strict=True)))
        except (ValueError, RuntimeError) as error:
            raise BackendError(f"{self._engine} failed in '{self._path}' ({first_line(error)})") from error
        return [outputs[name] for name in contract.output_names]

    def _signature_for(self, inputs: Sequence[Float32]) -> tuple[Any, GraphContract]:
        given = [tuple(array.shape) for array in inputs]
        for runner, contract in self._signatures:
            if given == [spec.shape for spec in contract.inputs]:  # checked, because TFLite would resize its tensors
                return runner, contract
        for specs, shape in zip(
            zip(*(contract.inputs for _, contract in self._signatures), strict=True), given, strict=True
        ):
            taken = dict.fromkeys(str(spec.shape) for spec in specs)
            if str(shape) not in taken:
                raise BackendError(f"'{self._path}' takes {specs[0].name} of shape {' or '.join(taken)}, not {shape}")
        raise BackendError(f"'{self._path}' has no signature for inputs of shapes {', '.join(map(str, given))}")


def find_engine() -> tuple[Any, str, str]:
    """The first installed engine: its interpreter class, its name, and its name with version."""
    missing: ImportError | None = None
    for engine in TARGET.engines:
        try:
            interpreter = import_module(engine.module).Interpreter
            described = f"{engine.name} {version(engine.distribution)}"
        except ImportError as error:  # also where the metadata with the version is missing
            missing = missing or error
            continue
        numpy_major = int(np.__version__.partition(".")[0])
        if engine.distribution == PREDECESSOR and numpy_major > 1:  # else it fails with a bare SystemError
            raise BackendError(
                f"tflite-runtime works with numpy 1 only, and this is numpy {np.__version__}: pip install 'numpy<2', "
                f"or its successor: {TARGET.install}"
            )
        return interpreter, engine.name, described
    raise BackendError(f"a TFLite bundle needs ai-edge-litert ({missing}); install it with: {TARGET.install}")


def _check_tensors(path: Path, role: str, details: dict[str, Any], expected: tuple[TensorSpec, ...]) -> None:
    """Compare a signature's inputs or outputs with the contract."""
    want = {spec.name: (tuple(spec.shape), spec.dtype) for spec in expected}
    have = {
        name: (tuple(int(size) for size in detail["shape"]), np.dtype(detail["dtype"]).name)
        for name, detail in details.items()
    }
    for name in sorted({*want, *have}):
        if want.get(name) != have.get(name):
            raise BundleError(
                f"{role} '{name}' of '{path}' is {_described(have.get(name))}, where the contract has "
                f"{_described(want.get(name))}; export it again"
            )


def _described(tensor: tuple[tuple[Any, ...], str] | None) -> str:
    return "absent" if tensor is None else f"{tensor[1]} {tensor[0]}"
