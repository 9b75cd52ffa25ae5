"""The backend for Core ML: Apple's framework on a Mac, the evaluator `sam_edge_runtime.mil` elsewhere.

The evaluator checks outputs; it is much slower than a phone. `engine` names the one that runs, and reports repeat it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sam_edge_runtime.arrays import Decoded, Features, Float32, TextInputs
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import FrameSize, GraphContract, frame_signature, in_contract_order
from sam_edge_runtime.bundle.targets import TARGETS
from sam_edge_runtime.errors import BackendError, BundleError
from sam_edge_runtime.mil import Program, read_package

from . import BackendOptions
from .graphs import LazyGraphs

# Short names of Core ML's compute units.
UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE"}
TARGET = TARGETS["coreml"]
APPLE, EVALUATOR = TARGET.engines[0].name, "the MIL evaluator of sam-edge, not Core ML"


class _Engine(Protocol):
    def run(self, inputs: dict[str, Any]) -> dict[str, Float32]: ...


class CoremlBackend(LazyGraphs["_Engine"]):
    """Runs the two `.mlpackage` graphs of a bundle.

    Attributes:
        engine: `APPLE` or `EVALUATOR`.

    Raises:
        BackendError: the compute units are unknown, or given where Core ML does not exist; or coremltools is not
            installed.
        BundleError: on first use of a package that is damaged or breaks the manifest's contract.
    """

    def __init__(self, bundle: Bundle, options: BackendOptions) -> None:
        super().__init__(bundle)
        self._on_mac = TARGET.runs_here
        self.engine = APPLE if self._on_mac else EVALUATOR
        units = (options.provider or "all").strip().lower()
        if units not in UNITS:
            raise BackendError(
                f"provider '{options.provider}' is no compute unit of Core ML: choose one of {', '.join(UNITS)}"
            )
        if options.provider is not None and not self._on_mac:
            raise BackendError(f"provider '{options.provider}' needs a Mac; leave it out for sam-edge's evaluator")
        self._units = UNITS[units]
        self._picture_input = bundle.manifest.picture_input

    def _load(self, path: Path, contract: GraphContract, frame: FrameSize) -> _Engine:
        function = frame_signature(frame) if len(self._bundle.manifest.frames) > 1 else None
        package = read_package(path, function)
        want = {
            spec.name: tuple(None if isinstance(size, str) else size for size in spec.shape) for spec in contract.inputs
        }
        have = {name: shape for name, (shape, _) in package.inputs.items()}
        if want != have or set(package.outputs) != set(contract.output_names):
            raise BundleError(
                f"'{path}' takes {have} and gives {list(package.outputs)}, where the contract has {want} and "
                f"{list(contract.output_names)}; export it again"
            )
        return _Framework(path, self._units, function) if self._on_mac else Program(package)

    def encode(self, image: Float32) -> Features:
        """The features of a photo; see `Backend.encode`."""
        given = self._as_picture(image) if self._picture_input else image
        outputs = self._encoder_for(image).run({"image": given})
        return tuple(outputs[name] for name in self._bundle.manifest.encoder_contract.output_names)

    def _as_picture(self, image: Float32) -> Any:
        """The photo rounded to integers 0..255; on a Mac as a Pillow image."""
        pixels = np.clip(np.rint(image), 0, 255)
        if not self._on_mac:
            return pixels
        from PIL import Image  # noqa: PLC0415 - only where Core ML takes a picture

        return Image.fromarray(pixels[0].transpose(1, 2, 0).astype(np.uint8))

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
        contract = self._bundle.manifest.decoder_contract
        prompts = (point_coords, point_labels, mask_input, has_mask_input, *(text or ()))
        inputs = in_contract_order(self._bundle.manifest.conventions, features, *prompts)
        outputs = self._decoder_for(features).run(dict(zip(contract.input_names, inputs, strict=True)))
        return Decoded(*(outputs[name] for name in contract.output_names))


def open_package(path: Path) -> _Engine:
    """A package of one function, in Apple's framework on a Mac, else in the evaluator.

    Raises:
        BackendError: coremltools is not installed, or rejects it.
        BundleError: it is damaged.
    """
    package = read_package(path)
    return _Framework(path, UNITS["all"], None) if TARGET.runs_here else Program(package)


class _Framework:
    """A package in Apple's framework."""

    def __init__(self, path: Path, units: str, function: str | None) -> None:
        import coremltools  # noqa: PLC0415 - an extra

        self._path = path
        try:
            self._model: Any = coremltools.models.MLModel(
                str(path), compute_units=getattr(coremltools.ComputeUnit, units), function_name=function
            )
        except Exception as error:  # the framework's errors have no common class
            raise BackendError(f"Core ML cannot load '{path}' ({error}); export it again") from error

    def run(self, inputs: dict[str, Any]) -> dict[str, Float32]:
        try:
            outputs = self._model.predict(inputs)
        except Exception as error:
            raise BackendError(f"Core ML failed in '{self._path}' ({error})") from error
        return {name: np.asarray(array, np.float32) for name, array in outputs.items()}
