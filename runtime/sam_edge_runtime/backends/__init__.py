"""Backends run the two graphs of a bundle in an inference engine: one protocol, a module for each target.

A backend passes tensors of the contract (`bundle.contract`) through an engine. `SamPredictor` resizes photos, checks
prompts and makes masks. The engine's package is imported when a bundle of its target is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sam_edge_runtime.arrays import Features, Float32
from sam_edge_runtime.bundle.official import SAM_EDGE
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from sam_edge_runtime.arrays import Decoded, TextInputs
    from sam_edge_runtime.bundle.bundle import Bundle
    from sam_edge_runtime.bundle.contract import FrameSize


class Backend(Protocol):
    """The two graphs as functions. Axis letters are those of `bundle.contract`; all tensors are NCHW.

    Attributes:
        engine: name of what computes, for reports. Core ML packages may run in an evaluator instead of Core ML.
    """

    engine: str

    def encode(self, image: Float32) -> Features:
        """The features of a photo.

        Args:
            image: `(1, 3, H, W)` float32, RGB 0..255 in the frame, not normalized.

        Returns:
            The embedding `(1, C, H/16, W/16)`, then the family's further features in the contract's order, float32.

        Raises:
            BackendError: the engine failed.
        """
        ...

    def decode(
        self,
        features: Features,
        point_coords: Float32,
        point_labels: Float32,
        mask_input: Float32,
        has_mask_input: Float32,
        text: TextInputs | None = None,
    ) -> Decoded:
        """The masks for B prompts of N slots.

        Args:
            features: of the photo, from `encode`.
            point_coords: `(B, N, 2)` float32, x, y in pixels of the frame.
            point_labels: `(B, N)` float32, values of `Label`.
            mask_input: `(B, 1, H/4, W/4)` float32 logits.
            has_mask_input: `(B,)` float32, 1 where `mask_input` counts, else 0.
            text: text of the prompts, for a decoder that takes text; None where no prompt has any.

        Raises:
            BackendError: the engine failed.
        """
        ...


class BundleBackend(Backend, Protocol):
    """A backend for the graphs of a bundle, each loaded on first use."""

    def load(self, frame: FrameSize | None = None) -> None:
        """Load both graphs now.

        Args:
            frame: whose graphs; None: those of the first frame. Other frames' are loaded by their first photo.

        Raises:
            BackendError: the engine rejects a graph.
            BundleError: a graph breaks the manifest's contract.
        """
        ...


MOST_THREADS = 1024


@dataclass(frozen=True)
class BackendOptions:
    """Options of an engine.

    Attributes:
        threads: threads within an operator; None: one for each core.
        provider: the engine's name of an accelerator; None: its CPU (for Core ML: any unit).

    Raises:
        UsageError: `threads` is not an integer from 1 to `MOST_THREADS`, or `provider` is an empty string.
    """

    threads: int | None = None
    provider: str | None = None

    def __post_init__(self) -> None:
        threads, provider = self.threads, self.provider
        if threads is not None and (
            not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= MOST_THREADS
        ):
            raise UsageError(
                f"threads {threads!r:.60} is not an integer from 1 to {MOST_THREADS}; leave it out for one per core"
            )
        if provider is not None and (not isinstance(provider, str) or not provider.strip()):
            raise UsageError(f"provider {provider!r} is no name; leave it out for the CPU")


def _onnx(bundle: Bundle, options: BackendOptions) -> BundleBackend:
    if bundle.manifest.interface != SAM_EDGE:
        from .onnx_official import OfficialOnnxBackend  # noqa: PLC0415 - only the chosen engine is imported

        return OfficialOnnxBackend(bundle, options)
    from .onnx import OnnxBackend  # noqa: PLC0415 - only the chosen engine is imported

    return OnnxBackend(bundle, options)


def _tflite(bundle: Bundle, options: BackendOptions) -> BundleBackend:
    from .tflite import TfliteBackend  # noqa: PLC0415 - only the chosen engine is imported

    return TfliteBackend(bundle, options)


def _coreml(bundle: Bundle, options: BackendOptions) -> BundleBackend:
    from .coreml import CoremlBackend  # noqa: PLC0415 - only the chosen engine is imported

    return CoremlBackend(bundle, options)


# The loader of each target. The module has the target's name.
BACKENDS: dict[str, Callable[[Bundle, BackendOptions], BundleBackend]] = {
    "coreml": _coreml,
    "onnx": _onnx,
    "tflite": _tflite,
}


def load_backend(bundle: Bundle, options: BackendOptions | None = None) -> BundleBackend:
    """The backend for a bundle's target.

    Args:
        bundle: whose graphs to run.
        options: threads and provider; None: the defaults.

    Raises:
        BackendError: the engine's package is not installed, or does not have the provider.
        UsageError: an unknown target.
    """
    loader = BACKENDS[target_named(bundle.manifest.target).name]
    return loader(bundle, options or BackendOptions())
