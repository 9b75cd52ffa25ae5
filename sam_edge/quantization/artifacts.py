"""From a bundle's two fp32 graphs to quantized ones.

The fp32 artifacts are made once and lie in a temporary folder; every recipe that is tried starts from them. Ranges of
activations are also measured once: on the calibration's calls, when the first recipe needs them.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from sam_edge.model import Sam, fold_batch_norms
from sam_edge.model.graphs import in_encoder_graph
from sam_edge.model.lean import merged_layers
from sam_edge.prediction.calls import artifact_sample
from sam_edge_quant import FLOAT, NPU, Plan, Quantizer, Range, Recipe, calibrate, fingerprint, quantizer_for
from sam_edge_quant.methods.gptq import round_in_blocks
from sam_edge_quant.methods.weight_scales import INT8_MAX, QAT_MAX
from sam_edge_quant.recipe import GPTQ, QUANTIZED
from sam_edge_runtime.arrays import Call
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import UsageError

from .calibration.calls import CalibrationCalls
from .calibration.prompts import MOST_SLOTS
from .equalization.equalize import equalize
from .gptq import Rounder, round_weights
from .layers import LAYERS, Layer, is_depthwise

Progress = Callable[[str], None]

# Equalization and GPTQ need sums over channels, for which fewer photos and prompts suffice than for ranges.
PREPARATION_PHOTOS = 8
PROMPTS_PER_CALL = 6
# Cross-layer equalization is left out: it took 2 dB from nano's decoder (benchmarks/equalization.py).
EQUALIZATION_METHODS = ("smooth", "bimodal")
RGB = 3  # channels of a photo
OF_TEXT = ("words", "text_token")  # small layers that read text; calibration has none
JUDGES = ("iou_prediction_head", "pred_obj_score_head")  # a token to a few numbers, which thresholds are applied to
HOSTS = ("x86", "arm")  # processors for which quantized graphs differ
INT4_MAX = 7


def layer_names(model: nn.Module) -> dict[str, str]:
    """Names of all layers with a weight, such as `image_encoder.stem`, by the weight's fingerprint.

    Where the graphs have one layer in place of two, its weight has the name of the second.
    """
    weights = [*((name, layer.weight) for name, layer in _layers(model)), *merged_layers(model)]
    return {fingerprint(weight.detach().numpy()): name for name, weight in weights}


def _layers(model: nn.Module) -> Iterator[tuple[str, Layer]]:
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LAYERS))


def with_exceptions(recipe: Recipe, model: nn.Module, target: str) -> Recipe:
    """A recipe with the exceptions that its scheme needs; other recipes unchanged.

    `w8a8`: `w8` for the layer that reads the photo, and for the heads that judge masks. `npu`: `w8a16` for that layer,
    and the decoder in `fp32`: published INT8 decoders on Hexagon keep 0.26 to 0.33 of the masks, and a decoder is a
    small part of the time. `w8a16` for ONNX Runtime, where it is for NPUs, too: the decoder in `fp32`. Layers that read
    text stay in `fp32` in all.

    The photo's three channels fill no INT8 kernel (nano's stem takes 0.9 ms in ONNX Runtime, 0.4 ms in float). In a ViT
    the residual stream starts with this layer's output: in INT8, ViT-B's embedding had an SNR of 14 dB, with it 28 dB.
    Heads take no time. nano's IoU predictions were off by 0.07 in TFLite in INT8 (0.12 at 256 pixels), with it by 0.01.
    """
    judges = [f"mask_decoder.{head}" for head in JUDGES if hasattr(getattr(model, "mask_decoder", None), head)]
    first = [name for name, layer in _layers(model) if isinstance(layer, nn.Conv2d) and layer.in_channels == RGB]
    text = {part: FLOAT for part in OF_TEXT if recipe.name in QUANTIZED and getattr(model, part, None) is not None}
    if text:
        recipe = replace(recipe, layers={**recipe.layers, **text})
    if recipe.name == "w8a8":
        return replace(recipe, layers={**dict.fromkeys([*first, *judges], "w8"), **text})
    decoder = _decoder_in_float(model, recipe.name)
    if recipe.name == NPU:
        return replace(recipe, layers={**dict.fromkeys(first, "w8a16"), **decoder})
    if recipe.name == "w8a16" and target == "onnx":
        return replace(recipe, layers=decoder)
    return recipe


def _decoder_in_float(model: nn.Module, scheme: str) -> dict[str, str]:
    """Exceptions that keep the decoder's graph in fp32; parts of it in the encoder's graph keep `scheme`."""
    names = [name for name, _ in _layers(model)]
    roots = sorted({name.split(".")[0] for name in names if not in_encoder_graph(name)})
    moved = sorted(
        {".".join(name.split(".")[:2]) for name in names if name.split(".")[0] in roots and in_encoder_graph(name)}
    )
    return {**dict.fromkeys(roots, FLOAT), **dict.fromkeys(moved, scheme)}


def host_processor() -> str:
    """This machine's processor, one of `HOSTS`."""
    return "arm" if platform.machine().lower() in {"arm64", "aarch64"} else "x86"


def prepare(
    sam: Sam, calls: CalibrationCalls, recipe: Recipe, manifest: Manifest, progress: Progress
) -> dict[str, Any]:
    """Prepare a model for a quantizer, in place: fold its batch norms, equalize its channels, round its weights.

    Args:
        sam: a copy of the model; afterwards its weights are multiples of the scales that the quantizer will choose.
        calls: of the calibration.
        recipe: scheme of each layer.
        manifest: of the bundle that is being made.
        progress: called with the name of each stage.

    Returns:
        What was done, for the report: `equalized` and `rounded`.
    """
    calls = calls.subset(PREPARATION_PHOTOS)
    capacity = replace(manifest, prompts=PROMPTS_PER_CALL, points=manifest.conventions.slots or MOST_SLOTS, batches=())
    frame = manifest.frame
    fold_batch_norms(sam)
    progress(f"equalizing channels on {len(calls.photos)} photos")
    equalized = equalize(sam, calls.encoder(), calls.decoder(capacity), EQUALIZATION_METHODS, frame)
    progress("rounding weights")
    levels = weight_levels(sam, recipe, manifest.target)
    rounders = _rounders(sam, recipe, manifest.target)
    rounded = round_weights(sam, calls.encoder(), calls.decoder(capacity), levels, rounders, frame)
    return {"equalized": equalized, "rounded": {name: asdict(each) for name, each in rounded.items()}}


def weight_levels(model: nn.Module, recipe: Recipe, target: str) -> dict[str, int]:
    """The largest integer that the weight of each quantized layer is rounded to, by the layer's name."""
    return {
        name: _levels(layer, scheme, target)
        for name, layer in _layers(model)
        if (scheme := recipe.scheme_of(name)) in QUANTIZED
    }


def _rounders(sam: Sam, recipe: Recipe, target: str) -> dict[str, Rounder]:
    """What rounds linear layers where the recipe names a method of neural-compressor, or INT4 has blocks."""
    linear = {
        name: recipe.scheme_of(name)
        for name, layer in _layers(sam)
        if isinstance(layer, nn.Linear) and recipe.scheme_of(name) in {"w8", "w4"}
    }
    block = target_named(target).int4_block
    if recipe.rounding == GPTQ:
        if block is None:
            return {}
        return {name: partial(round_in_blocks, block=block) for name, scheme in linear.items() if scheme == "w4"}
    from .neural_compressor.rounding import Grid, rounder  # noqa: PLC0415  # an extra that takes seconds to import

    grids = {"w8": Grid(8), "w4": Grid(4, block)}
    return {name: rounder(recipe.rounding, grids[scheme]) for name, scheme in linear.items()}


def _levels(layer: Layer, scheme: str, target: str) -> int:
    """The largest integer that a weight is rounded to."""
    if scheme == "w4" and _has_int4(layer, target):
        return INT4_MAX
    avoid_saturation = target_named(target).saturates and scheme in {"w8a8", "w8a16", "dynamic", NPU}
    return QAT_MAX if avoid_saturation and not is_depthwise(layer) else INT8_MAX


def _has_int4(layer: Layer, target: str) -> bool:
    """Whether the target's quantizer stores this kind of layer in INT4 for `w4`; it gives the others `w8`."""
    facts = target_named(target)
    if facts.int4_block is not None:
        return isinstance(layer, nn.Linear)
    return facts.int4_palette or not (isinstance(layer, nn.ConvTranspose2d) or is_depthwise(layer))


class ArtifactQuantizer:
    """Makes quantized artifacts from a bundle's fp32 artifacts, by any number of recipes.

    Attributes:
        sam: the model that the fp32 artifacts were made from.
        manifest: of the bundle that is being made.
        source: folder of the fp32 artifacts.
        names: of the layers, in the model's order.
    """

    def __init__(self, sam: Sam, manifest: Manifest, calls: CalibrationCalls, source: Path, host: str) -> None:
        """Nothing is computed yet.

        Args:
            sam: the model that the artifacts were made from.
            manifest: of the bundle that is being made.
            calls: of the calibration.
            source: folder with both fp32 artifacts, under the manifest's names.
            host: one of `HOSTS`.

        Raises:
            UsageError: no such host.
        """
        if host not in HOSTS:
            raise UsageError(f"no host called {host!r}: choose one of {', '.join(HOSTS)}")
        self.sam, self.manifest, self.source = sam, manifest, source
        self._quantizer: Quantizer = quantizer_for(manifest.target)
        self._calls, self._host = calls, host
        self._fingerprints = layer_names(sam)
        self.names = tuple(dict.fromkeys(self._fingerprints.values()))
        # By file and estimator: the ranges that were measured so far.
        self._ranges: dict[tuple[str, str], dict[str, Range]] = {}

    def write(self, recipe: Recipe, folder: Path, progress: Progress = lambda stage: None) -> dict[str, Any]:
        """Write both graphs by a recipe, under the manifest's names.

        Args:
            recipe: scheme of each layer.
            folder: where to.
            progress: called with the name of each stage.

        Returns:
            The quantizer's report of each graph, by file name: `layers`, `unknown`, `operations`.

        Raises:
            UsageError: the recipe names a layer that does not exist.
            ExportError: an activation is not finite, or the quantizer fails.
        """
        plan = self.plan(recipe)
        return {
            file: self.write_graph(file, plan, folder / file, progress)
            for file in (self.manifest.decoder, self.manifest.encoder)
        }

    def plan(self, recipe: Recipe) -> Plan:
        """A recipe with the names of these artifacts' layers.

        Raises:
            UsageError: it names a layer that does not exist.
        """
        recipe.check_layers(self.names)
        return Plan(recipe, self._fingerprints, arm=self._host == "arm")

    def write_graph(self, file: str, plan: Plan, path: Path, progress: Progress) -> dict[str, Any]:
        """Write one graph by a plan; see `write`. ONNX weights above 2 GiB go beside it, into `path` + `.data`."""
        source = self.source / file
        ranges = self._ranges.setdefault((file, plan.recipe.estimator), {})
        needed = self._quantizer.tensors(source, plan)
        missing = [name for name in needed if name not in ranges]
        if missing:
            progress(f"calibrating {file} on {len(self._calls.photos)} photos")
            ranges |= calibrate(
                self._quantizer.observer(source, missing), missing, self._samples(file), plan.recipe.estimator
            )
        progress(f"quantizing {file}")
        return self._quantizer.quantize(source, path, plan, {name: ranges[name] for name in needed})

    def _samples(self, file: str) -> Iterator[Call]:
        manifest = self.manifest
        calls = self._calls.encoder() if file == manifest.encoder else self._calls.decoder(manifest)
        return (artifact_sample(call, manifest) for call in calls)
