"""The measured figures: a graph of a bundle, a device, a tool, and what the tool printed.

All times are milliseconds and all sizes bytes, whatever unit the tool prints. What a tool does not print is None: no
figure is derived from others, so each percentile is the tool's own. `dataclasses.asdict` gives the form for JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sam_edge_runtime.errors import BackendError

ENCODER, DECODER = "encoder", "decoder"
_ROUNDING = 1e-3  # relative to the mean; tools round each figure to six digits


@dataclass(frozen=True)
class Device:
    """The hardware and system of a measurement, without a serial number, which would identify its owner.

    Attributes:
        model: maker and model name.
        chip: name of the processor; empty if the device does not report it.
        system: name and version of the system.
        architecture: the processor's architecture as the system names it, such as `arm64-v8a`.
    """

    model: str
    chip: str
    system: str
    architecture: str

    def __post_init__(self) -> None:
        if not self.model or not self.system:
            raise BackendError(
                f"the device reports no model or no system ({self}), so its figures could not be attributed: check it"
            )

    @property
    def described(self) -> str:
        """The device in one line."""
        return ", ".join(part for part in (self.model, self.chip, self.system, self.architecture) if part)


@dataclass(frozen=True)
class Tool:
    """A measuring tool: its name, its version if it reports one, and the SHA-256 of its file if it is one."""

    name: str
    version: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class BundleUnderTest:
    """A graph of a bundle.

    Attributes:
        bundle: the bundle's name in tables.
        variant, precision, target: as in the manifest.
        graph: `ENCODER` or `DECODER`.
        prompts: prompts B in a call of this decoder; None for the encoder.
        bytes: size of the graph's files.
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
    """Repetitions of a call, in ms: count, mean, standard deviation, extremes, and the percentiles that a tool printed.

    Raises:
        BackendError: figures contradict each other, are negative or are not numbers: the output was misread.
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
            raise BackendError(f"{self.count} runs were counted: the tool ended early, or its output was misread")
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
        margin = _ROUNDING * self.mean
        inside = [self.mean, *(value for value in (self.median, self.p90, self.p95, self.p99) if value is not None)]
        below = self.least is not None and min(inside) < self.least - margin
        if below or (self.most is not None and max(inside) > self.most + margin):
            raise BackendError(
                f"a mean or percentile lies outside the extremes ({self}): the tool's output was misread"
            )


@dataclass(frozen=True)
class Figures:
    """The figures that a tool printed for one graph.

    Attributes:
        init_ms: time to load and prepare the graph.
        first_ms: time of the first call.
        warm_up_ms: mean time of the warm-up calls.
        steady: the measured calls.
        memory_overall_bytes: growth of the process's memory from the tool's start to its end.
        memory_peak_bytes: largest memory of the process, or its largest growth: see the tool's documentation.
        delegated: the share that the delegate runs, in words; empty if the tool does not report it.
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
    """All operations of one kind on one compute unit.

    Attributes:
        kind: kind of the operation, as the tool names it.
        count: number of them in a call.
        ms: their time in a call; None if only shares are known.
        share: their share of the time of all operators in the list, 0..1.
        unit: where they ran: a provider, `delegate`, `CPU kernels` or a compute unit; empty if the tool does not report
            it.
    """

    kind: str
    count: int
    ms: float | None
    share: float
    unit: str = ""


@dataclass(frozen=True)
class GraphTiming:
    """One measured row.

    Attributes:
        subject: the graph.
        device: the device.
        tool: the tool that measured.
        delegate: the requested delegate, provider or compute units.
        threads: threads of the CPU; None if the tool chose.
        figures: what the tool printed.
        operators: by kind, the most time first; empty if they were not measured.
        remark: a warning for readers of the figures, or empty.
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
    """One row without figures, and the reason."""

    subject: BundleUnderTest
    device: Device
    tool: Tool
    delegate: str
    threads: int | None
    reason: str


@dataclass(frozen=True)
class UnitShare:
    """The operations of a graph on one compute unit, and their share (0..1) of all operations and of time or cost."""

    unit: str
    operations: int
    of_operations: float
    of_time: float


def unit_shares(operators: Iterable[Operator]) -> tuple[UnitShare, ...]:
    """Operations and time by compute unit, the most time first; empty if there are no operators."""
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
            raise BackendError(f"{name} is {value} ms, which is not a time: the tool's output was misread; report it")
