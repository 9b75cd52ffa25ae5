"""The engines that run a bundle's two graphs: one small protocol, one file per target.

A backend only moves arrays of the contract (contract.py) through an engine; resizing, prompts and masks are the
predictor's. The engine's package is imported when a bundle of its target is loaded, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from sam_edge_runtime.bundle.bundle import Bundle


class Backend(Protocol):
    """What the predictor asks of an engine. Axis letters as in contract.py.

    Attributes:
        engine: what computes, for reports; Core ML packages may be computed by something else than Core ML.
    """

    engine: str

    def encode(self, image: Float32) -> Float32:
        """The embeddings (1, C, S/16, S/16) float32 of an image (1, 3, S, S) float32.

        Raises:
            BackendError: the engine failed.
        """
        ...

    def decode(
        self,
        image_embeddings: Float32,
        point_coords: Float32,
        point_labels: Float32,
        mask_input: Float32,
        has_mask_input: Float32,
    ) -> tuple[Float32, Float32]:
        """The answers to B prompts of N slots: low_res_masks (B, 4, S/4, S/4) and iou_predictions (B, 4), float32.

        Args:
            image_embeddings: (1, C, S/16, S/16) float32, what `encode` returned.
            point_coords: (B, N, 2) float32 x, y in pixels of the frame.
            point_labels: (B, N) float32, values of `contract.Label`.
            mask_input: (B, 1, S/4, S/4) float32 logits.
            has_mask_input: (B) float32, 1 where `mask_input` counts.

        Raises:
            BackendError: the engine failed.
        """
        ...


class BundleBackend(Backend, Protocol):
    """An engine with a bundle's two graphs, each loaded when it is first needed."""

    def load(self) -> None:
        """Load both graphs now.

        Raises:
            BackendError, BundleError: one cannot be loaded.
        """
        ...


@dataclass(frozen=True)
class BackendOptions:
    """How an engine runs.

    Attributes:
        threads: threads within an operator; None is one for each core, by the engine's own choice or by ours.
        provider: the engine's name of an accelerator; None is its CPU.

    Raises:
        UsageError: `threads` is not a positive whole number, or `provider` is an empty string.
    """

    threads: int | None = None
    provider: str | None = None

    def __post_init__(self) -> None:
        threads, provider = self.threads, self.provider
        if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
            raise UsageError(f"threads {threads!r} is not a positive whole number; leave it out for one a core")
        if provider is not None and (not isinstance(provider, str) or not provider.strip()):
            raise UsageError(f"provider {provider!r} is no name; leave it out for the CPU")


def _onnx(bundle: Bundle, options: BackendOptions) -> BundleBackend:
    from .onnx import OnnxBackend  # noqa: PLC0415 - only the chosen engine is imported

    return OnnxBackend(bundle, options)


def _tflite(bundle: Bundle, options: BackendOptions) -> BundleBackend:
    from .tflite import TfliteBackend  # noqa: PLC0415 - only the chosen engine is imported

    return TfliteBackend(bundle, options)


def _coreml(bundle: Bundle, options: BackendOptions) -> BundleBackend:
    from .coreml import CoremlBackend  # noqa: PLC0415 - only the chosen engine is imported

    return CoremlBackend(bundle, options)


# A target's loader; the file in this folder has the target's name.
BACKENDS: dict[str, Callable[[Bundle, BackendOptions], BundleBackend]] = {
    "coreml": _coreml,
    "onnx": _onnx,
    "tflite": _tflite,
}


def load_backend(bundle: Bundle, options: BackendOptions | None = None) -> BundleBackend:
    """The engine for a bundle's target.

    Raises:
        BackendError: the engine's package is missing, or it does not know the provider.
        UsageError: no such target.
    """
    loader = BACKENDS[target_named(bundle.manifest.target).name]
    return loader(bundle, options or BackendOptions())
