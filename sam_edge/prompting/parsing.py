"""Prompts as they are typed on a command line."""

from __future__ import annotations

import math

from sam_edge_runtime.bundle.contract import Label
from sam_edge_runtime.errors import PromptError


def parse_point(text: str) -> tuple[float, float, int]:
    """Parse `x,y` or `x,y,label` to x, y and label; the default label is 1 (inside).

    Raises:
        PromptError: `text` is not two or three numbers, or the label is neither 0 nor 1.
    """
    numbers = _numbers(text, "--point", "X,Y or X,Y,LABEL, such as 320,240 or 320,240,0", (2, 3))
    label = numbers[2] if len(numbers) == 3 else float(Label.FOREGROUND)
    if label not in (Label.BACKGROUND, Label.FOREGROUND):
        raise PromptError(f"--point {text}: label {label:g} is unknown; choose 1 (inside) or 0 (outside)")
    return numbers[0], numbers[1], int(label)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Parse `x0,y0,x1,y1` to four numbers.

    Raises:
        PromptError: `text` is not four numbers.
    """
    x0, y0, x1, y1 = _numbers(text, "--box", "X0,Y0,X1,Y1, such as 40,30,400,380", (4,))
    return x0, y0, x1, y1


def _numbers(text: str, option: str, form: str, counts: tuple[int, ...]) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in counts or not all(math.isfinite(number) for number in numbers):
        raise PromptError(f"{option} {text!r} is not {form}")
    return numbers
