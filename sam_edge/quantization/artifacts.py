"""From a bundle's two graphs in fp32 to the same in fewer bits.

The fp32 artifacts are made once and lie in a folder aside; every recipe that is tried starts from them. So do the
ranges of activations: each is looked for on the calibration's calls once, when the first recipe needs it.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from sam_edge.model import Sam, fold_batch_norms
from sam_edge.prediction.calls import Call, artifact_sample
from sam_edge_quant import Plan, Quantizer, Range, Recipe, calibrate, fingerprint, quantizer_for
from sam_edge_quant.methods.weight_scales import INT8_MAX, QAT_MAX
from sam_edge_quant.recipe import QUANTIZED
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.bundle.targets import target_named
from sam_edge_runtime.errors import UsageError

from .calibration.calls import CalibrationCalls
from .calibration.prompts import MOST_SLOTS
from .equalization.equalize import equalize
from .gptq import round_weights
from .layers import LAYERS, Layer, is_depthwise

Progress = Callable[[str], None]

# Sums over channels are known from fewer photos and prompts than the ends of ranges.
PREPARED_BY = 8
PROMPTS_AT_ONCE = 6
# Cross-layer equalization is left out: it took 2 dB from nano's decoder (benchmarks/equalization.py).
EQUALIZED_BY = ("smooth", "bimodal")
RGB = 3  # channels of a photo
HOSTS = ("x86", "arm")  # processors that quantized graphs differ for


def layer_names(sam: Sam) -> dict[str, str]:
    """Every layer with a weight, such as `image_encoder.stem`, by the weight's fingerprint."""
    return {fingerprint(layer.weight.detach().numpy()): name for name, layer in _layers(sam)}


def _layers(sam: Sam) -> Iterator[tuple[str, Layer]]:
    return ((name, module) for name, module in sam.named_modules() if isinstance(module, LAYERS))


def sparing_the_first(recipe: Recipe, sam: Sam) -> Recipe:
    """`w8a8` as it is meant where nothing is said of layers: what reads the photo keeps its activations in float.

    Its three channels fill no kernel for whole numbers (nano's stem takes 0.9 ms in ONNX Runtime, in float 0.4), and in
    a ViT its answer is what the residual stream begins with: in eight bits, ViT-B's embedding had 14 dB, else 28.
    """
    first = [name for name, layer in _layers(sam) if isinstance(layer, nn.Conv2d) and layer.in_channels == RGB]
    return replace(recipe, layers=dict.fromkeys(first, "w8")) if recipe.name == "w8a8" else recipe


def this_host() -> str:
    """The one of `HOSTS` that this machine is."""
    return "arm" if platform.machine().lower() in {"arm64", "aarch64"} else "x86"


def prepare(
    sam: Sam, calls: CalibrationCalls, recipe: Recipe, manifest: Manifest, progress: Progress
) -> dict[str, Any]:
    """Make a model ready for a quantizer, in place: fold its batch norms, equalize its channels, round its weights.

    Args:
        sam: a copy of the model; afterwards its weights lie on the grids that the quantizer will find.
        calls: of the calibration.
        recipe: what each layer is kept in.
        manifest: of the bundle that is to be made.
        progress: told what is being done.

    Returns:
        What was done, for the report: `equalized` and `rounded`.
    """
    calls = calls.of_fewer(PREPARED_BY)
    capacity = replace(manifest, prompts=PROMPTS_AT_ONCE, points=MOST_SLOTS, batches=())
    fold_batch_norms(sam)
    progress(f"equalizing channels, by {len(calls.photos)} photos")
    equalized = equalize(sam, calls.encoder(), calls.decoder(capacity), EQUALIZED_BY)
    progress("rounding weights")
    levels = {
        name: _levels(layer, way, manifest.target)
        for name, layer in _layers(sam)
        if (way := recipe.scheme_of(name)) in QUANTIZED
    }
    rounded = round_weights(sam, calls.encoder(), calls.decoder(capacity), levels)
    return {"equalized": equalized, "rounded": {name: asdict(each) for name, each in rounded.items()}}


def _levels(layer: Layer, way: str, target: str) -> int:
    """Whole numbers to either side of zero that a weight is rounded to."""
    if way == "w4":
        return 7
    # ONNX Runtime adds two products in sixteen bits, where it multiplies them so: `sam_edge_quant.onnx.weights`.
    paired = target_named(target).saturates and way in {"w8a8", "dynamic"}
    return QAT_MAX if paired and not is_depthwise(layer) else INT8_MAX


class Quantization:
    """The fp32 artifacts of a bundle, and what it takes to make smaller ones of them.

    Attributes:
        names: of the layers, in the model's order.
    """

    def __init__(self, sam: Sam, manifest: Manifest, calls: CalibrationCalls, source: Path, host: str) -> None:
        """Nothing is computed yet.

        Args:
            sam: the model that the artifacts were made from.
            manifest: of the bundle that is to be made.
            calls: of the calibration.
            source: folder with both fp32 artifacts, named as the manifest has them.
            host: one of `HOSTS`.

        Raises:
            UsageError: no such host.
        """
        if host not in HOSTS:
            raise UsageError(f"--host {host} is not known: choose one of {', '.join(HOSTS)}")
        self._quantizer: Quantizer = quantizer_for(manifest.target)
        self._manifest, self._calls, self._source, self._host = manifest, calls, source, host
        self._fingerprints = layer_names(sam)
        self.names = tuple(self._fingerprints.values())
        # By file and estimator: every range that was needed so far.
        self._ranges: dict[tuple[str, str], dict[str, Range]] = {}

    def write(self, recipe: Recipe, folder: Path, progress: Progress = lambda stage: None) -> dict[str, Any]:
        """Both graphs by a recipe, into a folder under the names of the manifest.

        Args:
            recipe: what each layer is kept in.
            folder: where to.
            progress: told what is being done.

        Returns:
            What the quantizer says of each graph, by its file's name: `layers`, `unknown`, `operations`.

        Raises:
            UsageError: the recipe names a layer that is not there.
            ExportError: an activation is not finite, or the quantizer fails.
        """
        plan = self.plan(recipe)
        return {
            file: self.write_graph(file, plan, folder / file, progress)
            for file in (self._manifest.decoder, self._manifest.encoder)
        }

    def plan(self, recipe: Recipe) -> Plan:
        """A recipe for these artifacts.

        Raises:
            UsageError: it names a layer that is not there.
        """
        recipe.check_layers(self.names)
        return Plan(recipe, self._fingerprints, arm=self._host == "arm")

    def write_graph(self, file: str, plan: Plan, path: Path, progress: Progress) -> dict[str, Any]:
        """One graph by a plan; see `write`."""
        source = self._source / file
        found = self._ranges.setdefault((file, plan.recipe.estimator), {})
        wanted = self._quantizer.tensors(source, plan)
        missing = [name for name in wanted if name not in found]
        if missing:
            count = len(self._calls.photos)
            progress(f"calibrating {file} on {count} photos")
            found |= calibrate(
                self._quantizer.observer(source, missing), missing, self._samples(file), plan.recipe.estimator
            )
        progress(f"quantizing {file}")
        return self._quantizer.quantize(source, path, plan, {name: found[name] for name in wanted})

    def _samples(self, file: str) -> Iterator[Call]:
        manifest = self._manifest
        calls = self._calls.encoder() if file == manifest.encoder else self._calls.decoder(manifest)
        return (artifact_sample(call, manifest) for call in calls)
