"""The order in which records are drawn.

Everything here is a pure function of a seed and a number, without state. So a run that is resumed at step k, or that
has another number of ranks or workers, draws the same records. Random numbers come from numpy's Generator, seeded with
the run's seed and the purpose of the draw; their values may change with numpy's version.

An epoch takes the shards in random order, `window` of them at a time, and the records of each window in random order. A
window of all shards is a perfect shuffle. A small one confines reads to a few files, which matters when the data are
larger than memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.errors import DataError, UsageError

WINDOW = 16  # shards; about 180,000 photos of SA-1B
ROUND = 1000  # draws in which every source gets exactly its share, rounded

Numbers = npt.NDArray[np.int64]


class Purpose(IntEnum):
    """The purpose of a random number: part of its seed, so that no two uses share one."""

    SHARDS = 0
    RECORDS = 1
    SOURCES = 2
    EXAMPLE = 3


def generator(seed: int, purpose: Purpose, *numbers: int) -> np.random.Generator:
    """A generator of the random numbers for one purpose.

    Raises:
        UsageError: the seed is negative.
    """
    if seed < 0:
        raise UsageError(f"seed {seed} is negative: use 0 or more")
    return np.random.default_rng((seed, int(purpose), *numbers))


class RecordOrder:
    """The endless order of one source's records: each epoch has its own order."""

    def __init__(self, sizes: Sequence[int], seed: int, *, stream: int = 0, window: int = WINDOW) -> None:
        """Prepare an order.

        Args:
            sizes: number of records of each shard.
            seed: seed of the order, 0 or more.
            stream: number of the source among several; each has its own order.
            window: number of shards whose records are mixed.

        Raises:
            UsageError: a window below 1, or a negative seed.
            DataError: no records at all.
        """
        if window < 1:
            raise UsageError(f"a window of {window} shards is too small: use 1 or more")
        self._sizes = np.array(sizes, np.int64)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._length = int(self._sizes.sum())
        if not self._length:
            raise DataError("the source holds no records: name another")
        self._seed, self._stream, self._window = seed, stream, window
        self._epoch: tuple[int, Numbers, Numbers] | None = None  # cache of the last epoch; below, of the last window
        self._records: tuple[int, int, Numbers] | None = None
        generator(seed, Purpose.SHARDS)  # refuses a bad seed now, not at the first draw

    def __len__(self) -> int:
        return self._length

    def nth(self, number: int) -> int:
        """The record of draw `number`, which counts through all epochs from 0."""
        return self.record(*divmod(number, self._length))

    def record(self, epoch: int, place: int) -> int:
        """The record at `place` of an epoch, from 0 to the number of records - 1."""
        shards, ends = self._windows(epoch)
        window = int(np.searchsorted(ends, place, side="right"))
        begin = int(ends[window - 1]) if window else 0
        return int(self._mixed(epoch, window, shards)[place - begin])

    def _windows(self, epoch: int) -> tuple[Numbers, Numbers]:
        """An epoch's order of shards, and the place in the epoch at which each window ends."""
        if self._epoch is None or self._epoch[0] != epoch:
            order = generator(self._seed, Purpose.SHARDS, self._stream, epoch).permutation(len(self._sizes))
            begins = np.arange(0, len(order), self._window)
            self._epoch = (epoch, order, np.cumsum(np.add.reduceat(self._sizes[order], begins)))
        return self._epoch[1:]

    def _mixed(self, epoch: int, window: int, shards: Numbers) -> Numbers:
        """The record numbers of one window, in order."""
        if self._records is None or self._records[:2] != (epoch, window):
            members = shards[window * self._window : (window + 1) * self._window]
            records = np.concatenate([np.arange(self._sizes[shard]) + self._starts[shard] for shard in members])
            order = generator(self._seed, Purpose.RECORDS, self._stream, epoch, window).permutation(len(records))
            self._records = (epoch, window, records[order])
        return self._records[2]


class SourceOrder:
    """The source of each draw, and the number of the draw from that source.

    In every round of `ROUND` draws a source is drawn as often as its share says, rounded; the order within a round is
    random. So the number of earlier draws is known without counting them.
    """

    def __init__(self, shares: Sequence[float], seed: int) -> None:
        """Prepare an order.

        Args:
            shares: each source's share of the draws; they sum to 1.
            seed: seed of the order, 0 or more.

        Raises:
            DataError: a share of less than one draw in a round.
            UsageError: a negative seed.
        """
        self._counts = _apportioned(shares)
        self._seed = seed
        self._round: tuple[int, Numbers, Numbers] | None = None  # cache of the last round
        generator(seed, Purpose.SOURCES)

    def draw(self, number: int) -> tuple[int, int]:
        """The source of draw `number`, and how many draws that source had before."""
        turn, place = divmod(number, ROUND)
        if self._round is None or self._round[0] != turn:
            sources = np.repeat(np.arange(len(self._counts)), self._counts)
            order = generator(self._seed, Purpose.SOURCES, turn).permutation(sources)
            before = np.empty(ROUND, np.int64)  # earlier draws of the same source in this round
            for source, count in enumerate(self._counts):
                before[order == source] = np.arange(count)
            self._round = (turn, order, before)
        _, order, before = self._round
        source = int(order[place])
        return source, turn * int(self._counts[source]) + int(before[place])


def _apportioned(shares: Sequence[float]) -> Numbers:
    """Draws of each share in `ROUND`: rounded down, and the rest given to the largest remainders."""
    exact = np.array(shares, np.float64) * ROUND
    counts = np.floor(exact + 1e-9).astype(np.int64)
    left = ROUND - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:left]] += 1
    if (counts < 1).any():
        least = min(shares)
        raise DataError(f"a source with a share of {least:.2g} would never be drawn: give each at least {1 / ROUND}")
    return counts


@dataclass(frozen=True)
class Steps:
    """The draws of each training step, for one rank; a `batch_sampler` for torch's DataLoader.

    Step k takes the draws k * batch to (k + 1) * batch, for any number of ranks. Each rank takes its slice of them, so
    that all ranks together see what a single one would see.

    Attributes:
        batch: draws of a step, over all ranks.
        stop: number of steps of the whole run.
        start: the first step, for a resumed run.
        rank: number of this process, from 0.
        ranks: number of processes.

    Raises:
        UsageError: the batch cannot be divided evenly, or a number is out of range.
    """

    batch: int
    stop: int
    start: int = 0
    rank: int = 0
    ranks: int = 1

    def __post_init__(self) -> None:
        if self.ranks < 1 or not 0 <= self.rank < self.ranks:
            raise UsageError(f"there is no rank {self.rank} of {self.ranks}: ranks count from 0")
        if self.batch < 1 or self.batch % self.ranks:
            raise UsageError(f"a batch of {self.batch} cannot be divided over {self.ranks} ranks: use a multiple of it")
        if not 0 <= self.start <= self.stop:
            raise UsageError(f"there is no step {self.start} of {self.stop}: steps count from 0")

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[int]]:
        each = self.batch // self.ranks
        for step in range(self.start, self.stop):
            first = step * self.batch + self.rank * each
            yield list(range(first, first + each))
