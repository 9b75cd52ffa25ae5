"""How many masks change when blocks compute in INT8.

Simulated in PyTorch: the chosen blocks' layers round their inputs to 256 levels, everything else stays in fp32. Weights
are not rounded here, because `sam_edge.quantization.artifacts.prepare` has rounded them. One estimate takes one pass
over a few photos. No artifact is made, and the estimates are the same for every target.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from sam_edge.model import Sam
from sam_edge.model.graphs import in_encoder_graph
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prompting.mask_choice import choose, is_ambiguous
from sam_edge.quantization.calibration.calls import PromptedPhoto
from sam_edge.quantization.fake_quant import FakeQuant
from sam_edge.quantization.layers import LAYERS
from sam_edge_runtime.agreement.metrics import mask_iou
from sam_edge_runtime.arrays import Int64, Mask
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.contract import MASK_THRESHOLD
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.decoding import decode_prompts

from .blocks import block_of

_PROJECTION = "projection."  # the part of the decoder in the encoder's graph
LARGE_MODEL = 10e9  # operations a photo above which one photo has to do: TinyViT has 80e9, nano 4e9


class Simulation:
    """The model with some of its blocks in INT8.

    Args:
        sam: the model that the artifacts are made from.
        photos: with their prompts; of a large model only the first is used.
        manifest: of the bundle that is being made.

    Attributes:
        operations: multiplications and additions of each block's layers, for one photo and one prompt.
    """

    def __init__(self, sam: Sam, photos: Sequence[PromptedPhoto], manifest: Manifest) -> None:
        self._sam, self._photos, self._manifest = sam, photos[:1], manifest.of_any_capacity()
        with FlopCounterMode(display=False) as counter:
            self._expected = self._predict()
        self.operations = self._count(counter, sum(map(len, photos[0].prompts)))
        if sum(self.operations.values()) <= LARGE_MODEL:
            self._expected += predict_masks(TorchBackend(sam), photos[1:], self._manifest)
            self._photos = photos
        self._estimates: dict[frozenset[str], float] = {}

    def mask_miou(self, blocks: Iterable[str]) -> float:
        """Mean IoU of selected masks with fp32's, with the named blocks in INT8."""
        chosen = frozenset(blocks)
        if chosen not in self._estimates:
            self._estimates[chosen] = self._simulate(chosen)
        return self._estimates[chosen]

    def _simulate(self, chosen: frozenset[str]) -> float:
        weights = [
            module.weight
            for name, module in self._sam.named_modules()
            if isinstance(module, LAYERS) and block_of(name) in chosen
        ]
        with FakeQuant(weights):
            return selected_mask_iou(self._expected, self._predict())

    def masks_lost(self, blocks: Iterable[str]) -> dict[str, float]:
        """One minus `mask_miou`, for each block alone."""
        return {block: 1.0 - self.mask_miou([block]) for block in blocks}

    def _count(self, counter: FlopCounterMode, prompts: int) -> dict[str, float]:
        """Operations of each block, counted on one photo and `prompts` prompts."""
        layers = {name for name, module in self._sam.named_modules() if isinstance(module, LAYERS)}
        counts: dict[str, float] = {}
        for path, operations in counter.get_flop_counts().items():
            name = path.partition(".")[2]  # behind the class of the graph
            if name.startswith(_PROJECTION):
                name = f"mask_decoder.{name.removeprefix(_PROJECTION)}"
            if name in layers:
                times = 1 if in_encoder_graph(name) else prompts
                counts[block_of(name)] = counts.get(block_of(name), 0.0) + sum(operations.values()) / times
        return counts

    def _predict(self) -> list[PredictedMasks]:
        return predict_masks(TorchBackend(self._sam), self._photos, self._manifest)


@dataclass(frozen=True, eq=False)
class PredictedMasks:
    """Masks of prompts that were decoded together.

    Attributes:
        masks: `(B, 4, S/4, S/4)` bool, all outputs.
        selected: `(B)` index of the output that is shown to a user, per prompt.
    """

    masks: Mask
    selected: Int64


def predict_masks(backend: Backend, photos: Iterable[PromptedPhoto], manifest: Manifest) -> list[PredictedMasks]:
    """A backend's masks for photos' prompts, one element for each group of prompts that are decoded together.

    After a single click or box, the selected output is the one of three masks with the highest predicted IoU, otherwise
    output 0 ("Segment Anything", arXiv 2304.02643, appendix A, "Making the model ambiguity-aware").
    """
    predicted = []
    for photo in photos:
        features = backend.encode(photo.image)
        for prompts in photo.prompts:
            low_res, iou, _ = decode_prompts(backend, manifest, features, prompts)
            has_mask = torch.full((len(prompts),), 0.0 if prompts.masks is None else 1.0)
            ambiguous = is_ambiguous(torch.from_numpy(prompts.labels), has_mask)
            selected = choose(torch.from_numpy(iou), ambiguous).numpy()
            predicted.append(PredictedMasks(low_res > MASK_THRESHOLD, selected))
    return predicted


def selected_mask_iou(expected: Sequence[PredictedMasks], predicted: Sequence[PredictedMasks]) -> float:
    """Mean IoU over all prompts, of the outputs that are selected in `expected`."""
    return float(
        np.mean(
            [
                mask_iou(a.masks[row, output], b.masks[row, output])
                for a, b in zip(expected, predicted, strict=True)
                for row, output in enumerate(a.selected.tolist())
            ]
        )
    )
