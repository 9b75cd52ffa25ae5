"""`sam-edge evaluate`: a model or a bundle, data with human masks, figures and a report."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sam_edge.data.mixture import of_sources
from sam_edge.data.sample import Sample
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import Source, open_source
from sam_edge.data.stream import walk
from sam_edge.subject import Subject, open_bundle, open_model
from sam_edge.versions import tool_versions
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.decoding import Capacity
from sam_edge_runtime.errors import DataError, PromptError, UsageError
from sam_edge_runtime.files import check_destination, staged_folder

from .baselines import grabcut_is_there
from .figures import Figures, figures_of
from .measure import PhotoMeasurement, Protocol, measure_photo
from .report import draw_curve, draw_examples, write_page

REPORT_MARK = "sam-edge-evaluation"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EvaluateJob:
    """What to evaluate.

    Attributes:
        data: sources with masks, as `open_source` takes them.
        out: folder of the report.
        model: variant of a torch model; looked at when there is no bundle.
        checkpoint: its weights; None for those that come with sam-edge or were downloaded.
        input_side: its frame side; None for the one it was trained for.
        bundle: folder of a bundle instead.
        protocol: what is asked.
        limit: photos of each source at most; None for all.
        pictures: photos drawn for people to judge.
        overwrite: replace an earlier report.

    Raises:
        UsageError: no data, a number out of range, or weights or a frame side for a bundle, which has its own.
    """

    data: tuple[str, ...]
    out: Path
    model: str = "nano"
    checkpoint: str | None = None
    input_side: int | None = None
    bundle: Path | None = None
    protocol: Protocol = field(default_factory=Protocol)
    limit: int | None = None
    pictures: int = 6
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("no data are named: give at least one --data, such as a tar of photos with masks")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit {self.limit} leaves nothing to measure: at least 1")
        if self.pictures < 0:
            raise UsageError(f"--pictures {self.pictures} is not possible: 0 or more")
        if self.bundle is not None and (self.checkpoint is not None or self.input_side is not None):
            raise UsageError(
                f"the bundle {self.bundle} has weights and a frame side of its own: leave out --checkpoint and "
                "--input-size, or leave out --bundle"
            )


@dataclass(frozen=True)
class Evaluation:
    """What came of it: the figures of each source, and the folder of the report."""

    subject: dict[str, Any]
    figures: tuple[Figures, ...]
    report: Path


def evaluate(job: EvaluateJob, progress: Progress = lambda what, done, total: None) -> Evaluation:
    """Measure, and write `report.json`, `report.html`, `clicks.png` and `examples.png`.

    Raises:
        DataError: data are missing, have no masks, or are too often broken.
        UsageError, CheckpointError, BundleError, BackendError: what is to be measured cannot be had.
        PromptError: the bundle's decoder has too few slots for the protocol.
        OutputError: the report cannot be written.
    """
    check_destination(job.out, overwrite=job.overwrite, replaceable=is_report)
    _check_packages(job.protocol)
    sources = [_annotated(what) for what in job.data]
    progress("loading the model", 0, 0)
    subject = (
        open_bundle(job.bundle) if job.bundle is not None else open_model(job.model, job.checkpoint, job.input_side)
    )
    _check_slots(subject.capacity, job.protocol)
    with staged_folder(job.out, overwrite=job.overwrite, replaceable=is_report) as folder:
        figures: list[Figures] = []
        examples: list[Sample] = []
        for source in sources:
            total = min(len(source), job.limit or len(source))

            def watch(sample: Sample, done: int, name: str = short_name(source.name), total: int = total) -> None:
                progress(name, done, total)
                if len(examples) < job.pictures and (done + 1) % max(total // (job.pictures + 1), 1) == 0:
                    examples.append(sample)

            figures.append(
                evaluate_source(subject.backend, subject.capacity, source, job.protocol, limit=job.limit, watch=watch)
            )
        result = Evaluation(subject.description, tuple(figures), job.out)
        progress("writing the report", 0, 0)
        report = _report(job, subject, figures)
        (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        draw_curve(folder / "clicks.png", figures)
        if examples:
            draw_examples(folder / "examples.png", subject.backend, subject.capacity, examples)
        write_page(folder, report, bool(examples))
    return result


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
    # Reports are passed on, so they do not tell whose machine the shards were on.
    skipped = [f"{skip.key} in {short_name(skip.source)} ({skip.reason})" for skip in log.names]
    return figures_of(short_name(source.name), photos, skipped)


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


def _check_packages(protocol: Protocol) -> None:
    """Refuse before any work is done if the report could not be written at its end."""
    for package in ("matplotlib", "jinja2"):
        if find_spec(package) is None:
            raise UsageError(f"the report needs {package}: pip install 'sam-edge[evaluate]'")
    if protocol.grabcut and not grabcut_is_there():
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


def _report(job: EvaluateJob, subject: Subject, figures: list[Figures]) -> dict[str, Any]:
    return {
        "format": REPORT_MARK,
        "subject": subject.description,
        "protocol": {
            "box": "the mask's bounding box",
            "clicks": f"1 to {job.protocol.clicks}, RITM's (arXiv 2102.06583)",
            "shown": "the output of 1..3 with the highest predicted IoU for a lone click, then output 0",
            "resolution": "the photo's own",
            "mean": "over masks",
            "limit": job.limit,
        },
        "figures": [each.to_json() for each in figures],
        "machine": {"system": platform.system(), "processor": platform.machine()},
        "made_with": tool_versions(("torch", "onnxruntime", "opencv-python-headless", "pycocotools", "scipy")),
    }
