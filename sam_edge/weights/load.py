"""Build a model, load its weights and set its frame side: what every command calls to get a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sam_edge.model import Sam, build_sam
from sam_edge.model.sam import check_side
from sam_edge.model.text_token import add_text_token, load_text_token, text_token_of
from sam_edge.model.variants import SLIM, check_variant
from sam_edge_runtime.errors import CheckpointError, UsageError

from .cache import cached
from .catalogue import RELEASES, SHIPPED
from .checkpoint import CheckpointRecord, copy_into, load_into
from .licences import NO_LICENCE_STATED, restriction
from .recognition import AUTO, Recognized, read_checkpoint, recognize
from .seeded import seed_module
from .source import CheckpointSource, parse_source

DEFAULT = "nano"  # the model without --model and without a file of weights


@dataclass(frozen=True)
class LoadedSam:
    """A model and the origin of its weights.

    Attributes:
        variant: name of the architecture.
        sam: the model, in evaluation mode, without gradients.
        checkpoint: what was loaded.
        licence: of the weights: the SPDX identifier of official or shipped ones, what the card of a repository on the
            Hub states, else `NOASSERTION`.
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
        checkpoint: a file or folder, `hf:OWNER/NAME` or `random:SEED`; None for the default.

    Raises:
        UsageError: no such variant, or a malformed seed.
        CheckpointError: `checkpoint` is None, and there are no weights in the package or the cache.
    """
    check_variant(variant)
    if checkpoint is not None:
        return parse_source(checkpoint)
    if variant not in SHIPPED and variant not in RELEASES:
        raise CheckpointError(
            f"{variant} has no weights to download: name a file or hf:OWNER/NAME with --checkpoint, or use "
            "--checkpoint random:0 where only structure and speed matter"
        )
    path = SHIPPED[variant].path if variant in SHIPPED else cached(RELEASES[variant])
    if path is None:
        release = RELEASES[variant]
        if not release.url:
            raise CheckpointError(
                f"no weights for {variant} yet: they are {release.origin}, not in the package; name that file with "
                f"--checkpoint, or run `sam-edge download {variant} --from FILE_OR_ADDRESS`"
            )
        kind = restriction(release.licence)
        accept = (
            "`" if kind is None else f" --accept-licence` (its licence, {release.licence}, {kind}: {release.terms})"
        )
        raise CheckpointError(
            f"no weights for {variant} yet: run `sam-edge download {variant}{accept}, or name a file with "
            "--checkpoint, or use --checkpoint random:0 where only structure and speed matter"
        )
    return parse_source(path)


def choose_model(variant: str, checkpoint: str | None) -> tuple[str, Recognized | None]:
    """The variant that `--model` and `--checkpoint` mean, and what the checkpoint holds.

    Args:
        variant: name of a variant; or `auto`: the checkpoint's, or nano without a file of weights.
        checkpoint: as for `find_source`.

    Raises:
        UsageError: no such variant, or a malformed checkpoint.
        CheckpointError: the checkpoint cannot be read, or is not for the variant.
    """
    if variant != AUTO:
        check_variant(variant)
    source = None if checkpoint is None else parse_source(checkpoint)
    if source is None or source.is_random:
        return (DEFAULT if variant == AUTO else variant), None
    found = recognize(read_checkpoint(source), variant)
    return found.variant, found


def builder_of(variant: str, source: CheckpointSource) -> Callable[[], Sam]:
    """What builds the model; for a ViT that was pruned block by block, its file says how wide each block is.

    Raises:
        UsageError: no such variant, or one whose widths only a file can tell, with seeded weights.
        CheckpointError: that file cannot be read, or is not for the variant.
    """
    check_variant(variant)
    if variant != SLIM or source.is_random:
        return lambda: build_sam(variant)
    return recognize(read_checkpoint(source), variant).build


def load_sam(variant: str, source: CheckpointSource, input_side: int | None = None) -> LoadedSam:
    """Build `variant`, load its weights strictly, and set its frame side.

    Args:
        variant: name of the architecture, or `auto` for the one whose weights `source` holds.
        source: its weights.
        input_side: frame side S in pixels, a multiple of 64 from 256 to 1024; None for the side it was trained for.

    Raises:
        UsageError: no such variant, or an impossible side.
        CheckpointError: the weights cannot be read or do not fit.
    """
    if input_side is not None:
        check_side(input_side)
    if variant != AUTO:
        check_variant(variant)
    if source.is_random:
        if variant == AUTO:
            raise UsageError(f"{source.label} fits every model: choose one with --model")
        sam = build_sam(variant)
        record = load_into(sam, source)
        stated = ""
    else:
        found = recognize(read_checkpoint(source), variant)
        variant, sam = found.variant, found.build()
        record = copy_into(sam, found.checkpoint)
        stated = found.checkpoint.contents.licence
        load_text_token(sam, found.checkpoint.contents.tree, found.checkpoint.label)
    sam.requires_grad_(requires_grad=False)
    sam.set_input_side(sam.native_side if input_side is None else input_side)
    official = any(record.sha256 == release.sha256 for release in RELEASES.values())
    if official:
        licence = RELEASES[variant].licence
    elif variant in SHIPPED and source.path == SHIPPED[variant].path:
        licence = SHIPPED[variant].licence
    else:
        licence = stated or NO_LICENCE_STATED
    return LoadedSam(variant, sam, record, licence)


def require_text_token(loaded: LoadedSam, source: CheckpointSource, dim: int) -> None:
    """Check that a model takes text embeddings of D numbers; seeded weights get a seeded text token.

    Raises:
        UsageError: the weights have no text token, or one for embeddings of another length.
    """
    if source.seed is not None:
        token = add_text_token(loaded.sam, dim).eval()
        seed_module(token, source.seed)
        token.requires_grad_(requires_grad=False)
    found = text_token_of(loaded.sam).project.in_features
    if found != dim:
        raise UsageError(
            f"{loaded.checkpoint.label} takes text embeddings of {found} numbers, and the text encoder gives {dim}: "
            "export the text encoder that it was trained with"
        )
