"""Times one call, after a rest."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, sleep
from typing import TypeVar

# Seconds. An engine's threads spin for a while after a run before they sleep.
REST = 0.02
Result = TypeVar("Result")


def timed(work: Callable[[], Result], rest: float = REST) -> tuple[float, Result]:
    """Seconds that `work` takes, and its result.

    Args:
        work: what is timed.
        rest: seconds to sleep before it.
    """
    sleep(rest)
    started = perf_counter()
    result = work()
    return perf_counter() - started, result
