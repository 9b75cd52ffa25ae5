"""Stage `prompt`: the student learns the teacher's masks for the same prompts.

Source: EdgeSAM (https://arxiv.org/abs/2312.06660, section 3.2). A student's embedding can be close to the teacher's
while its mask is wrong, because the decoder depends on a small part of the embedding. So both models run one session of
prompts on each mask. The student's four masks learn the teacher's probabilities, and its IoU head the teacher's IoU
predictions. Then a point is drawn where the two masks differ; it is foreground where the teacher's mask is inside. Each
model gets its own last mask as mask prompt. All of the student is trained: image encoder, prompt encoder and mask
decoder.

The teacher sees the same frame at its own side, with coordinates scaled to it. Sessions are drawn as in SAM's own
training, from generators seeded by the draw. They begin on human masks; for a photo without masks, on the teacher's
masks of random clicks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model import DecoderGraph, EncoderGraph, Sam
from sam_edge.prompting.mask_choice import choose, feedback_logits, is_ambiguous
from sam_edge.prompting.simulation import PhotoGenerators, PromptStep, TrainingPrompts, error_points, first_prompts
from sam_edge.quantization.fake_quant import fake_quantization
from sam_edge.training.batch import Batch, repeat
from sam_edge.training.losses import LossRecipe, mask_ious, mask_losses
from sam_edge.training.objective import (
    Losses,
    Purpose,
    SessionRecipe,
    Watcher,
    photo_mean,
    seeded_generator,
    session_steps,
)
from sam_edge.training.recipe import Phase
from sam_edge_runtime.bundle.contract import MASK_OUTPUTS, MASK_STRIDE, MASK_THRESHOLD, Label


class PromptObjective(nn.Module):
    """Losses between a student's and its teacher's outputs over a session of prompts."""

    def __init__(self, student: Sam, teacher: Sam, losses: LossRecipe, session: SessionRecipe, seed: int) -> None:
        super().__init__()
        self.student = student
        self.trained: nn.Module = student
        self.losses, self.session, self.seed = losses, session, seed
        self.watcher: Watcher | None = None
        self._objects = Phase.masks
        self.encoder, self.decoder = EncoderGraph(student), DecoderGraph(student)
        self._arithmetic = fake_quantization(enabled=False)
        # In a tuple, so that the teacher is no submodule: neither trained, averaged nor saved.
        self._teacher = (teacher.requires_grad_(requires_grad=False).eval(),)
        self._graphs = (EncoderGraph(teacher).eval(), DecoderGraph(teacher).eval())

    def begin(self, phase: Phase) -> None:
        """Switch to the phase's frame side, session length, masks and arithmetic; the teacher keeps its own side."""
        self.session = replace(self.session, interactions=phase.interactions)
        self._objects = phase.masks
        self._arithmetic = fake_quantization(enabled=phase.fake_quant)
        self.student.set_input_side(phase.side)
        self.decoder.positions = self.student.prompt_encoder.dense_positions().detach()

    def forward(self, batch: Batch) -> Losses:
        """Run one session on every mask of the batch.

        Returns:
            Means over the session of `loss` (with a gradient), `mask_loss`, `iou_loss` and `iou`, the IoU between the
            two models' chosen masks.
        """
        each = tuple(seeded_generator(self.seed, Purpose.PROMPTS, number) for number in batch.numbers)
        their_embeddings = self.teacher_embeddings(batch)
        batch = self.with_masks(batch, their_embeddings, each)
        generators = PhotoGenerators(each, batch.mask_counts)
        their_embeddings = repeat(their_embeddings, batch.mask_counts)
        with self._arithmetic:
            embeddings = repeat(self.encoder(batch.images), batch.mask_counts)
        valid = batch.low_res_valid()
        totals: dict[str, Tensor] = {}
        steps = session_steps(self.session, self.seed, batch.step)
        prompts = first_prompts(torch.cat(batch.masks), batch.side, generators)
        my_feedback = their_feedback = None
        for index, step in enumerate(steps):
            if index and step is PromptStep.POINT and my_feedback is not None and their_feedback is not None:
                prompts = self._with_disagreement(batch, prompts, my_feedback, their_feedback, generators)
            own = prompts if my_feedback is None else prompts.with_mask(my_feedback)
            with self._arithmetic:
                masks, iou = self.decoder(embeddings, *own.decoder_inputs)
            their_masks, their_iou = self.teacher_outputs(their_embeddings, prompts, their_feedback, masks.shape[-1])
            chosen = choose(their_iou, is_ambiguous(own.labels, own.has_mask_input))
            losses = self._losses(masks, iou, their_masks, their_iou, chosen, valid)
            for name, values in losses.items():
                totals[name] = totals.get(name, torch.zeros((), device=masks.device)) + photo_mean(values, batch)
            if self.watcher is not None:
                self.watcher(batch, index, own, masks.detach(), chosen)
            my_feedback, their_feedback = feedback_logits(masks, chosen), feedback_logits(their_masks, chosen)
        return {
            name: value / len(steps) if name == "loss" else (value / len(steps)).detach()
            for name, value in totals.items()
        }

    def set_teacher_side(self, side: int) -> None:
        """Let the teacher see frames of another side than its own, in pixels."""
        self._teacher[0].set_input_side(side)
        self._graphs[1].positions = self._teacher[0].prompt_encoder.dense_positions().detach()

    @torch.no_grad()
    def teacher_embeddings(self, batch: Batch) -> Tensor:
        """The teacher's embeddings `(P, C, g, g)` of the photos, at its own side."""
        for graph in self._graphs:
            graph.to(batch.images.device)
        side = self._teacher[0].side
        images = batch.images
        if side != batch.side:
            images = F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        out: Tensor = self._graphs[0](images)
        return out

    def with_masks(self, batch: Batch, their_embeddings: Tensor, generators: Sequence[torch.Generator]) -> Batch:
        """The batch with the teacher's masks of random clicks for each photo that has no masks."""
        if all(batch.mask_counts):
            return batch
        masks = tuple(
            own if len(own) else self._masks_of_random_clicks(embedding, valid, generator)
            for own, embedding, valid, generator in zip(
                batch.masks, torch.split(their_embeddings, 1), batch.valid, generators, strict=True
            )
        )
        return replace(batch, masks=masks)

    def _masks_of_random_clicks(self, embedding: Tensor, valid: Tensor, generator: torch.Generator) -> Tensor:
        """The teacher's masks of random clicks on a photo, `(M, S, S)` bool, none of them empty.

        Args:
            embedding: the teacher's, `(1, C, G, G)`.
            valid: `(S, S)` bool, true where the frame shows photo.
            generator: draws the clicks; their number does not depend on the photo.
        """
        count, side = self._objects, len(valid)
        photo = F.max_pool2d(valid.float()[None, None], MASK_STRIDE)[0] > 0  # (1, S/4, S/4)
        photo = photo.expand(count, -1, -1)
        empty = torch.full_like(photo, -1.0, dtype=torch.float32).unsqueeze(1)
        clicks, labels = error_points(empty, photo, side, generator)  # an empty mask is wrong on all of the photo
        prompts = TrainingPrompts(
            torch.stack([clicks, torch.zeros_like(clicks)], dim=1),
            torch.stack([labels, torch.full_like(labels, float(Label.PADDING))], dim=1),
            torch.zeros_like(empty),
            torch.zeros_like(labels),
        )
        masks, iou = self.teacher_outputs(embedding.expand(count, -1, -1, -1), prompts, None, photo.shape[-1])
        best = choose(iou, torch.ones_like(labels, dtype=torch.bool))
        targets = (feedback_logits(masks, best).squeeze(1) > MASK_THRESHOLD) & photo
        rows, cells = torch.arange(count, device=targets.device), (clicks / MASK_STRIDE).long()
        targets[rows, cells[:, 1], cells[:, 0]] |= ~targets.flatten(1).any(dim=1)  # an empty mask gets the clicked cell
        return targets.repeat_interleave(MASK_STRIDE, dim=1).repeat_interleave(MASK_STRIDE, dim=2)

    @torch.no_grad()
    def teacher_outputs(
        self, embeddings: Tensor, prompts: TrainingPrompts, before: Tensor | None, cells: int
    ) -> tuple[Tensor, Tensor]:
        """The teacher's outputs for prompts in the student's frame.

        Args:
            embeddings: the teacher's, `(B, C, G, G)`.
            prompts: in pixels of the student's frame; their mask prompts are ignored.
            before: logits `(B, 1, cells, cells)` of the teacher's last masks, its mask prompts; None in the first step.
            cells: side of the student's low-resolution masks.

        Returns:
            Mask logits `(B, 4, cells, cells)` and IoU predictions `(B, 4)`.
        """
        teacher = self._teacher[0]
        factor = teacher.side / (cells * MASK_STRIDE)
        # Integer coordinates name pixels, whose centres are at +0.5 at any scale.
        coords = torch.where((prompts.labels >= 0).unsqueeze(-1), (prompts.coords + 0.5) * factor - 0.5, prompts.coords)
        low_res = teacher.side // MASK_STRIDE
        mask_input = prompts.coords.new_zeros(len(prompts), 1, low_res, low_res)
        has = prompts.coords.new_zeros(len(prompts))
        if before is not None:
            mask_input, has = _resized(before, low_res), torch.ones_like(has)
        masks, iou = self._graphs[1](embeddings, coords, prompts.labels, mask_input, has)
        return _resized(masks.float(), cells), iou.float()

    def _losses(
        self, masks: Tensor, iou: Tensor, their_masks: Tensor, their_iou: Tensor, chosen: Tensor, valid: Tensor
    ) -> Losses:
        """Losses `(B)` by name."""
        each = [
            mask_losses(masks[:, output : output + 1], their_masks[:, output].sigmoid(), valid, self.losses)
            for output in range(MASK_OUTPUTS)
        ]
        mask_loss = torch.cat(each, dim=1).mean(dim=1)
        iou_loss = (iou.float() - their_iou).square().mean(dim=1)
        rows = torch.arange(len(masks), device=masks.device)
        agreement = mask_ious(masks[rows, chosen].unsqueeze(1), their_masks[rows, chosen].sigmoid(), valid).squeeze(1)
        return {
            "loss": mask_loss + self.losses.iou_weight * iou_loss,
            "mask_loss": mask_loss,
            "iou_loss": iou_loss,
            "iou": agreement,
        }

    @staticmethod
    def _with_disagreement(
        batch: Batch, prompts: TrainingPrompts, mine: Tensor, theirs: Tensor, generators: PhotoGenerators
    ) -> TrainingPrompts:
        """The prompts with one more point where the two models' masks differ, or an empty slot where they agree."""
        wanted = theirs.squeeze(1) > MASK_THRESHOLD  # (B, S/4, S/4)
        return prompts.with_points(*error_points(mine, wanted, batch.side, generators, batch.low_res_valid()))


def _resized(masks: Tensor, cells: int) -> Tensor:
    """Logits `(B, M, h, h)` resized to `(B, M, cells, cells)`."""
    if masks.shape[-1] == cells:
        return masks
    return F.interpolate(masks, size=(cells, cells), mode="bilinear", align_corners=False)
