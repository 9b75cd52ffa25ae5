"""A benchmark as one HTML file: tables, and plots of the times' spread and of time against accuracy and size."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from sam_edge.reporting.pages import empty_figure, render
from sam_edge_runtime.errors import UsageError

from .tables import engines, hardware, latency_table, ratio_table, start_table

TEMPLATE = "page.html.j2"
DOT = 90.0  # area of a dot for each megabyte, in square points, up to `LARGEST_DOT`
SMALLEST_DOT, LARGEST_DOT = 60.0, 3000.0
NEEDS = "a page needs jinja2 and matplotlib: pip install 'sam-edge[evaluate]'"


def check_page() -> None:
    """Check before measuring that the page can be written.

    Raises:
        UsageError: jinja2 or matplotlib is not installed.
    """
    try:
        import jinja2  # noqa: F401, PLC0415 - extras
        import matplotlib  # noqa: F401, PLC0415
    except ImportError as error:
        raise UsageError(NEEDS) from error


def page(document: Mapping[str, Any]) -> str:
    """The document as HTML with embedded pictures.

    Raises:
        UsageError: jinja2 or matplotlib is not installed.
    """
    check_page()
    tables = [latency_table(document), start_table(document)]
    if len(document["bundles"]) > 1:
        tables.insert(1, ratio_table(document))
    pictures = [
        ("Time of all rounds: photo to first mask, and a click on an encoded photo", _picture(document, _boxes)),
        ("Photo to first mask against mask accuracy and size", _picture(document, _trade)),
    ]
    return render(
        Path(__file__).with_name(TEMPLATE),
        document=document,
        hardware=hardware(document),
        engines=engines(document),
        tables=[_plain(table) for table in tables],
        pictures=pictures,
    )


def _plain(table: Table) -> dict[str, Any]:
    """A terminal's table as headings and cells."""
    columns = [[str(cell) for cell in column.cells] for column in table.columns]
    return {
        "title": str(table.title),
        "caption": str(table.caption).split("\n", 1)[0],
        "headings": [str(column.header) for column in table.columns],
        "rows": list(zip(*columns, strict=True)),
    }


def _picture(document: Mapping[str, Any], draw: Callable[[Any, Mapping[str, Any]], None]) -> str:
    """The plot that `draw` makes, as a PNG in base64."""
    figure = empty_figure(8.0, 1.6 + 0.5 * max(4, len(document["bundles"])), dpi=110)
    draw(figure, document)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return base64.b64encode(stream.getvalue()).decode()


def _boxes(figure: Any, document: Mapping[str, Any]) -> None:
    """Box plots of two steps, a row for each bundle, the first on top."""
    rows = document["bundles"][::-1]
    for axes, step in zip(figure.subplots(1, 2, sharey=True), ("photo", "click"), strict=True):
        axes.boxplot(
            [[1e3 * seconds for seconds in row["samples"][step]] for row in rows],
            orientation="horizontal",
            tick_labels=[row["name"] for row in rows],
            widths=0.6,
        )
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{step}, ms")
        axes.grid(visible=True, axis="x", alpha=0.3)


def _trade(figure: Any, document: Mapping[str, Any]) -> None:
    """A dot for each bundle: time to the right, mask mIoU upwards, its area is the bundle's size."""
    axes = figure.subplots()
    rows = [row for row in document["bundles"] if row["mask_miou"] is not None]
    for number, row in enumerate(rows):
        place = 1e3 * row["steps"]["photo"]["p50"], row["mask_miou"]
        area = min(max(DOT * row["bytes"] / 1e6, SMALLEST_DOT), LARGEST_DOT)
        name = f"{row['name']}, {row['bytes'] / 1e6:.1f} MB"
        axes.scatter(*place, s=area, color=f"C{number}", alpha=0.5, linewidths=0)
        axes.plot(*place, ".", color=f"C{number}", label=name)
    axes.margins(0.25)
    slowest = max((row["steps"]["photo"]["p50"] for row in rows), default=1e-3)
    axes.set_xlim(0, 1.25e3 * slowest)
    axes.set_ylim(min((row["mask_miou"] for row in rows), default=1.0) - 0.02, 1.01)
    if rows:
        axes.legend(fontsize=8, loc="lower left")
    axes.set_xlabel("photo to first mask, ms (median)")
    axes.set_ylabel("mask mIoU with fp32 torch")
    axes.grid(visible=True, alpha=0.3)
