"""The pipeline: variant and weights in, a verified bundle out.

Load the weights, record fp32 torch's outputs, convert both graphs, quantize them if the recipe says so, verify the
artifact against the recorded outputs, write the manifest. All of it happens in a folder beside the destination that is
renamed at the end, so a bundle exists completely or not at all.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sam_edge.model import Sam, graphs_of
from sam_edge.prediction.calls import RecordedCall, RecordedCalls, golden_calls
from sam_edge.prediction.reference_cache import ReferenceCache
from sam_edge.quantization.artifacts import ArtifactQuantizer, host_processor, prepare
from sam_edge.quantization.calibration.calls import CalibrationCalls, calibration_calls
from sam_edge.quantization.calibration.photos import CalibrationSet
from sam_edge.quantization.mixed_precision import (
    AgreementGoal,
    Evaluator,
    HumanGoal,
    HumanMasks,
    Search,
    TrialCache,
)
from sam_edge.quantization.mixed_precision.configuration import find_configuration
from sam_edge.quantization.mixed_precision.goals import Goal
from sam_edge.quantization.mixed_precision.search import Find
from sam_edge.reporting.search import draw_front
from sam_edge_exporters import Conversion, Metadata, Part
from sam_edge_quant import FLOAT, NPU, Recipe, write_recipe
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.agreement import Agreement, bounds_of
from sam_edge_runtime.backends import load_backend
from sam_edge_runtime.bundle.bundle import (
    GOLDEN_FILE,
    REPORT_FILE,
    SEARCH_PLOT,
    Bundle,
    foreign_files,
    record_files,
)
from sam_edge_runtime.bundle.contract import frame_signature
from sam_edge_runtime.bundle.document import FILE_NAME
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.bundle.official import OFFICIAL
from sam_edge_runtime.errors import BoundError
from sam_edge_runtime.system.documents import json_text
from sam_edge_runtime.system.folders import staged_folder

from .context import ExportContext, Progress, check_job, load_context
from .golden_words import golden_words
from .job import NEURAL_COMPRESSOR, ExportJob

RECIPE_FILE = "recipe.json"  # in a bundle whose recipe was searched for: to read, to edit, to use again
AGREEMENT_MARGIN = 0.01  # of mask mIoU
EVALUATION_PHOTOS = 4  # of the calibration, with all prompts that fit, for a search's evaluator


@dataclass(frozen=True)
class ExportResult:
    """An exported bundle.

    Attributes:
        bundle: the bundle.
        agreement: figures of its golden test.
        missed: one line for each bound that does not hold.
        engine: that computed the outputs in that test.
    """

    bundle: Bundle
    agreement: Agreement
    missed: tuple[str, ...]
    engine: str


def export_bundle(
    job: ExportJob, progress: Progress = lambda stage: None, cache: ReferenceCache | None = None
) -> ExportResult:
    """Make the bundle that `job` describes.

    Args:
        job: what to export, and where to.
        progress: called with the name of each stage as it starts.
        cache: fp32 torch's outputs for earlier bundles of the same command, which are not computed again.

    Raises:
        UsageError: an argument cannot be used.
        CheckpointError: the weights cannot be used.
        ExportError: a graph could not be converted, or the result was rejected.
        BoundError: a search found no configuration within its bound.
        OutputError: the bundle cannot be written. An earlier one is unchanged.
    """
    context = load_context(check_job(job), ReferenceCache() if cache is None else cache, progress)
    with staged_folder(job.out, overwrite=job.overwrite, foreign=foreign_files) as folder:
        progress("recording the outputs of fp32 torch")
        golden_test = golden.record(context.reference, context.manifest, golden_words(context))
        golden_test.save(folder / GOLDEN_FILE)
        if context.words is not None:
            context.words.write_vocabulary(folder)
        if context.tower is not None:
            context.tower.copy_to(folder)
        manifest, details = _write_frames(context, golden_test, folder)
        inspect = context.exporter.inspect
        del context  # frees the fp32 model: a large one and its artifact need not be in memory together

        if job.layout == OFFICIAL and not job.return_single_mask:
            manifest = _rewrite_as_official(folder, manifest)
        progress("verifying the bundle against fp32 torch")
        backend = load_backend(Bundle(folder, manifest))
        agreement = golden.check(golden_test, backend, manifest)
        missed = agreement.missed(bounds_of(manifest))
        report = _report(manifest, agreement, missed, backend.engine) | details
        if inspect is not None:
            files = dict.fromkeys(file for each in manifest.each_frame() for file in (each.encoder, each.decoder))
            report["graphs"] = {name: inspect(folder / name) for name in files}
        (folder / REPORT_FILE).write_text(json_text(report), encoding="utf-8")
        if job.return_single_mask:  # only now: the golden test needs all four masks
            manifest = _rewrite_as_official(folder, manifest, single_mask=True)
        manifest = replace(manifest, files=record_files(folder))
        (folder / FILE_NAME).write_text(manifest.to_json(), encoding="utf-8")
        progress("moving the bundle into place")
    return ExportResult(Bundle.open(job.out, check_hashes=False), agreement, missed, backend.engine)


def _rewrite_as_official(folder: Path, manifest: Manifest, *, single_mask: bool = False) -> Manifest:
    from sam_edge_exporters.onnx_official import rewrite  # noqa: PLC0415  # brings the onnx package, of this target only

    return rewrite(folder, manifest, single_mask=single_mask)


def _write_frames(context: ExportContext, golden_test: golden.Golden, folder: Path) -> tuple[Manifest, dict[str, Any]]:
    """Write the graphs of all frames; returns the manifest with the recipe used, and the report's section on it."""
    each_frame = context.manifest.each_frame()
    if len(each_frame) == 1:
        return _with_recipe(context, _write_graphs(context, golden_test, folder, None))
    with TemporaryDirectory(dir=folder, prefix=".frames-") as temporary:
        quantized: _Quantized | None = None
        for manifest in each_frame:
            context.progress(f"frame {manifest.frame.name}")
            of_frame = replace(context, manifest=replace(context.manifest, frames=manifest.frames))
            place = Path(temporary, manifest.frame.name)
            place.mkdir()
            quantized = _write_graphs(of_frame, golden_test.of_frame(manifest.frame), place, quantized)
        for name in (RECIPE_FILE, SEARCH_PLOT):  # of a search, which the first frame had
            if (found := Path(temporary, each_frame[0].frame.name, name)).exists():
                found.replace(folder / name)
        context.progress("joining the frames")
        for name in ("encoder", "decoder"):
            context.exporter.join(
                [
                    Part(
                        frame_signature(manifest.frame),
                        Path(temporary, manifest.frame.name, getattr(context.manifest, name)),
                        folder / getattr(manifest, name),
                    )
                    for manifest in each_frame
                ]
            )
    return _with_recipe(context, quantized)


@dataclass(frozen=True, eq=False)
class _Quantized:
    """What the quantization of a frame leaves to the next: all frames share the weights.

    Attributes:
        model: prepared for the quantizer.
        recipe: that was used.
        details: its section of the report.
    """

    model: Sam
    recipe: Recipe
    details: dict[str, Any]


def _with_recipe(context: ExportContext, quantized: _Quantized | None) -> tuple[Manifest, dict[str, Any]]:
    """The bundle's manifest with the recipe that was used, and the report's section on it."""
    if quantized is None:
        return context.manifest, {}
    details = quantized.details
    bound = _recorded_bound(context.job, details["search"]) if context.job.searched else {}
    return replace(context.manifest, recipe={**quantized.recipe.to_json(), **bound}), {"quantization": details}


def _write_graphs(
    context: ExportContext, golden_test: golden.Golden, folder: Path, earlier: _Quantized | None
) -> _Quantized | None:
    """Write both graphs of one frame; returns how they were quantized, or None.

    Args:
        context: of the export; its manifest has one frame.
        golden_test: of that frame.
        folder: where to.
        earlier: how the graphs of an earlier frame were quantized.
    """
    if context.photos is None:
        needs_calls = context.recipe.unsafe is not None
        calls = golden_calls(golden_test, context.reference, context.manifest) if needs_calls else RecordedCalls()
        _convert(context, context.model, folder, calls)
        return None
    return _quantize(context, context.photos, golden_test, folder, earlier)


def _recorded_bound(job: ExportJob, evidence: dict[str, Any]) -> dict[str, Any]:
    """What the manifest records of a search's goal; `bound` is what verification holds the bundle to.

    Where a loss on human masks decided, that is the measured agreement with fp32, less a margin for other engines.
    """
    if job.loss is None:
        return {"bound": job.bound}
    agreement = evidence["chosen"]["mask_miou"] - AGREEMENT_MARGIN
    return {"bound": max(math.floor(100 * agreement) / 100, 0.01), "loss": job.loss.loss}


def _convert(context: ExportContext, model: Sam, folder: Path, calls: RecordedCalls) -> None:
    """Write both graphs of a model to a folder.

    Args:
        context: of the export.
        model: the fp32 model, or one that was prepared for a quantizer.
        folder: where to.
        calls: on which a converter finds operations that are unsafe in low precision.
    """
    exporter, manifest = context.exporter, context.manifest
    graphs = graphs_of(model, manifest)
    context.progress("converting the mask decoder")
    conversion = _conversion(manifest, "mask decoder", calls.decoder)
    path = folder / manifest.decoder
    if exporter.export_signatures is not None and manifest.batches:
        exporter.export_signatures(graphs.decoder, manifest.decoder_signatures, path, conversion)
    else:
        exporter.export(graphs.decoder, manifest.decoder_contract, path, conversion)
    context.progress("converting the image encoder")
    conversion = _conversion(manifest, "image encoder", calls.encoder)
    exporter.export(graphs.encoder, manifest.encoder_contract, folder / manifest.encoder, conversion)


def _quantize(
    context: ExportContext,
    photos: CalibrationSet,
    golden_test: golden.Golden,
    folder: Path,
    earlier: _Quantized | None,
) -> _Quantized:
    """Write both quantized graphs of one frame to a folder, with the weights and recipe of an earlier frame, if any."""
    job, manifest, progress = context.job, context.manifest, context.progress
    host = job.host or host_processor()
    with (
        calibration_calls(photos, context.reference, manifest) as calls,
        TemporaryDirectory(prefix="sam-edge-") as temporary,
    ):
        if earlier is None:
            model = deepcopy(context.model)  # the reference stays in fp32
            changes = prepare(model, calls, context.recipe, manifest, progress)
        else:
            model, changes = earlier.model, {}
        _convert(context, model, Path(temporary), RecordedCalls())
        quantizer = ArtifactQuantizer(model, manifest, calls, Path(temporary), host)
        if earlier is not None:
            quantizer.write(earlier.recipe, folder, progress)
            return earlier
        recipe, search = context.recipe, {}
        if job.searched:
            recipe, evidence = _search(context, quantizer, calls.subset(EVALUATION_PHOTOS), golden_test)
            (folder / RECIPE_FILE).write_text(write_recipe(recipe, evidence), encoding="utf-8")
            if job.loss is not None:
                draw_front(folder / SEARCH_PLOT, evidence)
            search = {"search": evidence}
        graphs = quantizer.write(recipe, folder, progress)
    return _Quantized(model, recipe, {"host": host, **changes, **search, "graphs": graphs})


def _search(
    context: ExportContext, quantizer: ArtifactQuantizer, calls: CalibrationCalls, golden_test: golden.Golden
) -> tuple[Recipe, dict[str, Any]]:
    """Search for the fastest mixed-precision configuration; returns its recipe and the evidence for it.

    Raises:
        BoundError: no configuration that was tried holds the bound, and the job does not keep the best one.
    """
    job, manifest = context.job, context.manifest
    human, goal = _goal(context)
    evaluator = Evaluator(golden_test, list(calls.prompted_photos(manifest)), context.reference, manifest, human)
    trials = _trial_cache(context)
    search = Search(quantizer, evaluator, trials, context.cache.masks_lost, context.progress, _driver(job.tuner))
    result, recipe = search.run(context.recipe, goal, job.budget)
    if not result.reached and not job.keep:
        raise BoundError(
            f"the best of {len(result.evidence['tried'])} mixed-precision configurations for {job.target} "
            f"{goal.shortfall(result.measurement)}"
        )
    trials.discard()
    evidence = {**result.evidence, "complete": result.complete, "photos": len(calls.photos)}
    if context.labelled is not None and result.measurement.human is not None:
        measured = result.measurement.human
        evidence["labelled"] = {
            **context.labelled.to_json(),
            "measured_photos": measured.photos,
            "prompts": measured.prompts,
            "fp32_miou": round(measured.reference, 5),
            "confidence": measured.confidence,
        }
    return recipe, evidence


def _driver(tuner: str) -> Find:
    """What proposes a search's configurations."""
    if tuner == NEURAL_COMPRESSOR:
        from sam_edge.quantization.neural_compressor import tuner as other  # noqa: PLC0415  # an extra

        return other.find_configuration
    return find_configuration


def _goal(context: ExportContext) -> tuple[HumanMasks | None, Goal]:
    """The goal of the search, and what measures the loss on human masks where that is the goal."""
    job = context.job
    if context.labelled is None or job.loss is None:
        return None, AgreementGoal(job.bound)
    human = HumanMasks(context.labelled, context.manifest, job.loss.interval)
    return human, HumanGoal(job.loss.loss, certain=job.loss.confidence is not None)


def _trial_cache(context: ExportContext) -> TrialCache:
    """Measurements that an interrupted search with the same settings left beside the bundle's place."""
    job, manifest = context.job, context.manifest
    settings: dict[str, Any] = {
        "variant": manifest.variant,
        "checkpoint": asdict(manifest.checkpoint),
        "target": manifest.target,
        "input_side": manifest.input_side,
        "frame": list(manifest.frame),
        "capacity": [*manifest.call_sizes, manifest.points],
        "calibration": manifest.calibration,
        "host": job.host or host_processor(),
    }
    if manifest.conventions.hq_token_only:
        settings["hq_token_only"] = True
    if context.labelled is not None and job.loss is not None:
        settings["labelled"] = {**context.labelled.to_json(), "confidence": job.loss.interval}
    return TrialCache(job.out.with_name(f"{job.out.name}.trials.json"), settings)


def _conversion(manifest: Manifest, graph: str, calls: Sequence[RecordedCall]) -> Conversion:
    metadata = Metadata(
        title=f"Segment Anything, {manifest.variant}: the {graph} in {manifest.precision}; manifest.json describes it",
        licence=manifest.licence,
        version=manifest.tools["sam-edge"],
        notes=(("sam-edge.variant", manifest.variant), ("sam-edge.weights", manifest.checkpoint.described)),
    )
    precision = FLOAT if manifest.calibration else manifest.precision  # quantized artifacts are made from fp32 ones
    return Conversion(precision, tuple(call.inputs for call in calls), metadata, manifest.picture_input)


def _report(manifest: Manifest, agreement: Agreement, missed: tuple[str, ...], engine: str) -> dict[str, Any]:
    """The content of `report.json`: the golden test on the machine that made the bundle."""
    return {
        "reference": "fp32 torch, through golden.npz",
        "engine": engine,
        "weights": manifest.checkpoint.described,
        "bounds": asdict(bounds_of(manifest)),
        "figures": agreement.summary(),
        "passed": not missed,
        "missed": list(missed),
        "machine": {"system": platform.system(), "processor": platform.machine()},
        "tools": manifest.tools,
        **({"run_on_device": False} if manifest.precision == NPU else {}),
    }
