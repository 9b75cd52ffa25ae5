"""The pipeline: variant and weights in, a verified bundle out.

load -> record what fp32 torch answers -> trace and convert both graphs -> quantize, where the recipe says so -> ask
the artifact the same -> manifest. All of it happens in a folder beside the destination that is renamed at the end, so a
bundle is there whole or not at all.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from sam_edge.model import DecoderGraph, EncoderGraph, Sam, build_sam, graphs_of
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prediction.calls import RecordedCall, RecordedCalls, golden_calls
from sam_edge.prediction.reference_cache import ReferenceCache
from sam_edge.quantization.artifacts import Quantization, prepare, sparing_the_first, this_host
from sam_edge.quantization.calibration.calls import calibration_calls
from sam_edge.quantization.calibration.photos import CalibrationSet, calibration_photos
from sam_edge.quantization.mixed_precision import Evaluator, Found, Search, TrialCache
from sam_edge.quantization.mixed_precision.configuration import EIGHT
from sam_edge.reporting.versions import tool_versions
from sam_edge.weights.load import LoadedSam, find_source, load_sam
from sam_edge_exporters import Conversion, Exporter, Metadata, exporter_for
from sam_edge_quant import AUTO, FLOAT, Recipe, read_recipe, recipe_named, write_recipe
from sam_edge_runtime.agreement import golden
from sam_edge_runtime.agreement.agreement import Agreement, Bounds, bounds_of
from sam_edge_runtime.backends import Backend, load_backend
from sam_edge_runtime.bundle.bundle import GOLDEN_FILE, REPORT_FILE, Bundle, is_bundle, record_files
from sam_edge_runtime.bundle.manifest import FILE_NAME, Checkpoint, Manifest
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import BoundError, ExportError, UsageError
from sam_edge_runtime.system.files import check_destination, require_space, staged_folder

from .job import ExportJob, precisions_of

# Capacity of a decoder of fixed shape that nobody chose: one prompt of nine clicks, or of a box and eight.
FIXED_PROMPTS, FIXED_POINTS = 1, 10
CUSTOM = "custom"  # precision of a bundle whose recipe has exceptions
RECIPE_FILE = "recipe.json"  # in a bundle whose recipe was searched for: to read, to edit, to use again
JUDGED_BY = 4  # photos, with all prompts that fit
_BYTES_PER_WEIGHT = 6  # an artifact in fp16 may be made from one in fp32, and both lie there for a moment
_ROOM_BESIDE_WEIGHTS = 64 << 20

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ExportResult:
    """The bundle, how it did in its own acceptance test, and what computed its answers there."""

    bundle: Bundle
    agreement: Agreement
    missed: tuple[str, ...]
    engine: str


def export_bundle(
    job: ExportJob, progress: Progress = lambda stage: None, known: ReferenceCache | None = None
) -> ExportResult:
    """Make the bundle that `job` describes.

    Args:
        job: what and where.
        progress: told the name of each stage as it begins.
        known: what torch answered for earlier bundles of one command, so that it is not asked the same again.

    Raises:
        UsageError: an argument that cannot be meant.
        CheckpointError: the weights cannot be used.
        ExportError: a graph could not be converted, or the result was rejected.
        OutputError: the bundle cannot be written. Whatever was there before still is.
    """
    recipe = _recipe(job)
    source = find_source(job.variant, job.checkpoint)
    check_destination(job.out, overwrite=job.overwrite, replaceable=is_bundle)
    exporter = exporter_for(job.target)
    refused = sorted(recipe.schemes - set(precisions_of(job.target)))
    if refused:
        raise UsageError(
            f"the recipe asks for {refused[0]}, which is not possible for target {job.target}: it has "
            f"{', '.join(precisions_of(job.target))}"
        )
    photos = calibration_photos(job.calibration, job.photos) if recipe.is_quantized else None
    _refuse_beforehand(job, recipe, exporter)
    if target_named(job.target).fixed_shapes and not job.flexible:
        job = replace(job, prompts=job.prompts or FIXED_PROMPTS, points=job.points or FIXED_POINTS)

    progress(f"loading {job.variant}, {source.label}")
    loaded = load_sam(job.variant, source, job.input_side)
    recipe = recipe if job.recipe else sparing_the_first(recipe, loaded.sam)
    require_space(job.out, loaded.parameters * _BYTES_PER_WEIGHT + _ROOM_BESIDE_WEIGHTS)
    manifest = _manifest(job, loaded, recipe, photos)
    with staged_folder(job.out, overwrite=job.overwrite, replaceable=is_bundle) as folder:
        progress("recording what fp32 torch answers")
        known = ReferenceCache() if known is None else known
        reference = known.wrap(TorchBackend(loaded.sam), manifest)
        answers = golden.record(reference, manifest)
        answers.save(folder / GOLDEN_FILE)
        calls = golden_calls(answers, reference, manifest) if recipe.unsafe else RecordedCalls()
        quantized: dict[str, Any] = {}
        if photos is None:
            _convert(exporter, loaded.sam, manifest, folder, calls, progress)
        else:
            recipe, quantized = _quantize(
                job, recipe, photos, reference, loaded.sam, manifest, answers, folder, exporter, known, progress
            )
            manifest = replace(manifest, recipe=_recorded(job, recipe))
        del loaded, reference, calls  # the artifact comes next; a large model need not be held twice

        progress("verifying the bundle against fp32 torch")
        backend = load_backend(Bundle(folder, manifest))
        agreement = golden.check(answers, backend, manifest)
        bounds = bounds_of(manifest)
        missed = agreement.missed(bounds)
        report = _report(manifest, bounds, agreement, missed, backend.engine)
        if quantized:
            report["quantization"] = quantized
        if exporter.inspect is not None:
            report["graphs"] = {name: exporter.inspect(folder / name) for name in (manifest.encoder, manifest.decoder)}
        (folder / REPORT_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        manifest = replace(manifest, files=record_files(folder))
        (folder / FILE_NAME).write_text(manifest.to_json(), encoding="utf-8")
        progress("moving the bundle into place")
    return ExportResult(Bundle.open(job.out, check_hashes=False), agreement, missed, backend.engine)


def _recipe(job: ExportJob) -> Recipe:
    """The one that was asked for, or the one that a search begins with."""
    if job.recipe is not None:
        return read_recipe(job.recipe)
    return recipe_named(EIGHT if job.searched else job.precision)


def _convert(
    exporter: Exporter,
    sam: Sam,
    manifest: Manifest,
    folder: Path,
    calls: RecordedCalls,
    progress: Progress,
) -> None:
    """Write both graphs of `sam` to a folder; a converter finds unsafe operations by measuring on `calls`."""
    graphs = graphs_of(sam, manifest)
    progress("converting the mask decoder")
    conversion = _conversion(manifest, "mask decoder", calls.decoder)
    if exporter.export_signatures is not None and manifest.batches:
        exporter.export_signatures(graphs.decoder, manifest.decoder_signatures, folder / manifest.decoder, conversion)
    else:
        exporter.export(graphs.decoder, manifest.decoder_contract, folder / manifest.decoder, conversion)
    progress("converting the image encoder")
    conversion = _conversion(manifest, "image encoder", calls.encoder)
    exporter.export(graphs.encoder, manifest.encoder_contract, folder / manifest.encoder, conversion)


def _quantize(
    job: ExportJob,
    recipe: Recipe,
    photos: CalibrationSet,
    reference: Backend,
    sam: Sam,
    manifest: Manifest,
    answers: golden.Golden,
    folder: Path,
    exporter: Exporter,
    known: ReferenceCache,
    progress: Progress,
) -> tuple[Recipe, dict[str, Any]]:
    """Both graphs of `sam` in fewer bits into a folder; returns by which recipe, and what the report says of it."""
    host = job.host or this_host()
    with (
        calibration_calls(photos, reference, manifest) as calls,
        TemporaryDirectory(prefix="sam-edge-") as aside,
    ):
        prepared = deepcopy(sam)  # the reference stays as it is
        changes = prepare(prepared, calls, recipe, manifest, progress)
        _convert(exporter, prepared, manifest, Path(aside), RecordedCalls(), progress)
        quantization = Quantization(prepared, manifest, calls, Path(aside), host)
        searched: dict[str, Any] = {}
        if job.searched:
            judged = calls.of_fewer(JUDGED_BY)
            questions = list(judged.questions(manifest))
            judge = Evaluator(answers, questions, reference, manifest)
            ledger = _ledger(job, manifest, host)
            search = Search(quantization, prepared, manifest, judge, Path(aside), ledger, known.masks_lost, progress)
            found, recipe = search.run(recipe, job.bound, job.budget)
            if not found.reached and not job.keep:
                raise _out_of_reach(job, found)
            ledger.discard()
            searched = {"search": {**found.evidence, "complete": found.complete, "photos": len(judged.photos)}}
            (folder / RECIPE_FILE).write_text(write_recipe(recipe, searched["search"]), encoding="utf-8")
        graphs = quantization.write(recipe, folder, progress)
    return recipe, {"host": host, **changes, **searched, "graphs": graphs}


def _ledger(job: ExportJob, manifest: Manifest, host: str) -> TrialCache:
    """What an interrupted search of the same settings left beside the bundle's place."""
    settings = {
        "variant": manifest.variant,
        "checkpoint": asdict(manifest.checkpoint),
        "target": manifest.target,
        "input_side": manifest.input_side,
        "capacity": [*manifest.call_sizes, manifest.points],
        "calibration": manifest.calibration,
        "host": host,
    }
    return TrialCache(job.out.with_name(f"{job.out.name}.trials.json"), settings)


def _out_of_reach(job: ExportJob, found: Found) -> BoundError:
    tried = len(found.evidence["tried"])
    return BoundError(
        f"the best of {tried} mixtures that were tried for {job.target} has a mask mIoU of "
        f"{found.measured.mask_miou:.4f}, {job.bound} was asked for: lower --bound, raise --budget, or have it all the "
        "same with --keep"
    )


def _recorded(job: ExportJob, recipe: Recipe) -> dict[str, Any]:
    """The recipe as the manifest has it: with the bound that it was found for."""
    return {**recipe.to_json(), **({"bound": job.bound} if job.searched else {})}


def _refuse_beforehand(job: ExportJob, recipe: Recipe, exporter: Exporter) -> None:
    """Raise the exporter's refusal of either graph before any weights are read; shapes are enough to know."""
    if exporter.refusal is None:
        return
    with torch.device("meta"):
        sam = build_sam(job.variant)
        graphs = {"decoder": DecoderGraph(sam), "encoder": EncoderGraph(sam)}
    for name, graph in graphs.items():
        if refusal := exporter.refusal(graph, name, _converted_in(recipe)):
            raise ExportError(refusal)


def _converted_in(recipe: Recipe) -> str:
    """The precision that a converter writes: what is quantized is so from fp32."""
    return FLOAT if recipe.is_quantized else recipe.name


def _manifest(job: ExportJob, loaded: LoadedSam, recipe: Recipe, photos: CalibrationSet | None) -> Manifest:
    checkpoint, target = loaded.checkpoint, target_named(job.target)
    return Manifest(
        variant=job.variant,
        parameters=loaded.parameters,
        licence=loaded.licence,
        checkpoint=Checkpoint(checkpoint.label, checkpoint.sha256, checkpoint.is_random),
        target=job.target,
        precision=AUTO if job.searched else CUSTOM if job.recipe and recipe.layers else recipe.name,
        recipe=recipe.to_json(),
        calibration={} if photos is None else photos.to_json(),
        input_side=loaded.sam.side,
        embedding_channels=loaded.sam.channels,
        prompts=job.call_sizes[-1] if job.call_sizes else None,
        points=job.points,
        encoder=f"encoder{target.suffix}",
        decoder=f"decoder{target.suffix}",
        files={},
        tools=tool_versions(target.tools),
        layout=target.layout,
        graph=job.graph,
        picture_input=job.picture_input,
        batches=job.call_sizes if len(job.call_sizes) > 1 else (),
    )


def _conversion(manifest: Manifest, graph: str, calls: list[RecordedCall]) -> Conversion:
    metadata = Metadata(
        title=f"Segment Anything, {manifest.variant}: the {graph} in {manifest.precision}; manifest.json describes it",
        licence=manifest.licence,
        version=manifest.tools["sam-edge"],
        notes=(("sam-edge.variant", manifest.variant), ("sam-edge.weights", manifest.checkpoint.described)),
    )
    precision = FLOAT if manifest.calibration else manifest.precision  # whole numbers come afterwards
    return Conversion(precision, tuple(call.inputs for call in calls), metadata, manifest.picture_input)


def _report(
    manifest: Manifest, bounds: Bounds, agreement: Agreement, missed: tuple[str, ...], engine: str
) -> dict[str, Any]:
    """What `report.json` in the bundle says: the golden test on the machine that made it."""
    return {
        "reference": "fp32 torch, through golden.npz",
        "engine": engine,
        "weights": manifest.checkpoint.described,
        "bounds": asdict(bounds),
        "figures": agreement.summary(),
        "passed": not missed,
        "missed": list(missed),
        "machine": {"system": platform.system(), "processor": platform.machine()},
        "tools": manifest.tools,
    }
