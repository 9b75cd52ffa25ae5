"""The reference of a verification: fp32 torch with the bundle's own weights, where both are available.

The weights are those named with --checkpoint, seeded ones, or the download whose SHA-256 the manifest records.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sam_edge.weights.source import CheckpointSource, parse_source, recorded_source
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.bundle.text import VOCABULARY
from sam_edge_runtime.errors import CheckpointError, missing_package

if TYPE_CHECKING:
    from sam_edge.model.torch_backend import TorchBackend

INSTALL = "pip install 'sam-edge[export]'"


def torch_is_there() -> bool:
    """Whether torch is installed. It is not imported."""
    return find_spec("torch") is not None


def find_weights(manifest: Manifest, checkpoint: str | None, images: Path | None) -> CheckpointSource | None:
    """The bundle's weights, or None if golden.npz is the reference.

    Raises:
        CheckpointError: --checkpoint or --images need torch, and torch or the weights are missing.
    """
    if not torch_is_there():
        if checkpoint is not None or images is not None:
            option = "--checkpoint" if checkpoint is not None else "--images"
            raise CheckpointError(f"{option} compares with fp32 torch: {INSTALL}, or leave it out to use golden.npz")
        return None
    source = recorded_source(manifest.checkpoint) if checkpoint is None else parse_source(checkpoint)
    if source is None and images is not None:
        raise CheckpointError(
            f"photos are compared with fp32 torch, and the weights of this bundle ({manifest.checkpoint.source}) are "
            "not available: name them with --checkpoint, or leave out --images to use golden.npz"
        )
    return source


def torch_reference(manifest: Manifest, source: CheckpointSource) -> TorchBackend:
    """fp32 torch with the weights of `source`.

    Raises:
        CheckpointError: the weights cannot be loaded, are not the bundle's, or a package is missing.
    """
    made_from = manifest.checkpoint
    if source.is_random != made_from.random or (source.is_random and source.label != made_from.source):
        raise _other_weights(source, manifest)
    try:
        from sam_edge.model.sam import use_hq_token_only  # noqa: PLC0415
        from sam_edge.model.torch_backend import TorchBackend  # noqa: PLC0415
        from sam_edge.weights.load import load_sam, require_text_token  # noqa: PLC0415  # brings torch
        from sam_edge.weights.words import recorded_words  # noqa: PLC0415
    except ImportError as error:
        raise CheckpointError(f"the comparison with torch needs {missing_package(error)}: {INSTALL}") from error
    loaded = load_sam(manifest.variant, source, manifest.input_side)
    if loaded.checkpoint.sha256 != made_from.sha256:
        raise _other_weights(source, manifest)
    if manifest.conventions.hq_token_only:
        use_hq_token_only(loaded.sam)
    if manifest.text is not None and manifest.text.kind == VOCABULARY:
        words = recorded_words(manifest.text, manifest.variant)
        if words is None:
            raise CheckpointError(
                f"the bundle's words come from {manifest.text.source}, which this sam-edge does not have: omit "
                "--checkpoint and --images to use golden.npz"
            )
        words.give_to(loaded.sam, loaded.checkpoint)
    elif manifest.conventions.text_channels is not None:
        require_text_token(loaded, source, manifest.conventions.text_channels)
    return TorchBackend(loaded.sam)


def _other_weights(source: CheckpointSource, manifest: Manifest) -> CheckpointError:
    return CheckpointError(
        f"the bundle was not made from {source.label} but from {manifest.checkpoint.source}: name those weights"
    )
