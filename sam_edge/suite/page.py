"""`results.json` and `suite.html`: the tables of all cells in the paper's order, with published figures beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sam_edge.evaluation.job import AUTOMATIC, BOX, CLICKS, EDGES, INSTANCES, PROPOSALS, TEXT
from sam_edge.reporting.pages import render
from sam_edge.reporting.versions import tool_versions
from sam_edge_runtime.errors import OutputError, UsageError
from sam_edge_runtime.system.documents import json_text
from sam_edge_runtime.system.files import write_files

from .cells import Cell
from .recipe import Suite
from .references import REFERENCES, REMARKS, Reference

RESULTS, RESULTS_FORMAT, PAGE = "results.json", "sam-edge-suite-results", "suite.html"
TEMPLATE = "suite.html.j2"
SECTIONS = {  # the paper's order; what it does not have follows
    CLICKS: "Points (section 7.1)",
    EDGES: "Edges (section 7.2)",
    PROPOSALS: "Object proposals (section 7.3)",
    INSTANCES: "Instance segmentation (section 7.4)",
    TEXT: "Words (section 7.5)",
    BOX: "Boxes",
    AUTOMATIC: "Automatic masks",
}
WARNING = (
    "Columns marked as published are the paper's: of the model and data that they name, and not of this run. They say "
    "how large a figure may be, not which of two models is better on the same data."
)


@dataclass(frozen=True)
class SuiteTable:
    """A table of the page.

    Attributes:
        title: what is measured.
        columns: a model and its data each.
        rows: the name of a row, and a cell for each column.
        published: columns that are not of this run.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    published: tuple[Reference, ...] = ()

    def published_rows(self) -> list[tuple[str, tuple[str, ...]]]:
        """All rows with the published cells only; those that only the paper has follow the others."""
        names = [name for name, _ in self.rows]
        names += [name for each in self.published for name in each.cells if name not in names]
        return [(name, tuple(each.cells.get(name, "") for each in self.published)) for name in dict.fromkeys(names)]


@dataclass(frozen=True)
class SuiteSection:
    """A protocol's part of the page: its title, its tables, and published figures that no table can hold."""

    title: str
    tables: tuple[SuiteTable, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class SuiteResult:
    """All sections, the models as their reports describe them, and the records that were left out."""

    sections: tuple[SuiteSection, ...]
    models: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def has_published(self) -> bool:
        """Whether figures of others stand beside the run's own."""
        return any(section.remarks or any(table.published for table in section.tables) for section in self.sections)


def collect(suite: Suite, cells: Sequence[Cell]) -> SuiteResult:
    """Put the reports of cells that are done together.

    Raises:
        OutputError: a report is damaged.
    """
    reports = {cell.name: cell.report() for cell in cells}
    sections = []
    try:
        for protocol, title in SECTIONS.items():
            chosen = [cell for cell in cells if cell.protocol == protocol]
            if chosen:
                tables = _joined([(cell, reports[cell.name]) for cell in chosen], len(suite.models))
                first = SuiteTable(tables[0].title, tables[0].columns, tables[0].rows, REFERENCES.get(protocol, ()))
                sections.append(SuiteSection(title, (first, *tables[1:]), REMARKS.get(protocol, ())))
        described = dict.fromkeys(_described(each) for report in reports.values() for each in report["subjects"])
        skipped = dict.fromkeys(line for report in reports.values() for line in _skipped(report))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise OutputError(f"a cell's report is damaged ({error!r:.80}): run the suite in another folder") from error
    return SuiteResult(tuple(sections), tuple(described), tuple(skipped))


def write_results(out: Path, suite: Suite, result: SuiteResult, missing: Sequence[str]) -> None:
    """Write `results.json` and `suite.html`; earlier ones are replaced.

    Args:
        out: the output folder.
        suite: the recipe.
        result: what was measured.
        missing: names of cells that failed.

    Raises:
        UsageError: jinja2 is not installed.
        OutputError: they cannot be written.
    """
    report = {
        "format": RESULTS_FORMAT,
        "suite": suite.to_json(),
        "notes": suite.notes,
        "warning": WARNING,
        **asdict(result),
        "missing": list(missing),
        "made_with": tool_versions(("torch", "onnxruntime", "pycocotools", "scipy")),
    }
    try:
        page = render(Path(__file__).with_name(TEMPLATE), suite=suite, result=result, warning=WARNING, report=report)
    except ImportError as error:
        raise UsageError("suite.html needs jinja2: pip install 'sam-edge[evaluate]'") from error
    contents = {out / RESULTS: json_text(report).encode(), out / PAGE: page.encode()}
    write_files(contents, overwrite=True)


def _joined(reports: Sequence[tuple[Cell, dict[str, Any]]], models: int) -> list[SuiteTable]:
    """The tables of one protocol: those with a column for each data source become one, others stay alone."""
    columns: dict[str, dict[str, dict[str, str]]] = {}  # title -> column -> row -> cell
    alone: list[SuiteTable] = []
    for cell, report in reports:
        model = cell.model or f"{report['subjects'][0]['model']} {report['subjects'][0]['runs as']}"
        column = cell.data if models == 1 else f"{model}, {cell.data}"
        for title, names, rows in report["tables"]:
            if len(names) == 1:
                columns.setdefault(title, {})[column] = {name: cells[0] for name, cells in rows}
            else:
                whole = title if models == 1 else f"{title}, {model}"
                alone.append(SuiteTable(whole, tuple(names), tuple((name, tuple(cells)) for name, cells in rows)))
    joined = []
    for title, by_column in columns.items():
        names = dict.fromkeys(name for cells in by_column.values() for name in cells)
        rows = tuple((name, tuple(cells.get(name, "") for cells in by_column.values())) for name in names)
        joined.append(SuiteTable(title, tuple(by_column), rows))
    return [*joined, *alone]


def _described(subject: dict[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in subject.items() if value is not None)


def _skipped(report: dict[str, Any]) -> list[str]:
    kinds = ("figures", "automatic", "proposals", "instances", "text")
    return [str(line) for kind in kinds for each in report.get(kind, []) for line in each["skipped"]]
