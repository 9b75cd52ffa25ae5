"""What a training step minimizes.

An objective is a module whose forward pass takes a batch and gives losses, so that accelerate can wrap it and one
backward pass reaches everything in it. `MaskObjective` is SAM's own: a simulated session of prompts on each mask
(`prompting`), the losses of each of its answers (`losses`), and which of them count (`selection`).

Every photo's session is drawn from its own generator, made of the seed and the photo's draw: two processes with half a
batch each see what one would see alone. Losses are means over each photo's masks first and over photos second; so a
photo with two masks counts as much as one with sixty, and averages over processes are averages over photos.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sam_edge.model import DecoderGraph, EncoderGraph, Sam
from sam_edge.prompting.mask_choice import fed_back, is_ambiguous, select
from sam_edge.prompting.simulation import (
    SAMPLED_POINTS,
    PhotoGenerators,
    Step,
    TrainingPrompts,
    first_prompts,
    next_prompts,
    schedule,
)
from sam_edge.quantization.fake_quant import fake_quantization
from sam_edge_runtime.bundle.contract import SINGLE_OUTPUT

from .batch import Batch, filled, repeat
from .losses import LossRecipe, iou_losses, mask_ious, mask_losses
from .recipe import Phase


class Purpose(IntEnum):
    """What a generator is for, so that no two share their numbers (`sam_edge.data.order` has its own)."""

    PROMPTS = 101
    SCHEDULE = 102


Losses = dict[str, Tensor]
# Told of each answer: batch, step of the session, prompts, low-resolution logits (B, 4, S/4, S/4), output that goes on.
Watcher = Callable[[Batch, int, TrainingPrompts, Tensor, Tensor], None]


class Objective(Protocol):
    """What the trainer needs.

    Attributes:
        student: the model whose weights are the result.
        trained: the module that is optimized, averaged and saved: the student, and what is learned only to teach it.
        watcher: told of each answer of a session, for pictures; objectives without sessions never call it.
    """

    student: Sam
    trained: nn.Module
    watcher: Watcher | None

    def begin(self, phase: Phase) -> None:
        """Work as the phase says from now on: its frame side above all."""
        ...

    def __call__(self, batch: Batch) -> Losses:
        """Scalars by name: `loss`, which is minimized, and what else is worth logging."""
        ...


@dataclass(frozen=True)
class SessionRecipe:
    """How prompts are simulated.

    Attributes:
        interactions: answers asked for in a session, 11 in the paper; fewer are the first of them.
        points: points drawn from error regions in a whole session, 8 in the paper.
        single_always: output 0 also learns from a lone click or box, which SAM leaves to outputs 1..3. Then every
            output may be shown for every prompt.
    """

    interactions: int = SAMPLED_POINTS + 3
    points: int = SAMPLED_POINTS
    single_always: bool = False


class MaskObjective(nn.Module):
    """Sessions of prompts on human masks ("Segment Anything", appendix A, "Training algorithm")."""

    def __init__(self, sam: Sam, losses: LossRecipe, session: SessionRecipe, seed: int) -> None:
        super().__init__()
        self.student = sam
        self.trained: nn.Module = sam
        self.losses, self.session, self.seed = losses, session, seed
        self.watcher: Watcher | None = None
        self.encoder, self.decoder = EncoderGraph(sam), DecoderGraph(sam)
        self._arithmetic = fake_quantization(enabled=False)
        self._most_masks = 1
        # cuDNN plans each convolution anew for every number of rows it has not met, which takes longer than the step.
        self.same_rows = torch.cuda.is_available()

    def begin(self, phase: Phase) -> None:
        """Take the phase's frame side and length of session."""
        self.session = replace(self.session, interactions=phase.interactions)
        self._arithmetic = fake_quantization(enabled=phase.fake_quant)
        self._most_masks = phase.masks
        self.student.set_input_side(phase.side)
        self.decoder.positions = self.student.prompt_encoder.dense_positions().detach()

    def forward(self, batch: Batch) -> Losses:
        """One session on every mask of the batch."""
        asked = sum(batch.mask_counts)
        rows = len(batch) * self._most_masks if self.same_rows else asked
        with self._arithmetic:
            embeddings = filled(repeat(self.encoder(batch.images), batch.mask_counts), rows)
        targets, valid = batch.low_res_targets(), batch.low_res_valid()
        generators = PhotoGenerators(
            tuple(seeded_generator(self.seed, Purpose.PROMPTS, number) for number in batch.numbers), batch.mask_counts
        )
        totals: dict[str, Tensor] = {}
        steps = session_steps(self.session, self.seed, batch.step)
        prompts, chosen_logits = None, None
        for index, step in enumerate(steps):
            prompts = self._prompts(batch, step, prompts, chosen_logits, generators)
            inputs = [filled(each, rows) for each in prompts.decoder_inputs]
            with self._arithmetic:
                masks, iou = (each[:asked] for each in self.decoder(embeddings, *inputs))
            losses, chosen = self._judge(masks, iou, prompts, targets, valid)
            chosen_logits = fed_back(masks, chosen)
            for name, values in losses.items():
                totals[name] = totals.get(name, torch.zeros((), device=masks.device)) + photo_mean(values, batch)
            totals[f"iou_at_{index + 1}"] = photo_mean(losses["iou"], batch).detach()
            if self.watcher is not None:
                self.watcher(batch, index, prompts, masks.detach(), chosen)
        for name in ("loss", "mask_loss", "iou_loss", "iou"):
            totals[name] = totals[name] / len(steps)
        return {name: value if name == "loss" else value.detach() for name, value in totals.items()}

    def _prompts(
        self,
        batch: Batch,
        step: Step,
        before: TrainingPrompts | None,
        logits: Tensor | None,
        generators: PhotoGenerators,
    ) -> TrainingPrompts:
        """The step's prompts for all masks, each photo's drawn with its own generator."""
        masks = torch.cat(batch.masks)
        if before is None or logits is None:
            return first_prompts(masks, batch.side, generators)
        valid = repeat(batch.valid, batch.mask_counts)
        return next_prompts(before, step, logits, masks, batch.side, generators, valid)

    def _judge(
        self, masks: Tensor, iou: Tensor, prompts: TrainingPrompts, targets: Tensor, valid: Tensor
    ) -> tuple[Losses, Tensor]:
        """Losses `(B)` by name, and the output `(B)` that goes on."""
        by_output = mask_losses(masks, targets, valid, self.losses)
        true_iou = mask_ious(masks, targets, valid)
        by_iou = iou_losses(iou, true_iou)
        ambiguous = is_ambiguous(prompts.labels, prompts.has_mask_input)
        selection = select(by_output, by_iou, iou, ambiguous, iou_weight=self.losses.iou_weight)
        loss = selection.loss
        if self.session.single_always:
            single = by_output[:, SINGLE_OUTPUT] + self.losses.iou_weight * by_iou[:, SINGLE_OUTPUT]
            loss = torch.where(ambiguous, loss + single, loss)
        shown = true_iou.gather(1, selection.chosen.unsqueeze(1)).squeeze(1)
        return (
            {"loss": loss, "mask_loss": selection.mask_loss, "iou_loss": selection.iou_loss, "iou": shown},
            selection.chosen,
        )


def session_steps(recipe: SessionRecipe, seed: int, step: int) -> tuple[Step, ...]:
    """The first `interactions` steps of SAM's schedule.

    They are the same for all photos of a training step, so that one call of the decoder answers them all.
    """
    return schedule(seeded_generator(seed, Purpose.SCHEDULE, step), recipe.points)[: recipe.interactions]


def seeded_generator(seed: int, purpose: Purpose, number: int) -> torch.Generator:
    """A generator on the CPU that belongs to a draw or to a training step."""
    words = np.random.SeedSequence([seed, purpose, number]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)


def photo_mean(values: Tensor, batch: Batch) -> Tensor:
    """Values of all masks `(sum of M)` to one number: mean over each photo's, then over photos."""
    shares = torch.tensor([1.0 / (count * len(batch)) for count in batch.mask_counts], dtype=values.dtype)
    return (values * repeat(shares.to(values.device), batch.mask_counts)).sum()
