"""Markdown of tables, and how figures are written in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose first column is aligned to the left and whose others are to the right."""
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines)


def failed(name: str, error: str, head: Sequence[str]) -> list[str]:
    """A row of a run that gave no figures."""
    return [name, error, *[""] * (len(head) - 2)]


def bold(text: str, met: bool) -> str:
    """A figure in bold where it missed its aim."""
    return text if met else f"**{text}**"


def quartiles(found: dict[str, float], scale: float = 1.0, digits: int = 2) -> str:
    """The median with the quartiles, as `spread` has them."""
    return "{:,.{d}f} ({:,.{d}f} to {:,.{d}f})".format(*(found[q] * scale for q in ("p50", "q25", "q75")), d=digits)


def median_range(found: dict[str, float] | None) -> str:
    """The median with the least and the greatest, or the quartiles."""
    return "" if found is None else f"{found['median']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def milliseconds(seconds: float) -> str:
    """Seconds in ms, with a decimal below 100."""
    return f"{seconds * 1e3:,.0f}" if seconds >= 0.1 else f"{seconds * 1e3:.1f}"
