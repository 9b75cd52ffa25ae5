"""Options that several commands share, and what those of automatic masks come to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sam_edge_runtime.errors import UsageError

Bundle = Annotated[Path | None, typer.Option("--bundle", help="Ask this bundle. Default: the torch model.")]
Model = Annotated[str, typer.Option("--model", "-m", help="Variant of the torch model.")]
Checkpoint = Annotated[
    str | None,
    typer.Option("--checkpoint", help="Its weights: FILE or random:SEED. Default: its own, or the downloaded ones."),
]
Points = Annotated[
    int | None, typer.Option("--points-per-side", help="Points along each side of the grid. Default: 32.")
]
Iou = Annotated[float | None, typer.Option("--pred-iou-thresh", help="Masks stay whose predicted IoU is above this.")]
Stability = Annotated[
    float | None, typer.Option("--stability-score-thresh", help="Masks stay whose stability is at least this.")
]
Offset = Annotated[
    float | None, typer.Option("--stability-score-offset", help="How far the threshold moves to tell it, in logits.")
]
Nms = Annotated[
    float | None, typer.Option("--box-nms-thresh", help="Boxes that overlap more are one thing. Default: 0.7.")
]
Crops = Annotated[
    int | None, typer.Option("--crop-n-layers", help="Search crops as well: 1 is 4 of them, 2 is 16 more.")
]
Smallest = Annotated[
    int | None, typer.Option("--min-mask-region-area", help="Mend holes and islands of fewer pixels than this.")
]


def chosen(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def seconds_of(option: str, text: str) -> float:
    """A time such as 90s, 10m or 1h; a number alone is seconds.

    Raises:
        UsageError: it is none.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1.0)
    try:
        return float(number) * unit
    except ValueError:
        raise UsageError(f"{option} {text!r} is no time: write such as 90s, 10m or 1h") from None


def numbers_of(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them.

    Raises:
        UsageError: they are none.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r} is no number: give one such as 8, or several such as 1,8") from None
