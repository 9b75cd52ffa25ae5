"""`sam-edge evaluate`: a model or a bundle, data with human masks, figures and a report."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
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
from sam_edge.reporting.versions import tool_versions
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.rle import Rle
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.decoding import Capacity
from sam_edge_runtime.errors import DataError, PromptError, UsageError
from sam_edge_runtime.system.files import check_destination, staged_folder

from .automatic import AutomaticFigures, Proposals, automatic_figures, propose
from .baselines import grabcut_is_there
from .edges import EDGE_SETTINGS, EdgeFigures, EdgeSource, measure_edges, open_edges
from .figures import Figures, figures_of
from .measure import PhotoMeasurement, Protocol, measure_photo
from .report import CURVE, EXAMPLES, FOUND, RECALL, draw_curve, draw_examples, draw_found, draw_recall, write_page

BOX, CLICKS, AUTOMATIC, EDGES = "box", "clicks", "automatic", "edges"
PROTOCOLS = (BOX, CLICKS, AUTOMATIC, EDGES)
MOST_FOUND = 4  # photos whose automatic masks are drawn
REPORT_MARK = "sam-edge-evaluation"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EvaluateJob:
    """What to evaluate.

    Attributes:
        data: sources with masks, as `open_source` takes them; for edges folders as BSDS500's.
        out: folder of the report.
        model: variant of a torch model; None where bundles alone are measured.
        checkpoint: its weights; None for those that come with sam-edge or were downloaded.
        input_side: its frame side; None for the one it was trained for.
        bundles: folders of bundles, after the torch model.
        protocols: of `PROTOCOLS`, in any order.
        clicks: clicks a mask, where they are asked.
        grabcut: whether GrabCut is measured beside it.
        settings: of the search for automatic masks, by the names of `AutomaticSettings`.
        limit: photos of each source at most; None for all.
        pictures: photos drawn for people to judge.
        overwrite: replace an earlier report.

    Raises:
        UsageError: no data, nothing to measure, no such protocol, a number out of range, or weights or a frame side
            without a torch model.
    """

    data: tuple[str, ...]
    out: Path
    model: str | None = "nano"
    checkpoint: str | None = None
    input_side: int | None = None
    bundles: tuple[Path, ...] = ()
    protocols: tuple[str, ...] = (CLICKS,)
    clicks: int = 9
    grabcut: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    pictures: int = 6
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("no data are named: give at least one --data, such as a tar of photos with masks")
        for name in self.protocols:
            if name not in PROTOCOLS:
                raise UsageError(f"--protocol {name!r} is not known: choose of {', '.join(PROTOCOLS)}")
        if self.clicks < 1:
            raise UsageError(f"--clicks {self.clicks} asks for nothing: at least 1, or --protocol box")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit} leaves nothing to measure: at least 1")
        if self.pictures < 0:
            raise UsageError(f"--pictures {self.pictures} is not possible: 0 or more")
        if self.model is None and not self.bundles:
            raise UsageError("nothing is named to measure: give --model, or --bundle")
        if self.model is None and (self.checkpoint is not None or self.input_side is not None):
            raise UsageError(
                f"the bundle {self.bundles[0]} has weights and a frame side of its own: leave out --checkpoint and "
                "--input-size, or name the torch model as well, with --model"
            )
        AutomaticSettings.suited(self.model or "", **self.settings)  # refused before anything is read

    @property
    def prompted(self) -> Protocol | None:
        """How human masks are asked for, if they are."""
        if CLICKS in self.protocols:
            return Protocol(self.clicks, grabcut=self.grabcut)
        return Protocol(0, grabcut=self.grabcut) if BOX in self.protocols else None


@dataclass(frozen=True)
class Evaluation:
    """What came of it.

    Attributes:
        subjects: descriptions of what was measured.
        figures: of boxes and clicks, a subject and source each.
        automatic: of automatic masks.
        edges: of edges.
        report: the report's folder.
    """

    subjects: tuple[dict[str, Any], ...]
    figures: tuple[Figures, ...]
    automatic: tuple[AutomaticFigures, ...]
    edges: tuple[EdgeFigures, ...]
    report: Path


def evaluate(job: EvaluateJob, progress: Progress = lambda what, done, total: None) -> Evaluation:
    """Measure, and write `report.json`, `report.html` and pictures.

    Raises:
        DataError: data are missing, have no masks, or are too often broken.
        UsageError, CheckpointError, BundleError, BackendError: what is to be measured cannot be had.
        PromptError: a bundle's decoder has too few slots for the protocol.
        OutputError: the report cannot be written.
    """
    check_destination(job.out, overwrite=job.overwrite, replaceable=is_report)
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
    with staged_folder(job.out, overwrite=job.overwrite, replaceable=is_report) as folder:
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
            finds = AutomaticMaskGenerator.on(subject.backend, subject.capacity, EDGE_SETTINGS)
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


def is_report(folder: Path) -> bool:
    """Whether a folder is a report of this command, and so may be replaced."""
    try:
        return bool(json.loads((folder / "report.json").read_text("utf-8")).get("format") == REPORT_MARK)
    except (OSError, ValueError, AttributeError):
        return False


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
        settings = AutomaticSettings.suited(str(result.subjects[0]["model"]), **job.settings)
        said = ", ".join(f"{name} {value}" for name, value in vars(settings).items() if value is not None)
        protocol["automatic masks"] = said
    return {
        "format": REPORT_MARK,
        "subjects": list(result.subjects),
        "protocol": protocol,
        "figures": [each.to_json() for each in result.figures],
        "automatic": [each.to_json() for each in result.automatic],
        "edges": [each.to_json() for each in result.edges],
        "machine": {"system": platform.system(), "processor": platform.machine()},
        "made_with": tool_versions(("torch", "onnxruntime", "opencv-python-headless", "pycocotools", "scipy")),
    }
