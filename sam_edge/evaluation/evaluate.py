"""`sam-edge evaluate`: measure models and bundles on data with human masks, and write a report."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sam_edge.data.mask_names import MaskNames
from sam_edge.data.mixture import of_sources
from sam_edge.data.sample import Sample
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import Source, open_source
from sam_edge.data.stream import walk
from sam_edge.prediction.promptable import SHIPPED_WORDS, Promptable, open_bundle, open_model
from sam_edge.reporting.folders import AUTOMATIC_MASKS, CURVE, EVALUATION, EXAMPLES, RECALL, foreign_in_evaluation
from sam_edge.reporting.versions import tool_versions
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.rle import Rle
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.decoding import Capacity
from sam_edge_runtime.errors import DataError, PromptError, UsageError
from sam_edge_runtime.system.documents import json_text
from sam_edge_runtime.system.folders import check_destination, staged_folder

from .automatic import AutomaticFigures, Proposals, automatic_figures, propose
from .baselines import has_opencv
from .edges import EDGE_SETTINGS, EdgeFigures, EdgeSource, measure_edges, open_edges
from .figures import Figures, figures_of
from .job import AUTOMATIC, EDGES, TEXT, EvaluateJob, Evaluation
from .measure import PhotoMeasurement, Protocol, measure_photo
from .report import draw_automatic, draw_curve, draw_examples, draw_recall, write_page
from .text import TextFigures, TextMeter, WordsOnPhoto, text_figures

MOST_AUTOMATIC = 4  # photos whose automatic masks are drawn
Progress = Callable[[str, int, int], None]


def evaluate(job: EvaluateJob, progress: Progress = lambda what, done, total: None) -> Evaluation:
    """Measure, and write `report.json`, `report.html` and pictures.

    Raises:
        DataError: data are missing, have no masks, or none can be used.
        UsageError, CheckpointError, BundleError, BackendError: a model or bundle cannot be loaded.
        PromptError: a bundle's decoder takes fewer points than the protocol needs.
        OutputError: the report cannot be written.
    """
    check_destination(job.out, overwrite=job.overwrite, foreign=foreign_in_evaluation)
    _check_packages(job)
    masks_wanted = set(job.protocols) - {EDGES}
    sources = [_annotated(what) for what in job.data] if masks_wanted else []
    edge_sources = [open_edges(what) for what in job.data] if EDGES in job.protocols else []
    progress("loading the model", 0, 0)
    subjects = _subjects(job)
    prompted = job.prompted
    if prompted is not None:
        for subject in subjects:
            _check_capacity(subject.capacity, prompted)
    with staged_folder(job.out, overwrite=job.overwrite, foreign=foreign_in_evaluation) as folder:
        examples: list[Sample] = []
        drawn: list[tuple[Sample, tuple[Rle, ...]]] = []
        logs: list[SkipLog] = []
        result = Evaluation(
            tuple(subject.description for subject in subjects),
            tuple(_prompted(job, prompted, subjects, sources, progress, examples, logs))
            if prompted is not None
            else (),
            tuple(_automatic(job, subjects, sources, progress, drawn, logs)) if AUTOMATIC in job.protocols else (),
            tuple(_edges(job, subjects, edge_sources, progress)),
            tuple(_text(job, subjects, sources, progress, logs)) if TEXT in job.protocols else (),
            job.out,
        )
        result = replace(result, complaint=next(filter(None, (log.complaint() for log in logs)), None))
        progress("writing the report", 0, 0)
        report = _report(job, result)
        (folder / "report.json").write_text(json_text(report), encoding="utf-8")
        if result.figures and result.figures[0].shown:
            draw_curve(folder / CURVE, result.figures)
        if result.automatic:
            draw_recall(folder / RECALL, result.automatic)
        if examples:
            draw_examples(folder / EXAMPLES, subjects[0].backend, subjects[0].capacity, examples[: job.pictures])
        if drawn:
            draw_automatic(folder / AUTOMATIC_MASKS, drawn[:MOST_AUTOMATIC])
        write_page(folder, report, result)
    return result


def _subjects(job: EvaluateJob) -> list[Promptable]:
    words = (job.words or SHIPPED_WORDS) if TEXT in job.protocols else None
    subjects = [open_model(job.model, job.checkpoint, job.input_side, words)] if job.model is not None else []
    return [*subjects, *map(open_bundle, job.bundles)]


def _prompted(
    job: EvaluateJob,
    protocol: Protocol,
    subjects: Sequence[Promptable],
    sources: Sequence[Source],
    progress: Progress,
    examples: list[Sample],
    logs: list[SkipLog],
) -> Iterator[Figures]:
    """Boxes and clicks; appends the photos to draw to `examples`, and the skipped records to `logs`."""
    for source in sources:
        picked = _picked(job, source, job.pictures, len(sources))
        for number, subject in enumerate(subjects):
            count = _counter(job, source, subject, progress)

            def watch(
                sample: Sample,
                done: int,
                count: Callable[[int], None] = count,
                drawn: frozenset[int] = picked if number == 0 else frozenset(),
            ) -> None:
                count(done)
                if done in drawn:
                    examples.append(sample)

            measured = protocol if number == 0 else replace(protocol, grabcut=False)  # it is the same for all subjects
            logs.append(SkipLog(job.allow_broken, at_end=True))
            figures = evaluate_source(
                subject.backend, subject.capacity, source, measured, limit=job.limit, watch=watch, log=logs[-1]
            )
            yield replace(figures, subject=subject.name)


def _automatic(
    job: EvaluateJob,
    subjects: Sequence[Promptable],
    sources: Sequence[Source],
    progress: Progress,
    drawn: list[tuple[Sample, tuple[Rle, ...]]],
    logs: list[SkipLog],
) -> Iterator[AutomaticFigures]:
    """Automatic masks; appends the photos to draw to `drawn`, with the first subject's masks."""
    for source in sources:
        picked = _picked(job, source, min(job.pictures, MOST_AUTOMATIC), len(sources))
        reference: list[Proposals] | None = None
        for subject in subjects:
            generator = subject.mask_generator(job.settings)
            count, log = _counter(job, source, subject, progress), SkipLog(job.allow_broken, at_end=True)
            logs.append(log)
            photos: list[Proposals] = []
            for sample in _with_masks(source, log, job.limit):
                count(len(photos))
                proposals = propose(generator, sample)
                if reference is None and len(photos) in picked:
                    drawn.append((sample, proposals.rles))
                photos.append(proposals)
            yield automatic_figures(subject.name, short_name(source.name), photos, reference, _skipped(log))
            reference = photos if reference is None else reference


def _edges(
    job: EvaluateJob, subjects: Sequence[Promptable], sources: Sequence[EdgeSource], progress: Progress
) -> Iterator[EdgeFigures]:
    for source in sources:
        for subject in subjects:
            generator = AutomaticMaskGenerator.from_backend(subject.backend, subject.capacity, EDGE_SETTINGS)
            show = partial(progress, f"{subject.name}, {short_name(source.name)}")
            yield measure_edges(subject.name, source, generator, job.limit, show)


def _text(
    job: EvaluateJob,
    subjects: Sequence[Promptable],
    sources: Sequence[Source],
    progress: Progress,
    logs: list[SkipLog],
) -> Iterator[TextFigures]:
    """Words; appends the skipped records to `logs`."""
    for source in sources:
        names = MaskNames([source])
        for subject in subjects:
            meter = TextMeter(subject, sorted(names.counts))
            count, log = _counter(job, source, subject, progress), SkipLog(job.allow_broken, at_end=True)
            logs.append(log)
            photos: list[WordsOnPhoto] = []
            for sample in _with_masks(source, log, job.limit):
                count(len(photos))
                photos.append(meter.measure(sample, names.of(sample)))
            yield text_figures(subject.name, short_name(source.name), photos, _skipped(log))


def _counter(job: EvaluateJob, source: Source, subject: Promptable, progress: Progress) -> Callable[[int], None]:
    """A function that reports how many photos of a source are done for a subject."""
    name, total = f"{subject.name}, {short_name(source.name)}", _photo_count(job, source)
    return lambda done: progress(name, done, total)


def _picked(job: EvaluateJob, source: Source, pictures: int, sources: int) -> frozenset[int]:
    """Indices of a source's photos that are drawn: its share of `pictures`, evenly spread."""
    share = -(-pictures // sources)
    return frozenset(int((place + 0.5) * _photo_count(job, source) / share) for place in range(share))


def _photo_count(job: EvaluateJob, source: Source) -> int:
    """Number of a source's photos that are measured, if all can be used."""
    return min(len(source), job.limit or len(source))


def evaluate_source(
    backend: Backend,
    capacity: Capacity,
    source: Source,
    protocol: Protocol,
    *,
    limit: int | None = None,
    watch: Callable[[Sample, int], None] = lambda sample, done: None,
    log: SkipLog | None = None,
) -> Figures:
    """The figures of one source, without a report: for a trainer, for instance.

    Args:
        backend: runs the model; `TorchBackend(sam)` for a torch model.
        capacity: what its decoder takes; `AnyCapacity.of(sam)` for a torch model.
        source: photos with masks.
        protocol: the prompts.
        limit: largest number of photos; None for all.
        watch: called before each photo, with the photo and how many were measured before it.
        log: counts the records; None for one that raises when too many are broken.

    Raises:
        DataError: no photo has a mask, or too many records are broken.
        PromptError: the decoder takes fewer points than the protocol needs.
        BackendError: the engine failed.
    """
    log = SkipLog() if log is None else log
    photos: list[PhotoMeasurement] = []
    for sample in _with_masks(source, log, limit):
        watch(sample, len(photos))
        photos.append(measure_photo(backend, capacity, sample, protocol))
    return figures_of(short_name(source.name), photos, _skipped(log))


def _skipped(log: SkipLog) -> list[str]:
    """The skipped records, without full paths: a report may be published."""
    return [f"{skip.key} in {short_name(skip.source)} ({skip.reason})" for skip in log.names]


def short_name(name: str) -> str:
    """The last two parts of a source's path, which reveal nothing of the machine."""
    path = Path(name)
    return "/".join([part for part in path.parts if part != path.anchor][-2:]) or path.resolve().name


def _check_packages(job: EvaluateJob) -> None:
    """Refuse now if a package is missing that the report needs at the end."""
    for package in ("matplotlib", "jinja2"):
        if find_spec(package) is None:
            raise UsageError(f"the report needs {package}: pip install 'sam-edge[evaluate]'")
    if job.grabcut and job.prompted is not None and not has_opencv():
        raise UsageError("GrabCut needs OpenCV: pip install 'sam-edge[evaluate]', or use --no-grabcut")


def _check_capacity(capacity: Capacity, protocol: Protocol) -> None:
    """Refuse clicks that the model does not know, and more than a fixed decoder takes.

    SAM's "not a point" needs one slot, too.
    """
    conventions = capacity.conventions
    if protocol.clicks > 1 and not (conventions.background_points and conventions.mask_prompts):
        raise PromptError(
            "clicks after the first need points outside the object and mask prompts, which this model does not know: "
            "use --protocol box or --clicks 1"
        )
    if capacity.points is not None and protocol.clicks + 1 > capacity.points:
        raise PromptError(
            f"{protocol.clicks} clicks need {protocol.clicks + 1} slots and this decoder has {capacity.points}: use "
            f"--clicks {capacity.points - 1}, or export with --points {protocol.clicks + 1}"
        )


def _annotated(what: str) -> Source:
    source = open_source(what)
    if not source.annotated:
        raise DataError(f"{what} has photos without masks, which accuracy is measured against: name other data")
    of_sources(source)  # raises if it has no records
    return source


def _with_masks(source: Source, log: SkipLog, limit: int | None) -> Iterator[Sample]:
    """The source's photos that have masks, at most `limit`."""
    given = 0
    for sample in walk(source, log):
        if sample.rles:
            yield sample
            given += 1
            if given == limit:
                return
    if not given:
        raise DataError(f"{source.name} has no photo with a mask: name other data")


def _report(job: EvaluateJob, result: Evaluation) -> dict[str, Any]:
    protocol: dict[str, Any] = {"protocols": ", ".join(job.protocols), "limit": job.limit}
    if result.figures:
        protocol |= {
            "box": "the mask's bounding box",
            "clicks": f"1 to {len(result.figures[0].shown)}, RITM's (arXiv 2102.06583)",
            "mask after a click": "for one click the output of 1..3 with the highest predicted IoU, then output 0",
            "resolution": "the photo's own",
            "mean": "over masks",
        }
    if result.automatic:
        settings = AutomaticSettings.for_variant(str(result.subjects[0]["model"]), **job.settings)
        given = (f"{name} {value}" for name, value in vars(settings).items() if value is not None)
        protocol["automatic masks"] = ", ".join(given)
    return {
        "format": EVALUATION,
        "subjects": list(result.subjects),
        "protocol": protocol,
        "figures": [each.to_json() for each in result.figures],
        "automatic": [each.to_json() for each in result.automatic],
        "edges": [each.to_json() for each in result.edges],
        **({"text": [each.to_json() for each in result.text]} if result.text else {}),
        "machine": {"system": platform.system(), "processor": platform.machine()},
        "made_with": tool_versions(("torch", "onnxruntime", "opencv-python-headless", "pycocotools", "scipy")),
    }
