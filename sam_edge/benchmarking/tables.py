"""A benchmark's document as tables for a terminal, with a row for each bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sam_edge_runtime.benchmark.steps import STEPS

MEGABYTE, MILLI = 1e6, 1e3


def hardware(document: Mapping[str, Any]) -> str:
    """The machine in one line."""
    machine = document["machine"]
    memory = f", {machine['memory_bytes'] / 2**30:.0f} GiB" if machine["memory_bytes"] else ""
    sets = f" ({', '.join(machine['instructions'])})" if machine["instructions"] else ""
    return f"{machine['device']}, {machine['processor']}{sets}, {machine['cores']} cores{memory}; {machine['system']}"


def engines(document: Mapping[str, Any]) -> str:
    """The runtimes in one line."""
    found = {f"{row['runtime']} {row['runtime_version'] or ''}".strip(): None for row in document["bundles"]}
    return ", ".join(found)


def latency_table(document: Mapping[str, Any]) -> Table:
    """Milliseconds of each step: median, 90th and 99th percentile."""
    photo = document["photo"]
    table = _table(
        "latency, ms: p50 (p90, p99)",
        f"{document['rounds']} interleaved rounds after {document['warm_up']} to warm up; photo of {photo['height']} x "
        f"{photo['width']}; {engines(document)}\n{hardware(document)}",
    )
    for step in (*STEPS, "photos/s", "clicks/s"):
        table.add_column(step, justify="right", no_wrap=True)
    for row in document["bundles"]:
        spreads = [row["steps"][step] for step in STEPS]
        cells = [f"{_ms(s['p50'])} ({_ms(s['p90'])}, {_ms(s['p99'])})" for s in spreads]
        rates = [f"{row['per_second'][what]:.2f}" for what in ("photos", "clicks")]
        table.add_row(Text(row["name"]), *cells, *rates)
    return table


def ratio_table(document: Mapping[str, Any]) -> Table:
    """Each bundle's time divided by the first bundle's in the same round: median and quartiles."""
    first = document["bundles"][0]
    table = _table(f"time relative to {first['name']}: median of rounds (quartiles)", "below 1 is faster")
    for step in STEPS:
        table.add_column(step, justify="right", no_wrap=True)
    for row in document["bundles"][1:]:
        spreads = [row["ratio"][step] for step in STEPS]
        table.add_row(Text(row["name"]), *(f"{s['p50']:.2f} ({s['q25']:.2f} to {s['q75']:.2f})" for s in spreads))
    return table


def start_table(document: Mapping[str, Any]) -> Table:
    """A fresh process until its first mask, its memory, and the bundle's size and accuracy."""
    table = _table(
        "start and memory of a fresh process",
        "ms: starting Python and importing; checking files; loading both graphs; first photo and click. Files may be "
        "in the system's cache. MB: peak memory; memory before the bundle is opened; size on disk. mask mIoU with fp32 "
        "torch, measured when the bundle was made",
    )
    columns = list(document["bundles"][0]["cold"])
    for column in (*columns, "peak MB", "idle MB", "size MB", "mask mIoU", "delegate"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in document["bundles"]:
        memory, agreement = row["memory"], row["mask_miou"]
        table.add_row(
            Text(row["name"]),
            *(_ms(row["cold"][column]) for column in columns),
            f"{memory['peak'] / MEGABYTE:.0f}",
            f"{memory['idle'] / MEGABYTE:.0f}",
            f"{row['bytes'] / MEGABYTE:.1f}",
            "" if agreement is None else f"{agreement:.4f}",
            Text(row["delegate"]),
        )
    return table


def _table(title: str, caption: str) -> Table:
    table = Table(title=escape(title), title_justify="left", caption=escape(caption), caption_justify="left")
    table.add_column("bundle", no_wrap=True)
    return table


def _ms(seconds: float) -> str:
    """Milliseconds with three significant digits, or all digits before the point."""
    milliseconds = seconds * MILLI
    digits = 0 if milliseconds >= 100 else 1 if milliseconds >= 10 else 2
    return f"{milliseconds:,.{digits}f}"
