"""Export the encoders of CLIP's kin: each an artifact of its own, checked against fp32 torch.

The steps are those of a bundle's graphs, with the same exporters and quantizers: equalize channels, round weights,
convert, quantize by calibrated ranges, compare. The result is a folder with `text.*`, `image.*`, the tokenizer and
`towers.json`, which names the tensors, the files' hashes and the figures.

`text_tokens` are integers stored as float32, as all integers of the contract are. In quantized artifacts the table of
tokens, which is the larger part of small text encoders, is in INT8 with a scale for each token where the converter
keeps it so, else in float16.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from sam_edge.model.clip import Clip, ClipImageGraph, ClipTextGraph
from sam_edge.model.clip.clip import with_folded_normalization
from sam_edge.model.clip.int8_embedding import with_int8_embedding
from sam_edge.model.norms import scale_first
from sam_edge.quantization.artifacts import host_processor, layer_names, weight_levels, with_exceptions
from sam_edge.quantization.calibration.photos import COUNT, calibration_photos
from sam_edge.quantization.equalization.equalize import equalize_graphs
from sam_edge.quantization.gptq import round_graphs
from sam_edge.reporting.versions import tool_versions
from sam_edge.weights.clip_checkpoint import LoadedClip
from sam_edge_exporters import Conversion, Metadata, exporter_for
from sam_edge_quant import FLOAT, Plan, Recipe, calibrate, quantizer_for, recipe_named
from sam_edge_runtime.arrays import Call, Float32
from sam_edge_runtime.backends.artifact import open_artifact
from sam_edge_runtime.bundle.contract import GraphContract, Layout, TensorSpec
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.bundle.tokenizer import FILE as TOKENIZER_FILE
from sam_edge_runtime.bundle.tokenizer import TextTokenizer
from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.system.documents import json_text
from sam_edge_runtime.system.files import sha256_of
from sam_edge_runtime.system.folders import check_destination, others_than, staged_folder

TEXT, IMAGE = "text", "image"
FILE = "towers.json"
FORMAT = 1
COMPARED = 4  # calls of each encoder that the artifact is compared on; it is calibrated on others
# Smallest cosine between an artifact's embedding and fp32 torch's, over the calls that are compared.
BOUNDS = {"fp32": 0.99999, "fp16": 0.999, "mixed": 0.999, "w8": 0.995, "dynamic": 0.98, "w8a8": 0.97}
# Words to calibrate the text encoder with, each alone and within a sentence.
WORDS = (
    "cat", "dog", "red cup", "person", "car", "tree", "window", "shoe", "chair", "bottle", "building", "flower", "bag",
    "wooden table", "bicycle", "horse", "bird", "boat", "book", "sky", "grass", "road sign", "phone", "apple", "hand",
    "blue shirt", "wheel", "door", "lamp", "fish", "something transparent", "the largest object on the left",
)  # fmt: skip
SENTENCES = ("{}", "a photo of a {}", "a blurry photo of the small {} in the background")


@dataclass(frozen=True)
class ClipExportJob:
    """What to export.

    Attributes:
        out: folder to write.
        target: one of `TARGETS`.
        precision: one of `BOUNDS`.
        parts: which encoders, `text` and `image`.
        calibration: photos for the image encoder's ranges, as for bundles; None for the sample photos.
        photos: how many of them.
        overwrite: replace an earlier export.

    Raises:
        UsageError: a precision that the target lacks, or an unknown encoder.
    """

    out: Path
    target: str = "onnx"
    precision: str = "fp32"
    parts: tuple[str, ...] = (TEXT, IMAGE)
    calibration: Path | str | None = None
    photos: int = COUNT
    overwrite: bool = False

    def __post_init__(self) -> None:
        target = target_named(self.target)
        choices = [each for each in BOUNDS if each in (*target.precisions, *target.schemes)]
        if self.precision not in choices:
            raise UsageError(
                f"text encoders have no precision {self.precision!r:.60} for target {self.target}: choose one of "
                f"{', '.join(choices)}"
            )
        if (self.target, self.precision) == ("onnx", "fp16") and TEXT in self.parts:
            raise UsageError("ONNX files in fp16 take inputs in float16, which holds tokens to 2,048 only: choose w8")
        if not self.parts or not set(self.parts) <= {TEXT, IMAGE}:
            raise UsageError(f"no encoders {', '.join(self.parts) or 'at all'}: choose {TEXT}, {IMAGE} or both")


@dataclass(frozen=True)
class ExportedEncoder:
    """One artifact and its comparison with fp32 torch.

    Attributes:
        file: its name in the folder.
        contract: its tensors.
        cosine: the smallest between its embeddings and torch's.
        difference: the largest between their numbers.
        missed: whether the cosine is below the bound.
        bytes: its size.
        details: of its quantization.
    """

    file: str
    contract: GraphContract
    cosine: float
    difference: float
    missed: bool
    bytes: int
    details: dict[str, Any] = field(default_factory=dict)


def export_clip(
    job: ClipExportJob,
    loaded: LoadedClip,
    tokenizer: TextTokenizer | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> dict[str, ExportedEncoder]:
    """Write the encoders of a loaded model.

    Args:
        job: what to export, and where to.
        loaded: the model; unchanged afterwards.
        tokenizer: of the model. Without one, a quantized text encoder is calibrated with random tokens, which seeded
            weights permit.
        progress: called with the name of each stage.

    Raises:
        UsageError: trained weights are to be quantized without a tokenizer, or there are no photos.
        ExportError: a graph cannot be converted or quantized.
        OutputError: the folder cannot be written. An earlier one is unchanged.
    """
    recipe = recipe_named(job.precision)
    if tokenizer is None and recipe.is_quantized and TEXT in job.parts and not loaded.checkpoint.is_random:
        raise UsageError(f"to calibrate the text encoder of {loaded.variant} name its {TOKENIZER_FILE} (--tokenizer)")
    check_destination(job.out, overwrite=job.overwrite, foreign=_foreign)
    samples = {part: _samples(part, job, loaded.clip, tokenizer) for part in job.parts}
    made: dict[str, ExportedEncoder] = {}
    with staged_folder(job.out, overwrite=job.overwrite, foreign=_foreign) as folder:
        for part in job.parts:
            made[part] = _export(part, job, loaded, samples[part], folder, progress)
        if tokenizer is not None and TEXT in job.parts:
            shutil.copyfile(tokenizer.path, folder / TOKENIZER_FILE)
        (folder / FILE).write_text(json_text(_document(job, loaded, made, folder)), encoding="utf-8")
    return made


def contract_of(part: str, clip: Clip, target: str) -> GraphContract:
    """The tensors of one encoder: any number of texts or crops in a call of ONNX, one where shapes are fixed."""
    config, facts = clip.config, target_named(target)
    b: int | str = 1 if facts.fixed_shapes else "B"
    dim = config.dim
    if part == TEXT:
        tokens = TensorSpec("text_tokens", (b, config.context), "tokens, integers", (0.0, config.vocabulary - 1.0))
        return GraphContract((tokens,), (TensorSpec("text_embeddings", (b, dim), "unit vectors", (-1.0, 1.0)),))
    shape = facts.layout.shape(3, (config.side, config.side))
    image = TensorSpec("image", (b, *shape[1:]), "RGB crops, not normalized", (0.0, 255.0))
    return GraphContract((image,), (TensorSpec("crop_embeddings", (b, dim), "unit vectors", (-1.0, 1.0)),))


def graph_of(part: str, clip: Clip, target: str) -> nn.Module:
    """The graph of one encoder in the form that a target's converter takes; it shares the model's parameters."""
    facts = target_named(target)
    if part == TEXT:
        text = ClipTextGraph(clip).eval()
        return scale_first(text) if facts.scale_first else text
    image = ClipImageGraph(clip, facts.layout).eval()
    return scale_first(with_folded_normalization(image)) if facts.scale_first else image


def _export(
    part: str,
    job: ClipExportJob,
    loaded: LoadedClip,
    samples: Sequence[Call],
    folder: Path,
    progress: Callable[[str], None],
) -> ExportedEncoder:
    contract = contract_of(part, loaded.clip, job.target)
    path = folder / f"{part}{target_named(job.target).suffix}"
    recipe = recipe_named(job.precision)
    compared, samples = samples[:COMPARED], samples[COMPARED:] or samples
    converted = tuple(_for_artifact(call, job.target) for call in samples)
    metadata = Metadata(
        f"{loaded.variant}: the {part} encoder in {job.precision}", loaded.licence, tool_versions(())["sam-edge"]
    )
    exporter = exporter_for(job.target)
    details: dict[str, Any] = {}
    if recipe.is_quantized:
        clip = deepcopy(loaded.clip)
        plain = graph_of(part, clip, "onnx")  # NCHW, as the samples are
        recipe = with_exceptions(recipe, plain, job.target)
        details = _prepare(part, plain, recipe, job.target, samples, progress)
        graph = graph_of(part, clip, job.target)
        plan = Plan(recipe, layer_names(graph), arm=host_processor() == "arm")
        progress(f"converting the {part} encoder")
        with TemporaryDirectory(prefix="sam-edge-") as temporary:
            source = Path(temporary) / path.name
            graph = with_int8_embedding(graph, job.target)
            exporter.export(graph, contract, source, Conversion(FLOAT, converted, metadata))
            progress(f"quantizing the {part} encoder")
            details |= _quantize(source, path, plan, job.target, converted)
    else:
        progress(f"converting the {part} encoder")
        graph = graph_of(part, loaded.clip if job.precision == FLOAT else deepcopy(loaded.clip), job.target)
        exporter.export(graph, contract, path, Conversion(job.precision, converted, metadata))
    progress(f"comparing the {part} encoder with fp32 torch")
    cosine, difference = _compare(part, path, job.target, loaded.clip, contract, compared)
    return ExportedEncoder(
        path.name, contract, cosine, difference, cosine < BOUNDS[job.precision], _bytes(path), details
    )


def _prepare(
    part: str,
    graph: nn.Module,
    recipe: Recipe,
    target: str,
    samples: Sequence[Call],
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Equalize channels and round weights, in place."""
    progress(f"equalizing channels of the {part} encoder on {len(samples)} calls")
    equalized = equalize_graphs(graph, ((graph, samples),), ("smooth",))
    progress(f"rounding weights of the {part} encoder")
    rounded = round_graphs(graph, ((graph, samples),), weight_levels(graph, recipe, target))
    return {"equalized": equalized, "rounded": {name: asdict(each) for name, each in rounded.items()}}


def _quantize(source: Path, path: Path, plan: Plan, target: str, samples: Sequence[Call]) -> dict[str, Any]:
    quantizer = quantizer_for(target)
    needed = quantizer.tensors(source, plan)
    ranges = {}
    if needed:
        ranges = calibrate(quantizer.observer(source, needed), needed, samples, plan.recipe.estimator)
    return quantizer.quantize(source, path, plan, ranges)


@torch.inference_mode()
def _compare(
    part: str, path: Path, target: str, clip: Clip, contract: GraphContract, calls: Sequence[Call]
) -> tuple[float, float]:
    """The smallest cosine with torch's embeddings, and the largest difference."""
    artifact, graph = open_artifact(path, target), graph_of(part, clip, "onnx")
    cosines, differences = [], []
    for call in calls:
        (wanted,) = graph(*map(torch.from_numpy, call.values())).numpy()
        (found,) = artifact(_for_artifact(call, target))[contract.output_names[0]]
        cosines.append(float(found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)))
        differences.append(float(np.abs(found - wanted).max()))
    return min(cosines), max(differences)


def _samples(part: str, job: ClipExportJob, clip: Clip, tokenizer: TextTokenizer | None) -> list[Call]:
    """Calls of one text or crop each, NCHW: those that are compared, and where ranges are needed, for calibration."""
    quantized = recipe_named(job.precision).is_quantized
    if part == TEXT:
        ids = _random_tokens(clip) if tokenizer is None else tokenizer(_texts()).ids
        calls = [{"text_tokens": row[None]} for row in ids]
        return calls if quantized else calls[:COMPARED]
    return list(_image_calls(job, clip, job.photos if quantized else 1))


def _texts() -> list[str]:
    return [sentence.format(word) for index, word in enumerate(WORDS) for sentence in SENTENCES[index % 2 :: 2]]


def _random_tokens(clip: Clip) -> Float32:
    """Seeded tokens in texts of all lengths, each with its end token."""
    config = clip.config
    draw = np.random.default_rng(0)
    tokens = draw.integers(0, config.vocabulary, (32, config.context))
    tokens[tokens == config.end] = 0
    for row, length in enumerate(np.linspace(2, config.context, len(tokens)).astype(int)):
        tokens[row, length - 1] = config.end
        tokens[row, length:] = 0
    return tokens.astype(np.float32)


def _image_calls(job: ClipExportJob, clip: Clip, count: int) -> Iterator[Call]:
    """Five square parts of each photo: its middle and its corners, of two sizes."""
    side = clip.config.side
    for each in calibration_photos(job.calibration, count).photos:
        picture = Image.fromarray(each.read().photo)
        short = min(picture.size)
        for x, y, share in ((0.5, 0.5, 1.0), (0.0, 0.0, 0.5), (1.0, 0.0, 0.5), (0.0, 1.0, 0.5), (1.0, 1.0, 0.5)):
            size = max(1.0, short * share)
            left, top = (picture.width - size) * x, (picture.height - size) * y
            part = picture.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + size, top + size))
            yield {"image": np.ascontiguousarray(np.asarray(part, np.float32).transpose(2, 0, 1)[None])}


def _for_artifact(call: Call, target: str) -> Call:
    """A call with images in the target's axis order."""
    layout = target_named(target).layout
    return {
        name: layout.from_nchw(value) if name == IMAGE and layout is Layout.NHWC else value
        for name, value in call.items()
    }


def _document(job: ClipExportJob, loaded: LoadedClip, made: dict[str, ExportedEncoder], folder: Path) -> dict[str, Any]:
    config = loaded.clip.config
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        "format": FORMAT,
        "variant": loaded.variant,
        "target": job.target,
        "precision": job.precision,
        "licence": loaded.licence,
        "weights": loaded.checkpoint.label,
        "weights_sha256": loaded.checkpoint.sha256,
        "dim": config.dim,
        "side": config.side,
        "context": config.context,
        "vocabulary": config.vocabulary,
        "lower_case": config.pooled,
        "end_token": config.end,
        "mean": [255.0 * value for value in config.mean],
        "scale": float(loaded.clip.logit_scale.detach().exp()),
        "bound": BOUNDS[job.precision],
        "encoders": {
            part: {
                "file": each.file,
                "inputs": [asdict(spec) for spec in each.contract.inputs],
                "outputs": [asdict(spec) for spec in each.contract.outputs],
                "cosine": round(each.cosine, 7),
                "difference": each.difference,
                "missed": each.missed,
                "bytes": each.bytes,
                "quantization": each.details,
            }
            for part, each in made.items()
        },
        "files": {path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(files)},
        "tools": tool_versions(target_named(job.target).tools),
    }


def _bytes(path: Path) -> int:
    """Size of an artifact, with what lies beside it."""
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    beside = path.with_name(f"{path.name}.data")
    return path.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)


def _foreign(folder: Path) -> tuple[str, ...] | None:
    """What an export would destroy: files that no export wrote, or that changed; None where it is no export at all."""
    try:
        hashes: dict[str, str] = json.loads((folder / FILE).read_text("utf-8"))["files"]
        own = {FILE, *hashes}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    changed = [
        name for name, digest in hashes.items() if (folder / name).is_file() and sha256_of(folder / name) != digest
    ]
    return (*others_than(folder, lambda name: name in own), *changed)
