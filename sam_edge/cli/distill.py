"""`sam-edge distill`: a smaller model learns from a larger one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam_edge.data.skips import ALLOWED_BROKEN
from sam_edge_runtime.errors import UsageError, missing_package

from .console import ERRORS, INTERRUPTED, line, note
from .options import AllowBroken, MaxPixels, allow_pixels

EXAMPLES = (
    "Examples:  sam-edge distill --teacher vit_h --student tiny_vit --data shards/ --out run      "
    "sam-edge distill --teacher nano --student nano --stages prompt,masks --data shards/ --out run --resume      "
    "sam-edge distill --teacher nano --student nano --stages int8 --recipe int8 --data shards/ --out run"
)


def command(
    teacher: Annotated[str, typer.Option(help="Variant of the teacher, the larger model.")],
    student: Annotated[str, typer.Option(help="Variant of the student, the smaller model.")],
    data: Annotated[Path, typer.Option("--data", help="Folder of shards; a recipe's sources are relative to it.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the runs, one for each stage.")],
    teacher_checkpoint: Annotated[
        str | None, typer.Option(help="The teacher's weights: FILE or random:SEED. Default: as in export.")
    ] = None,
    student_checkpoint: Annotated[
        str | None, typer.Option(help="The student's initial weights. Default: seeded by the recipe.")
    ] = None,
    stages: Annotated[
        str,
        typer.Option(
            help="Stages, in this order: encoder (the teacher's embeddings), prompt (its masks), masks (human masks), "
            "int8 (a trained student learns to lose less in INT8; alone, it begins with the teacher's weights), text "
            "(CLIP's embeddings of the masks as first prompts)."
        ),
    ] = "encoder,prompt",
    recipe: Annotated[
        str, typer.Option(help="Recipe of every stage: a TOML file, or the name of one that comes with sam-edge.")
    ] = "distill",
    cache: Annotated[
        Path | None, typer.Option(help="Folder of the teacher's embeddings. Default: OUT/embeddings.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the distillation in --out.")] = False,
    workers: Annotated[int, typer.Option(help="Worker processes that read photos.", min=0)] = 1,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.", min=1)] = 100,
    allow_broken: AllowBroken = ALLOWED_BROKEN,
    max_pixels: MaxPixels = None,
    text_encoder: Annotated[
        str, typer.Option(help="Stage text: the encoder, see `sam-edge models`.")
    ] = "clip_vit_l_14_336",
    text_checkpoint: Annotated[
        str | None, typer.Option(help="Stage text: the encoder's weights. Default: the downloaded ones.")
    ] = None,
) -> None:
    """Distil a teacher into a student, stage by stage.

    The teacher's embeddings are computed once and stored. You can interrupt it; --resume continues.
    """
    allow_pixels(max_pixels)
    from dataclasses import replace  # noqa: PLC0415

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    try:
        from sam_edge.distillation.distill import DistillJob, distill  # noqa: PLC0415  # imports torch and accelerate
        from sam_edge.training.accelerator import is_first_process  # noqa: PLC0415
        from sam_edge.training.recipe import find_recipe  # noqa: PLC0415
        from sam_edge.training.trainer import TrainJob  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"distillation needs {missing_package(error)}: pip install 'sam-edge[train]'") from error

    found = find_recipe(recipe)
    if recipe == "distill":
        found = replace(found, model=student)
    distillation = DistillJob(
        teacher=teacher,
        student=student,
        recipe=found,
        job=TrainJob(data, out, resume=resume, workers=workers, save_every=save_every, allow_broken=allow_broken),
        stages=tuple(part.strip() for part in stages.split(",") if part.strip()),
        teacher_checkpoint=teacher_checkpoint,
        student_checkpoint=student_checkpoint,
        cache=cache,
        text_encoder=text_encoder,
        text_checkpoint=text_checkpoint,
    )
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=ERRORS, disable=not is_first_process()) as bar:
        tasks: dict[str, int] = {}

        def show(stage: str, done: int, total: int, record: dict[str, float]) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            loss = f", loss {record['loss']:.4f}" if "loss" in record else ""
            bar.update(tasks[stage], completed=done, description=f"{stage}{loss}")  # type: ignore[arg-type]

        try:
            weights = distill(distillation, show, note if is_first_process() else lambda line: None)
        except KeyboardInterrupt:
            if is_first_process():
                note(f"interrupted: resume with the same command and --resume in {out}")
            raise typer.Exit(INTERRUPTED) from None
    if is_first_process():
        line(str(weights))
