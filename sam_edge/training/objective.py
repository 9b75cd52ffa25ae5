"""The objective: what a training step minimizes.

An objective is a module that maps a batch to losses, so accelerate can wrap it, and one backward pass reaches all of
its parameters. `MaskObjective` is SAM's own: a simulated session of prompts on each mask
(`sam_edge.prompting.simulation`), the losses of each step (`losses`), and the choice of those that count
(`sam_edge.prompting.mask_choice`).

Each photo has its own random generator, seeded by the run's seed and the number of the photo's draw. So two processes
with half a batch each draw the same prompts as one process with the whole batch. Losses are averaged over each photo's
masks first and over photos second: a photo with two masks counts as much as one with sixty, and the average over
processes is the average over photos.
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
from sam_edge.prompting.mask_choice import feedback_logits, is_ambiguous, select
from sam_edge.prompting.neighbours import with_neighbour_clicks
from sam_edge.prompting.simulation import (
    SAMPLED_POINTS,
    PhotoGenerators,
    PromptStep,
    TrainingPrompts,
    first_prompts,
    next_prompts,
    schedule,
)
from sam_edge.quantization.fake_quant import fake_quantization
from sam_edge_runtime.bundle.contract import SINGLE_OUTPUT

from .batch import Batch, filled, repeat
from .losses import LossRecipe, iou_losses, mask_ious, mask_losses
from .recipe import Phase, TrainRecipe
from .shared_detail import unpacked, with_unpacked_detail


class Purpose(IntEnum):
    """The use of a random generator, a part of its seed: no two uses share numbers (see also `sam_edge.data.order`)."""

    PROMPTS = 101
    SCHEDULE = 102
    CROPS = 103


Losses = dict[str, Tensor]
# Called in each step of a session: batch, number of the step, prompts, mask logits (B, 4, S/4, S/4), output that is fed
# back (B).
Watcher = Callable[[Batch, int, TrainingPrompts, Tensor, Tensor], None]


class Objective(Protocol):
    """What the trainer trains.

    Attributes:
        student: the model whose weights are the result.
        trained: the module that is optimized, averaged and saved: the student, and layers that only help to train it.
        watcher: called in each step of a session, to draw pictures; an objective without sessions never calls it.
    """

    student: Sam
    trained: nn.Module
    watcher: Watcher | None

    def begin(self, phase: Phase) -> None:
        """Switch to a phase: its frame side, and its other settings."""
        ...

    def __call__(self, batch: Batch) -> Losses:
        """Scalars by name: `loss`, which is minimized, and others to log."""
        ...


@dataclass(frozen=True)
class SessionRecipe:
    """How prompts are simulated.

    Attributes:
        interactions: steps of a session, 11 in the paper; a smaller number takes the first of them.
        points: points drawn from error regions in a whole session, 8 in the paper.
        single_always: whether output 0 is also trained on a single click or box, for which SAM trains outputs 1..3
            only. Then every output can be shown for every prompt.
        neighbours: share of masks whose second prompt is not a click on an error but a background click on the nearest
            other object (`sam_edge.prompting.neighbours`), so that a click on one of two similar things stays with it.
        unshown_iou: whether the IoU head learns all four outputs of every prompt, not only those that may be shown.
    """

    interactions: int = SAMPLED_POINTS + 3
    points: int = SAMPLED_POINTS
    single_always: bool = False
    neighbours: float = 0.0
    unshown_iou: bool = False


def session_of(recipe: TrainRecipe) -> SessionRecipe:
    """How a recipe simulates prompts."""
    return SessionRecipe(
        points=recipe.points,
        single_always=recipe.single_always,
        neighbours=recipe.neighbours,
        unshown_iou=recipe.unshown_iou,
    )


class MaskObjective(nn.Module):
    """Sessions of prompts on human masks ("Segment Anything", appendix A, "Training algorithm")."""

    def __init__(self, sam: Sam, losses: LossRecipe, session: SessionRecipe, seed: int) -> None:
        super().__init__()
        self.student = sam
        self.trained: nn.Module = sam
        self.losses, self.session, self.seed = losses, session, seed
        self.watcher: Watcher | None = None
        self.encoder, self.decoder = EncoderGraph(sam), DecoderGraph(sam)
        self.sharing = with_unpacked_detail(sam)
        self._arithmetic = fake_quantization(enabled=False)
        self._most_masks = 1
        # cuDNN plans each convolution again for every new number of rows, which takes longer than the step.
        self.same_rows = torch.cuda.is_available()

    def begin(self, phase: Phase) -> None:
        """Switch to the phase's frame side, length of session, number of masks and arithmetic."""
        self.session = replace(self.session, interactions=phase.interactions)
        self._arithmetic = fake_quantization(enabled=phase.fake_quant)
        self._most_masks = phase.masks
        self.student.set_input_side(phase.side)
        positions = self.student.prompt_encoder.dense_positions().detach()
        for decoder in filter(None, (self.decoder, self.sharing)):
            decoder.positions = positions

    def forward(self, batch: Batch) -> Losses:
        """Run one session on every mask of the batch.

        Returns:
            Means over the session of `loss` (with a gradient), `mask_loss`, `iou_loss` and `iou`, the true IoU of the
            masks that are fed back; and that IoU after step n as `iou_at_n`.
        """
        count = sum(batch.mask_counts)
        rows = len(batch) * self._most_masks if self.same_rows else count
        with self._arithmetic:
            maps = [filled(repeat(each, batch.mask_counts), rows) for each in self._maps(batch.images)]
        targets, valid = batch.low_res_targets(), batch.low_res_valid()
        generators = PhotoGenerators(
            tuple(seeded_generator(self.seed, Purpose.PROMPTS, number) for number in batch.numbers), batch.mask_counts
        )
        totals: dict[str, Tensor] = {}
        steps = session_steps(self.session, self.seed, batch.step)
        prompts, chosen_logits = None, None
        decoder = self.sharing or self.decoder
        for index, step in enumerate(steps):
            prompts = self._prompts(batch, step, prompts, chosen_logits, generators)
            inputs = [filled(each, rows) for each in prompts.decoder_inputs]
            with self._arithmetic:
                masks, iou = (each[:count] for each in decoder(maps[0], *inputs, *maps[1:]))
            losses, chosen = self._losses(masks, iou, prompts, targets, valid)
            chosen_logits = feedback_logits(masks, chosen)
            for name, values in losses.items():
                totals[name] = totals.get(name, torch.zeros((), device=masks.device)) + photo_mean(values, batch)
            totals[f"iou_at_{index + 1}"] = photo_mean(losses["iou"], batch).detach()
            if self.watcher is not None:
                self.watcher(batch, index, prompts, masks.detach(), chosen)
        for name in ("loss", "mask_loss", "iou_loss", "iou"):
            totals[name] = totals[name] / len(steps)
        return {name: value if name == "loss" else value.detach() for name, value in totals.items()}

    def _maps(self, images: Tensor) -> list[Tensor]:
        """What the decoder takes of each photo: the embedding, and for nano its unpacked detail."""
        embeddings: Tensor = self.encoder(images)
        return [embeddings] if self.sharing is None else [embeddings, unpacked(self.sharing, embeddings)]

    def _prompts(
        self,
        batch: Batch,
        step: PromptStep,
        before: TrainingPrompts | None,
        logits: Tensor | None,
        generators: PhotoGenerators,
    ) -> TrainingPrompts:
        """The step's prompts for all masks, drawn with each photo's own generator."""
        if before is None or logits is None:
            return self._first_prompts(batch, generators)
        valid = repeat(batch.valid, batch.mask_counts)
        prompts = next_prompts(before, step, logits, torch.cat(batch.masks), batch.side, generators, valid)
        second = step is PromptStep.POINT and not bool(before.has_mask_input.any())
        if not second or not self.session.neighbours:
            return prompts
        return with_neighbour_clicks(prompts, batch.masks, self.session.neighbours, batch.side, generators)

    def _first_prompts(self, batch: Batch, generators: PhotoGenerators) -> TrainingPrompts:
        """The prompts for all masks that a session begins with."""
        return first_prompts(torch.cat(batch.masks), batch.side, generators)

    def _losses(
        self, masks: Tensor, iou: Tensor, prompts: TrainingPrompts, targets: Tensor, valid: Tensor
    ) -> tuple[Losses, Tensor]:
        """Losses `(B)` by name, and the output `(B)` that is fed back."""
        by_output = mask_losses(masks, targets, valid, self.losses)
        true_iou = mask_ious(masks, targets, valid)
        by_iou = iou_losses(iou, true_iou)
        ambiguous = is_ambiguous(prompts.labels, prompts.has_mask_input)
        selection = select(
            by_output,
            by_iou,
            iou,
            ambiguous,
            unshown_iou=self.session.unshown_iou,
            iou_weight=self.losses.iou_weight,
        )
        loss = selection.loss
        if self.session.single_always:
            single = by_output[:, SINGLE_OUTPUT] + self.losses.iou_weight * by_iou[:, SINGLE_OUTPUT]
            loss = torch.where(ambiguous, loss + single, loss)
        shown = true_iou.gather(1, selection.chosen.unsqueeze(1)).squeeze(1)
        return (
            {"loss": loss, "mask_loss": selection.mask_loss, "iou_loss": selection.iou_loss, "iou": shown},
            selection.chosen,
        )


def session_steps(recipe: SessionRecipe, seed: int, step: int) -> tuple[PromptStep, ...]:
    """The first `interactions` steps of SAM's schedule.

    They are the same for all photos of a training step, so the decoder is called once for all of them.
    """
    return schedule(seeded_generator(seed, Purpose.SCHEDULE, step), recipe.points)[: recipe.interactions]


def seeded_generator(seed: int, purpose: Purpose, number: int) -> torch.Generator:
    """A CPU generator seeded by the run's seed, its purpose and the number of a draw or a training step."""
    words = np.random.SeedSequence([seed, purpose, number]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) >> 1)


def photo_mean(values: Tensor, batch: Batch) -> Tensor:
    """The mean of `(sum of M)` values, one for each mask: over each photo's masks first, then over photos."""
    shares = torch.tensor([1.0 / (count * len(batch)) for count in batch.mask_counts], dtype=values.dtype)
    return (values * repeat(shares.to(values.device), batch.mask_counts)).sum()
