"""`distill`: a teacher, a student and photos in, the student's weights out.

The stages run one after another. Each is a run of the trainer in its own folder and begins with the weights of the
stage before. A resumed command skips finished stages.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import PartialState

from sam_edge.data.mixture import Mixture, open_mixture
from sam_edge.model import EncoderGraph, Sam, build_sam
from sam_edge.model.sam import require_one_feature
from sam_edge.training.files import WEIGHTS_FILE
from sam_edge.training.logs import Record
from sam_edge.training.objective import MaskObjective, Objective, session_of
from sam_edge.training.recipe import TrainRecipe, with_current_keys
from sam_edge.training.text import TextObjective
from sam_edge.training.trainer import Trainer, TrainJob
from sam_edge.weights.checkpoint import load_into
from sam_edge.weights.clip_checkpoint import find_clip_source, load_clip
from sam_edge.weights.families import build_empty
from sam_edge.weights.load import LoadedSam, find_source, load_sam
from sam_edge.weights.source import CheckpointSource, parse_source
from sam_edge_runtime.arrays import Features, Float32
from sam_edge_runtime.errors import CheckpointError, UsageError
from sam_edge_runtime.system.documents import read_json
from sam_edge_runtime.system.files import sha256_of, write_file

from .embeddings import EmbeddingCache
from .encoder import EncoderObjective
from .inherit import copy_decoder, shares_decoder
from .int8 import Int8Objective
from .prompt import PromptObjective

INT8 = "int8"
TEXT = "text"
STAGES = ("encoder", "prompt", "masks", INT8, TEXT)
DEFAULT_STAGES = STAGES[:-1]
IDENTITY = "distillation.json"
CACHE = "embeddings"
Notify = Callable[[str], None]  # called with each note for the user
Progress = Callable[[str, int, int, Record], None]  # stage; steps or photos done; of how many; losses


@dataclass(frozen=True)
class DistillJob:
    """A distillation: teacher, student, stages, and how they run.

    Attributes:
        teacher: variant of the teacher.
        student: variant of the student.
        recipe: the recipe of each stage; its model is the student.
        job: data, folder and options of the runs; its `out` holds one folder for each stage.
        stages: a selection of `STAGES`, in the same order.
        teacher_checkpoint: the teacher's weights; None for those inside the package or in the cache.
        student_checkpoint: the student's initial weights; None for seeded ones. Where `int8` is the first stage: None
            for the teacher's.
        cache: folder of the teacher's embeddings; None for `embeddings` in the job's `out`.
        text_encoder: for stage `text`: variant of the text encoder, or `auto` for the one in `text_checkpoint`.
        text_checkpoint: its weights; None for the downloaded ones.

    Raises:
        UsageError: unknown, repeated or unordered stages, a recipe of another model, stage `int8` without weights to
            begin with or with phases that do not train for INT8, or stage `text` after `int8`, whose rounding it would
            undo.
    """

    teacher: str
    student: str
    recipe: TrainRecipe
    job: TrainJob
    stages: tuple[str, ...] = DEFAULT_STAGES
    teacher_checkpoint: str | None = None
    student_checkpoint: str | None = None
    cache: Path | None = None
    text_encoder: str = "clip_vit_l_14_336"
    text_checkpoint: str | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise UsageError(f"no stages are named: choose from {', '.join(STAGES)}")
        for stage in self.stages:
            if stage not in STAGES:
                raise UsageError(f"stage {stage!r} is unknown: choose from {', '.join(STAGES)}")
        if list(self.stages) != [stage for stage in STAGES if stage in self.stages]:
            raise UsageError(f"the stages {','.join(self.stages)} must be different and in order: {','.join(STAGES)}")
        if self.recipe.model != self.student:
            raise UsageError(
                f"the recipe is for {self.recipe.model}, the student is {self.student}: write model = "
                f"{self.student!r} in the recipe, or choose another --student"
            )
        if {INT8, TEXT} <= set(self.stages):
            raise UsageError("stage text would undo the rounding of stage int8: leave one of them out")
        if INT8 in self.stages and not all(phase.fake_quant for phase in self.recipe.phases):
            raise UsageError("stage int8 trains for INT8: write fake_quant = true in every phase of its recipe")
        if self.starts_with_int8 and self.student_checkpoint is None and self.student != self.teacher:
            raise UsageError(
                f"stage int8 begins with trained weights, and {self.student} has none: give --student-checkpoint"
            )

    @property
    def starts_with_int8(self) -> bool:
        """Whether there is no stage before `int8`."""
        return self.stages[0] == INT8

    @property
    def initial_weights(self) -> CheckpointSource | None:
        """The weights that the student begins with; None for seeded ones."""
        if self.student_checkpoint is not None:
            return parse_source(self.student_checkpoint)
        return find_source(self.teacher, self.teacher_checkpoint) if self.starts_with_int8 else None


def distill(
    distillation: DistillJob,
    progress: Progress = lambda stage, done, total, record: None,
    notify: Notify = lambda line: None,
) -> Path | None:
    """Run the stages of a distillation.

    Args:
        distillation: what to run.
        progress: called after each step or photo; see `Progress`.
        notify: called with each note for the user.

    Returns:
        The file of the student's weights after the last stage, or None if a stage stopped before its end.

    Raises:
        UsageError: the folder holds another distillation, or one to be resumed.
        CheckpointError, DataError, OutputError: see `Trainer`.
    """
    teacher = load_sam(distillation.teacher, find_source(distillation.teacher, distillation.teacher_checkpoint))
    for model in (teacher.sam, build_empty(lambda: build_sam(distillation.student))):
        require_one_feature(model, "distill")
    _check_identity(distillation, teacher)
    if teacher.checkpoint.is_random:
        notify(f"the teacher's weights are random ({teacher.checkpoint.label}): its masks mean nothing")
    torch.manual_seed(distillation.recipe.seed)
    weights = distillation.initial_weights
    path: Path | None = None
    for number, stage in enumerate(distillation.stages, 1):
        out = distillation.job.out / f"{number}-{stage}"
        path = out / WEIGHTS_FILE
        if distillation.job.resume and path.exists():
            notify(f"{stage}: done before, in {out}")
        else:
            path = _run_stage(distillation, stage, out, teacher, weights, progress, notify)
            if path is None:
                return None
        weights = CheckpointSource(path=path)
    return path


def _run_stage(
    distillation: DistillJob,
    stage: str,
    out: Path,
    teacher: LoadedSam,
    weights: CheckpointSource | None,
    progress: Progress,
    notify: Notify,
) -> Path | None:
    student = build_sam(distillation.student)
    if weights is not None:
        load_into(student, weights)
    begun = bool((out / "recipe.json").exists())
    # In `prompt` and `int8`, the teacher's masks of random clicks replace human ones on photos without masks.
    photos_only = stage == "encoder" or (stage in ("prompt", INT8) and not _mixture(distillation).annotated)
    job = replace(distillation.job, out=out, resume=distillation.job.resume and begun, photos_only=photos_only)
    objective = _objective(distillation, stage, student, teacher, progress, notify)
    trainer = Trainer(job, distillation.recipe, objective)
    path = trainer.run(lambda step, record: progress(stage, step, distillation.recipe.steps, record))
    for line in trainer.skips.lines():
        notify(line)
    return path


def _objective(
    distillation: DistillJob, stage: str, student: Sam, teacher: LoadedSam, progress: Progress, notify: Notify
) -> Objective:
    """The objective of a stage; for `encoder`, compute the teacher's missing embeddings first."""
    recipe = distillation.recipe
    losses, session = recipe.losses(), session_of(recipe)
    if stage == INT8:
        return Int8Objective(student, recipe.seed)
    if stage == "masks":
        return MaskObjective(student, losses, session, recipe.seed)
    if stage == TEXT:
        source = find_clip_source(distillation.text_encoder, distillation.text_checkpoint)
        clip = load_clip(distillation.text_encoder, source).clip
        return TextObjective(student, clip, losses, session, recipe.seed)
    if stage == "prompt":
        return PromptObjective(student, teacher.sam, losses, session, recipe.seed)
    same = shares_decoder(student, teacher.sam)
    if same:
        copy_decoder(student, teacher.sam)
        notify(f"{stage}: the student has the teacher's prompt encoder and mask decoder")
    else:
        notify(
            f"{stage}: {distillation.teacher}'s decoder does not take {distillation.student}'s embedding "
            f"({student.channels} channels); during this stage a learned projection maps it to the teacher's "
            f"{teacher.sam.channels} channels"
        )
    cache = EmbeddingCache(
        distillation.cache or distillation.job.out / CACHE, _identity(teacher), teacher.sam.side, teacher.sam.channels
    )
    sources = _mixture(distillation).sources
    photos = sum(len(source) for source in sources)
    notify(f"{stage}: embeddings of {photos} photos take {cache.bytes_needed(photos) / 1e9:.2f} GB in {cache.folder}")
    state = PartialState()
    log = cache.fill(
        sources,
        _TeacherEncoder(teacher.sam, state.device),
        lambda done, total: progress("teacher's embeddings", done, total, {}),
        state.process_index,
        state.num_processes,
        distillation.job.allow_broken,
    )
    state.wait_for_everyone()
    for line in log.lines():
        notify(line)
    return EncoderObjective(student, cache, projected=not same)


def _mixture(distillation: DistillJob) -> Mixture:
    return open_mixture([str(distillation.job.data / source) for source in distillation.recipe.data])


class _TeacherEncoder:
    """The teacher's image encoder on the device that trains."""

    def __init__(self, teacher: Sam, device: torch.device) -> None:
        self._graph, self._device = EncoderGraph(teacher).eval().to(device), device

    @torch.inference_mode()
    def encode(self, image: Float32) -> Features:
        """The embedding `(1, C, S/16, S/16)` of an image `(1, 3, S, S)`."""
        return (self._graph(torch.from_numpy(image).to(self._device)).float().cpu().numpy(),)


def _identity(teacher: LoadedSam) -> str:
    return f"{teacher.variant} {teacher.checkpoint.sha256 or teacher.checkpoint.label}"


def _initial_weights(distillation: DistillJob) -> str:
    """What identifies the student's initial weights: a sha256, a label, or the words for seeded ones."""
    source = distillation.initial_weights
    if source is None:
        return "seeded by the recipe"
    return source.label if source.path is None or not source.path.is_file() else sha256_of(source.path)


def _text_encoder(distillation: DistillJob) -> str:
    """What identifies the text encoder: its name, and the sha256 or label of its weights."""
    source = find_clip_source(distillation.text_encoder, distillation.text_checkpoint)
    weights = source.label if source.path is None or not source.path.is_file() else sha256_of(source.path)
    return f"{distillation.text_encoder} {weights}"


def _check_identity(distillation: DistillJob, teacher: LoadedSam) -> None:
    """Refuse a folder that holds another distillation; write the identity of a new one."""
    out = distillation.job.out
    wanted = {
        "teacher": _identity(teacher),
        "student": distillation.student,
        "student's weights": _initial_weights(distillation),
        "stages": list(distillation.stages),
        "recipe": json.loads(json.dumps(distillation.recipe.to_json())),
        **({"text encoder": _text_encoder(distillation)} if TEXT in distillation.stages else {}),
    }
    path = out / IDENTITY
    begun = path.exists()
    state = PartialState()
    state.wait_for_everyone()  # every process checks before one of them writes
    if begun:
        if not distillation.job.resume:
            raise UsageError(f"{out} holds a distillation already: resume it with --resume, or choose another --out")
        try:
            found = read_json(path)
            if not isinstance(found, dict):
                raise ValueError("no object")
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged ({error}): the distillation cannot be resumed") from error
        if isinstance(found.get("recipe"), dict):
            found["recipe"] = with_current_keys(found["recipe"])
        for key, value in wanted.items():
            if found.get(key) != value:
                raise UsageError(f"{out} was begun with {key} {found.get(key)}, not {value}: choose another --out")
    elif distillation.job.resume:
        raise UsageError(f"there is no distillation to resume in {out}: leave out --resume to start one")
    elif state.is_main_process:
        write_file(path, (json.dumps(wanted, indent=2) + "\n").encode(), overwrite=False)
