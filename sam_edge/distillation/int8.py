"""Stage `int8`: a trained student learns to lose less in INT8.

Quantization-aware training against the model itself. Three forms of it see the same photos and prompts: the student in
INT8 (`FakeQuantGraph`: with the rounding of a deployed graph), the student in float, and the teacher, which is a copy
of the student's first weights. Two differences are made small together:

- noise, between INT8 and float: what a device loses;
- drift, between float and the teacher: what the training changes.

The usual loss, INT8 against the teacher, has the same aim. But where a model is trained already, the gradient of that
loss mainly undoes the rounding errors of the very photos of a step. The difference of two passes with the same weights
has no such part. docs/int8.md has measurements of both.

Both are measured on embeddings, as powers relative to the embedding's own, and on masks, as one minus the IoU of their
probabilities. The loss is the sum of the two logarithms and of a third: that of range over standard deviation, averaged
over the encoder's tensors that no ReLU bounds. One scale serves a whole tensor, so a few extreme values make all others
coarse.

Weights keep the quantization grids that they have, or get grids of their first values (`WeightGrids`).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model import Sam
from sam_edge.prompting.simulation import PhotoGenerators, TrainingPrompts, first_prompts
from sam_edge.quantization.fake_quant_graph import FakeQuantGraph, extremes
from sam_edge.quantization.weight_grids import OnGrids, WeightGrids
from sam_edge.training.batch import Batch, repeat
from sam_edge.training.losses import SAM
from sam_edge.training.objective import Losses, Purpose, SessionRecipe, photo_mean, seeded_generator
from sam_edge.training.recipe import Phase
from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE

from .encoder import masked_mean
from .prompt import PromptObjective

MASK_WEIGHT = 1.0
IOU_WEIGHT = 1.0  # of IoU predictions beside masks: an error of 0.1 in both counts alike
RANGE_WEIGHT = 0.1
_LEAST = 1e-12


class StudentOnGrids(nn.Module):
    """The trained module: the student, and the grids of its weights."""

    def __init__(self, student: Sam) -> None:
        super().__init__()
        self.student = student
        self.grids = WeightGrids(student)


@dataclass(frozen=True)
class _Outputs:
    """What one form of the model makes of a batch: mask probabilities `(B, 4, h, w)` and IoU predictions `(B, 4)`."""

    masks: Tensor
    iou: Tensor


class Int8Objective(PromptObjective):
    """Noise and drift of a student in INT8; see the module."""

    def __init__(self, student: Sam, seed: int) -> None:
        """Train `student` against a copy of its present weights; `seed` draws the prompts."""
        super().__init__(student, copy.deepcopy(student), SAM, SessionRecipe(), seed)
        self.on_grids = StudentOnGrids(student)
        self.trained = self.on_grids
        self._ranges = RangePenalty()
        grids = self.on_grids.grids
        self._encoder_in_int8 = FakeQuantGraph(grids, self._ranges.add)
        self._decoder_in_int8, self._in_float = FakeQuantGraph(grids), OnGrids(grids)

    def begin(self, phase: Phase) -> None:
        """Switch both models to the phase's frame side."""
        super().begin(phase)
        self.set_teacher_side(phase.side)

    def forward(self, batch: Batch) -> Losses:
        """Encode the photos and decode one prompt for each mask, in all three forms.

        Returns:
            `loss`, with a gradient; `noise_db` and `drift_db` of embeddings, relative to their power; `noise_iou` and
            `drift_iou`, one minus the soft IoU of masks; `spread`, the geometric mean of range over standard deviation.
        """
        wanted = self.teacher_embeddings(batch).float()
        self._ranges.clear()
        with self._encoder_in_int8:
            rounded = self.encoder(batch.images)
        with self._in_float:
            plain = self.encoder(batch.images)
        cells = F.avg_pool2d(batch.valid.float().unsqueeze(1), EMBEDDING_STRIDE) == 1.0  # (P, 1, G, G)
        power = masked_mean(wanted.square(), cells).mean().clamp(min=_LEAST)
        noise = masked_mean((rounded.float() - plain.float()).square(), cells).mean() / power
        drift = masked_mean((plain.float() - wanted).square(), cells).mean() / power
        mask_noise, mask_drift = self._mask_losses(batch, rounded, plain, wanted)
        spread = self._ranges.value()
        loss = (noise + drift).clamp(min=_LEAST).log() + RANGE_WEIGHT * spread
        loss = loss + MASK_WEIGHT * (mask_noise + mask_drift).clamp(min=_LEAST).log()
        return {
            "loss": loss,
            "noise_db": decibels(noise),
            "drift_db": decibels(drift),
            "noise_iou": mask_noise.detach(),
            "drift_iou": mask_drift.detach(),
            "spread": spread.exp().detach(),
        }

    def _mask_losses(self, batch: Batch, rounded: Tensor, plain: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Noise and drift of masks and IoU predictions, from the three forms' embeddings `(P, C, G, G)`."""
        each = tuple(seeded_generator(self.seed, Purpose.PROMPTS, number) for number in batch.numbers)
        batch = self.with_masks(batch, wanted, each)
        prompts = first_prompts(torch.cat(batch.masks), batch.side, PhotoGenerators(each, batch.mask_counts))
        with self._decoder_in_int8:
            int8 = self._decode(batch, rounded, prompts)
        with self._in_float:
            own = self._decode(batch, plain, prompts)
        masks, iou = self.teacher_outputs(repeat(wanted, batch.mask_counts), prompts, None, own.masks.shape[-1])
        teacher = _Outputs(masks.sigmoid(), iou)
        valid = batch.low_res_valid()
        return tuple(  # type: ignore[return-value]  # of two
            photo_mean(_difference(one, other, valid), batch) for one, other in ((int8, own), (own, teacher))
        )

    def _decode(self, batch: Batch, embeddings: Tensor, prompts: TrainingPrompts) -> _Outputs:
        masks, iou = self.decoder(repeat(embeddings, batch.mask_counts), *prompts.decoder_inputs)
        return _Outputs(masks.float().sigmoid(), iou.float())


def _difference(one: _Outputs, other: _Outputs, valid: Tensor) -> Tensor:
    """Mean over the four outputs, `(B)`: one minus the masks' soft IoU, and the difference of IoU predictions."""
    inside = valid.unsqueeze(1)  # (B, 1, h, w)
    common = (torch.minimum(one.masks, other.masks) * inside).sum(dim=(2, 3))
    either = (torch.maximum(one.masks, other.masks) * inside).sum(dim=(2, 3))
    # One pixel more in both keeps empty masks from counting as different.
    iou = (common + 1.0) / (either + 1.0)
    return (1.0 - iou + IOU_WEIGHT * (one.iou - other.iou).square()).mean(dim=1)


class RangePenalty:
    """The mean logarithm of range over standard deviation, of the tensors `(P, C, H, W)` that have negative values."""

    def __init__(self) -> None:
        self._spreads: list[Tensor] = []

    def add(self, tensor: Tensor) -> None:
        """Count a tensor. A ReLU or ReLU6 gives no negative values, and bounds the range itself."""
        if tensor.ndim != 4 or not bool((tensor.detach() < 0).any()):
            return
        low, high = extremes(tensor)
        self._spreads.append(torch.log((high - low) / tensor.detach().float().std().clamp(min=_LEAST)))

    def value(self) -> Tensor:
        """The mean over the tensors that were added; 0 without any."""
        return torch.stack(self._spreads).mean() if self._spreads else torch.zeros(())

    def clear(self) -> None:
        """Forget the tensors."""
        self._spreads.clear()


def decibels(power: Tensor) -> Tensor:
    """A power in decibels, without a gradient; at least -120."""
    return 10.0 * power.detach().clamp(min=_LEAST).log10()
