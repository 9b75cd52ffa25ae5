"""A bundle or a torch model behind one interface, with the description that reports print."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.settings import COCO_RLE, AutomaticSettings
from sam_edge_runtime.backends import Backend, BackendOptions, load_backend
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.conventions import SAM, Conventions
from sam_edge_runtime.bundle.manifest import Checkpoint
from sam_edge_runtime.bundle.text import VOCABULARY
from sam_edge_runtime.bundle.vocabulary import Vocabulary
from sam_edge_runtime.decoding import Capacity
from sam_edge_runtime.errors import UsageError, missing_package

SHIPPED_WORDS = "shipped"  # sam_edge.weights.words.SHIPPED_WORDS, which brings torch

if TYPE_CHECKING:
    from sam_edge.model import Sam  # brings torch


@dataclass(frozen=True)
class Promptable:
    """An encoder and a decoder that answer prompts: a bundle's or a torch model's.

    Attributes:
        backend: runs the two graphs.
        capacity: frame side, and how many prompts and points the decoder takes.
        description: `model`, `runs as`, `weights`, `sha256` and `input side`, by name.
        vocabulary: the words that it knows; None where it knows none.
    """

    backend: Backend
    capacity: Capacity
    description: dict[str, Any]
    vocabulary: Vocabulary | None = None

    @property
    def variant(self) -> str:
        """The model's variant."""
        return str(self.description["model"])

    @property
    def name(self) -> str:
        """Its name in tables, such as `nano onnx w8a8`."""
        return f"{self.variant} {self.description['runs as']}"

    def mask_generator(self, settings: Mapping[str, Any]) -> AutomaticMaskGenerator:
        """A generator of automatic masks, given as COCO RLEs.

        Args:
            settings: by the names of `AutomaticSettings`; others have the values that suit the model.
        """
        suited = AutomaticSettings.for_variant(self.variant, **settings, output_mode=COCO_RLE)
        return AutomaticMaskGenerator.from_backend(self.backend, self.capacity, suited)


@dataclass(frozen=True)
class AnyCapacity:
    """A torch model's capacity: any number of prompts.

    Attributes:
        frames: sizes of its frames in pixels.
        conventions: of its family.
        points: slots of a prompt; None: any number.
    """

    frames: tuple[FrameSize, ...]
    conventions: Conventions = SAM
    call_sizes: tuple[int, ...] = ()
    points: int | None = None

    @classmethod
    def of(cls, sam: Sam) -> AnyCapacity:
        """That of a model."""
        return cls((FrameSize.square(sam.side),), sam.conventions, points=sam.conventions.slots)


def open_bundle(path: Path, options: BackendOptions | None = None) -> Promptable:
    """Open a bundle with its target's engine.

    Raises:
        BundleError: there is no valid bundle at `path`.
        BackendError: its engine is missing.
    """
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    description = {
        "model": manifest.variant,
        "runs as": f"{manifest.target} {manifest.precision}",
        "weights": manifest.checkpoint.described,
        "sha256": manifest.checkpoint.sha256,
        "input side": manifest.input_side,
    }
    known = manifest.text is not None and manifest.text.kind == VOCABULARY
    backend = load_backend(bundle, options or BackendOptions())
    return Promptable(backend, manifest, description, bundle.vocabulary() if known else None)


def open_model(
    variant: str, checkpoint: str | None = None, input_side: int | None = None, words: str | None = None
) -> Promptable:
    """Load a torch model in fp32.

    Args:
        variant: the model's variant, such as `nano`.
        checkpoint: its weights; None for those that come with sam-edge or were downloaded.
        input_side: its frame side in pixels; None for the one it was trained for.
        words: words for it: `shipped` or a file; None for none.

    Raises:
        UsageError: an unknown variant or an impossible frame side, or words for another model.
        CheckpointError: the weights or words cannot be loaded.
    """
    from sam_edge.model.torch_backend import TorchBackend  # noqa: PLC0415
    from sam_edge.weights.load import find_source, load_sam  # noqa: PLC0415  # brings torch

    loaded = load_sam(variant, find_source(variant, checkpoint), input_side)
    record = loaded.checkpoint
    found = None
    if words is not None:
        from sam_edge.weights.words import find_words  # noqa: PLC0415

        found = find_words(words, variant)
        found.give_to(loaded.sam, record)
    description = {
        "model": variant,
        "runs as": "torch fp32",
        "weights": Checkpoint(record.label, record.sha256, record.is_random).described,
        "sha256": record.sha256,
        "input side": loaded.sam.side,
    }
    vocabulary = None if found is None else found.vocabulary
    return Promptable(TorchBackend(loaded.sam), AnyCapacity.of(loaded.sam), description, vocabulary)


def opened(
    bundle: Path | None,
    model: str,
    checkpoint: str | None,
    threads: int | None = None,
    provider: str | None = None,
    words: str | None = None,
) -> Promptable:
    """Open the bundle, or the torch model with `words` if `bundle` is None.

    Raises:
        UsageError: a checkpoint beside a bundle, an engine's options for torch, or torch is not installed.
    """
    if bundle is not None:
        if checkpoint is not None:
            raise UsageError(f"the bundle {bundle} has its own weights: leave out --checkpoint, or --bundle")
        return open_bundle(bundle, BackendOptions(threads=threads, provider=provider))
    if threads is not None or provider is not None:
        raise UsageError("--threads and --provider are for a bundle's engine: name one with --bundle")
    try:
        return open_model(model, checkpoint, words=words)
    except ImportError as error:
        raise UsageError(
            f"the torch model {model} needs {missing_package(error)}: pip install 'sam-edge[export]', "
            "or name a --bundle"
        ) from error
