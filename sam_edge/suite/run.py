"""`sam-edge evaluate --suite`: the cells of a suite in several processes and on several hosts.

As `sam-edge annotate` does: launchers (torchrun, `accelerate launch`) number processes over hosts in RANK and
WORLD_SIZE, process p of P measures every P-th cell, and each of these may start several with `processes`, which share
the machine's cores. A cell that is done is never done again, so a killed run goes on with the same command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sam_edge.annotation.annotate import place_among_hosts
from sam_edge.annotation.processes import Send, events_of
from sam_edge.evaluation.evaluate import evaluate
from sam_edge.reporting.settings import written_settings
from sam_edge_runtime.bundle.bundle import Bundle
from sam_edge_runtime.bundle.document import FILE_NAME
from sam_edge_runtime.errors import OutputError, SamEdgeError, UsageError
from sam_edge_runtime.system.cores import usable_cores
from sam_edge_runtime.system.files import sha256_of

from .cells import Cell, divide, photo_counts
from .page import SuiteResult, collect, write_results
from .recipe import Suite, SuiteModel

SETTINGS_FILE = "suite.json"
FORMAT = "sam-edge-suite"
DONE, FAILED = "done", "failed"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SuiteJob:
    """A suite to run.

    Attributes:
        suite: the recipe.
        folder: what its paths of data are relative to.
        out: the output folder; a run with the same settings goes on.
        processes: number of processes on this machine.

    Raises:
        UsageError: fewer than one process.
    """

    suite: Suite
    folder: Path
    out: Path
    processes: int = 1

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise UsageError(f"--processes {self.processes} are too few: give at least 1")


@dataclass(frozen=True)
class SuiteRun:
    """What a run has left behind.

    Attributes:
        result: the whole table; None while other hosts are at work.
        failures: by the cell's name, why it could not be measured.
        complaints: by the cell's name, what is wrong with its data; it was measured all the same.
        cells: number of cells of the suite.
    """

    result: SuiteResult | None
    failures: dict[str, str]
    complaints: dict[str, str]
    cells: int


def run_suite(job: SuiteJob, progress: Progress = lambda what, done, total: None) -> SuiteRun:
    """Measure this host's share of the cells, and write the page if no cell is left.

    A cell that fails does not stop the others.

    Raises:
        DataError: data are missing, or a process was killed.
        OutputError: the folder holds something else, or another suite.
        UsageError, BundleError: the suite asks for what cannot be.
    """
    cells = divide(job.suite, job.folder, job.out)
    photos = photo_counts(cells)
    rank, world = place_among_hosts()
    _settle(job, photos)
    own = cells[rank::world]
    open_cells = [cell for cell in own if not cell.done]
    done = len(own) - len(open_cells)
    failures: dict[str, str] = {}
    complaints: dict[str, str] = {}
    progress("cells", done, len(own))
    count = min(job.processes, len(open_cells))
    threads = max(1, usable_cores() // max(1, count))
    shares = [(open_cells[place::count], threads) for place in range(count)]
    remedy = "finished cells are kept, so run the same command to resume"
    for kind, (name, message) in events_of(_work, shares, remedy=remedy):
        if kind == FAILED:
            failures[name] = message
        else:
            done += 1
            if message:
                complaints[name] = message
        progress(name, done, len(own))
    if not failures and any(not cell.done for cell in cells):
        return SuiteRun(None, failures, complaints, len(cells))
    result = collect(job.suite, [cell for cell in cells if cell.done])
    write_results(job.out, job.suite, result, [cell.name for cell in cells if not cell.done])
    return SuiteRun(result, failures, complaints, len(cells))


def _work(share: tuple[Sequence[Cell], int], send: Send) -> None:
    """The work of one process."""
    import torch  # noqa: PLC0415

    cells, threads = share
    torch.set_num_threads(threads)
    for cell in cells:
        try:
            complaint = evaluate(replace(cell.job, threads=threads)).complaint or ""
        except SamEdgeError as error:
            if not cell.done:  # else another run was faster
                send(FAILED, (cell.name, str(error)))
                continue
            complaint = ""
        send(DONE, (cell.name, complaint))


def _settle(job: SuiteJob, photos: Sequence[int]) -> None:
    """Write the run's settings to the output folder, or compare them with those that are there.

    Raises:
        BundleError: a bundle is not valid.
        OutputError: the folder holds something else, or the results of other settings.
    """
    wanted = json.loads(
        json.dumps(
            {
                "format": FORMAT,
                **job.suite.to_json(),
                "photos": photos,
                "weights": [_weights(model) for model in job.suite.models],
            }
        )
    )
    written = written_settings(job.out / SETTINGS_FILE, wanted, "suite")
    different = [name for name in wanted if written.get(name) != wanted[name]]
    if different:
        raise OutputError(
            f"{job.out} holds a run of another suite, which differs in {', '.join(different)}: choose another folder, "
            "or give the same suite as before to resume it"
        )


def _weights(model: SuiteModel) -> Any:
    """What tells a model's weights apart from others at the same place."""
    if model.bundle:
        return sha256_of(Bundle.open(Path(model.bundle)).root / FILE_NAME)
    path = Path(model.checkpoint)
    return sha256_of(path) if model.checkpoint and path.is_file() else None
