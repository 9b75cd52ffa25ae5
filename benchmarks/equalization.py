"""Gains of equalization and GPTQ for nano in INT8 and 4 bits, alone and together, simulated in torch.

Every linear layer and convolution reads its input on one asymmetric INT8 grid (min-max over calibration), and has
weights on a symmetric grid for each output; everything else is fp32. All three targets do this at best, so the
differences between rows hold for them, but no row is a target's figure. `keys` quantizes the outputs of the query and
key projections to INT8 too. The position of a grid changes the noise by a dB or so, so each row is the mean noise of
several, with ranges widened by a few per cent.

    python benchmarks/equalization.py --calibration coco/val.tar --photos sa1b --json FILE
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from sam_edge.data.sources import open_source
from sam_edge.data.stream import read_sample
from sam_edge.model import Sam
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.model.transformer import Attention
from sam_edge.prompting.grid import prompt_groups
from sam_edge.quantization.equalization.equalize import METHODS, equalize
from sam_edge.quantization.equalization.observe import ChannelStatistics, observe_layers, sam_runs
from sam_edge.quantization.gptq import round_weights
from sam_edge.quantization.layers import LAYERS, Layer, rows_of, set_rows
from sam_edge.reporting.versions import commit, tool_versions
from sam_edge.weights.load import find_source, load_sam
from sam_edge_quant.methods import gptq
from sam_edge_quant.methods.weight_scales import symmetric_scales
from sam_edge_runtime.agreement.metrics import mask_iou
from sam_edge_runtime.arrays import Call
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.photo.frame import Frame

PROMPTS = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input")
WIDENED = (1.0, 1.02, 1.04)
ROWS = 4  # largest number of clicks, and of boxes, of a photo
Calls = tuple[list[Call], list[Call]]  # of the encoder and of the decoder
Statistics = dict[Layer, ChannelStatistics]


@dataclass(frozen=True)
class Plan:
    """A row: the methods applied to the weights, and the simulated quantization.

    Attributes:
        name: name of the row.
        methods: equalization methods, applied first.
        levels: levels of either sign of the weights' grids; None leaves weights in fp32.
        compensated: round with GPTQ (`round_weights`) instead of to the nearest.
        activations: quantize the layers' inputs to INT8.
        keys: quantize queries and keys to INT8 too.
    """

    name: str
    methods: tuple[str, ...] = ()
    levels: int | None = 127
    compensated: bool = False
    activations: bool = True
    keys: bool = False


PLANS = (
    Plan("w8a8"),
    *(Plan(f"w8a8, {method}", (method,)) for method in METHODS),
    Plan("w8a8, all exact", METHODS),
    Plan("w8a8, rounding", compensated=True),
    Plan("w8a8, all exact, rounding", METHODS, compensated=True),
    Plan("a8", levels=None),
    Plan("a8, all exact", METHODS, levels=None),
    Plan("a8, keys", levels=None, keys=True),
    Plan("a8, keys, bimodal", ("bimodal",), levels=None, keys=True),
    Plan("w8", activations=False),
    Plan("w8, rounding", compensated=True, activations=False),
    Plan("w7a8", levels=64),
    Plan("w7a8, rounding", levels=64, compensated=True),
    Plan("w4", levels=7, activations=False),
    Plan("w4, rounding", levels=7, compensated=True, activations=False),
    Plan("w4, all exact, rounding", METHODS, levels=7, compensated=True, activations=False),
)


@dataclass
class Figures:
    """Sums over photos, prompts and grids."""

    signal: dict[str, float] = field(default_factory=lambda: {"embedding": 0.0, "decoder": 0.0, "both": 0.0})
    noise: dict[str, float] = field(default_factory=lambda: {"embedding": 0.0, "decoder": 0.0, "both": 0.0})
    ious: list[float] = field(default_factory=list)

    def add(self, what: str, wanted: Any, found: Any) -> None:
        """Add one output: `wanted` of the reference, `found` of the quantized model."""
        self.signal[what] += float(np.square(wanted, dtype=np.float64).sum())
        self.noise[what] += float(np.square(np.subtract(found, wanted, dtype=np.float64)).sum())

    def summary(self) -> dict[str, float]:
        """SNR in dB, and mean and lowest mask IoU."""
        decibels = {f"{name}_snr_db": 10 * np.log10(self.signal[name] / self.noise[name]) for name in self.signal}
        figures = {**decibels, "mask_miou": np.mean(self.ious), "worst_mask_iou": np.min(self.ious)}
        return {name: round(float(value), 4) for name, value in figures.items()}


def calls_of(sam: Sam, what: Path, count: int) -> Calls:
    """Calls of both graphs for the first photos of a source: clicks, boxes, and both."""
    source, backend = open_source(what), TorchBackend(sam)
    images, prompts = [], []
    records = [partial(shard.read, index, photo_only=True) for shard in source.shards for index in range(len(shard))]
    for read in records[:count]:
        photo = read_sample(read(), annotated=source.annotated, photo_only=True).photo
        frame = Frame(FrameSize.square(sam.side), photo.shape[:2])
        images.append({"image": frame.image(photo)})
        (embeddings,) = backend.encode(images[-1]["image"])
        for group in prompt_groups(frame):
            for feed in group.prompts.feeds((), None):
                whole = (feed.point_coords, feed.point_labels, feed.mask_input, feed.has_mask_input)
                inputs = [each[:: -(-len(each) // ROWS)] for each in whole]
                prompts.append(dict(zip(PROMPTS, (embeddings, *inputs), strict=True)))
    return images, prompts


def grid(values: Tensor, low: float, high: float) -> Tensor:
    """Quantize to INT8 between `low` and `high`, with zero on the grid."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    zero = round(-low / scale)
    return ((values / scale).round() + zero).clamp(0, 255).sub(zero) * scale


@contextmanager
def quantized(sam: Sam, plan: Plan, seen: dict[str, Statistics], widened: float) -> Iterator[Sam]:
    """Quantize activations within the block."""

    def ends(statistics: ChannelStatistics) -> tuple[float, float]:
        return widened * float(statistics.low.min()), widened * float(statistics.high.max())

    hooks = []
    if plan.activations:
        for layer, statistics in seen["reads"].items():
            read = partial(lambda low, high, _, inputs: (grid(inputs[0], low, high),), *ends(statistics))
            hooks.append(layer.register_forward_pre_hook(read))
    if plan.keys:
        for layer, statistics in seen["keys"].items():
            written = partial(lambda low, high, _, __, output: grid(output, low, high), *ends(statistics))
            hooks.append(layer.register_forward_hook(written))
    yield sam
    for hook in hooks:
        hook.remove()


def round_to_nearest(sam: Sam, levels: int) -> None:
    """Round every weight to the nearest level of its grid."""
    for layer in sam.modules():
        if isinstance(layer, LAYERS):
            rows = rows_of(layer)
            outputs = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
            scales = symmetric_scales(rows.reshape(outputs, -1), levels).repeat(rows[..., 0].size // outputs)
            set_rows(layer, gptq.round_to_nearest(rows, scales.reshape(rows.shape[:2])))


def observed(sam: Sam, images: Sequence[Call], prompts: Sequence[Call]) -> dict[str, Statistics]:
    """Ranges of layers' inputs, and of queries and keys."""
    reads: Statistics = {layer: ChannelStatistics() for layer in sam.modules() if isinstance(layer, LAYERS)}
    keys: Statistics = {
        layer: ChannelStatistics()
        for module in sam.modules()
        if isinstance(module, Attention)
        for layer in (module.q_proj, module.k_proj)
    }
    watches = [{layer: partial(add_values, each) for layer, each in group.items()} for group in (reads, keys)]
    observe_layers(sam, sam_runs(sam, images, prompts), *watches)
    return {"reads": {layer: each for layer, each in reads.items() if each.positions}, "keys": keys}


def add_values(statistics: ChannelStatistics, values: Tensor) -> None:
    """Ranges of the whole tensor."""
    statistics.add(values.reshape(-1, 1))


def measure(sam: Sam, plan: Plan, calibration: Calls, photos: Calls) -> dict[str, float]:
    """One row."""
    changed = copy.deepcopy(sam)
    if plan.methods:
        equalize(changed, *calibration, methods=plan.methods)
    seen = observed(changed, *calibration)
    names = [name for name, layer in changed.named_modules() if isinstance(layer, LAYERS)]
    if plan.levels is not None and plan.compensated:
        round_weights(changed, *calibration, dict.fromkeys(names, plan.levels))
    elif plan.levels is not None:
        round_to_nearest(changed, plan.levels)
    figures = Figures()
    for widened in WIDENED if plan.activations else WIDENED[:1]:
        with quantized(changed, plan, seen, widened) as approximate:
            compare(TorchBackend(sam), TorchBackend(approximate), photos, figures)
    return figures.summary()


def compare(reference: TorchBackend, found: TorchBackend, photos: Calls, figures: Figures) -> None:
    """Run both on the same calls, and `found` a second time with its own embedding."""
    embeddings = {}
    for call in photos[0]:
        (wanted,), (got,) = reference.encode(call["image"]), found.encode(call["image"])
        figures.add("embedding", wanted, got)
        embeddings[wanted.tobytes()] = got
    for call in photos[1]:
        embedding, coords, labels, mask, has_mask = [call[name] for name in PROMPTS]
        wanted = reference.decode((embedding,), coords, labels, mask, has_mask).low_res_masks
        figures.add("decoder", wanted, found.decode((embedding,), coords, labels, mask, has_mask).low_res_masks)
        masks = found.decode((embeddings[embedding.tobytes()],), coords, labels, mask, has_mask).low_res_masks
        figures.add("both", wanted, masks)
        pairs = zip(wanted.reshape(-1, *wanted.shape[2:]), masks.reshape(-1, *masks.shape[2:]), strict=True)
        figures.ious += [mask_iou(a > 0, b > 0) for a, b in pairs]


def main() -> None:
    """Measure every plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument(
        "--count", type=int, default=20, help="number of photos for calibration, and of photos for measuring"
    )
    parser.add_argument("--plans", nargs="*", default=[plan.name for plan in PLANS])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sam = load_sam("nano", find_source("nano", None)).sam
    calibration = calls_of(sam, arguments.calibration, arguments.count)
    photos = calls_of(sam, arguments.photos, arguments.count)
    rows = {}
    for plan in PLANS:
        if plan.name in arguments.plans:
            rows[plan.name] = measure(sam, plan, calibration, photos)
            print(
                f"{plan.name:28} " + "  ".join(f"{name} {value:.3f}" for name, value in rows[plan.name].items()),
                flush=True,
            )
    if arguments.json:
        about = {"commit": commit(), "machine": machine(), "tools": tool_versions(("torch", "numpy"))}
        counts = {"calibration": f"{len(calibration[0])} of {arguments.calibration.name}", "photos": len(photos[0])}
        arguments.json.write_text(json.dumps({**about, **counts, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
