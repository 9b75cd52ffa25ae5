"""The protocols of a job, one after another, over its models and data sources."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from sam_edge.data.mask_names import MaskNames
from sam_edge.data.sample import Sample
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import Source, open_source
from sam_edge.prediction.promptable import Promptable
from sam_edge.reporting.folders import results_file
from sam_edge_runtime.automatic.generator import AutomaticMaskGenerator
from sam_edge_runtime.automatic.rle import Rle

from .against import AgainstFigures, against_figures
from .automatic import AutomaticFigures, Proposals, automatic_figures, propose
from .edges import EDGE_SETTINGS, EdgeFigures, EdgeSource, measure_edges
from .figures import Figures, figures_of
from .ground_truth import open_truth
from .groups import GroupedFigures, Groups, grouped_figures
from .instances import InstanceFigures, Results, measure_instances
from .job import EDGES, INSTANCES, PROPOSALS, EvaluateJob
from .measure import PhotoMeasurement, Protocol, measure_photo
from .proposals import ProposalFigures, measure_proposals
from .sources import open_annotated, short_name, skipped_names, with_masks
from .text import TextFigures, TextMeter, WordsOnPhoto, text_figures

MOST_AUTOMATIC = 4  # photos whose automatic masks are drawn
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Run:
    """A job at work.

    Attributes:
        job: what is measured.
        subjects: the models and bundles.
        progress: told what is being measured, how many photos are done, and how many there are.
        edge_sources: data of the protocol `edges`.
        groups: which group each photo or mask belongs to; None: no figures by group.
        examples: photos to draw with masks of prompts; filled by `prompted`.
        drawn: photos to draw with the first subject's automatic masks; filled by `automatic`.
        logs: the skipped records.
        measured: the measurements of each subject and source, by their places; filled by `prompted`.
    """

    job: EvaluateJob
    subjects: Sequence[Promptable]
    progress: Progress
    edge_sources: Sequence[EdgeSource] = ()
    groups: Groups | None = None
    examples: list[Sample] = field(default_factory=list)
    drawn: list[tuple[Sample, tuple[Rle, ...]]] = field(default_factory=list)
    logs: list[SkipLog] = field(default_factory=list)
    measured: dict[tuple[int, int], list[PhotoMeasurement]] = field(default_factory=dict)

    def log(self) -> SkipLog:
        """A new count of skipped records, read when all is done."""
        self.logs.append(SkipLog(self.job.allow_broken, at_end=True))
        return self.logs[-1]

    def counter(self, source: Source, subject: Promptable) -> Callable[[int], None]:
        """A function that reports how many photos of a source are done for a subject."""
        name, total = f"{subject.name}, {short_name(source.name)}", self.photo_count(source)
        return lambda done: self.progress(name, done, total)

    def picked(self, source: Source, pictures: int) -> frozenset[int]:
        """Indices of a source's photos that are drawn: its share of `pictures`, evenly spread."""
        share = -(-pictures // len(self.job.data))
        return frozenset(int((place + 0.5) * self.photo_count(source) / share) for place in range(share))

    def photo_count(self, source: Source) -> int:
        """Number of a source's photos that are measured, if all can be used."""
        return min(len(source), self.job.limit or len(source))


def measure_source(
    subject: Promptable,
    source: Source,
    protocol: Protocol,
    log: SkipLog,
    limit: int | None,
    watch: Callable[[Sample, int], None],
) -> list[PhotoMeasurement]:
    """Measure boxes and clicks on the photos of a source; `watch` is as in `evaluate_source`."""
    photos: list[PhotoMeasurement] = []
    for sample in with_masks(source, log, limit):
        watch(sample, len(photos))
        photos.append(measure_photo(subject.backend, subject.capacity, sample, protocol))
    return photos


def prompted(run: Run, protocol: Protocol, sources: Sequence[Source]) -> Iterator[Figures]:
    """Boxes and clicks."""
    for place, source in enumerate(sources):
        picked = run.picked(source, run.job.pictures)
        for number, subject in enumerate(run.subjects):
            count = run.counter(source, subject)

            def watch(
                sample: Sample,
                done: int,
                count: Callable[[int], None] = count,
                drawn: frozenset[int] = picked if number == 0 else frozenset(),
            ) -> None:
                count(done)
                if done in drawn:
                    run.examples.append(sample)

            measured = protocol if number == 0 else replace(protocol, grabcut=False)  # it is the same for all subjects
            log = run.log()
            photos = measure_source(subject, source, measured, log, run.job.limit, watch)
            run.measured[number, place] = photos
            yield replace(figures_of(short_name(source.name), photos, skipped_names(log)), subject=subject.name)


def against(run: Run, sources: Sequence[Source]) -> Iterator[AgainstFigures]:
    """The first subject against the last, on what `prompted` measured."""
    last = len(run.subjects) - 1
    for place, source in enumerate(sources):
        names = run.subjects[0].name, run.subjects[last].name
        photos, others = run.measured[0, place], run.measured[last, place]
        yield against_figures(*names, short_name(source.name), photos, others)


def groups(run: Run, sources: Sequence[Source], read: Groups) -> Iterator[GroupedFigures]:
    """Figures by group, of what `prompted` measured."""
    for place, source in enumerate(sources):
        for number, subject in enumerate(run.subjects):
            yield grouped_figures(subject.name, short_name(source.name), run.measured[number, place], read)


def automatic(run: Run, sources: Sequence[Source]) -> Iterator[AutomaticFigures]:
    """Automatic masks."""
    for source in sources:
        picked = run.picked(source, min(run.job.pictures, MOST_AUTOMATIC))
        reference: list[Proposals] | None = None
        for subject in run.subjects:
            generator = subject.mask_generator(run.job.settings)
            count, log = run.counter(source, subject), run.log()
            photos: list[Proposals] = []
            for sample in with_masks(source, log, run.job.limit):
                count(len(photos))
                proposals = propose(generator, sample)
                if reference is None and len(photos) in picked:
                    run.drawn.append((sample, proposals.rles))
                photos.append(proposals)
            yield automatic_figures(subject.name, short_name(source.name), photos, reference, skipped_names(log))
            reference = photos if reference is None else reference


def edges(run: Run) -> Iterator[EdgeFigures]:
    """Edges on BSDS500."""
    for source in run.edge_sources:
        for subject in run.subjects:
            generator = AutomaticMaskGenerator.from_backend(subject.backend, subject.capacity, EDGE_SETTINGS)
            show = partial(run.progress, f"{subject.name}, {short_name(source.name)}")
            yield measure_edges(subject.name, source, generator, run.job.limit, show)


def text(run: Run, sources: Sequence[Source]) -> Iterator[TextFigures]:
    """Words."""
    for source in sources:
        names = MaskNames([source])
        for subject in run.subjects:
            meter = TextMeter(subject, sorted(names.counts))
            count, log = run.counter(source, subject), run.log()
            photos: list[WordsOnPhoto] = []
            for sample in with_masks(source, log, run.job.limit):
                count(len(photos))
                photos.append(meter.measure(sample, names.of(sample)))
            yield text_figures(subject.name, short_name(source.name), photos, skipped_names(log))


def proposals(run: Run, sources: Sequence[Source]) -> Iterator[ProposalFigures]:
    """Object proposals."""
    for source in sources:
        truth = open_truth(source, run.job.annotations, named=False)
        for subject in run.subjects:
            count = run.counter(source, subject)
            yield measure_proposals(subject, truth, run.job.settings, run.log(), run.job.limit, count)


def instances(run: Run, sources: Sequence[Source], boxes: str, folder: Path) -> Iterator[InstanceFigures]:
    """Instance segmentation from boxes; writes the masks of each column and the boxes of each source to `folder`."""
    number = 0
    for place, source in enumerate(sources):
        truth = open_truth(source, run.job.annotations, named=True)
        for which, subject in enumerate(run.subjects):
            count = run.counter(source, subject)
            found = measure_instances(subject, truth, boxes, run.log(), run.job.limit, count)
            _write(folder / results_file("instances", number), found.masks)
            if which == 0:
                _write(folder / results_file("boxes", place), found.boxes)
            number += 1
            yield found.figures


def opened_sources(job: EvaluateJob) -> list[Source]:
    """The sources of all protocols but edges; human masks may lie in a file of their own.

    Raises:
        DataError: one is missing, or has no masks.
    """
    asked = set(job.protocols) - {EDGES}
    if not asked:
        return []
    if job.annotations is not None and asked <= {INSTANCES, PROPOSALS}:
        return [open_source(what) for what in job.data]
    return [open_annotated(what) for what in job.data]


def _write(path: Path, results: Results) -> None:
    path.write_text(json.dumps(results), encoding="utf-8")
