"""The tables of a report: rows of text, a column for each model and data source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .against import against_table
from .automatic import automatic_rows
from .edges import edge_rows
from .figures import Figures
from .groups import group_table
from .instances import instance_rows
from .job import Evaluation
from .proposals import proposal_rows
from .text import text_rows

Row = tuple[str, list[str]]
Table = tuple[str, list[str], list[Row]]  # title, names of the columns, rows
CLICKS_TITLE, AUTOMATIC_TITLE, EDGES_TITLE = "mIoU with human masks", "automatic masks", "edges"
PROPOSALS_TITLE, INSTANCES_TITLE = "object proposals", "instance segmentation from boxes"
TEXT_TITLE = "words: mIoU with human masks"


def rows(figures: Sequence[Figures]) -> list[tuple[str, list[str]]]:
    """The rows of the table of boxes and clicks: a name, and a cell for each of `figures`."""

    def row(name: str, value: Any) -> tuple[str, list[str]]:
        return name, [value(each) for each in figures]

    table = [
        row("photos / masks", lambda f: f"{f.photos} / {f.masks}"),
        row("box: single mask", lambda f: f"{f.box.single:.3f} ± {f.standard_error:.3f}"),
        row("box: model's choice of three", lambda f: f"{f.box.choice:.3f}"),
        row("box: best of three (oracle)", lambda f: f"{f.box.oracle:.3f}"),
        row("box: share above 0.75 / 0.90", lambda f: f"{f.box.good:.0%} / {f.box.very_good:.0%}"),
        row(
            "box: small / medium / large", lambda f: " / ".join(_size(f, size) for size in ("small", "medium", "large"))
        ),
    ]
    for index in range(len(figures[0].shown)):
        name = f"{index + 1} click{'s' if index else ''}"
        table.append(row(name, lambda f, i=index: f"{f.shown[i]:.3f}"))
        if index == 0:
            table += [
                row("  single mask", lambda f: f"{f.clicks[0].single:.3f}"),
                row("  best of three (oracle)", lambda f: f"{f.clicks[0].oracle:.3f}"),
            ]
    for name in figures[0].noc:
        table.append(row(f"clicks to an IoU of 0.{name[-2:]}", lambda f, n=name: f"{f.noc[n]:.2f}"))
    table += [
        row("predicted and true IoU: correlation", lambda f: _number(f.iou_correlation)),
        row("predicted and true IoU: mean error", lambda f: f"{f.iou_error:.3f}"),
    ]
    titles = {
        "box": "no network: the box",
        "ellipse": "no network: ellipse in the box",
        "grabcut": "no network: GrabCut",
    }
    for name in figures[0].baselines:
        table.append(row(titles[name], lambda f, n=name: f"{f.baselines[n]:.3f}" if n in f.baselines else ""))
    return table


def _size(figures: Figures, size: str) -> str:
    return f"{figures.box.by_size[size]:.3f}" if size in figures.box.by_size else "-"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def column(subject: str, data: str, subjects: int) -> str:
    """Name of a column of a table, or of a line of a plot."""
    return data if subjects == 1 else f"{subject}, {data}"


def tables(result: Evaluation) -> list[Table]:
    """The tables of a result: a title, the names of the columns, and the rows."""
    count = len(result.subjects)
    kinds: list[tuple[str, Sequence[Any], Any]] = [
        (CLICKS_TITLE, result.figures, rows),
        (AUTOMATIC_TITLE, result.automatic, automatic_rows),
        (EDGES_TITLE, result.edges, edge_rows),
        (PROPOSALS_TITLE, result.proposals, proposal_rows),
        (INSTANCES_TITLE, result.instances, instance_rows),
        (TEXT_TITLE, result.text, text_rows),
    ]
    found = [
        (title, [column(each.subject, each.data, count) for each in figures], table(figures))
        for title, figures, table in kinds
        if figures
    ]
    found += [against_table(each) for each in result.against]
    return found + [group_table(each, column(each.subject, each.data, count)) for each in result.groups]
