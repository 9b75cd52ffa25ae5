"""Which mixed-precision configuration to try next.

1. All blocks in `w8a8`. Where time can be measured and a graph became slower than in fp32, all of that graph in `w8`.
   If the goal holds, the search continues with step 3.
2. Otherwise blocks are ordered by the masks they lose relative to the time they save. As few of them as possible, worst
   first, get activations in float (`w8`; the file stays small). A block's saved time is its graph's, in proportion to
   the block's operations; where no time can be measured, only masks count. A simulation estimates how many blocks to
   relax. From there configurations are measured: upwards, at least doubling the number, until the goal holds, then
   down by bisection. If `w8` everywhere is not enough, the same with `fp32`.
3. Where time can be measured, block after block gets `w8` if that makes a click faster.

Bisection assumes that more blocks in float are never worse. That holds for sums of errors, though not always for one
mask. The result was measured itself, so the goal does not depend on the assumption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sam_edge.model.graphs import in_encoder_graph

from .goals import Goal, Measurement

Schemes = Mapping[str, str]  # a configuration: scheme by block

W8A8, W8, FP32 = "w8a8", "w8", "fp32"
FIRST_RELAXED = 2  # blocks
LEAST_GAIN = 0.01  # share of a click's time; a smaller difference is within the machine's noise


@dataclass(frozen=True)
class SearchResult:
    """The best configuration that was measured.

    Attributes:
        schemes: its scheme of each block.
        measurement: its accuracy and time.
        reached: whether the goal holds.
        complete: whether the search ended before its time was up.
        evidence: for each block its scheme, the masks it loses and the time it saves, where these were measured; and
            every configuration that was tried.
    """

    schemes: Schemes
    measurement: Measurement
    reached: bool
    complete: bool
    evidence: dict[str, Any] = field(default_factory=dict)


class Trials(Protocol):
    """Makes configurations and measures them."""

    def measure(self, schemes: Schemes) -> Measurement:
        """Accuracy and time of a configuration."""

    def out_of_time(self) -> bool:
        """Whether no further configuration may be started; the first one always is measured."""


class Simulator(Protocol):
    """Estimates what INT8 costs, without making an artifact; its methods are called only when needed."""

    def masks_lost(self) -> Mapping[str, float]:
        """Share of masks that each block loses when it alone is in INT8, 0 to 1."""

    def operations(self) -> Mapping[str, float]:
        """Multiplications and additions of each block for a click on a new photo."""

    def mask_miou(self, schemes: Schemes) -> float:
        """An estimate of a configuration's mask mIoU."""


class OutOfTimeError(Exception):
    """The search has to end with what it has measured."""


def find_configuration(blocks: Sequence[str], trials: Trials, simulator: Simulator, goal: Goal) -> SearchResult:
    """Search for the fastest configuration that a goal holds for.

    Args:
        blocks: names of the blocks that get a scheme.
        trials: measures configurations.
        simulator: estimates them.
        goal: what the configuration has to keep.
    """
    state = SearchState(tuple(blocks), trials, simulator, goal)
    try:
        state.meet_goal()
        state.relax_slow_blocks()
        complete = True
    except OutOfTimeError:
        complete = False
    return state.result(complete=complete)


@dataclass
class SearchState:
    """The arguments of `find_configuration`, and what was measured so far."""

    blocks: tuple[str, ...]
    trials: Trials
    simulator: Simulator
    goal: Goal
    tried: list[tuple[Schemes, Measurement]] = field(default_factory=list)
    masks_lost: Mapping[str, float] = field(default_factory=dict)
    gains: dict[str, float] = field(default_factory=dict)

    def meet_goal(self) -> None:
        """Steps 1 and 2."""
        schemes: Schemes = dict.fromkeys(self.blocks, W8A8)
        first = self.measure(schemes)
        slower = [block for graph, time in first.graph_times.items() if time > 1.0 for block in self._blocks_in(graph)]
        if slower:
            schemes = {**schemes, **dict.fromkeys(slower, W8)}
            first = self.measure(schemes)
        if self._holds(first):
            return
        if self.trials.out_of_time():  # the simulation takes minutes, and nothing could be measured after it
            raise OutOfTimeError
        self.masks_lost = self.simulator.masks_lost()
        saved = self._saved_time(first)
        for relaxed in (W8, FP32):
            candidates = [block for block in self.blocks if schemes[block] != relaxed]
            worst_first = sorted(candidates, key=lambda block: -self.masks_lost.get(block, 0.0) / saved.get(block, 1.0))
            aim = self.goal.needed_agreement(self.measure(schemes))
            if worst_first and self._relax_fewest(schemes, worst_first, relaxed, aim):
                return
            schemes = dict.fromkeys(self.blocks, relaxed)

    def _saved_time(self, measurement: Measurement) -> Mapping[str, float]:
        """Time that each block saves, relative to the others'; empty where no time was measured."""
        operations = self.simulator.operations() if measurement.graph_times else {}
        return {
            block: max(1.0 - time, LEAST_GAIN) * max(operations.get(block, 0.0), 1.0)
            for graph, time in measurement.graph_times.items()
            for block in self._blocks_in(graph)
        }

    def _relax_fewest(self, base: Schemes, order: Sequence[str], relaxed: str, aim: float) -> bool:
        """Find the smallest number of blocks, in `order`, to relax; False: all of them are not enough.

        A simulated mask mIoU of `aim` decides how many blocks are tried first.
        """
        most = len(order) if relaxed == W8 else len(order) - 1  # fp32 everywhere is no mixed-precision configuration

        def schemes(count: int) -> Schemes:
            return {**base, **dict.fromkeys(order[:count], relaxed)}

        too_few, enough = 0, self._estimate_count(schemes, most, aim)
        while True:
            measurement = self.measure(schemes(enough))
            if self._holds(measurement):
                break
            if enough == most:
                return False
            # The simulation is as optimistic about similar configurations, so the aim rises by its error.
            error = max(0.0, self.simulator.mask_miou(schemes(enough)) - measurement.mask_miou)
            aim = self.goal.needed_agreement(measurement) + error
            too_few, enough = enough, max(min(2 * enough, most), self._estimate_count(schemes, most, aim))
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            if self._holds(self.measure(schemes(middle))):
                enough = middle
            else:
                too_few = middle
        return True

    def _estimate_count(self, schemes: Callable[[int], Schemes], most: int, aim: float) -> int:
        """How many blocks to relax for a simulated mask mIoU of `aim`, from 1 to `most`."""
        count = min(FIRST_RELAXED, most)
        while count < most and self.simulator.mask_miou(schemes(count)) < aim:
            count = min(max(count + 1, round(1.5 * count)), most)
        return count

    def relax_slow_blocks(self) -> None:
        """Step 3."""
        _, best = self._best()
        if not self._holds(best) or best.click is None:
            return
        for block in self.blocks:
            schemes, best = self._best()
            if schemes[block] == W8A8 and best.click is not None:
                other = self.measure({**schemes, block: W8})
                if other.click is not None:
                    self.gains[block] = other.click - best.click

    def _blocks_in(self, graph: str) -> list[str]:
        return [block for block in self.blocks if in_encoder_graph(block) == (graph == "encoder")]

    def _holds(self, measurement: Measurement) -> bool:
        return self.goal.holds(measurement)

    def measure(self, schemes: Schemes) -> Measurement:
        """The measurement of a configuration, which is made unless it was tried before.

        Raises:
            OutOfTimeError: no further configuration may be started.
        """
        for earlier, measurement in self.tried:
            if earlier == schemes:
                return measurement
        if self.tried and self.trials.out_of_time():
            raise OutOfTimeError
        measurement = self.trials.measure(schemes)
        self.tried.append((dict(schemes), measurement))
        return measurement

    def _best(self) -> tuple[Schemes, Measurement]:
        """The fastest that the goal holds for; without times that with most blocks in INT8; else the most accurate.

        A configuration that gains less than `LEAST_GAIN` does not replace an earlier one.
        """
        within = [each for each in self.tried if self._holds(each[1])]
        if not within:
            return min(self.tried, key=lambda each: self.goal.lost(each[1]))
        best = within[0]
        for each in within[1:]:
            if each[1].click is not None and best[1].click is not None:
                better = each[1].click < best[1].click - LEAST_GAIN
            else:
                better = _int8_rank(each[0]) > _int8_rank(best[0])
            best = each if better else best
        return best

    def result(self, *, complete: bool) -> SearchResult:
        """The best configuration so far, with the evidence for it."""
        schemes, measurement = self._best()
        evidence = {
            **self.goal.to_json(),
            "blocks": {
                block: {
                    "scheme": schemes[block],
                    **({"masks_lost_alone": round(self.masks_lost[block], 5)} if block in self.masks_lost else {}),
                    **({"click_saved": round(self.gains[block], 4)} if block in self.gains else {}),
                }
                for block in self.blocks
            },
            "chosen": measurement.figures(),
            "tried": [{"changed": _changed(each), **figures.figures()} for each, figures in self.tried],
        }
        return SearchResult(schemes, measurement, self._holds(measurement), complete, evidence)


def _int8_rank(schemes: Schemes) -> tuple[int, int]:
    """Sorts configurations: more blocks in `w8a8` first, then fewer in fp32."""
    values = list(schemes.values())
    return values.count(W8A8), -values.count(FP32)


def _changed(schemes: Schemes) -> dict[str, str]:
    return {block: scheme for block, scheme in schemes.items() if scheme != W8A8}
