"""A model with weights, ready for a frame size: the one door through which commands get one."""

from __future__ import annotations

from dataclasses import dataclass

from sam_edge_runtime.errors import CheckpointError

from .model import Sam, build_sam
from .model.sam import check_side
from .model.variants import check_variant
from .weights.cache import cached
from .weights.catalogue import RELEASES
from .weights.checkpoint import CheckpointRecord, load_into
from .weights.source import CheckpointSource, parse_source

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
    """What `--checkpoint` names, or without it the downloaded official weights.

    Raises:
        UsageError: no such variant, or a malformed seed.
        CheckpointError: nothing was named and nothing is downloaded.
    """
    check_variant(variant)
    if checkpoint is not None:
        return parse_source(checkpoint)
    path = cached(RELEASES[variant])
    if path is None:
        raise CheckpointError(
            f"no weights for {variant} yet: run `sam-edge download {variant}`, or name a file with --checkpoint, "
            "or use --checkpoint random:0 where only structure and speed matter"
        )
    return parse_source(path)


def load_sam(variant: str, source: CheckpointSource, input_side: int) -> LoadedSam:
    """Build `variant`, load its weights strictly, and set the frame side.

    Raises:
        UsageError: no such variant, or a side that is not possible.
        CheckpointError: the weights cannot be used.
    """
    check_side(input_side)
    sam = build_sam(variant)
    record = load_into(sam, source)
    sam.requires_grad_(requires_grad=False)
    sam.set_input_side(input_side)
    official = any(record.sha256 == release.sha256 for release in RELEASES.values())
    licence = RELEASES[variant].licence if official else NO_LICENCE_STATED
    return LoadedSam(variant, sam, record, licence)
