"""Options that several commands share, and the values that their texts stand for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from sam_edge.weights.licences import ACCEPT_VARIABLE, ACCEPTED
from sam_edge_runtime.errors import UsageError, missing_package
from sam_edge_runtime.photo.formats import LARGEST_LIMIT, LIMIT_VARIABLE

from .console import note

Bundle = Annotated[Path | None, typer.Option("--bundle", help="Bundle to run. Default: the torch model.")]
DEFAULT_MODEL = "nano"
AUTO = "auto"  # sam_edge.weights.recognition.AUTO, which brings torch
MODEL_HELP = "auto takes the one that --checkpoint holds, or nano without a file."
Model = Annotated[str, typer.Option("--model", "-m", help=f"Variant of the torch model; {MODEL_HELP}")]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        "--checkpoint",
        help="Weights of the torch model: a file, a folder, hf:OWNER/NAME or random:SEED. Default: those that are "
        "shipped or downloaded.",
    ),
]
Points = Annotated[
    int | None, typer.Option("--points-per-side", help="Points along each side of the grid. Default: 32.")
]
Iou = Annotated[float | None, typer.Option("--pred-iou-thresh", help="Keep masks with a predicted IoU above this.")]
Stability = Annotated[
    float | None, typer.Option("--stability-score-thresh", help="Keep masks with a stability score of at least this.")
]
Offset = Annotated[
    float | None,
    typer.Option("--stability-score-offset", help="Shift of the threshold that defines stability, in logits."),
]
Nms = Annotated[
    float | None,
    typer.Option("--box-nms-thresh", help="Drop the worse of two masks whose boxes have a higher IoU. Default: 0.7."),
]
Crops = Annotated[
    int | None, typer.Option("--crop-n-layers", help="Also search crops of the photo: 1 adds 4 crops, 2 adds 16 more.")
]
Smallest = Annotated[
    int | None, typer.Option("--min-mask-region-area", help="Fill holes and remove islands of fewer pixels than this.")
]


AllowBroken = Annotated[
    float, typer.Option("--allow-broken", help="Share of broken records that is accepted, 0 to 1.", min=0.0, max=1.0)
]


MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        help="Largest photo that is decoded; a gigabyte for each 100 million pixels. Default: 134 million.",
        min=1,
        max=LARGEST_LIMIT,
        show_default=False,
    ),
]


AcceptLicence = Annotated[
    bool,
    typer.Option(
        "--accept-licence",
        help="Fetch weights whose licence forbids commercial use or asks for source code; read it first.",
    ),
]


def accept_licence(*, accepted: bool) -> None:
    """Let this process and those that it starts fetch weights under a restricting licence, if it was accepted."""
    if accepted:
        os.environ[ACCEPT_VARIABLE] = ACCEPTED


def allow_pixels(most: int | None) -> None:
    """Set the largest photo that this process and those that it starts decode; None leaves it as it is."""
    if most is not None:
        os.environ[LIMIT_VARIABLE] = str(most)


def model_of(model: str, checkpoint: str | None) -> str:
    """The variant that `--model` and `--checkpoint` mean; what a checkpoint's file holds is printed.

    Raises:
        UsageError: no such variant, a malformed checkpoint, or torch is missing.
        CheckpointError: the file cannot be read, or is not for that variant.
    """
    if checkpoint is None:
        return DEFAULT_MODEL if model == AUTO else model
    try:
        from sam_edge.weights.load import choose_model  # noqa: PLC0415  # brings torch
    except ImportError as error:
        raise UsageError(f"a checkpoint needs {missing_package(error)}: pip install 'sam-edge[export]'") from error
    variant, found = choose_model(model, checkpoint)
    if found is not None:
        note(found.described, "")
    return variant


def chosen(**options: Any) -> dict[str, Any]:
    """The options that were given: those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def seconds_of(option: str, text: str) -> float:
    """Seconds from a time such as 90s, 10m or 1h; a number alone is seconds.

    Raises:
        UsageError: `text` is not a time.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    try:
        return float(number) * unit
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a time: write 90s, 10m or 1h, for example") from None


def numbers_of(option: str, text: str) -> tuple[int, ...]:
    """Integers separated by commas.

    Raises:
        UsageError: `text` is something else.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r} is not a number: give one such as 8, or several such as 1,8") from None
