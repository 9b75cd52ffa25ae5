"""`sam-edge engine run`: rounds of annotation and training, each step once.

The pieces are those of the other commands: the annotation server, `segment`, `annotate`, `train` and the evaluation.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from sam_edge.annotation.annotate import AnnotateJob, annotate
from sam_edge.annotation.segment import SegmentJob, segment
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import Source, open_source
from sam_edge.evaluation.evaluate import evaluate_source
from sam_edge.evaluation.measure import Protocol
from sam_edge.evaluation.sources import short_name
from sam_edge.export.job import ExportJob
from sam_edge.export.pipeline import export_bundle
from sam_edge.prediction.promptable import open_model
from sam_edge.serving.annotation_session import AnnotationSession
from sam_edge.serving.hosted_bundle import BROWSER, SERVER
from sam_edge.serving.job import HOST, AnnotationJob, ServeJob
from sam_edge.serving.page import Page
from sam_edge.serving.server import Served, hosting
from sam_edge.training.files import RECIPE_FILE
from sam_edge.training.recipe import TrainRecipe
from sam_edge.training.train import InitialWeights, train
from sam_edge.training.trainer import TrainJob
from sam_edge.weights.load import find_source
from sam_edge_runtime.errors import DataError

from .annotator import SimulatedAnnotator
from .client import Client
from .folder import (
    ROUND_FILE,
    START_FILE,
    WORK_FILE,
    RoundFolder,
    locked,
    read_document,
    rounds_of,
    settle,
    write_document,
)
from .loop import Loop, Round, confident, recipes_of
from .queue import GIVEN, PHOTOS, Intake, fill_queue
from .report import write_report
from .stages import AUTOMATIC, MANUAL, SEMI_AUTOMATIC
from .work import Work, work_of_machine, work_of_people

EXISTING_FILE = "existing.json"
POLL = 0.5  # seconds between two looks at the queue that people work on
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EngineJob:
    """A loop and where it runs.

    Attributes:
        loop: the loop.
        folder: that its recipes are relative to.
        data: that its photos and validation data are relative to.
        out: folder of the results; a loop there goes on.
        host: address of the page, where people annotate.
        port: of the page; None for 8000, or a free one where that is taken.
        workers: processes that read photos for training.
        announce: called with each address that people are to open.
    """

    loop: Loop
    folder: Path
    data: Path
    out: Path
    host: str = HOST
    port: int | None = None
    workers: int = 0
    announce: Callable[[Served], None] = lambda served: None


def run_engine(job: EngineJob, progress: Progress = lambda what, done, total: None) -> list[dict[str, Any]]:
    """Run a loop to its end, or go on with it.

    Args:
        job: the loop.
        progress: called with what is being done, how much of it is done, and how much there is.

    Returns:
        The start and the rounds, as `report.json` has them.

    Raises:
        UsageError: a recipe, the model or an option cannot be used.
        DataError: photos or validation data are missing, too few or without masks.
        OutputError: the folder holds something else, or cannot be written.
        CheckpointError, ExportError, BackendError: the model cannot be loaded, exported or run.
        KeyboardInterrupt: Ctrl-C; the same command goes on.
    """
    loop = job.loop
    recipes = recipes_of(loop, job.folder)
    source, validation = _sources(job)
    page = Page.open() if loop.people else Page({})
    weights = str(find_source(loop.model, loop.init or None).path or loop.init)
    evaluator = _Evaluator(loop, validation, progress)
    settle(loop, job.out)
    with locked(job.out):
        settle(loop, job.out)  # another process may have been first
        return _rounds(job, recipes, source, evaluator, page, weights)


def _rounds(
    job: EngineJob,
    recipes: tuple[TrainRecipe, ...],
    source: Source,
    evaluator: _Evaluator,
    page: Page,
    weights: str,
) -> list[dict[str, Any]]:
    """Each round, from the first that is not complete."""
    loop, progress = job.loop, evaluator.progress
    done = [_start(job, evaluator, weights)]
    folders = rounds_of((each.stage for each in loop.rounds), job.out)
    for number, (folder, each) in enumerate(zip(folders, loop.rounds, strict=True)):
        finished = folder.read(ROUND_FILE)
        if finished is None:
            intake = Intake(
                source, each.photos, loop.short_side, not loop.people and each.stage != AUTOMATIC, loop.seed
            )
            queue = fill_queue(intake, folder, folders[:number])
            work = _work(_RoundJob(job, each, folder, page, weights, progress))
            _train(job, recipes[number], folders[: number + 1], weights, progress)
            finished = {
                "round": folder.number,
                "stage": folder.stage,
                "work": work.to_json(),
                "duplicates": queue["duplicates"],
                "left_out": queue["left_out"],
                "evaluation": evaluator.measure(str(folder.weights)),
            }
            write_document(folder.path / ROUND_FILE, finished)
        weights = str(folder.weights)
        done.append(finished)
        write_report(job.out, loop, done)
    return done


def _sources(job: EngineJob) -> tuple[Source, list[Source]]:
    """The photos and the validation data.

    Raises:
        DataError: they are missing, too few or without masks.
    """
    loop = job.loop
    source = open_source(job.data / loop.photos)
    if not loop.people and any(each.stage != AUTOMATIC for each in loop.rounds) and not source.annotated:
        raise DataError(f"{loop.photos} has no masks for the simulated annotator: name other photos, or kind = 'page'")
    wanted = sum(each.photos for each in loop.rounds)
    if wanted > len(source):
        raise DataError(f"the rounds want {wanted} photos and {loop.photos} has {len(source)}: name more, or want less")
    validation = [open_source(job.data / each) for each in loop.validation]
    for each in validation:
        if not each.annotated:
            raise DataError(f"the validation data {short_name(each.name)} have no masks: name others")
    return source, validation


@dataclass(frozen=True)
class _Evaluator:
    """Measures models on the validation data."""

    loop: Loop
    validation: list[Source]
    progress: Progress

    def measure(self, weights: str) -> list[dict[str, Any]]:
        """The figures of a model for each source."""
        subject = open_model(self.loop.model, weights, self.loop.input_side or None)
        measured = []
        for source in self.validation:
            total = min(self.loop.limit or len(source), len(source))
            figures = evaluate_source(
                subject.backend,
                subject.capacity,
                source,
                Protocol(self.loop.clicks, grabcut=False),
                limit=self.loop.limit or None,
                watch=lambda sample, done, total=total: self.progress("evaluating", done, total),  # type: ignore[misc]
                log=SkipLog(),
            )
            measured.append(
                {
                    "data": figures.data,
                    "photos": figures.photos,
                    "masks": figures.masks,
                    "box": figures.box.single,
                    "box_error": figures.box.standard_error,
                    "clicks": list(figures.shown),
                    "click_errors": list(figures.shown_errors),
                }
            )
        return measured


def _start(job: EngineJob, evaluator: _Evaluator, weights: str) -> dict[str, Any]:
    """The first weights' evaluation, measured once."""
    path = job.out / START_FILE
    there = read_document(path)
    if there is None:
        there = {"round": 0, "stage": "start", "evaluation": evaluator.measure(weights)}
        write_document(path, there)
    return there


@dataclass(frozen=True)
class _RoundJob:
    """What a round's masks are made with."""

    job: EngineJob
    round: Round
    folder: RoundFolder
    page: Page
    weights: str
    progress: Progress


def _work(one: _RoundJob) -> Work:
    """The round's masks, made once, and their figures."""
    there = one.folder.read(WORK_FILE)
    if there is not None:
        return Work(**{name: there[name] for name in Work.__dataclass_fields__})
    _export(one)
    if one.folder.stage == AUTOMATIC:
        work = _automatic(one)
    else:
        seconds = _confident(one) if one.folder.stage == SEMI_AUTOMATIC else 0.0
        work = _drawn(one, seconds)
    write_document(one.folder.path / WORK_FILE, work.to_json())
    return work


def _export(one: _RoundJob) -> None:
    """The bundle of the model in use."""
    if one.folder.bundle.exists():
        return
    loop = one.job.loop
    export = ExportJob(loop.model, one.folder.bundle, one.weights, input_side=loop.input_side or None)
    export_bundle(export, lambda stage: one.progress(f"bundle: {stage}", 0, 0))


def _confident(one: _RoundJob) -> float:
    """The masks that the model is sure of, and the machine's seconds for them."""
    path = one.folder.path / EXISTING_FILE
    there = read_document(path)
    if there is None:
        start = perf_counter()
        job = SegmentJob(
            one.folder.queue / PHOTOS,
            one.folder.bundle,
            settings=confident(one.job.loop.model, one.round.settings),
            out=one.folder.existing,
            picture=False,
            overwrite=True,  # those of a run that was killed
        )
        masks = 0
        for photo, found in enumerate(segment(job), start=1):
            masks += found.masks
            one.progress("confident masks", photo, one.round.photos)
        there = {"masks": masks, "seconds": perf_counter() - start}
        write_document(path, there)
    return float(there["seconds"])


def _drawn(one: _RoundJob, machine_seconds: float) -> Work:
    """Masks of people, or of the simulated annotator, through the annotation server."""
    loop, folder = one.job.loop, one.folder
    existing = folder.existing if folder.stage == SEMI_AUTOMATIC else None
    annotation = AnnotationJob(folder.queue / PHOTOS, folder.masks, existing)
    serve = (
        ServeJob((folder.bundle,), annotation, BROWSER, one.job.host, one.job.port)
        if loop.people
        else ServeJob((folder.bundle,), annotation, SERVER, HOST, 0)
    )
    with hosting(serve, one.page) as hosted:
        session = hosted.session
        if session is None:
            raise DataError("the annotation server has no session")
        if loop.people:
            _wait_for_people(one, session, hosted.served)
        else:
            annotator = SimulatedAnnotator(
                Client(hosted.served.address),
                folder.queue / GIVEN,
                loop.annotator,
                loop.seed,
                more=folder.stage != MANUAL,
            )
            annotator.work(lambda done, total: one.progress("simulated annotator", done, total))
    return work_of_people(session.files.figures.values(), folder.masks, machine_seconds)


def _wait_for_people(one: _RoundJob, session: AnnotationSession, served: Served) -> None:
    one.job.announce(served)
    total = len(session.queue.photos)
    while (left := session.left()) > 0:
        one.progress("people annotate", total - left, total)
        sleep(POLL)


def _automatic(one: _RoundJob) -> Work:
    """Automatic masks, and the machine's seconds: of an interrupted run they are computed from the photos since."""
    start = perf_counter()
    first: list[int] = []
    total = 0

    def show(done: int, failed: int, photos: int) -> None:
        nonlocal total
        first.append(done)
        total = photos
        one.progress("automatic masks", done, photos)

    job = AnnotateJob(
        str(one.folder.queue / PHOTOS),
        one.folder.masks,
        one.folder.bundle,
        settings=confident(one.job.loop.model, one.round.settings),
    )
    annotate(job, show)
    fresh = total - first[0]
    return work_of_machine(one.folder.masks, (perf_counter() - start) * total / fresh if fresh else 0.0)


def _train(
    job: EngineJob, recipe: TrainRecipe, folders: tuple[RoundFolder, ...], weights: str, progress: Progress
) -> None:
    """Train on the masks of all rounds so far, from the last weights."""
    folder = folders[-1]
    if folder.weights.exists():
        return
    data = training_data(job, folders)
    resume = (folder.train / RECIPE_FILE).exists()
    if not resume:  # what a run left that was killed while it began
        shutil.rmtree(folder.train, ignore_errors=True)
    train(
        TrainJob(job.out, folder.train, resume=resume, workers=job.workers, picture_every=0),
        replace(recipe, data=data, seed=recipe.seed + folder.number),  # else each round sees the same crops again
        InitialWeights(checkpoint=weights),
        lambda step, record: progress(f"training, loss {record['loss']:.3f}", step, recipe.steps),
    )


def training_data(job: EngineJob, folders: tuple[RoundFolder, ...]) -> tuple[str, ...]:
    """The data sets of rounds with their weights in training: photos, times the mean weight of their masks.

    Raises:
        DataError: none of the rounds has a mask.
    """
    data = []
    for each in folders:
        work = each.read(WORK_FILE)
        masks = 0 if work is None else work["drawn"] + work["found"]
        if work is None or not masks:
            continue
        weight = work["photos"] * (work["drawn"] * job.loop.people_weight + work["found"]) / masks
        data.append(f"{each.masks.relative_to(job.out).as_posix()}={weight:g}")
    if not data:
        last = folders[-1].path.name
        raise DataError(f"no round up to {last} has a mask to train on: run another loop, with more photos")
    return tuple(data)
