"""The frames that `--frame` names, in pixels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from sam_edge_runtime.bundle.contract import FRAME_STEP, SMALLEST_SHORT_SIDE, FrameSize
from sam_edge_runtime.bundle.document import MOST_FRAMES
from sam_edge_runtime.errors import UsageError

SQUARE = "square"
_FORM = re.compile(r"(\d{1,5})([:x])(\d{1,5})")


def check_names(names: Sequence[str]) -> None:
    """Refuse names that are no frame at any input size.

    Args:
        names: a shape width:height such as `4:3`, a size in pixels such as `1024x576`, or `square`.

    Raises:
        UsageError: a name has another form, or there are too many.
    """
    for name in names:
        form = _FORM.fullmatch(name)
        if name != SQUARE and (form is None or "0" in {form[1].lstrip("0") or "0", form[3].lstrip("0") or "0"}):
            raise UsageError(
                f"--frame {name!r:.60} is no frame: use a shape such as 4:3, a size such as 1024x576, or {SQUARE}"
            )
    if len(names) > MOST_FRAMES:
        raise UsageError(f"--frame names {len(names)} frames: use at most {MOST_FRAMES}")


def frame_sizes(names: Sequence[str], side: int) -> tuple[FrameSize, ...]:
    """The sizes of frames whose longer side is `side`, without doubles.

    A shape's shorter side is rounded up to a multiple of 32, so that photos of that shape fit.

    Args:
        names: as `check_names` takes them.
        side: the input size S in pixels.

    Raises:
        UsageError: a size that models of this input size cannot have.
    """
    return tuple(dict.fromkeys(_frame_size(name, side) for name in names))


def _frame_size(name: str, side: int) -> FrameSize:
    if name == SQUARE:
        return FrameSize.square(side)
    form = _FORM.fullmatch(name)
    if form is None:
        raise ValueError(f"{name} was not checked")
    width, height = int(form[1]), int(form[3])
    if form[2] == ":":
        shorter = _rounded_up(side * Fraction(min(width, height), max(width, height)))
        frame = FrameSize(shorter, side) if width >= height else FrameSize(side, shorter)
    else:
        frame = FrameSize(height, width)
    return _checked(name, frame, side)


def _checked(name: str, frame: FrameSize, side: int) -> FrameSize:
    if min(frame) < SMALLEST_SHORT_SIDE:
        raise UsageError(
            f"--frame {name} is too narrow: {frame.name} pixels at input size {side}, where the shorter side must have "
            f"{SMALLEST_SHORT_SIDE} or more"
        )
    if frame.side > side:
        raise UsageError(f"--frame {name} is larger than the input size {side}: {_advice(frame, side)}")
    if any(size % FRAME_STEP for size in frame):
        nearest = FrameSize(*(_rounded_up(Fraction(size)) for size in frame))
        raise UsageError(f"--frame {name}: both sides must be multiples of {FRAME_STEP}: use {nearest.name}")
    if frame.side < side:
        raise UsageError(f"--frame {name} is smaller than the input size {side}: {_advice(frame, side)}")
    return frame


def _advice(frame: FrameSize, side: int) -> str:
    scaled = FrameSize(*(_rounded_up(Fraction(size * side, frame.side)) for size in frame))
    return f"use {scaled.name}, or give --input-size {frame.side}"


def _rounded_up(size: Fraction) -> int:
    return -(-size // FRAME_STEP) * FRAME_STEP
