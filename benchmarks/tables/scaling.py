"""Tables of `scaling.py`."""

from __future__ import annotations

from .markdown import markdown
from .results import Row


def peak_line(document: Row) -> str:
    """The rate of this machine's fastest large product."""
    peak = document["peak"]
    rates = ", ".join(f"{max(rate.values()) / 1e9:.0f} GFLOP/s with {n} thread(s)" for n, rate in peak.items())
    libraries = peak[str(max(map(int, peak)))]
    return f"{rates} ({', '.join(f'{library} {rate / 1e9:.0f}' for library, rate in libraries.items())})"


def scaling_table(document: Row, graph: str, threads: int | None = None) -> str:
    """Time and memory of a graph by input side or number of prompts; with every core where `threads` is None."""
    peak = document["peak"]
    threads = threads or max(map(int, peak))
    head = ("", "side", "prompts", "ms", "ms a prompt", "GFLOP", "ms at the peak", "share of the peak", "peak MB")
    cells = []
    for row in document["rows"]:
        if (row["graph"], row["threads"]) != (graph, threads):
            continue
        milliseconds = row["seconds"]["p50"] * 1e3
        limit = row["flop"] / max(peak[str(threads)].values()) * 1e3
        line = [row["variant"], row["side"], row["prompts"], f"{milliseconds:,.1f}"]
        line += [f"{milliseconds / row['prompts']:,.1f}", f"{row['flop'] / 1e9:,.1f}", f"{limit:,.1f}"]
        cells.append([*line, f"{limit / milliseconds:.0%}", f"{row['peak_bytes'] / 1e6:,.0f}"])
    return markdown(head, cells)
