"""Measurements on devices as tables for a terminal: times, operations by compute unit, and failures.

Every title names the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .timing import Device, Failure, GraphTiming, UnitShare, unit_shares

MEGABYTE = 1e6
NOTHING = "-"


def device_tables(rows: Sequence[GraphTiming | Failure]) -> list[Table]:
    """The tables of each device: times, operations by compute unit, failures. Empty tables are left out."""
    tables = []
    for device in dict.fromkeys(row.device for row in rows):
        timings = [row for row in rows if isinstance(row, GraphTiming) and row.device == device]
        failures = [row for row in rows if isinstance(row, Failure) and row.device == device]
        if timings:
            tables.append(timing_table(device, timings))
        if any(len(unit_shares(row.operators)) > 1 for row in timings):
            tables.append(unit_table(device, timings))
        if failures:
            tables.append(failure_table(device, failures))
    return tables


def timing_table(device: Device, timings: Iterable[GraphTiming]) -> Table:
    """Milliseconds of loading, first call, warm-up and measured calls; memory and size in MB."""
    table = _table(
        f"{device.described}: ms and MB",
        "init: loading and preparing; warm-up: mean of the warm-up calls; runs: measured calls. A dash: the tool does "
        "not report it. MB: 1,000,000 bytes",
    )
    for column in ("init", "first", "warm-up", "mean", "std", "min", "median", "p90", "p95", "p99", "max", "runs"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("grown MB", "peak MB", "size MB"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("delegated, remarks", overflow="fold")
    for row in timings:
        figures, steady = row.figures, row.figures.steady
        times = (figures.init_ms, figures.first_ms, figures.warm_up_ms, steady.mean, steady.std, steady.least)
        rest = (steady.median, steady.p90, steady.p95, steady.p99, steady.most)
        table.add_row(
            *_subject(row),
            *(_ms(value) for value in (*times, *rest)),
            str(steady.count),
            *(_mb(size) for size in (figures.memory_overall_bytes, figures.memory_peak_bytes, row.subject.bytes)),
            Text("; ".join(filter(None, (figures.delegated, row.remark)))),
        )
    return table


def unit_table(device: Device, timings: Iterable[GraphTiming]) -> Table:
    """Operations by compute unit, as run or as planned: their count, and their share of operations and of time."""
    table = _table(f"{device.described}: operations by unit", "of time: measured, or Core ML's estimate of the cost")
    for column in ("unit", "operations", "of operations", "of time"):
        table.add_column(column, justify="left" if column == "unit" else "right", no_wrap=True)
    for row in timings:
        for number, share in enumerate(unit_shares(row.operators)):
            named = _subject(row) if number == 0 else [Text("")] * 3
            table.add_row(*named, *_share(share))
    return table


def failure_table(device: Device, failures: Iterable[Failure]) -> Table:
    """The rows that were not measured, with the reason."""
    table = _table(f"{device.described}: not measured", "")
    table.add_column("why", overflow="fold")
    for row in failures:
        table.add_row(*_subject(row), Text(row.reason))
    return table


def _table(title: str, caption: str) -> Table:
    table = Table(title=escape(title), title_justify="left", caption=escape(caption) or None, caption_justify="left")
    for column in ("bundle", "graph", "runs on"):
        table.add_column(column, no_wrap=True)
    return table


def _subject(row: GraphTiming | Failure) -> list[Text]:
    threads = f", {row.threads} thread{'s' * (row.threads != 1)}" if row.threads and row.delegate == "cpu" else ""
    return [Text(row.subject.bundle), Text(row.subject.described), Text(f"{row.delegate}{threads}")]


def _share(share: UnitShare) -> list[Text]:
    cells = (share.unit or NOTHING, str(share.operations), f"{share.of_operations:.1%}", f"{share.of_time:.1%}")
    return [Text(cell) for cell in cells]


def _ms(value: float | None) -> str:
    """Milliseconds with three significant digits, or all digits before the point."""
    if value is None:
        return NOTHING
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def _mb(size: int | None) -> str:
    return NOTHING if size is None else f"{size / MEGABYTE:,.1f}"
