"""Stage `prompt`: teacher and student answer the same prompts (EdgeSAM, arXiv 2312.06660, section 3.2).

An embedding can be close and the mask still wrong, because the decoder looks at little of it. So both models go through
one session of prompts on each mask: the student's four masks learn from the teacher's probabilities and its IoU head
from the teacher's; then a point is drawn where the two disagree, positive where the teacher says inside. Encoder,
prompt encoder and decoder of the student all learn. Each goes on from its own last mask.

The teacher sees the same frame at its own side, and coordinates are scaled to it. Sessions are drawn as in SAM's own
training, from generators that belong to the draw. They begin on human masks; a photo that has none begins with what the
teacher takes random clicks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam_edge.model import DecoderGraph, EncoderGraph, Sam
from sam_edge.prompting.mask_choice import choose, fed_back, is_ambiguous
from sam_edge.prompting.simulation import PhotoGenerators, Step, TrainingPrompts, error_points, first_prompts
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
    """Agreement of a student with its teacher over a session of prompts."""

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
        """Take the phase's frame side and length of session; the teacher keeps its own side."""
        self.session = replace(self.session, interactions=phase.interactions)
        self._objects = phase.masks
        self._arithmetic = fake_quantization(enabled=phase.fake_quant)
        self.student.set_input_side(phase.side)
        self.decoder.positions = self.student.prompt_encoder.dense_positions().detach()

    def forward(self, batch: Batch) -> Losses:
        """One session on every mask; `agreement` is the IoU of the two models' chosen masks."""
        for graph in self._graphs:
            graph.to(batch.images.device)
        each = tuple(seeded_generator(self.seed, Purpose.PROMPTS, number) for number in batch.numbers)
        theirs = self._teacher_embeddings(batch)
        batch = self._with_masks(batch, theirs, each)
        generators = PhotoGenerators(each, batch.mask_counts)
        theirs = repeat(theirs, batch.mask_counts)
        with self._arithmetic:
            embeddings = repeat(self.encoder(batch.images), batch.mask_counts)
        valid = batch.low_res_valid()
        totals: dict[str, Tensor] = {}
        steps = session_steps(self.session, self.seed, batch.step)
        prompts = first_prompts(torch.cat(batch.masks), batch.side, generators)
        mine_back = their_back = None
        for index, step in enumerate(steps):
            if index and step is Step.POINT and mine_back is not None and their_back is not None:
                prompts = self._disagreement(batch, prompts, mine_back, their_back, generators)
            own = prompts if mine_back is None else prompts.with_mask(mine_back)
            with self._arithmetic:
                masks, iou = self.decoder(embeddings, *own.decoder_inputs)
            their_masks, their_iou = self._teacher_answers(theirs, prompts, their_back, masks.shape[-1])
            chosen = choose(their_iou, is_ambiguous(own.labels, own.has_mask_input))
            losses = self._judge(masks, iou, their_masks, their_iou, chosen, valid)
            for name, values in losses.items():
                totals[name] = totals.get(name, torch.zeros((), device=masks.device)) + photo_mean(values, batch)
            if self.watcher is not None:
                self.watcher(batch, index, own, masks.detach(), chosen)
            mine_back, their_back = fed_back(masks, chosen), fed_back(their_masks, chosen)
        return {
            name: value / len(steps) if name == "loss" else (value / len(steps)).detach()
            for name, value in totals.items()
        }

    @torch.no_grad()
    def _teacher_embeddings(self, batch: Batch) -> Tensor:
        side = self._teacher[0].side
        images = batch.images
        if side != batch.side:
            images = F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        out: Tensor = self._graphs[0](images)
        return out

    def _with_masks(self, batch: Batch, theirs: Tensor, generators: Sequence[torch.Generator]) -> Batch:
        """The batch, where photos without masks have those of the teacher, whose embeddings of them `theirs` are."""
        if all(batch.mask_counts):
            return batch
        masks = tuple(
            own if len(own) else self._found(embedding, valid, generator)
            for own, embedding, valid, generator in zip(
                batch.masks, torch.split(theirs, 1), batch.valid, generators, strict=True
            )
        )
        return replace(batch, masks=masks)

    def _found(self, embedding: Tensor, valid: Tensor, generator: torch.Generator) -> Tensor:
        """What the teacher takes random clicks on the photo for: masks `(M, S, S)` bool, none of them empty.

        Args:
            embedding: the teacher's, `(1, C, G, G)`.
            valid: `(S, S)` bool, true where the frame is photo.
            generator: decides the clicks; as many are drawn whatever the photo holds.
        """
        count, side = self._objects, len(valid)
        photo = F.max_pool2d(valid.float()[None, None], MASK_STRIDE)[0] > 0  # (1, S/4, S/4)
        photo = photo.expand(count, -1, -1)
        nothing = torch.full_like(photo, -1.0, dtype=torch.float32).unsqueeze(1)
        clicks, labels = error_points(nothing, photo, side, generator)  # a mask of nothing is wrong everywhere
        prompts = TrainingPrompts(
            torch.stack([clicks, torch.zeros_like(clicks)], dim=1),
            torch.stack([labels, torch.full_like(labels, float(Label.PADDING))], dim=1),
            torch.zeros_like(nothing),
            torch.zeros_like(labels),
        )
        masks, iou = self._teacher_answers(embedding.expand(count, -1, -1, -1), prompts, None, photo.shape[-1])
        best = choose(iou, torch.ones_like(labels, dtype=torch.bool))
        found = (fed_back(masks, best).squeeze(1) > MASK_THRESHOLD) & photo
        rows, cells = torch.arange(count, device=found.device), (clicks / MASK_STRIDE).long()
        found[rows, cells[:, 1], cells[:, 0]] |= ~found.flatten(1).any(dim=1)  # the clicked cell, rather than nothing
        return found.repeat_interleave(MASK_STRIDE, dim=1).repeat_interleave(MASK_STRIDE, dim=2)

    @torch.no_grad()
    def _teacher_answers(
        self, embeddings: Tensor, prompts: TrainingPrompts, before: Tensor | None, cells: int
    ) -> tuple[Tensor, Tensor]:
        """The teacher's masks `(B, 4, cells, cells)` and IoU predictions for prompts in the student's frame."""
        teacher = self._teacher[0]
        factor = teacher.side / (cells * MASK_STRIDE)
        # Coordinates name pixels; their centres are half a pixel in, whatever the scale.
        coords = torch.where((prompts.labels >= 0).unsqueeze(-1), (prompts.coords + 0.5) * factor - 0.5, prompts.coords)
        low_res = teacher.side // MASK_STRIDE
        mask_input = prompts.coords.new_zeros(len(prompts), 1, low_res, low_res)
        has = prompts.coords.new_zeros(len(prompts))
        if before is not None:
            mask_input, has = _at(before, low_res), torch.ones_like(has)
        masks, iou = self._graphs[1](embeddings, coords, prompts.labels, mask_input, has)
        return _at(masks.float(), cells), iou.float()

    def _judge(
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
    def _disagreement(
        batch: Batch, prompts: TrainingPrompts, mine: Tensor, theirs: Tensor, generators: PhotoGenerators
    ) -> TrainingPrompts:
        """One more point a mask where the answers differ; none where they agree."""
        wanted = theirs.squeeze(1) > MASK_THRESHOLD  # (B, S/4, S/4)
        return prompts.with_points(*error_points(mine, wanted, batch.side, generators, batch.low_res_valid()))


def _at(masks: Tensor, cells: int) -> Tensor:
    """Logits `(B, M, h, h)` at `cells x cells`."""
    if masks.shape[-1] == cells:
        return masks
    return F.interpolate(masks, size=(cells, cells), mode="bilinear", align_corners=False)
