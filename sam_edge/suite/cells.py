"""A suite divided into cells: one model on one data set by one protocol, each an evaluation of its own.

A cell's folder appears whole when it is done (`staged_folder`), so the folder alone shows what is left to do.

    OUT/suite.json                         the settings of the run; other settings are refused
    OUT/cells/000-coco-val-clicks-nano/    the report of a cell, as `sam-edge evaluate` writes it
    OUT/results.json, OUT/suite.html       all of them, written by whoever finds the last one done
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sam_edge.data.sources import open_source
from sam_edge.evaluation.detections import TRUTH
from sam_edge.evaluation.edges import open_edges
from sam_edge.evaluation.job import CLICKS, EDGES, INSTANCES, PROPOSALS, TEXT, EvaluateJob
from sam_edge.evaluation.sources import short_name
from sam_edge.reporting.folders import EVALUATION
from sam_edge_runtime.errors import OutputError
from sam_edge_runtime.system.documents import read_json

from .recipe import Suite, SuiteData, SuiteModel

CELLS = "cells"
GRID_PROTOCOLS = ("automatic", PROPOSALS)
PICTURES = 2  # photos that each cell's report shows


@dataclass(frozen=True)
class Cell:
    """One evaluation of a suite.

    Attributes:
        name: of its folder.
        protocol: its only protocol.
        data: name of the data in tables.
        model: name of the model in tables, or empty for the one that the report has.
        job: what is measured; its `out` is the cell's folder.
    """

    name: str
    protocol: str
    data: str
    model: str
    job: EvaluateJob

    @property
    def done(self) -> bool:
        """Whether its folder holds a report."""
        return (self.job.out / "report.json").is_file()

    def report(self) -> dict[str, Any]:
        """The report of a cell that is done.

        Raises:
            OutputError: it is damaged.
        """
        path = self.job.out / "report.json"
        try:
            document = read_json(path)
        except (OSError, ValueError) as error:
            raise OutputError(
                f"{path} cannot be read ({error}): remove {path.parent}, and run the suite again"
            ) from error
        if not isinstance(document, dict) or document.get("format") != EVALUATION:
            raise OutputError(f"{path} is no report of an evaluation: remove {path.parent}, and run again")
        return document


def divide(suite: Suite, folder: Path, out: Path) -> tuple[Cell, ...]:
    """The cells of a suite, those of one data set and protocol together.

    Args:
        suite: the recipe.
        folder: what paths of data are relative to.
        out: the output folder.

    Raises:
        UsageError: a protocol lacks an option, or an option its protocol.
    """
    cells: list[Cell] = []
    for data in suite.data:
        for protocol in data.protocols:
            for number, model in enumerate(suite.models):
                job = _job(suite, data, protocol, model, folder, first=number == 0)
                label = data.name or short_name(job.data[0])
                subject = model.name or model.model or Path(model.bundle).name
                name = f"{len(cells):03d}-{_slug(label)}-{protocol}-{_slug(subject)}"
                cells.append(Cell(name, protocol, label, model.name, replace(job, out=out / CELLS / name)))
    return tuple(cells)


def photo_counts(cells: Sequence[Cell]) -> list[int]:
    """The number of photos of each source; data that are missing are refused now, and not after hours.

    Raises:
        DataError: a source cannot be opened.
    """
    sources = dict.fromkeys((cell.job.data[0], cell.protocol == EDGES) for cell in cells)
    return [len(open_edges(name).photos) if edges else len(open_source(name)) for name, edges in sources]


def _job(suite: Suite, data: SuiteData, protocol: str, model: SuiteModel, folder: Path, *, first: bool) -> EvaluateJob:
    def path(name: str) -> str:
        return str(folder / name)

    boxes = data.boxes if data.boxes in ("", TRUTH) else path(data.boxes)
    masks_elsewhere = data.annotations and protocol in (INSTANCES, PROPOSALS)
    grid = {"points_per_side": data.points_per_side} if data.points_per_side and protocol in GRID_PROTOCOLS else {}
    return EvaluateJob(
        data=(path(data.source),),
        out=Path(),
        model=model.model or None,
        checkpoint=model.checkpoint or None,
        input_side=model.input_side or None,
        bundles=(Path(model.bundle),) if model.bundle else (),
        protocols=(protocol,),
        clicks=suite.clicks,
        grabcut=suite.grabcut and first,
        settings=grid,
        limit=data.limit or suite.limit or None,
        allow_broken=suite.allow_broken,
        pictures=PICTURES,
        words=(model.words or None) if protocol == TEXT else None,
        boxes=(boxes or None) if protocol == INSTANCES else None,
        annotations=Path(path(data.annotations)) if masks_elsewhere else None,
        groups=Path(path(data.groups)) if data.groups and protocol == CLICKS else None,
        first_point=suite.first_point,
    )


def _slug(name: str) -> str:
    """A name fit for a folder: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:60] or "data"
