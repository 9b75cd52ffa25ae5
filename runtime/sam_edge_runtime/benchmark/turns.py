"""Workers that take turns, each round in another order: a machine that drifts drifts for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sam_edge_runtime.errors import UsageError

from .process import Worker
from .worker import AGAIN

LEAST_ROUNDS = 3
Show = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Rounds:
    """How often everything is measured.

    Attributes:
        repetitions: rounds that count, at most.
        warm_up: rounds before, which do not count.
        budget: seconds after which no round is begun that is not needed; `LEAST_ROUNDS` always are.

    Raises:
        UsageError: a number out of range.
    """

    repetitions: int = 50
    warm_up: int = 2
    budget: float = 180.0

    def __post_init__(self) -> None:
        if self.repetitions < LEAST_ROUNDS:
            raise UsageError(
                f"{self.repetitions} repetitions say nothing of the spread: {LEAST_ROUNDS} are the least, 50 are usual"
            )
        if self.warm_up < 0:
            raise UsageError(f"{self.warm_up} rounds to warm up are none: give 0 or more")
        if not self.budget > 0:
            raise UsageError(f"a budget of {self.budget:g} seconds is none: give some, such as 3m")


def take_turns(workers: Sequence[Worker], rounds: Rounds, show: Show) -> list[list[dict[str, float]]]:
    """For each worker the seconds of every step in each round that counts.

    Raises:
        BackendError: a worker refused, or ended.
    """
    taken: list[list[dict[str, float]]] = [[] for _ in workers]
    begun = time.monotonic()
    total = rounds.warm_up + rounds.repetitions
    for turn in range(total):
        needed = turn < rounds.warm_up + LEAST_ROUNDS
        if not needed and time.monotonic() - begun > rounds.budget:
            break
        show("warming up" if turn < rounds.warm_up else "measuring by turns", turn, total)
        for place in range(len(workers)):
            number = (place + turn) % len(workers)
            seconds = workers[number].ask(AGAIN)["seconds"]
            if turn >= rounds.warm_up:
                taken[number].append(seconds)
    return taken
