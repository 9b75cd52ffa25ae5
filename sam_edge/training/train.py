"""`train`: a recipe and data in, weights out.

The first weights are seeded by the recipe; an ImageNet encoder or a whole checkpoint may stand in for some or all of
them. Then the trainer runs SAM's own objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from sam_edge.model import Sam, build_sam
from sam_edge.model.nano import NanoImageEncoder
from sam_edge.weights.checkpoint import load_into
from sam_edge.weights.mobilenet import read_mobilenet_v2, with_sam_normalization
from sam_edge.weights.source import parse_source
from sam_edge_runtime.errors import CheckpointError, UsageError

from .logs import Record
from .losses import RECIPES
from .objective import MaskObjective, SessionRecipe
from .recipe import TrainRecipe
from .trainer import Trainer, TrainJob

ENCODER = "image_encoder"


@dataclass(frozen=True)
class Start:
    """Weights that a run begins with.

    Attributes:
        encoder: MobileNetV2 as TensorFlow Lite, for nano's image encoder; None for seeded ones.
        checkpoint: weights of the whole model; None for seeded ones.
    """

    encoder: Path | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.encoder is not None and self.checkpoint is not None:
            raise UsageError("a run starts from an encoder or from a whole checkpoint, not from both")


def train(
    job: TrainJob,
    recipe: TrainRecipe,
    start: Start,
    watch: Callable[[int, Record], None] = lambda step, record: None,
    tell: Callable[[str], None] = lambda line: None,
) -> Path | None:
    """Train a model on masks.

    Args:
        job: where and how.
        recipe: what.
        start: the first weights.
        watch: told of each finished step.
        tell: told what a person should know at the end: records that were skipped.

    Returns:
        The file of weights, or None when the run was told to stop before its end.

    Raises:
        CheckpointError: the first weights, or those of an earlier state, cannot be used.
        DataError: the data cannot be used.
        UsageError: see `Trainer`.
        OutputError: a file cannot be written; earlier checkpoints stay.
        KeyboardInterrupt: see `Trainer.run`.
    """
    torch.manual_seed(recipe.seed)
    sam = build_sam(recipe.model)
    pretrained = first_weights(sam, start)
    session = SessionRecipe(points=recipe.points, single_always=recipe.single_always)
    objective = MaskObjective(sam, RECIPES[recipe.loss], session, recipe.seed)
    trainer = Trainer(job, recipe, objective, pretrained)
    try:
        return trainer.run(watch)
    finally:
        if trainer.is_main:
            for line in (*filter(None, [trainer.note]), *trainer.skips.lines()):
                tell(line)


def first_weights(sam: Sam, start: Start) -> frozenset[str]:
    """Fill in what the run begins with; returns the names of the parameters that are not random.

    Raises:
        CheckpointError: a file cannot be used, or is of another architecture.
        UsageError: an encoder for a model that is not nano.
    """
    if start.checkpoint is not None:
        load_into(sam, parse_source(start.checkpoint))
        return frozenset(name for name, _ in sam.named_parameters())
    if start.encoder is None:
        return frozenset()
    encoder = sam.image_encoder
    if not isinstance(encoder, NanoImageEncoder):
        raise UsageError(f"{start.encoder} is a MobileNetV2, and only nano has such an encoder: use --init")
    state = with_sam_normalization(read_mobilenet_v2(start.encoder))
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    if unexpected or len(missing) + len(state) != len(encoder.state_dict()):
        raise CheckpointError(f"{start.encoder} does not fit nano's encoder: {unexpected[:1] or missing[:1]}")
    return frozenset(f"{ENCODER}.{name}" for name in state)
