"""Checks of a recipe's numbers, each with one line of error. A NaN is out of every range."""

from __future__ import annotations

import math

from sam_edge_runtime.errors import UsageError

MOST = 2**62  # larger seeds and counts are typing errors, and torch refuses them


def check_integer(name: str, value: int, least: int, most: int = MOST) -> None:
    """Refuse an integer below `least`, or of `most` and more."""
    if not least <= value < most:
        shown = f"from {least}" if most == MOST else f"from {least} to {most - 1}"
        raise UsageError(f"{name} {value} is out of range: write an integer {shown}")


def check_positive(name: str, value: float) -> None:
    """Refuse 0, a negative number, infinity and NaN."""
    if not 0 < value < math.inf:
        raise UsageError(f"{name} {value} is out of range: write a finite number above 0")


def check_share(name: str, value: float) -> None:
    """Refuse what is not in 0..1."""
    if not 0 <= value <= 1:
        raise UsageError(f"{name} {value} is out of range: write a number from 0 to 1")
