"""What was measured: a graph of a bundle, on a device, by a tool, with the figures that this tool gave.

All times are milliseconds and all sizes bytes, whatever the tool prints. What a tool does not print is None: nothing is
derived from other figures, so that a percentile is one of the tool's own or is missing. `dataclasses.asdict` gives the
form for JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sam_edge_runtime.errors import BackendError

ENCODER, DECODER = "encoder", "decoder"
_ROUNDING = 1e-3  # of the mean; tools round each figure to six digits by itself


@dataclass(frozen=True)
class Device:
    """The hardware and system that figures were had on; no serial number, which says who, not what.

    Attributes:
        model: what the maker calls it, with the maker.
        chip: the processor's name; empty where the device does not say it.
        system: name and version of the system.
        architecture: of the processor, in the system's own words, such as `arm64-v8a`.
    """

    model: str
    chip: str
    system: str
    architecture: str

    def __post_init__(self) -> None:
        if not self.model or not self.system:
            raise BackendError(
                f"a device said neither model nor system ({self}): figures would belong to nothing; check it"
            )

    @property
    def described(self) -> str:
        """The device in one line."""
        return ", ".join(part for part in (self.model, self.chip, self.system, self.architecture) if part)


@dataclass(frozen=True)
class Tool:
    """What measured: its name, its version where it says one, and the SHA-256 of its file where it is a file."""

    name: str
    version: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class BundleUnderTest:
    """A graph of a bundle.

    Attributes:
        bundle: what tables call the bundle.
        variant, precision, target: the manifest's.
        graph: `ENCODER` or `DECODER`.
        prompts: prompts B that a call of this decoder answers; None for the encoder.
        bytes: of the graph's files.
    """

    bundle: str
    variant: str
    precision: str
    target: str
    graph: str
    prompts: int | None
    bytes: int

    @property
    def described(self) -> str:
        """`encoder`, or `decoder, 8 prompts`."""
        if self.prompts is None:
            return self.graph
        return f"{self.graph}, {self.prompts} prompt{'s' * (self.prompts != 1)}"


@dataclass(frozen=True)
class Spread:
    """Repetitions of one call in ms: number, mean, standard deviation, least, most, and percentiles that were printed.

    Raises:
        BackendError: figures that contradict each other, or are negative or no numbers: the text was misread.
    """

    count: int
    mean: float
    std: float | None
    least: float | None
    most: float | None
    median: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise BackendError(f"{self.count} runs were counted: the tool ended early, or its text was misread")
        _check_times(
            mean=self.mean,
            std=self.std,
            least=self.least,
            most=self.most,
            median=self.median,
            p90=self.p90,
            p95=self.p95,
            p99=self.p99,
        )
        room = _ROUNDING * self.mean
        inside = [self.mean, *(value for value in (self.median, self.p90, self.p95, self.p99) if value is not None)]
        below = self.least is not None and min(inside) < self.least - room
        if below or (self.most is not None and max(inside) > self.most + room):
            raise BackendError(f"a mean or percentile lies outside the extremes ({self}): the tool's text was misread")


@dataclass(frozen=True)
class Figures:
    """What a tool printed of one graph.

    Attributes:
        init_ms: loading the graph and preparing it, once.
        first_ms: the first call.
        warm_up_ms: mean of the calls before those that count.
        steady: the calls that count.
        memory_overall_bytes: growth of the process from the tool's start to its end.
        memory_peak_bytes: largest memory of the process, or its largest growth: the tool's documentation says which.
        delegated: how much the delegate took, in words; empty where the tool does not say.
    """

    init_ms: float | None
    first_ms: float | None
    warm_up_ms: float | None
    steady: Spread
    memory_overall_bytes: int | None = None
    memory_peak_bytes: int | None = None
    delegated: str = ""

    def __post_init__(self) -> None:
        _check_times(init=self.init_ms, first=self.first_ms, warm_up=self.warm_up_ms)


@dataclass(frozen=True)
class Operator:
    """All operations of one kind in one place.

    Attributes:
        kind: the operation, as the tool names it.
        count: how many of them a call runs.
        ms: their time in one call; None where only shares are known.
        share: of the time of all that stands in the same list, 0..1.
        unit: where they ran: a provider, `delegate`, `CPU kernels`, a compute unit; empty where the tool does not say.
    """

    kind: str
    count: int
    ms: float | None
    share: float
    unit: str = ""


@dataclass(frozen=True)
class GraphTiming:
    """One measured row: what, where, how, and the figures.

    Attributes:
        subject, device, tool: what was measured, on what, by what.
        delegate: what was asked to run it: a delegate, a provider or compute units.
        threads: of the CPU; None where the tool chose.
        figures: what the tool printed.
        operators: by kind, the most time first; empty where they were not looked at.
        remark: what a reader of the figures must know; empty where that is nothing.
    """

    subject: BundleUnderTest
    device: Device
    tool: Tool
    delegate: str
    threads: int | None
    figures: Figures
    operators: tuple[Operator, ...] = ()
    remark: str = ""


@dataclass(frozen=True)
class Failure:
    """One row that has no figures, and why."""

    subject: BundleUnderTest
    device: Device
    tool: Tool
    delegate: str
    threads: int | None
    reason: str


@dataclass(frozen=True)
class UnitShare:
    """What one place has of a graph: operations, and their part (0..1) of all operations and of all time or cost."""

    unit: str
    operations: int
    of_operations: float
    of_time: float


def unit_shares(operators: Iterable[Operator]) -> tuple[UnitShare, ...]:
    """Operations and time by place, the most time first; empty where there are no operators."""
    listed = tuple(operators)
    total, time = sum(each.count for each in listed), sum(each.share for each in listed)
    shares = [
        UnitShare(
            unit,
            count := sum(each.count for each in listed if each.unit == unit),
            count / total if total else 0.0,
            sum(each.share for each in listed if each.unit == unit) / time if time else 0.0,
        )
        for unit in dict.fromkeys(each.unit for each in listed)
    ]
    return tuple(sorted(shares, key=lambda share: -share.of_time))


def _check_times(**times: float | None) -> None:
    for name, value in times.items():
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise BackendError(f"{name} is {value} ms, which is no time: the tool's text was misread; report it")
