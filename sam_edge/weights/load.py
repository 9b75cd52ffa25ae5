"""Build a model, load its weights and set its frame side: what every command calls to get a model."""

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

NO_LICENCE_STATED = "NOASSERTION"  # SPDX's term for an unknown licence


@dataclass(frozen=True)
class LoadedSam:
    """A model and the origin of its weights.

    Attributes:
        variant: name of the architecture.
        sam: the model, in evaluation mode, without gradients.
        checkpoint: what was loaded.
        licence: SPDX identifier of the weights' licence; `NOASSERTION` unless they are official or shipped.
    """

    variant: str
    sam: Sam
    checkpoint: CheckpointRecord
    licence: str

    @property
    def parameters(self) -> int:
        """Number of parameters of the model; buffers are not counted."""
        return sum(parameter.numel() for parameter in self.sam.parameters())


def find_source(variant: str, checkpoint: str | None) -> CheckpointSource:
    """The source that `--checkpoint` names; by default the weights inside the package or in the cache.

    Args:
        variant: name of the architecture.
        checkpoint: a file or `random:SEED`; None for the default.

    Raises:
        UsageError: no such variant, or a malformed seed.
        CheckpointError: `checkpoint` is None, and there are no weights in the package or the cache.
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
    """Build `variant`, load its weights strictly, and set its frame side.

    Args:
        variant: name of the architecture.
        source: its weights.
        input_side: frame side S in pixels, a multiple of 64 from 256 to 1024; None for the side it was trained for.

    Raises:
        UsageError: no such variant, or an impossible side.
        CheckpointError: the weights cannot be read or do not fit.
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
