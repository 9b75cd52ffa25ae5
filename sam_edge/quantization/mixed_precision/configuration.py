"""Which mixture to try next.

1. Everything in eight bits, `w8a8`; where time can be measured and a graph became slower than in fp32, all of it in
   `w8`. If masks are within the bound, that is where the search begins.
2. If not, blocks are ordered by what they cost in masks for the time that they save, and the fewest of them, worst
   first, are given back their activations in float (`w8`; the file stays small). What a block saves is taken to be its
   share of the multiplications of its graph, whose time was measured; where no time can be, masks alone count. A
   simulation guesses how many that are; from there on it is tried: upwards, at least doubling, until it is enough,
   then down by bisection. If `w8` everywhere is not enough, the same with `fp32`.
3. Where time can be measured, block after block is given `w8` wherever that makes a click faster.

Bisection takes it that more float is never worse. That holds for sums of errors and now and then not for one; what is
returned was measured itself, so the bound does not rest on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Schemes = Mapping[str, str]  # the way of each block

EIGHT, WEIGHTS, FLOAT = "w8a8", "w8", "fp32"
FIRST_RELAXED = 2
LEAST_GAIN = 0.01  # of a click's time; less is not told from the machine's own unrest


@dataclass(frozen=True)
class Measured:
    """What one mixture came to.

    Attributes:
        mask_miou: agreement of its masks with fp32 torch's.
        encoder: time of the image encoder as a share of the fp32 artifact's in the same run; None: not measured.
        decoder: the same of the mask decoder.
        click: of both together.
    """

    mask_miou: float
    encoder: float | None = None
    decoder: float | None = None
    click: float | None = None

    @property
    def shares(self) -> dict[str, float]:
        """Times of both graphs by name, where they were measured."""
        named = {"encoder": self.encoder, "decoder": self.decoder}
        return {graph: share for graph, share in named.items() if share is not None}


@dataclass(frozen=True)
class Found:
    """The outcome.

    Attributes:
        schemes: of each block.
        measured: what that comes to.
        reached: whether the bound holds.
        complete: whether the search came to its end before its time was up.
        evidence: for each block its scheme, its cost in masks and what it gains, where these were measured; and every
            mixture that was tried.
    """

    schemes: Schemes
    measured: Measured
    reached: bool
    complete: bool
    evidence: dict[str, Any] = field(default_factory=dict)


class _OutOfTimeError(Exception):
    """The search has to end with what it has."""


def find_mixture(
    blocks: Sequence[str],
    measure: Callable[[Schemes], Measured],
    cost: Callable[[], Mapping[str, float]],
    work: Callable[[], Mapping[str, float]],
    simulate: Callable[[Schemes], float],
    bound: float,
    out_of_time: Callable[[], bool],
) -> Found:
    """Search.

    Args:
        blocks: what is decided about.
        measure: makes a mixture and measures it.
        cost: share of its masks that each block loses in eight bits by itself, 0 to 1; asked for when needed.
        work: multiplications of each block for a click on a new photo; asked for when needed.
        simulate: guesses a mixture's mask mIoU much faster than `measure` finds it.
        bound: smallest mask mIoU.
        out_of_time: whether nothing new may be begun; the first mixture is always measured.
    """
    search = _Search(tuple(blocks), measure, cost, work, simulate, bound, out_of_time)
    try:
        search.meet_the_bound()
        search.take_what_is_faster()
        complete = True
    except _OutOfTimeError:
        complete = False
    return search.outcome(complete=complete)


@dataclass
class _Search:
    """The arguments of `find_mixture`, and what was tried so far."""

    blocks: tuple[str, ...]
    measure: Callable[[Schemes], Measured]
    cost: Callable[[], Mapping[str, float]]
    work: Callable[[], Mapping[str, float]]
    simulate: Callable[[Schemes], float]
    bound: float
    out_of_time: Callable[[], bool]
    tried: list[tuple[Schemes, Measured]] = field(default_factory=list)
    costs: Mapping[str, float] = field(default_factory=dict)
    gains: dict[str, float] = field(default_factory=dict)

    def meet_the_bound(self) -> None:
        every: Schemes = dict.fromkeys(self.blocks, EIGHT)
        first = self._try(every)
        slower = [block for graph, share in first.shares.items() if share > 1.0 for block in self._of(graph)]
        if slower:
            every = {**every, **dict.fromkeys(slower, WEIGHTS)}
            first = self._try(every)
        if self._holds(first):
            return
        self.costs = self.cost()
        saved = self._saved(first)
        for relaxed in (WEIGHTS, FLOAT):
            other = [block for block in self.blocks if every[block] != relaxed]
            worst_first = sorted(other, key=lambda block: -self.costs.get(block, 0.0) / saved.get(block, 1.0))
            if worst_first and self._fewest(every, worst_first, relaxed):
                return
            every = dict.fromkeys(self.blocks, relaxed)

    def _saved(self, measured: Measured) -> Mapping[str, float]:
        """What each block saves, in shares of no matter what; empty where no time was measured."""
        work = self.work() if measured.shares else {}
        return {
            block: max(1.0 - share, LEAST_GAIN) * max(work.get(block, 0.0), 1.0)
            for graph, share in measured.shares.items()
            for block in self._of(graph)
        }

    def _fewest(self, every: Schemes, order: Sequence[str], relaxed: str) -> bool:
        """Find how many blocks of an order have to be relaxed at least; False: all are not enough."""
        most = len(order) if relaxed == WEIGHTS else len(order) - 1  # nothing but float is no mixture

        def schemes(count: int) -> Schemes:
            return {**every, **dict.fromkeys(order[:count], relaxed)}

        too_few, enough = 0, self._guess(schemes, most, self.bound)
        while True:
            found = self._try(schemes(enough))
            if self._holds(found):
                break
            if enough == most:
                return False
            # The simulation is as wrong about its neighbours, so it is asked for so much more.
            aim = self.bound + max(0.0, self.simulate(schemes(enough)) - found.mask_miou)
            too_few, enough = enough, max(min(2 * enough, most), self._guess(schemes, most, aim))
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            if self._holds(self._try(schemes(middle))):
                enough = middle
            else:
                too_few = middle
        return True

    def _guess(self, schemes: Callable[[int], Schemes], most: int, aim: float) -> int:
        """How many blocks the simulation would relax for a mask mIoU of `aim`, from 1 to `most`."""
        count = min(FIRST_RELAXED, most)
        while count < most and self.simulate(schemes(count)) < aim:
            count = min(max(count + 1, round(1.5 * count)), most)
        return count

    def take_what_is_faster(self) -> None:
        schemes, best = self._best()
        if not self._holds(best) or best.click is None:
            return
        for block in self.blocks:
            schemes, best = self._best()
            if schemes[block] == EIGHT and best.click is not None:
                other = self._try({**schemes, block: WEIGHTS})
                if other.click is not None:
                    self.gains[block] = other.click - best.click

    def _of(self, graph: str) -> list[str]:
        return [block for block in self.blocks if block.startswith("image_encoder.") == (graph == "encoder")]

    def _holds(self, measured: Measured) -> bool:
        return measured.mask_miou >= self.bound

    def _try(self, schemes: Schemes) -> Measured:
        for known, measured in self.tried:
            if known == schemes:
                return measured
        if self.tried and self.out_of_time():
            raise _OutOfTimeError
        measured = self.measure(schemes)
        self.tried.append((dict(schemes), measured))
        return measured

    def _best(self) -> tuple[Schemes, Measured]:
        """Within the bound the fastest, or where no time was measured the one with most in eight bits; else the truest.

        What gains less than `LEAST_GAIN` on a mixture that was tried before does not take its place.
        """
        within = [each for each in self.tried if self._holds(each[1])]
        if not within:
            return max(self.tried, key=lambda each: each[1].mask_miou)
        best = within[0]
        for each in within[1:]:
            if each[1].click is not None and best[1].click is not None:
                better = each[1].click < best[1].click - LEAST_GAIN
            else:
                better = _kept(each[0]) > _kept(best[0])
            best = each if better else best
        return best

    def outcome(self, *, complete: bool) -> Found:
        schemes, measured = self._best()
        evidence = {
            "bound": self.bound,
            "blocks": {
                block: {
                    "scheme": schemes[block],
                    **({"masks_lost_alone": round(self.costs[block], 5)} if block in self.costs else {}),
                    **({"click_saved": round(self.gains[block], 4)} if block in self.gains else {}),
                }
                for block in self.blocks
            },
            "tried": [{"changed": _changed(each), **_figures(found)} for each, found in self.tried],
        }
        return Found(schemes, measured, self._holds(measured), complete, evidence)


def _kept(schemes: Schemes) -> tuple[int, int]:
    """How many blocks are in eight bits, and how many in float weights are not."""
    values = list(schemes.values())
    return values.count(EIGHT), -values.count(FLOAT)


def _changed(schemes: Schemes) -> dict[str, str]:
    return {block: scheme for block, scheme in schemes.items() if scheme != EIGHT}


def _figures(measured: Measured) -> dict[str, float]:
    named = {
        "mask_miou": measured.mask_miou,
        "encoder_time": measured.encoder,
        "decoder_time": measured.decoder,
        "click_time": measured.click,
    }
    return {name: round(value, 5) for name, value in named.items() if value is not None}
