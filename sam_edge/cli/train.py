"""`sam-edge train`: a recipe and human masks in, weights out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam_edge.data.skips import ALLOWED_BROKEN
from sam_edge_runtime.errors import UsageError, missing_package

from .console import ERRORS, INTERRUPTED, line, note
from .options import AllowBroken, MaxPixels, allow_pixels

if TYPE_CHECKING:
    from sam_edge.model.clip import Clip

MASKS, TEXT = "masks", "text"  # stages

EXAMPLES = (
    "Examples:  sam-edge train nano --data shards/ --init-encoder mobilenet_v2.tflite --out run      "
    "sam-edge train my.toml --data shards/ --out run --resume      "
    "accelerate launch -m sam_edge train my.toml --data shards/ --out run      "
    "sam-edge train words --data shards/ --out words      "
    "sam-edge train my.toml --stage text --data shards/ --init sam_vit_b_01ec64.pth --out run"
)


def command(
    recipe: Annotated[
        str, typer.Argument(help="Recipe: a TOML file, or the name of one that comes with sam-edge, such as nano.")
    ],
    data: Annotated[Path, typer.Option("--data", help="Folder that the recipe's sources are relative to.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run.")],
    init_encoder: Annotated[
        Path | None, typer.Option(help="MobileNetV2 (.tflite) to start nano's image encoder from.")
    ] = None,
    init: Annotated[str | None, typer.Option(help="Weights of the whole model to start from: FILE.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Worker processes that read photos. Default: half of the cores, at most 8.", min=0, show_default=False
        ),
    ] = None,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints; the last two are kept.", min=1)] = 100,
    picture_every: Annotated[
        int, typer.Option(help="Steps between pictures of photos, prompts and masks; 0 for none.", min=0)
    ] = 250,
    allow_broken: AllowBroken = ALLOWED_BROKEN,
    words: Annotated[
        Path | None,
        typer.Option(help="Recipe of words: table of names and spellings (.toml). Default: sam-edge's own."),
    ] = None,
    stop_after: Annotated[
        int | None, typer.Option(help="Stop, with a checkpoint, after this many steps of the run.", min=1)
    ] = None,
    max_pixels: MaxPixels = None,
    stage: Annotated[
        str, typer.Option(help="masks: SAM's own training. text: CLIP's embeddings of the masks as first prompts.")
    ] = "masks",
    text_encoder: Annotated[
        str, typer.Option(help="Stage text: the encoder, see `sam-edge models`; auto for what --text-checkpoint holds.")
    ] = "clip_vit_l_14_336",
    text_checkpoint: Annotated[
        str | None,
        typer.Option(help="Stage text: the encoder's weights: a file, a folder, hf:OWNER/NAME or random:SEED."),
    ] = None,
) -> None:
    """Train a model on photos and masks, as SAM was trained.

    You can interrupt it: Ctrl-C saves a checkpoint, and --resume continues exactly from there. OUT holds checkpoints,
    losses.jsonl, curves for TensorBoard, pictures, and at the end model.safetensors. The recipe `words` teaches nano
    words for --words of `export`. It needs the names of masks (NAME.names.json beside NAME.tar); nano stays as it is.
    """
    allow_pixels(max_pixels)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    try:
        from sam_edge.training.accelerator import is_first_process  # noqa: PLC0415
        from sam_edge.training.files import RECIPE_FILE  # noqa: PLC0415
        from sam_edge.training.reading import default_workers  # noqa: PLC0415
        from sam_edge.training.recipe import find_stage  # noqa: PLC0415
        from sam_edge.training.train import InitialWeights, train  # noqa: PLC0415  # imports torch and accelerate
        from sam_edge.training.trainer import TrainJob  # noqa: PLC0415
        from sam_edge.training.words.recipe import WordsRecipe  # noqa: PLC0415
        from sam_edge.training.words.train import WordsJob, train_words  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"training needs {missing_package(error)}: pip install 'sam-edge[train]'") from error

    found = find_stage(recipe)
    clip = clip_of_stage(stage, text_encoder, text_checkpoint)
    if isinstance(found, WordsRecipe):
        if init_encoder is not None or clip is not None:
            raise UsageError(
                "--init-encoder and --stage text are for a recipe of a whole model: words take its weights with --init"
            )
        words_job = WordsJob(data, out, init, words, resume, save_every, stop_after, allow_broken)
    elif words is not None:
        raise UsageError("--words is for a recipe of words: leave it out, or use the recipe `words`")
    job = TrainJob(
        data,
        out,
        resume=resume,
        workers=default_workers() if workers is None else workers,
        save_every=save_every,
        picture_every=picture_every,
        stop_after=stop_after,
        allow_broken=allow_broken,
    )
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=ERRORS, disable=not is_first_process()) as bar:
        task = bar.add_task("training", total=found.steps, rate="")

        def show(step: int, record: dict[str, float]) -> None:
            part = "dice" if "dice" in record else "iou"
            bar.update(
                task,
                completed=step,
                description=f"loss {record['loss']:.3f}, {part} {record.get(part, 0.0):.3f}",
                rate=f"{(bar.tasks[0].speed or 0.0):.2f} steps/s",
            )

        try:
            if isinstance(found, WordsRecipe):
                encoding = bar.add_task("encoding photos", total=None, rate="")

                def encoded(what: str, done: int, total: int) -> None:
                    bar.update(encoding, completed=done, total=total, description=what)

                weights = train_words(words_job, found, show, encoded, note)
            else:
                weights = train(job, found, InitialWeights(init_encoder, init), show, note, clip)
        except KeyboardInterrupt:
            if is_first_process():
                again = (
                    "resume with the same command and --resume" if (out / RECIPE_FILE).exists() else "no run is begun"
                )
                note(f"interrupted: {again} in {out}")
            raise typer.Exit(INTERRUPTED) from None
    if not is_first_process():
        return
    if weights is None:
        note(f"stopped before the end; resume with the same command and --resume in {out}")
    else:
        line(str(weights))


def clip_of_stage(stage: str, encoder: str, checkpoint: str | None) -> Clip | None:
    """The text encoder that `--stage text` trains with; None for the stage `masks`.

    Raises:
        UsageError: no such stage, or no such encoder.
        CheckpointError: its weights cannot be used, or are not there.
    """
    if stage not in (MASKS, TEXT):
        raise UsageError(f"no stage called {stage!r:.60}: choose {MASKS} or {TEXT}")
    if stage == MASKS:
        return None
    from sam_edge.weights.clip_checkpoint import find_clip_source, load_clip  # noqa: PLC0415  # brings torch

    return load_clip(encoder, find_clip_source(encoder, checkpoint)).clip
