"""`sam-edge evaluate`: a model or a bundle, data with human masks, figures and a report."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sam_edge.data.mixture import of_sources
from sam_edge.data.sample import Sample
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import Source, open_source
from sam_edge.data.stream import walk
from sam_edge.prediction.promptable import Promptable, open_bundle, open_model
from sam_edge.reporting.folders import CURVE, EVALUATION, EXAMPLES, FOUND, RECALL, foreign_in_evaluation
from sam_edge.reporting.versions import tool_versions
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.rle import Rle
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.decoding import Capacity
from sam_edge_runtime.errors import DataError, PromptError, UsageError
from sam_edge_runtime.system.folders import check_destination, staged_folder

from .automatic import AutomaticFigures, Proposals, automatic_figures, propose
from .baselines import grabcut_is_there
from .edges import EDGE_SETTINGS, EdgeFigures, EdgeSource, measure_edges, open_edges
from .figures import Figures, figures_of
from .job import AUTOMATIC, EDGES, EvaluateJob, Evaluation
from .measure import PhotoMeasurement, Protocol, measure_photo
from .report import draw_curve, draw_examples, draw_found, draw_recall, write_page

MOST_FOUND = 4  # photos whose automatic masks are drawn
Progress = Callable[[str, int, int], None]


def evaluate(job: EvaluateJob, progress: Progress = lambda what, done, total: None) -> Evaluation:
    """Measure, and write `report.json`, `report.html` and pictures.

    Raises:
        DataError: data are missing, have no masks, or are too often broken.
        UsageError, CheckpointError, BundleError, BackendError: what is to be measured cannot be had.
        PromptError: a bundle's decoder has too few slots for the protocol.
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
            _check_slots(subject.capacity, prompted)
    with staged_folder(job.out, overwrite=job.overwrite, foreign=foreign_in_evaluation) as folder:
        examples: list[Sample] = []
        found: list[tuple[Sample, tuple[Rle, ...]]] = []
        result = Evaluation(
            tuple(subject.description for subject in subjects),
            tuple(_prompted(job, prompted, subjects, sources, progress, examples)) if prompted is not None else (),
            tuple(_automatic(job, subjects, sources, progress, found)) if AUTOMATIC in job.protocols else (),
            tuple(_edges(job, subjects, edge_sources, progress)),
            job.out,
        )
        progress("writing the report", 0, 0)
        report = _report(job, result)
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        if result.figures and result.figures[0].shown:
            draw_curve(folder / CURVE, result.figures)
        if result.automatic:
            draw_recall(folder / RECALL, result.automatic)
        if examples:
            draw_examples(folder / EXAMPLES, subjects[0].backend, subjects[0].capacity, examples[: job.pictures])
        if found:
            draw_found(folder / FOUND, found[:MOST_FOUND])
        write_page(folder, report, result)
    return result


def _subjects(job: EvaluateJob) -> list[Promptable]:
    subjects = [open_model(job.model, job.checkpoint, job.input_side)] if job.model is not None else []
    return [*subjects, *map(open_bundle, job.bundles)]


def _prompted(
    job: EvaluateJob,
    protocol: Protocol,
    subjects: Sequence[Promptable],
    sources: Sequence[Source],
    progress: Progress,
    examples: list[Sample],
) -> Iterator[Figures]:
    """Boxes and clicks; `examples` gets some of the photos that the first subject is asked about."""
    for source in sources:
        picked = _picked(job, source, job.pictures, len(sources))
        for number, subject in enumerate(subjects):
            tell = _teller(job, source, subject, progress)

            def watch(
                sample: Sample,
                done: int,
                tell: Callable[[int], None] = tell,
                drawn: frozenset[int] = picked if number == 0 else frozenset(),
            ) -> None:
                tell(done)
                if done in drawn:
                    examples.append(sample)

            asked = protocol if number == 0 else replace(protocol, grabcut=False)  # it is the same for all of them
            found = evaluate_source(subject.backend, subject.capacity, source, asked, limit=job.limit, watch=watch)
            yield replace(found, subject=subject.name)


def _automatic(
    job: EvaluateJob,
    subjects: Sequence[Promptable],
    sources: Sequence[Source],
    progress: Progress,
    found: list[tuple[Sample, tuple[Rle, ...]]],
) -> Iterator[AutomaticFigures]:
    """Masks of everything; `found` gets some photos, and what the first subject found in them."""
    for source in sources:
        picked = _picked(job, source, min(job.pictures, MOST_FOUND), len(sources))
        reference: list[Proposals] | None = None
        for subject in subjects:
            finds = subject.mask_generator(job.settings)
            tell, log = _teller(job, source, subject, progress), SkipLog()
            photos: list[Proposals] = []
            for sample in _limited(source, log, job.limit):
                tell(len(photos))
                proposals = propose(finds, sample)
                if reference is None and len(photos) in picked:
                    found.append((sample, proposals.rles))
                photos.append(proposals)
            yield automatic_figures(subject.name, short_name(source.name), photos, reference, _named(log))
            reference = photos if reference is None else reference


def _edges(
    job: EvaluateJob, subjects: Sequence[Promptable], sources: Sequence[EdgeSource], progress: Progress
) -> Iterator[EdgeFigures]:
    for source in sources:
        for subject in subjects:
            finds = AutomaticMaskGenerator.from_backend(subject.backend, subject.capacity, EDGE_SETTINGS)
            shown = partial(progress, f"{subject.name}, {short_name(source.name)}")
            yield measure_edges(subject.name, source, finds, job.limit, shown)


def _teller(job: EvaluateJob, source: Source, subject: Promptable, progress: Progress) -> Callable[[int], None]:
    """What tells how many photos of a source a subject is through with."""
    name, total = f"{subject.name}, {short_name(source.name)}", _asked(job, source)
    return lambda done: progress(name, done, total)


def _picked(job: EvaluateJob, source: Source, pictures: int, sources: int) -> frozenset[int]:
    """Which of a source's photos are drawn, by how many were measured before: its share, evenly spread."""
    share = -(-pictures // sources)
    return frozenset(int((place + 0.5) * _asked(job, source) / share) for place in range(share))


def _asked(job: EvaluateJob, source: Source) -> int:
    """Photos of a source that are measured, if all can be used."""
    return min(len(source), job.limit or len(source))


def evaluate_source(
    backend: Backend,
    capacity: Capacity,
    source: Source,
    protocol: Protocol,
    *,
    limit: int | None = None,
    watch: Callable[[Sample, int], None] = lambda sample, done: None,
) -> Figures:
    """The figures of one source, without a report: what a trainer asks of the model that it trains.

    Args:
        backend: what answers; of a live torch model `TorchBackend(sam)`.
        capacity: what its decoder takes; of a torch model `AnyCapacity(sam.side)`.
        source: photos with masks.
        protocol: what is asked.
        limit: photos at most; None for all.
        watch: told of each photo before it is measured, and how many were measured before it.

    Raises:
        DataError: no photo has a mask, or too many records are broken.
        PromptError: the decoder has too few slots for the protocol.
        BackendError: the engine failed.
    """
    log = SkipLog()
    photos: list[PhotoMeasurement] = []
    for sample in _limited(source, log, limit):
        watch(sample, len(photos))
        photos.append(measure_photo(backend, capacity, sample, protocol))
    return figures_of(short_name(source.name), photos, _named(log))


def _named(log: SkipLog) -> list[str]:
    """What was skipped. Reports are passed on, so they do not tell whose machine the shards were on."""
    return [f"{skip.key} in {short_name(skip.source)} ({skip.reason})" for skip in log.names]


def short_name(name: str) -> str:
    """A source's last two names: enough to know it by, and nothing of whose machine it was."""
    path = Path(name)
    return "/".join([part for part in path.parts if part != path.anchor][-2:]) or path.resolve().name


def _check_packages(job: EvaluateJob) -> None:
    """Refuse before any work is done if the report could not be written at its end."""
    for package in ("matplotlib", "jinja2"):
        if find_spec(package) is None:
            raise UsageError(f"the report needs {package}: pip install 'sam-edge[evaluate]'")
    if job.grabcut and job.prompted is not None and not grabcut_is_there():
        raise UsageError("GrabCut needs OpenCV: pip install 'sam-edge[evaluate]', or use --no-grabcut")


def _check_slots(capacity: Capacity, protocol: Protocol) -> None:
    """Refuse clicks that a decoder of fixed shape has no slots for: one each, and one for SAM's "not a point"."""
    if capacity.points is not None and protocol.clicks + 1 > capacity.points:
        raise PromptError(
            f"{protocol.clicks} clicks need {protocol.clicks + 1} slots and this decoder has {capacity.points}: use "
            f"--clicks {capacity.points - 1}, or export with --points {protocol.clicks + 1}"
        )


def _annotated(what: str) -> Source:
    source = open_source(what)
    if not source.annotated:
        raise DataError(f"{what} has photos without masks, and accuracy is measured against masks: name other data")
    of_sources(source)  # refuses one without records
    return source


def _limited(source: Source, log: SkipLog, limit: int | None) -> Iterator[Sample]:
    """The source's photos that have masks, at most `limit`."""
    found = 0
    for sample in walk(source, log):
        if sample.rles:
            yield sample
            found += 1
            if found == limit:
                return
    if not found:
        raise DataError(f"{source.name} has no photo with a mask: name other data")


def _report(job: EvaluateJob, result: Evaluation) -> dict[str, Any]:
    protocol: dict[str, Any] = {"asked": ", ".join(job.protocols), "limit": job.limit}
    if result.figures:
        protocol |= {
            "box": "the mask's bounding box",
            "clicks": f"1 to {len(result.figures[0].shown)}, RITM's (arXiv 2102.06583)",
            "shown": "the output of 1..3 with the highest predicted IoU for a lone click, then output 0",
            "resolution": "the photo's own",
            "mean": "over masks",
        }
    if result.automatic:
        settings = AutomaticSettings.for_variant(str(result.subjects[0]["model"]), **job.settings)
        said = ", ".join(f"{name} {value}" for name, value in vars(settings).items() if value is not None)
        protocol["automatic masks"] = said
    return {
        "format": EVALUATION,
        "subjects": list(result.subjects),
        "protocol": protocol,
        "figures": [each.to_json() for each in result.figures],
        "automatic": [each.to_json() for each in result.automatic],
        "edges": [each.to_json() for each in result.edges],
        "machine": {"system": platform.system(), "processor": platform.machine()},
        "made_with": tool_versions(("torch", "onnxruntime", "opencv-python-headless", "pycocotools", "scipy")),
    }
