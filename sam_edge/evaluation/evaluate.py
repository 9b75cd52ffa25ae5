"""`sam-edge evaluate`: measure models and bundles on data with human masks, and write a report."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sam_edge.data.sample import Sample
from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import Source
from sam_edge.prediction.promptable import SHIPPED_WORDS, Promptable, open_bundle, open_model
from sam_edge.reporting.folders import (
    AUTOMATIC_MASKS,
    CURVE,
    EVALUATION,
    EXAMPLES,
    GROUPS,
    RECALL,
    foreign_in_evaluation,
)
from sam_edge.reporting.versions import tool_versions
from sam_edge_runtime.automatic.settings import AutomaticSettings
from sam_edge_runtime.backends import Backend, BackendOptions
from sam_edge_runtime.decoding import Capacity
from sam_edge_runtime.errors import PromptError, UsageError
from sam_edge_runtime.system.documents import json_text
from sam_edge_runtime.system.folders import check_destination, staged_folder

from .baselines import has_opencv
from .detections import TRUTH
from .edges import open_edges
from .figures import Figures, figures_of
from .group_plot import draw_groups
from .groups import MEANING, Groups
from .job import AUTOMATIC, EDGES, INSTANCES, PROPOSALS, TEXT, EvaluateJob, Evaluation
from .measure import CENTRE, Protocol
from .proposals import PROPOSAL_SETTINGS
from .report import draw_automatic, draw_curve, draw_examples, draw_recall, tables, write_page
from .run import (
    MOST_AUTOMATIC,
    Progress,
    Run,
    against,
    automatic,
    edges,
    groups,
    instances,
    measure_source,
    opened_sources,
    prompted,
    proposals,
    text,
)
from .sources import short_name, skipped_names


def evaluate(job: EvaluateJob, progress: Progress = lambda what, done, total: None) -> Evaluation:
    """Measure, and write `report.json`, `report.html`, pictures, and COCO's results of `instances`.

    Raises:
        DataError: data are missing, have no masks, or none can be used.
        UsageError, CheckpointError, BundleError, BackendError: a model or bundle cannot be loaded.
        PromptError: a bundle's decoder takes fewer points than the protocol needs.
        OutputError: the report cannot be written.
    """
    check_destination(job.out, overwrite=job.overwrite, foreign=foreign_in_evaluation)
    _check_packages(job)
    sources = opened_sources(job)
    edge_sources = [open_edges(what) for what in job.data] if EDGES in job.protocols else []
    groups_of_photos = None if job.groups is None else Groups(job.groups)
    progress("loading the model", 0, 0)
    run = Run(job, _subjects(job), progress, edge_sources, groups_of_photos)
    protocol = job.prompted
    if protocol is not None:
        for subject in run.subjects:
            _check_capacity(subject.capacity, protocol)
    with staged_folder(job.out, overwrite=job.overwrite, foreign=foreign_in_evaluation) as folder:
        result = _measured(run, sources, folder)
        result = replace(result, complaint=next(filter(None, (log.complaint() for log in run.logs)), None))
        progress("writing the report", 0, 0)
        report = _report(job, result)
        (folder / "report.json").write_text(json_text(report), encoding="utf-8")
        _draw(folder, run, result)
        write_page(folder, report, result)
    return result


def _measured(run: Run, sources: Sequence[Source], folder: Path) -> Evaluation:
    """Run every protocol of the job, in the paper's order; large results go to `folder`."""
    job, protocol = run.job, run.job.prompted
    return Evaluation(
        subjects=tuple(subject.description for subject in run.subjects),
        figures=tuple(prompted(run, protocol, sources)) if protocol is not None else (),
        against=tuple(against(run, sources)) if job.against is not None else (),
        groups=tuple(groups(run, sources, run.groups)) if run.groups is not None else (),
        automatic=tuple(automatic(run, sources)) if AUTOMATIC in job.protocols else (),
        edges=tuple(edges(run)),
        proposals=tuple(proposals(run, sources)) if PROPOSALS in job.protocols else (),
        instances=tuple(instances(run, sources, job.boxes or TRUTH, folder)) if INSTANCES in job.protocols else (),
        text=tuple(text(run, sources)) if TEXT in job.protocols else (),
        report=job.out,
    )


def _draw(folder: Path, run: Run, result: Evaluation) -> None:
    if result.figures and result.figures[0].shown:
        draw_curve(folder / CURVE, result.figures)
    if result.automatic:
        draw_recall(folder / RECALL, result.automatic)
    if result.groups:
        draw_groups(folder / GROUPS, result.groups)
    if run.examples:
        first = run.subjects[0]
        draw_examples(folder / EXAMPLES, first.backend, first.capacity, run.examples[: run.job.pictures])
    if run.drawn:
        draw_automatic(folder / AUTOMATIC_MASKS, run.drawn[:MOST_AUTOMATIC])


def _subjects(job: EvaluateJob) -> list[Promptable]:
    words = (job.words or SHIPPED_WORDS) if TEXT in job.protocols else None
    options = BackendOptions(threads=job.threads)
    subjects = [open_model(job.model, job.checkpoint, job.input_side, words)] if job.model is not None else []
    subjects += [open_bundle(path, options) for path in job.bundles]
    if job.against is not None:
        subjects.append(_second(job.against, options))
    return subjects


def _second(what: str, options: BackendOptions) -> Promptable:
    """The model of `--against`: a bundle's folder, VARIANT or VARIANT=CHECKPOINT."""
    if Path(what).is_dir():
        return open_bundle(Path(what), options)
    variant, _, checkpoint = what.partition("=")
    return open_model(variant, checkpoint or None)


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
    photos = measure_source(Promptable(backend, capacity, {}), source, protocol, log, limit, watch)
    return figures_of(short_name(source.name), photos, skipped_names(log))


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


def _report(job: EvaluateJob, result: Evaluation) -> dict[str, Any]:
    protocol: dict[str, Any] = {"protocols": ", ".join(job.protocols), "limit": job.limit}
    if result.figures:
        protocol |= {
            "box": "the mask's bounding box",
            "clicks": f"1 to {len(result.figures[0].shown)}, RITM's (arXiv 2102.06583)",
            "first click": "the mask's innermost point" if job.first_point == CENTRE else "a random point of the mask",
            "mask after a click": "for one click the output of 1..3 with the highest predicted IoU, then output 0",
            "resolution": "the photo's own",
            "mean": "over masks",
        }
    searched: list[tuple[str, Sequence[Any], Mapping[str, Any]]] = [
        ("automatic masks", result.automatic, {}),
        ("object proposals", result.proposals, PROPOSAL_SETTINGS),
    ]
    for name, figures, defaults in searched:
        if figures:
            settings = AutomaticSettings.for_variant(str(result.subjects[0]["model"]), **{**defaults, **job.settings})
            protocol[name] = ", ".join(f"{key} {value}" for key, value in vars(settings).items() if value is not None)
    if result.instances:
        detector = "of the human masks" if job.boxes == TRUTH else short_name(str(job.boxes))
        protocol["boxes"] = f"{detector}; masks refined once (arXiv 2304.02643, appendix D.4)"
    if result.groups:
        protocol["groups"] = MEANING
    return {
        "format": EVALUATION,
        "subjects": list(result.subjects),
        "protocol": protocol,
        "figures": [each.to_json() for each in result.figures],
        "automatic": [each.to_json() for each in result.automatic],
        "edges": [each.to_json() for each in result.edges],
        **{
            name: [each.to_json() for each in figures]
            for name, figures in (
                ("proposals", result.proposals),
                ("instances", result.instances),
                ("against", result.against),
                ("groups", result.groups),
                ("text", result.text),
            )
            if figures
        },
        "tables": tables(result),
        "machine": {"system": platform.system(), "processor": platform.machine()},
        "made_with": tool_versions(("torch", "onnxruntime", "opencv-python-headless", "pycocotools", "scipy")),
    }
