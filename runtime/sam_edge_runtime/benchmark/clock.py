"""One thing timed, after a rest."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, sleep
from typing import TypeVar

# Seconds of rest before: an engine's threads look for more work for a while before they sleep.
SETTLE = 0.02
Answer = TypeVar("Answer")


def timed(work: Callable[[], Answer], settle: float = SETTLE) -> tuple[float, Answer]:
    """Seconds that `work` takes, and what it returns.

    Args:
        work: what is timed.
        settle: seconds of rest before it.
    """
    sleep(settle)
    begun = perf_counter()
    answer = work()
    return perf_counter() - begun, answer
