"""`train`: a recipe and data in, weights out.

The initial weights are seeded by the recipe. An ImageNet encoder can replace those of the encoder, and a checkpoint all
of them. Then the trainer runs SAM's own objective.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sam_edge.model import Sam, build_sam
from sam_edge.model.clip import Clip
from sam_edge.model.nano import NanoImageEncoder
from sam_edge.model.sam import require_one_feature
from sam_edge.model.text_token import load_text_token
from sam_edge.weights.checkpoint import copy_into, load_into
from sam_edge.weights.contents import read_contents
from sam_edge.weights.families import guess_variant
from sam_edge.weights.mobilenet import read_mobilenet_v2, with_sam_normalization
from sam_edge.weights.recognition import read_checkpoint
from sam_edge.weights.source import CheckpointSource, parse_source
from sam_edge_runtime.errors import CheckpointError, UsageError

from .logs import Record
from .objective import MaskObjective, session_of
from .recipe import TrainRecipe
from .text import TextObjective
from .trainer import Trainer, TrainJob

ENCODER = "image_encoder"
NANO = "nano"
FURTHER_BLOCKS = (f"{ENCODER}.mixing.", f"{ENCODER}.detail.")  # what small has and nano has not


@dataclass(frozen=True)
class InitialWeights:
    """Weights that a run begins with; seeded ones where both are None.

    Attributes:
        encoder: MobileNetV2 as a `.tflite` file, for nano's image encoder.
        checkpoint: weights of the whole model, a file or `random:SEED`.

    Raises:
        UsageError: both are given.
    """

    encoder: Path | None = None
    checkpoint: str | None = None

    def __post_init__(self) -> None:
        if self.encoder is not None and self.checkpoint is not None:
            raise UsageError("a run starts from an encoder or from a whole checkpoint, not from both: give one of them")


def train(
    job: TrainJob,
    recipe: TrainRecipe,
    start: InitialWeights,
    on_step: Callable[[int, Record], None] = lambda step, record: None,
    notify: Callable[[str], None] = lambda line: None,
    clip: Clip | None = None,
) -> Path | None:
    """Train a model on human masks.

    Args:
        job: the run's data and folder, and how it is run.
        recipe: what is trained.
        start: the initial weights.
        clip: for stage `text`: its image encoder's embeddings of the masks are the first prompts (`text`). None for
            SAM's own training.
        on_step: called after each step with the number of steps done and its losses.
        notify: called at the end with each note for the user, such as skipped records.

    Returns:
        The file of weights, or None if the run stopped at `job.stop_after`, before its end.

    Raises:
        CheckpointError: the initial weights or a checkpoint cannot be used.
        DataError: the data cannot be used.
        UsageError: see `Trainer`.
        OutputError: a file cannot be written; earlier checkpoints are kept.
        KeyboardInterrupt: see `Trainer.run`.
    """
    torch.manual_seed(recipe.seed)
    sam = build_sam(recipe.model)
    require_one_feature(sam, "train")
    pretrained = load_initial_weights(sam, start)
    session, losses = session_of(recipe), recipe.losses()
    objective: MaskObjective
    if clip is None:
        objective = MaskObjective(sam, losses, session, recipe.seed)
    else:
        if start.checkpoint is not None and (path := parse_source(start.checkpoint).path) is not None:
            load_text_token(sam, read_contents(path).tree, str(path))
        objective = TextObjective(sam, clip, losses, session, recipe.seed)
    trainer = Trainer(job, recipe, objective, pretrained)
    try:
        return trainer.run(on_step)
    finally:
        if trainer.is_main:
            for line in (*filter(None, [trainer.note]), *trainer.skips.lines()):
                notify(line)


def load_initial_weights(sam: Sam, start: InitialWeights) -> frozenset[str]:
    """Load the weights that a run begins with.

    Returns:
        The names of the parameters that were loaded; the others keep their random values. With a checkpoint these are
        all, also where small begins with nano's weights, which leaves its further blocks at the identity.

    Raises:
        CheckpointError: a file cannot be read or is of another architecture.
        UsageError: an encoder is given for a model that is not nano.
    """
    if start.checkpoint is not None:
        _load_checkpoint(sam, parse_source(start.checkpoint))
        return frozenset(name for name, _ in sam.named_parameters())
    if start.encoder is None:
        return frozenset()
    encoder = sam.image_encoder
    if not isinstance(encoder, NanoImageEncoder):
        raise UsageError(f"{start.encoder} is a MobileNetV2, and only nano has such an encoder: use --init instead")
    state = with_sam_normalization(read_mobilenet_v2(start.encoder))
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    if unexpected or len(missing) + len(state) != len(encoder.state_dict()):
        raise CheckpointError(
            f"{start.encoder} does not fit nano's encoder ({unexpected[:1] or missing[:1]}): use MobileNetV2 1.0"
        )
    return frozenset(f"{ENCODER}.{name}" for name in state)


def _load_checkpoint(sam: Sam, source: CheckpointSource) -> None:
    """Load a whole checkpoint; small also takes nano's, and is then nano with blocks that change nothing yet.

    Raises:
        CheckpointError: it cannot be read or is of another architecture.
    """
    if source.is_random:
        load_into(sam, source)
        return
    checkpoint = read_checkpoint(source)
    if guess_variant(checkpoint.shapes) == NANO:
        further = {name: tensor for name, tensor in sam.state_dict().items() if name.startswith(FURTHER_BLOCKS)}
        checkpoint = replace(checkpoint, state={**further, **checkpoint.state})
    copy_into(sam, checkpoint)
