"""A model with weights, ready for a frame size: the one door through which commands get one."""

from __future__ import annotations

from dataclasses import dataclass

from sam_edge.model import Sam, build_sam
from sam_edge.model.sam import check_side
from sam_edge.model.variants import check_variant
from sam_edge_runtime.errors import CheckpointError

from .cache import cached
from .catalogue import RELEASES, SHIPPED
from .checkpoint import CheckpointRecord, load_into
from .source import CheckpointSource, parse_source

NO_LICENCE_STATED = "NOASSERTION"  # SPDX for: nobody has said


@dataclass(frozen=True)
class LoadedSam:
    """A model and where its weights came from."""

    variant: str
    sam: Sam
    checkpoint: CheckpointRecord
    licence: str

    @property
    def parameters(self) -> int:
        """Trained numbers in the model."""
        return sum(parameter.numel() for parameter in self.sam.parameters())


def find_source(variant: str, checkpoint: str | None) -> CheckpointSource:
    """What `--checkpoint` names, or without it the weights that come with sam-edge or were downloaded.

    Raises:
        UsageError: no such variant, or a malformed seed.
        CheckpointError: nothing was named and nothing is downloaded.
    """
    check_variant(variant)
    if checkpoint is not None:
        return parse_source(checkpoint)
    path = SHIPPED[variant].path if variant in SHIPPED else cached(RELEASES[variant])
    if path is None:
        raise CheckpointError(
            f"no weights for {variant} yet: run `sam-edge download {variant}`, or name a file with --checkpoint, "
            "or use --checkpoint random:0 where only structure and speed matter"
        )
    return parse_source(path)


def load_sam(variant: str, source: CheckpointSource, input_side: int | None = None) -> LoadedSam:
    """Build `variant`, load its weights strictly, and set the frame side: by default the one it was trained for.

    Raises:
        UsageError: no such variant, or a side that is not possible.
        CheckpointError: the weights cannot be used.
    """
    if input_side is not None:
        check_side(input_side)
    sam = build_sam(variant)
    record = load_into(sam, source)
    sam.requires_grad_(requires_grad=False)
    sam.set_input_side(sam.native_side if input_side is None else input_side)
    official = any(record.sha256 == release.sha256 for release in RELEASES.values())
    if official:
        licence = RELEASES[variant].licence
    elif variant in SHIPPED and source.path == SHIPPED[variant].path:
        licence = SHIPPED[variant].licence
    else:
        licence = NO_LICENCE_STATED
    return LoadedSam(variant, sam, record, licence)
