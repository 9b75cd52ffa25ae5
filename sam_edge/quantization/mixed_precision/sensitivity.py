"""What blocks cost in masks when they compute in eight bits.

Simulated in torch: the blocks' layers round what they read to 256 steps of its range, everything else stays in fp32.
Weights are taken as they are, for a model that was made ready for a quantizer has them on their grids. One pass over a
few photos for each answer; no artifact is made, and it is the same for every target.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.flop_counter import FlopCounterMode

from sam_edge.model import Sam
from sam_edge.model.torch_backend import TorchBackend
from sam_edge.prompting.mask_choice import choose, is_ambiguous
from sam_edge.quantization.calibration.calls import Question
from sam_edge.quantization.fake_quant import FakeQuant
from sam_edge.quantization.layers import LAYERS
from sam_edge_runtime.agreement.metrics import mask_iou
from sam_edge_runtime.backends import Backend
from sam_edge_runtime.bundle.contract import MASK_THRESHOLD
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.decoding import decode_prompts

from .blocks import block_of

LARGE = 10e9  # multiplications and additions of a network that one photo is enough for: TinyViT has 80, nano 4


class Simulation:
    """The model with some of its blocks in eight bits, and how many of its masks that leaves.

    Args:
        sam: the model that the artifacts are made from.
        questions: photos and what is asked of them; of a large network only the first is.
        manifest: of the bundle that is to be made.

    Attributes:
        work: multiplications and additions of each block's layers, for one photo and one prompt.
    """

    def __init__(self, sam: Sam, questions: Sequence[Question], manifest: Manifest) -> None:
        self._sam, self._questions, self._manifest = sam, questions[:1], manifest.of_any_capacity()
        with FlopCounterMode(display=False) as counter:
            self._wanted = self._answers()
        self.work = self._work(counter, sum(map(len, questions[0].prompts)))
        if sum(self.work.values()) <= LARGE:
            self._wanted += answers_of(TorchBackend(sam), questions[1:], self._manifest)
            self._questions = questions
        self._known: dict[frozenset[str], float] = {}

    def mask_miou(self, blocks: Iterable[str]) -> float:
        """Mean IoU of shown masks with fp32, the named blocks in eight bits."""
        chosen = frozenset(blocks)
        if chosen not in self._known:
            self._known[chosen] = self._asked(chosen)
        return self._known[chosen]

    def _asked(self, chosen: frozenset[str]) -> float:
        weights = [
            module.weight
            for name, module in self._sam.named_modules()
            if isinstance(module, LAYERS) and block_of(name) in chosen
        ]
        with FakeQuant(weights):
            return shown_iou(self._wanted, self._answers())

    def masks_lost(self, blocks: Iterable[str]) -> dict[str, float]:
        """One minus that, of each block alone."""
        return {block: 1.0 - self.mask_miou([block]) for block in blocks}

    def _work(self, counter: FlopCounterMode, prompts: int) -> dict[str, float]:
        """What was counted while one photo was encoded and so many prompts answered."""
        layers = {name for name, module in self._sam.named_modules() if isinstance(module, LAYERS)}
        found: dict[str, float] = {}
        for path, operations in counter.get_flop_counts().items():
            name = path.partition(".")[2]  # behind the class of the graph
            if name in layers:
                times = 1 if name.startswith("image_encoder.") else prompts
                found[block_of(name)] = found.get(block_of(name), 0.0) + sum(operations.values()) / times
        return found

    def _answers(self) -> list[Answers]:
        return answers_of(TorchBackend(self._sam), self._questions, self._manifest)


@dataclass(frozen=True, eq=False)
class Answers:
    """Masks of prompts that were asked together.

    Attributes:
        masks: `(B, 4, S/4, S/4)` bool, all outputs.
        shown: `(B)` the output that is shown for each prompt.
    """

    masks: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.int64]


def answers_of(backend: Backend, questions: Iterable[Question], manifest: Manifest) -> list[Answers]:
    """What a backend answers photos' prompts with, those that are asked together in one.

    Shown is, after a single click or box, that one of three masks which the model thinks best, and else output 0
    ("Segment Anything", appendix A, "Making the model ambiguity-aware").
    """
    found = []
    for question in questions:
        embeddings = backend.encode(question.image)
        for prompts in question.prompts:
            low_res, iou = decode_prompts(backend, manifest, embeddings, prompts)
            has_mask = torch.full((len(prompts),), 0.0 if prompts.masks is None else 1.0)
            ambiguous = is_ambiguous(torch.from_numpy(prompts.labels), has_mask)
            found.append(Answers(low_res > MASK_THRESHOLD, choose(torch.from_numpy(iou), ambiguous).numpy()))
    return found


def shown_iou(wanted: Sequence[Answers], found: Sequence[Answers]) -> float:
    """Mean IoU, over all prompts, of the masks that the first of each pair would show."""
    return float(
        np.mean(
            [
                mask_iou(a.masks[row, output], b.masks[row, output])
                for a, b in zip(wanted, found, strict=True)
                for row, output in enumerate(a.shown.tolist())
            ]
        )
    )
