"""Interleaved rounds: everything is measured once a round, so that a drift of the machine affects all alike.

The order rotates and turns round, so that no measurement always follows the same other one: threads of some engines
still look for work while the next one is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sam_edge_runtime.errors import UsageError

LEAST_ROUNDS = 3
Progress = Callable[[str, int, int], None]
"""Takes what is being done, how many are done, and how many there are."""
Sample = TypeVar("Sample")


@dataclass(frozen=True)
class Rounds:
    """How often everything is measured.

    Attributes:
        repetitions: rounds that count, at most.
        warm_up: rounds before them that do not count.
        budget: seconds after which no further round starts, once `least` rounds have counted.
        least: rounds that count whatever the budget.

    Raises:
        UsageError: a number is out of range.
    """

    repetitions: int = 50
    warm_up: int = 2
    budget: float = 180.0
    least: int = LEAST_ROUNDS

    def __post_init__(self) -> None:
        if self.repetitions < self.least:
            raise UsageError(
                f"{self.repetitions} repetitions are too few to measure a spread: use {self.least} or more; 50 is usual"
            )
        if self.warm_up < 0:
            raise UsageError(f"warm-up of {self.warm_up} rounds is out of range: use 0 or more")
        if not self.budget > 0:
            raise UsageError(f"a budget of {self.budget:g} seconds is out of range: use more than 0, such as 3m")


def interleave(
    measurements: Sequence[Callable[[], Sample]], rounds: Rounds, progress: Progress | None = None
) -> list[list[Sample]]:
    """Run every measurement once a round.

    Args:
        measurements: each measures once and returns its sample.
        rounds: how many rounds, and for how long.
        progress: called before each round.

    Returns:
        For each measurement its samples, one for each round that counts.
    """
    samples: list[list[Sample]] = [[] for _ in measurements]
    started = time.monotonic()
    total = rounds.warm_up + rounds.repetitions
    for done in range(total):
        required = done < rounds.warm_up + rounds.least
        if not required and time.monotonic() - started > rounds.budget:
            break
        counts = done >= rounds.warm_up
        if progress is not None:
            progress("measuring" if counts else "warming up", done, total)
        places = [(place + done // 2) % len(measurements) for place in range(len(measurements))]
        for number in reversed(places) if done % 2 else places:
            sample = measurements[number]()
            if counts:
                samples[number].append(sample)
    return samples
