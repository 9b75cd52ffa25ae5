"""The checks before an export, and the context that its stages share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec

import torch

from sam_edge.model import EncoderGraph, Sam
from sam_edge.model.graphs import decoder_graph
from sam_edge.model.hiera import HieraBlock
from sam_edge.model.sam import require_one_feature, use_hq_token_only
from sam_edge.model.text_token import add_text_token
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prediction.reference_cache import ReferenceCache
from sam_edge.quantization.artifacts import with_exceptions
from sam_edge.quantization.calibration.photos import CalibrationSet, calibration_photos
from sam_edge.quantization.mixed_precision.configuration import W8A8
from sam_edge.quantization.mixed_precision.labelled import LabelledSet, labelled_photos
from sam_edge.quantization.neural_compressor.package import require_package
from sam_edge.reporting.versions import tool_versions
from sam_edge.weights.families import build_empty
from sam_edge.weights.load import LoadedSam, builder_of, find_source, load_sam, require_text_token
from sam_edge.weights.source import CheckpointSource
from sam_edge.weights.words import Words, find_words
from sam_edge_exporters import Exporter, exporter_for
from sam_edge_quant import AUTO, FLOAT, Recipe, read_recipe, recipe_named
from sam_edge_quant.recipe import GPTQ
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.bundle import foreign_files
from sam_edge_runtime.bundle.contract import FRAME_STEP, FrameSize
from sam_edge_runtime.bundle.manifest import NEURAL_ENGINE, Checkpoint, Manifest
from sam_edge_runtime.bundle.official import OFFICIAL
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.bundle.text import TextPart
from sam_edge_runtime.errors import ExportError, UsageError
from sam_edge_runtime.system.files import require_space
from sam_edge_runtime.system.folders import check_destination

from .frames import frame_sizes
from .job import NEURAL_COMPRESSOR, ExportJob, precisions_of
from .memory import TOLD_FROM, check_memory
from .tower import ExportedTower, read_tower

# Capacity of a decoder of fixed shape by default: one prompt of nine clicks, or of a box and eight clicks.
FIXED_PROMPTS, FIXED_POINTS = 1, 10
CUSTOM = "custom"  # precision of a bundle whose recipe has exceptions
_BYTES_PER_WEIGHT = 6  # an fp16 artifact may be made from an fp32 one, and both exist for a moment
_BYTES_BESIDE_WEIGHTS = 64 << 20

Progress = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class CheckedJob:
    """A job that passed all checks that need no weights.

    Attributes:
        job: what to export; where the target has fixed shapes, the decoder's capacity is filled in.
        recipe: scheme of each layer; for a search, the one that it starts from.
        source: of the weights.
        exporter: of the target.
        photos: for calibration; None if nothing is quantized.
        labelled: for the loss on human masks; None if the search has no such goal.
        memory: bytes that the export takes at its peak, about.
        words: that the bundle knows; None where it has none.
        tower: the text encoder that comes into the bundle; None where there is none.
    """

    job: ExportJob
    recipe: Recipe
    source: CheckpointSource
    exporter: Exporter
    photos: CalibrationSet | None
    labelled: LabelledSet | None
    memory: int
    words: Words | None = None
    tower: ExportedTower | None = None


@dataclass(frozen=True, eq=False)
class ExportContext:
    """What the stages of one export share.

    Attributes:
        job: what to export.
        recipe: scheme of each layer; for a search, the one that it starts from.
        model: the fp32 model.
        manifest: of the bundle, without its files.
        reference: fp32 torch, behind the command's reference cache.
        exporter: of the target.
        photos: for calibration; None if nothing is quantized.
        labelled: for the loss on human masks; None if the search has no such goal.
        cache: the command's reference cache.
        progress: called with the name of each stage as it starts.
        words: that the bundle knows; None where it has none.
        tower: the text encoder that comes into the bundle; None where there is none.
    """

    job: ExportJob
    recipe: Recipe
    model: Sam
    manifest: Manifest
    reference: Backend
    exporter: Exporter
    photos: CalibrationSet | None
    labelled: LabelledSet | None
    cache: ReferenceCache
    progress: Progress
    words: Words | None = None
    tower: ExportedTower | None = None


def check_job(job: ExportJob) -> CheckedJob:
    """Check everything that is known before weights are read.

    Raises:
        UsageError: a recipe, a target or photos that cannot be used.
        DataError: there are too few photos with human masks for the confidence of a loss.
        CheckpointError: there are no such weights.
        ExportError: the converter is not installed, cannot convert this variant, or takes more memory than there is.
        OutputError: `job.out` cannot be written.
    """
    recipe = _recipe(job)
    source = find_source(job.variant, job.checkpoint)
    check_destination(job.out, overwrite=job.overwrite, foreign=foreign_files)
    exporter = exporter_for(job.target)
    refused = sorted(recipe.schemes - set(precisions_of(job.target)))
    if refused:
        raise UsageError(
            f"the recipe asks for {refused[0]}, which is not possible for target {job.target}: choose from "
            f"{', '.join(precisions_of(job.target))}"
        )
    _check_rounding(recipe, job.target)
    if job.tuner == NEURAL_COMPRESSOR:
        require_package(f"--tuner {NEURAL_COMPRESSOR}")
    photos = calibration_photos(job.calibration, job.photos) if recipe.is_quantized else None
    empty = build_empty(builder_of(job.variant, source))
    if job.hq_token_only:
        use_hq_token_only(empty)  # raises here, before weights are read
    _check_conventions(job, empty)
    words = None if job.words is None else find_words(job.words, job.variant)
    if words is not None:
        empty.give_words(words.maps)
    tower = None if job.text_encoder is None else read_tower(job.text_encoder, job.target)
    if tower is not None:
        add_text_token(empty, tower.part.channels)
    job = _with_slots(job, empty)
    _check_convertible(empty, recipe, exporter)
    memory = check_memory(job.variant, empty, job.input_side or empty.native_side, job.target)
    if target_named(job.target).fixed_shapes and not job.flexible:
        job = replace(job, prompts=job.prompts or FIXED_PROMPTS, points=job.points or FIXED_POINTS)
    return CheckedJob(job, recipe, source, exporter, photos, _labelled(job, photos), memory, words, tower)


def load_context(checked: CheckedJob, cache: ReferenceCache, progress: Progress) -> ExportContext:
    """Load the weights.

    Args:
        checked: the job.
        cache: of the reference's outputs.
        progress: called with the name of each stage as it starts.

    Raises:
        CheckpointError: the weights cannot be used.
        OutputError: there is not enough disk space for the bundle.
    """
    job = checked.job
    told = f"; the export takes up to {checked.memory / 1e9:.0f} GB of memory" if checked.memory >= TOLD_FROM else ""
    progress(f"loading {job.variant}, {checked.source.label}{told}")
    loaded = load_sam(job.variant, checked.source, job.input_side)
    if job.hq_token_only:
        use_hq_token_only(loaded.sam)
    if checked.words is not None:
        checked.words.give_to(loaded.sam, loaded.checkpoint)
    if checked.tower is not None:
        require_text_token(loaded, checked.source, checked.tower.part.channels)
    elif loaded.sam.conventions.text_channels is not None:
        job.check_text("use weights without a text token")
    recipe = checked.recipe if job.recipe else with_exceptions(checked.recipe, loaded.sam, job.target)
    require_space(job.out, loaded.parameters * _BYTES_PER_WEIGHT + _BYTES_BESIDE_WEIGHTS)
    manifest = _manifest(checked, recipe, loaded)
    reference = cache.wrap(TorchBackend(loaded.sam), manifest)
    return ExportContext(
        job=job,
        recipe=recipe,
        model=loaded.sam,
        manifest=manifest,
        reference=reference,
        exporter=checked.exporter,
        photos=checked.photos,
        labelled=checked.labelled,
        cache=cache,
        progress=progress,
        words=checked.words,
        tower=checked.tower,
    )


def _recipe(job: ExportJob) -> Recipe:
    """The recipe of the job, or the one that a search starts from."""
    if job.recipe is not None:
        return read_recipe(job.recipe)
    return recipe_named(W8A8 if job.searched else job.precision)


def _check_rounding(recipe: Recipe, target: str) -> None:
    """Refuse a method of neural-compressor that is not installed, or whose weights the target cannot hold."""
    if recipe.rounding == GPTQ:
        return
    require_package(f"rounding {recipe.rounding}")
    if target_named(target).int4_palette and "w4" in recipe.schemes:
        raise UsageError(
            f"rounding {recipe.rounding} is not possible for w4 of target {target}, whose INT4 weights are indices "
            f"into a palette: use w8, or rounding {GPTQ}"
        )


def _check_conventions(job: ExportJob, sam: Sam) -> None:
    """Refuse frames and layouts that the model's family cannot have.

    Raises:
        UsageError: an impossible frame or layout.
    """
    side = job.input_side or sam.native_side
    frames = frame_sizes(job.frames, side)
    if sam.conventions.stretched and frames != (FrameSize.square(side),):
        raise UsageError(
            f"--frame {','.join(job.frames)}: {job.variant} stretches every photo to a square, so no part of it is "
            "padding: leave out --frame"
        )
    step = getattr(sam.image_encoder, "frame_step", FRAME_STEP)
    # The side of a square is checked where the model gets it.
    if wrong := [frame for frame in frames if frame != FrameSize.square(side) and any(size % step for size in frame)]:
        fitting = FrameSize(*(-(-size // step) * step for size in wrong[0]))
        raise UsageError(
            f"--frame {wrong[0].name}: both sides must be multiples of {step} for {job.variant}: use {fitting.name}"
        )
    if job.graph == NEURAL_ENGINE and any(isinstance(module, HieraBlock) for module in sam.modules()):
        raise UsageError(f"--graph {NEURAL_ENGINE} has no form of the encoder of {job.variant}: omit it")
    if job.layout == OFFICIAL:
        require_one_feature(sam, "--layout official")


def _with_slots(job: ExportJob, sam: Sam) -> ExportJob:
    """The job with the number of slots that the model's prompts have, where that is not free.

    Raises:
        UsageError: the job names another number.
    """
    slots = sam.conventions.slots
    if slots is None:
        return job
    if job.points not in (None, slots):
        raise UsageError(f"--points {job.points}: each prompt of {job.variant} has {slots} slots: leave out --points")
    return replace(job, points=slots)


def _labelled(job: ExportJob, photos: CalibrationSet | None) -> LabelledSet | None:
    """The photos with human masks, none of which is a calibration photo."""
    if job.loss is None or photos is None:
        return None
    for package in ("matplotlib", "scipy", "webdataset"):
        if find_spec(package) is None:
            raise UsageError(f"--labelled needs {package}: pip install 'sam-edge[evaluate]'")
    return labelled_photos(job.loss.data, job.loss.photos, photos, job.loss.interval)


def _check_convertible(sam: Sam, recipe: Recipe, exporter: Exporter) -> None:
    """Raise the exporter's refusal of either graph of a model without weights."""
    if exporter.refusal is None:
        return
    with torch.device("meta"):
        graphs = {"decoder": decoder_graph(sam), "encoder": EncoderGraph(sam)}
    precision = FLOAT if recipe.is_quantized else recipe.name  # quantized artifacts are made from fp32 ones
    for name, graph in graphs.items():
        if refusal := exporter.refusal(graph, name, precision):
            raise ExportError(refusal)


def _manifest(checked: CheckedJob, recipe: Recipe, loaded: LoadedSam) -> Manifest:
    job, checkpoint, target = checked.job, loaded.checkpoint, target_named(checked.job.target)
    return Manifest(
        variant=job.variant,
        parameters=loaded.parameters,
        licence=loaded.licence,
        checkpoint=Checkpoint(checkpoint.label, checkpoint.sha256, checkpoint.is_random),
        target=job.target,
        precision=AUTO if job.searched else CUSTOM if job.recipe and recipe.layers else recipe.name,
        recipe=recipe.to_json(),
        calibration={} if checked.photos is None else checked.photos.to_json(),
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
        frames=frame_sizes(job.frames, loaded.sam.side),
        conventions=loaded.sam.conventions,
        text=_text_part(checked),
    )


def _text_part(checked: CheckedJob) -> TextPart | None:
    """The manifest's section on what turns words into embeddings."""
    if checked.tower is not None:
        return checked.tower.part
    return None if checked.words is None else checked.words.part()
