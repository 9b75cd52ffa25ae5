"""`distill`: a teacher, a student and photos in, the student's weights out, in stages that are chained.

Each stage is a run of the trainer in a folder of its own and begins with the weights of the one before. A finished
stage is left alone when the command is resumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState

from sam_edge.data.mixture import Mixture, open_mixture
from sam_edge.model import EncoderGraph, Sam, build_sam
from sam_edge.training.logs import Record
from sam_edge.training.losses import RECIPES
from sam_edge.training.objective import MaskObjective, Objective, SessionRecipe
from sam_edge.training.recipe import TrainRecipe, with_current_keys
from sam_edge.training.trainer import WEIGHTS_FILE, Trainer, TrainJob
from sam_edge.weights.checkpoint import load_into
from sam_edge.weights.load import LoadedSam, find_source, load_sam
from sam_edge.weights.source import CheckpointSource, parse_source
from sam_edge_runtime.errors import CheckpointError, UsageError
from sam_edge_runtime.system.files import sha256_of, write_file

from .embeddings import EmbeddingCache
from .encoder import EncoderObjective
from .inherit import shares_decoder, take_decoder
from .prompt import PromptObjective

STAGES = ("encoder", "prompt", "masks")
IDENTITY = "distillation.json"
CACHE = "embeddings"
Tell = Callable[[str], None]
Progress = Callable[[str, int, int, Record], None]


@dataclass(frozen=True)
class DistillJob:
    """What learns from whom.

    Attributes:
        teacher: variant.
        student: variant.
        recipe: what each stage does; its model is the student.
        job: data, folder, and how the runs are looked after; its `out` holds a folder a stage.
        stages: of `STAGES`, in their order.
        teacher_checkpoint: weights; None for those that come with sam-edge or were downloaded.
        student_checkpoint: weights to begin with; None for seeded ones.
        cache: folder of the teacher's embeddings; None for one beside the stages.

    Raises:
        UsageError: unknown or repeated stages, or a recipe of another model.
    """

    teacher: str
    student: str
    recipe: TrainRecipe
    job: TrainJob
    stages: tuple[str, ...] = STAGES
    teacher_checkpoint: str | None = None
    student_checkpoint: str | None = None
    cache: Path | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise UsageError(f"no stages are named: choose of {', '.join(STAGES)}")
        for stage in self.stages:
            if stage not in STAGES:
                raise UsageError(f"stage {stage!r} is unknown: choose of {', '.join(STAGES)}")
        if list(self.stages) != [stage for stage in STAGES if stage in self.stages]:
            raise UsageError(f"the stages {','.join(self.stages)} must be different and in order: {','.join(STAGES)}")
        if self.recipe.model != self.student:
            raise UsageError(f"the recipe is for {self.recipe.model}, the student is {self.student}")


def distill(
    what: DistillJob,
    progress: Progress = lambda stage, done, total, record: None,
    tell: Tell = lambda line: None,
) -> Path | None:
    """Run the stages.

    Args:
        what: what learns from whom.
        progress: told of each step: stage, steps or photos done, of how many, and the losses.
        tell: told what a person should know.

    Returns:
        The student's weights after the last stage, or None when a stage stopped before its end.

    Raises:
        UsageError: the folder holds another distillation, or one to be resumed.
        CheckpointError, DataError, OutputError: see `Trainer`.
    """
    teacher = load_sam(what.teacher, find_source(what.teacher, what.teacher_checkpoint))
    _check_identity(what, teacher)
    if teacher.checkpoint.is_random:
        tell(f"the teacher's weights are random ({teacher.checkpoint.label}): its masks mean nothing")
    torch.manual_seed(what.recipe.seed)
    weights = None if what.student_checkpoint is None else parse_source(what.student_checkpoint)
    path: Path | None = None
    for number, stage in enumerate(what.stages, 1):
        out = what.job.out / f"{number}-{stage}"
        path = out / WEIGHTS_FILE
        if what.job.resume and path.exists():
            tell(f"{stage}: done before, in {out}")
        else:
            path = _run_stage(what, stage, out, teacher, weights, progress, tell)
            if path is None:
                return None
        weights = CheckpointSource(path=path)
    return path


def _run_stage(
    what: DistillJob,
    stage: str,
    out: Path,
    teacher: LoadedSam,
    weights: CheckpointSource | None,
    progress: Progress,
    tell: Tell,
) -> Path | None:
    student = build_sam(what.student)
    if weights is not None:
        load_into(student, weights)
    begun = bool((out / "recipe.json").exists())
    # Without masks to prompt for, the teacher's answers to random clicks are taken: the photos are enough.
    photos_only = stage == "encoder" or (stage == "prompt" and not _mixture(what).annotated)
    job = replace(what.job, out=out, resume=what.job.resume and begun, photos_only=photos_only)
    objective = _objective(what, stage, student, teacher, progress, tell)
    trainer = Trainer(job, what.recipe, objective)
    found = trainer.run(lambda step, record: progress(stage, step, what.recipe.steps, record))
    for line in trainer.skips.lines():
        tell(line)
    return found


def _objective(
    what: DistillJob, stage: str, student: Sam, teacher: LoadedSam, progress: Progress, tell: Tell
) -> Objective:
    recipe = what.recipe
    losses = RECIPES[recipe.loss]
    session = SessionRecipe(points=recipe.points, single_always=recipe.single_always)
    if stage == "masks":
        return MaskObjective(student, losses, session, recipe.seed)
    if stage == "prompt":
        return PromptObjective(student, teacher.sam, losses, session, recipe.seed)
    same = shares_decoder(student, teacher.sam)
    if same:
        take_decoder(student, teacher.sam)
        tell(f"{stage}: the student has the teacher's prompt encoder and mask decoder")
    else:
        tell(
            f"{stage}: {what.teacher}'s decoder cannot read {what.student}'s embedding ({student.channels} channels); "
            f"a learned projection to the teacher's {teacher.sam.channels} channels stands in until the end"
        )
    cache = EmbeddingCache(
        what.cache or what.job.out / CACHE, _identity(teacher), teacher.sam.side, teacher.sam.channels
    )
    sources = _mixture(what).sources
    photos = sum(len(source) for source in sources)
    tell(f"{stage}: embeddings of {photos} photos take {cache.bytes_needed(photos) / 1e9:.2f} GB in {cache.folder}")
    state = PartialState()
    log = cache.fill(
        sources,
        _TeacherEncoder(teacher.sam, state.device),
        lambda done, total: progress("teacher's embeddings", done, total, {}),
        state.process_index,
        state.num_processes,
    )
    state.wait_for_everyone()
    for line in log.lines():
        tell(line)
    return EncoderObjective(student, cache, projected=not same)


def _mixture(what: DistillJob) -> Mixture:
    return open_mixture([str(what.job.data / source) for source in what.recipe.data])


class _TeacherEncoder:
    """The teacher's image encoder where the training runs."""

    def __init__(self, teacher: Sam, device: torch.device) -> None:
        self._graph, self._device = EncoderGraph(teacher).eval().to(device), device

    @torch.inference_mode()
    def encode(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Embeddings `(1, C, S/16, S/16)` of an image `(1, 3, S, S)`."""
        found: npt.NDArray[np.float32] = self._graph(torch.from_numpy(image).to(self._device)).float().cpu().numpy()
        return found


def _identity(teacher: LoadedSam) -> str:
    return f"{teacher.variant} {teacher.checkpoint.sha256 or teacher.checkpoint.label}"


def _begins_with(what: DistillJob) -> str:
    """What the first stage's student begins with."""
    if what.student_checkpoint is None:
        return "seeded by the recipe"
    source = parse_source(what.student_checkpoint)
    return source.label if source.path is None or not source.path.is_file() else sha256_of(source.path)


def _check_identity(what: DistillJob, teacher: LoadedSam) -> None:
    """Refuse a folder that another distillation, or another order of stages, has begun."""
    wanted = {
        "teacher": _identity(teacher),
        "student": what.student,
        "student's weights": _begins_with(what),
        "stages": list(what.stages),
        "recipe": json.loads(json.dumps(what.recipe.to_json())),
    }
    path = what.job.out / IDENTITY
    begun = path.exists()
    state = PartialState()
    state.wait_for_everyone()  # every process looks before one of them writes
    if begun:
        if not what.job.resume:
            raise UsageError(
                f"{what.job.out} holds a distillation already: go on with --resume, or choose another --out"
            )
        try:
            found = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged ({error}): the distillation cannot be resumed") from error
        if isinstance(found.get("recipe"), dict):
            found["recipe"] = with_current_keys(found["recipe"])
        for key, value in wanted.items():
            if found.get(key) != value:
                raise UsageError(
                    f"{what.job.out} was begun with {key} {found.get(key)}, not {value}: choose another --out"
                )
    elif what.job.resume:
        raise UsageError(f"there is no distillation to resume in {what.job.out}: leave out --resume to start one")
    elif state.is_main_process:
        write_file(path, (json.dumps(wanted, indent=2) + "\n").encode(), overwrite=False)
