"""Prompts as a user might give them, simulated from target masks.

Source: "Segment Anything" (https://arxiv.org/abs/2304.02643, appendix A, "Training algorithm"). A session begins with a
point or a box. Each further step feeds the last mask's logits back as mask prompt and adds a point from that mask's
errors. Two of the eleven steps add no point, so the model learns to improve a mask without new information.

Prompts have the form of the decoder's contract and grow by one slot with each point. New points go to the front: the
corners of a box, or SAM's "not a point", stay at the end, as in the runtime. Attention ignores the order.

Targets are bool masks `(B, h, w)` of the square frame, which may be coarser than its S pixels. Points are drawn from
the mask's pixels; coordinates are in frame pixels. A point on pixel (x, y) of a mask of full resolution has the
coordinates (x, y), because the prompt encoder adds the half pixel to its centre. A point on a coarse pixel has the
coordinates of that pixel's centre.

Random numbers are drawn on the generator's device and then moved, so a CPU generator gives the same prompts on every
machine. Their number never depends on the content of the masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

import torch
import torch.nn.functional as F
from torch import Tensor

from sam_edge.model.image_encoder import NATIVE_SIDE
from sam_edge_runtime.bundle.contract import MASK_STRIDE, MASK_THRESHOLD, Label
from sam_edge_runtime.errors import UsageError

SAMPLED_POINTS = 8  # according to the paper, more gain little
BOX_SHARE = 0.5  # share of boxes among first prompts; the others are points
JITTER_SHARE = 0.1  # standard deviation of a box corner's noise, as a share of the box's side
LARGEST_JITTER = 20.0  # bound of that noise, in pixels of a frame of NATIVE_SIDE

_MANY = 2**62  # an integer below it, modulo a number of pixels, is uniform to one part in 2**40


class PromptStep(Enum):
    """What a step of a simulated session adds to the prompts."""

    FIRST = "a point or a box"
    POINT = "a point from the error region, and the last mask"
    REFINE = "the last mask alone"


def schedule(generator: torch.Generator, points: int = SAMPLED_POINTS) -> tuple[PromptStep, ...]:
    """The steps of one session: the first prompt, `points` sampled points, and two steps without a new point.

    One of those two comes at a random place between two points (with a single point: after it), the other at the end
    (arXiv 2304.02643, appendix A, "Training algorithm").

    Args:
        generator: draws the place.
        points: sampled points, 8 in the paper.

    Returns:
        `points` + 3 steps: 11 in the paper.

    Raises:
        UsageError: fewer than one point.
    """
    if points < 1:
        raise UsageError(f"a schedule of {points} sampled points corrects nothing; give at least 1, as in the paper 8")
    before = int(torch.randint(1, max(points, 2), (), generator=generator, device=generator.device))
    return (
        PromptStep.FIRST,
        *[PromptStep.POINT] * before,
        PromptStep.REFINE,
        *[PromptStep.POINT] * (points - before),
        PromptStep.REFINE,
    )


@dataclass(frozen=True)
class TrainingPrompts:
    """B prompts in the decoder's form (`sam_edge_runtime.bundle.contract.decoder_contract`).

    Attributes:
        coords: `(B, N, 2)` float32 x, y in pixels of the frame.
        labels: `(B, N)` float32 values of `Label`.
        mask_input: `(B, 1, S/4, S/4)` float32 logits.
        has_mask_input: `(B)` float32, 1 where `mask_input` counts, else 0.
    """

    coords: Tensor
    labels: Tensor
    mask_input: Tensor
    has_mask_input: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, part: slice) -> TrainingPrompts:
        return TrainingPrompts(*(tensor[part] for tensor in self.decoder_inputs))

    @property
    def decoder_inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The decoder's inputs after the embedding, in the contract's order."""
        return self.coords, self.labels, self.mask_input, self.has_mask_input

    def with_points(self, coords: Tensor, labels: Tensor) -> TrainingPrompts:
        """The prompts with one more point each, at `coords (B, 2)` with `labels (B)`."""
        return replace(
            self,
            coords=torch.cat([coords.unsqueeze(1), self.coords], dim=1),
            labels=torch.cat([labels.unsqueeze(1), self.labels], dim=1),
        )

    def with_mask(self, logits: Tensor) -> TrainingPrompts:
        """The prompts with the last masks as mask prompt: logits `(B, 1, S/4, S/4)`, whose gradient is dropped.

        Raises:
            UsageError: another shape.
        """
        if logits.shape != self.mask_input.shape:
            raise UsageError(
                f"the mask fed back is {tuple(logits.shape)} and must be {tuple(self.mask_input.shape)}: give one "
                "low-resolution mask a prompt, of the same frame"
            )
        return replace(self, mask_input=logits.detach().float(), has_mask_input=torch.ones_like(self.has_mask_input))


@dataclass(frozen=True)
class PhotoGenerators:
    """One random generator for each photo: no photo's numbers depend on another photo in the batch.

    Attributes:
        generators: one for each photo.
        counts: number of masks of each photo.
    """

    generators: tuple[torch.Generator, ...]
    counts: tuple[int, ...]

    def draw(self, number: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        """Call `number` with each photo's count and generator, and concatenate the results."""
        return torch.cat([number(n, own) for n, own in zip(self.counts, self.generators, strict=True)])


Randomness = torch.Generator | PhotoGenerators


def first_prompts(target: Tensor, side: int, generator: Randomness) -> TrainingPrompts:
    """First prompts of a session: a point or a box with equal probability (appendix A, "Training algorithm").

    Points are uniform over the target; boxes are its bounding box with noise.

    Args:
        target: `(B, h, w)` bool, none of them empty.
        side: frame side S in pixels.
        generator: draws everything random.

    Returns:
        Prompts of two slots, a point and SAM's "not a point" or the two corners of a box; no mask.

    Raises:
        UsageError: a target is not bool, not square or empty.
    """
    _check(target, side)
    b = len(target)
    is_box = (uniform(b, generator) < BOX_SHARE).to(target.device)
    points, point_labels = clicks_in(target, target, side, generator)
    corners = jittered_boxes(tight_boxes(target, side), side, generator).reshape(b, 2, 2)
    if bool((point_labels == float(Label.EMPTY)).any()):
        empty = int((point_labels == float(Label.EMPTY)).nonzero()[0])
        raise UsageError(f"target {empty} of {b} has no foreground to prompt for; leave such masks out of the batch")
    point_slots = torch.stack([points, torch.zeros_like(points)], dim=1)  # (B, 2, 2)
    corner_labels = points.new_tensor([Label.BOX_TOP_LEFT, Label.BOX_BOTTOM_RIGHT])
    click_labels = points.new_tensor([Label.FOREGROUND, Label.PADDING])
    low_res = side // MASK_STRIDE
    return TrainingPrompts(
        coords=torch.where(is_box[:, None, None], corners, point_slots),
        labels=torch.where(is_box[:, None], corner_labels, click_labels),
        mask_input=points.new_zeros(b, 1, low_res, low_res),
        has_mask_input=points.new_zeros(b),
    )


def next_prompts(
    prompts: TrainingPrompts,
    step: PromptStep,
    logits: Tensor,
    target: Tensor,
    side: int,
    generator: Randomness,
    valid: Tensor | None = None,
) -> TrainingPrompts:
    """Prompts of a step after the first: the last mask, and in a `POINT` step a point from its errors.

    Args:
        prompts: those of the step before.
        step: `POINT` or `REFINE`.
        logits: `(B, 1, S/4, S/4)` of the mask to feed back (`mask_choice.feedback_logits`).
        target: `(B, h, w)` bool.
        side: frame side S in pixels.
        generator: draws the points.
        valid: `(B, h, w)` or `(1, h, w)` bool, true where the frame shows photo; no point falls elsewhere.

    Returns:
        The prompts; in a `POINT` step they have one slot more.

    Raises:
        UsageError: the step is `FIRST`, or shapes do not fit together.
    """
    if step is PromptStep.FIRST:
        raise UsageError("the first step has no mask to feed back; make its prompts with first_prompts")
    refined = prompts.with_mask(logits)
    if step is PromptStep.REFINE:
        return refined
    return refined.with_points(*error_points(logits, target, side, generator, valid))


@torch.no_grad()
def error_points(
    logits: Tensor, target: Tensor, side: int, generator: Randomness, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One point for each prompt, uniform over the pixels where the mask is wrong (appendix A, "Training algorithm").

    It is foreground where the mask misses the target, and background where the mask exceeds it. A mask without an error
    gets an empty slot, so its step adds no point; the paper does not say what to do then.

    Args:
        logits: `(B, 1, h', w')`; interpolated bilinearly if the target is finer, as in the reference.
        target: `(B, h, w)` bool.
        side: frame side S in pixels.
        generator: draws the points.
        valid: `(B, h, w)` or `(1, h, w)` bool, true where the frame shows photo.

    Returns:
        Coordinates `(B, 2)` in frame pixels and labels `(B)`: `FOREGROUND`, `BACKGROUND` or `EMPTY` (at 0, 0).

    Raises:
        UsageError: shapes do not fit together.
    """
    _check(target, side)
    if logits.ndim != 4 or logits.shape[:2] != (len(target), 1):
        raise UsageError(f"logits {tuple(logits.shape)} must be (B, 1, h, w) with B = {len(target)}, one mask a prompt")
    if logits.shape[2:] != target.shape[1:]:
        logits = F.interpolate(logits.float(), size=target.shape[1:], mode="bilinear", align_corners=False)
    error = (logits.squeeze(1) > MASK_THRESHOLD) ^ target
    if valid is not None:
        if valid.dtype != torch.bool or valid.shape[1:] != target.shape[1:] or len(valid) not in {1, len(target)}:
            raise UsageError(
                f"valid is {valid.dtype} of shape {tuple(valid.shape)}; give bool (B, h, w) or (1, h, w) like the "
                f"target {tuple(target.shape)}"
            )
        error = error & valid
    return clicks_in(error, target, side, generator)


def tight_boxes(target: Tensor, side: int) -> Tensor:
    """Bounding boxes `(B, 4)` x0, y0, x1, y1 in frame pixels of masks `(B, h, w)` bool; x1 and y1 are inclusive.

    The corners of a one-pixel mask's box coincide, as in the reference (segment_anything 1.0, utils/amg.py,
    `batched_mask_to_box`). The box of an empty mask is the whole frame.
    """
    stride = side / target.shape[-1]
    bounds = []
    for occupied in (target.any(dim=1), target.any(dim=2)):  # (B, w) for x, then (B, h) for y
        first = occupied.int().argmax(dim=1)
        end = occupied.shape[1] - occupied.flip(1).int().argmax(dim=1)
        bounds.append((first * stride, end * stride - 1.0))
    (x0, x1), (y0, y1) = bounds
    return torch.stack([x0, y0, x1, y1], dim=1).float()


def jittered_boxes(boxes: Tensor, side: int, generator: Randomness) -> Tensor:
    """Boxes with noise, as users draw them (arXiv 2304.02643, appendix A, "Training algorithm").

    Each coordinate gets Gaussian noise with a standard deviation of 10 % of the box's side along that axis. The noise
    is bounded by 20 pixels of a 1024-pixel frame, and in proportion at other sides.

    Args:
        boxes: `(B, 4)` x0, y0, x1, y1 in frame pixels, inclusive.
        side: frame side S in pixels.
        generator: draws the noise.

    Returns:
        `(B, 4)`, within the frame, with x0 <= x1 and y0 <= y1.
    """
    corners = boxes.reshape(-1, 2, 2)
    sizes = corners[:, 1] - corners[:, 0] + 1.0  # (B, 2)
    noise = _drawn(len(boxes), generator, _normal).to(boxes.device)  # (B, 2, 2)
    bound = LARGEST_JITTER * side / NATIVE_SIDE
    moved = corners + (noise * JITTER_SHARE * sizes.unsqueeze(1)).clamp(-bound, bound)
    # In a box of a few pixels the noise can swap the corners.
    return moved.clamp(0.0, side - 1.0).sort(dim=1).values.reshape(-1, 4)


def clicks_in(region: Tensor, target: Tensor, side: int, generator: Randomness) -> tuple[Tensor, Tensor]:
    """A uniform random pixel of each region `(B, h, w)`: coordinates `(B, 2)`, and labels `(B)` from the target."""
    b, _, w = region.shape
    flat = region.flatten(1)
    running = flat.cumsum(dim=1, dtype=torch.int32)  # the number of the region's pixels up to each pixel
    count = running[:, -1:]
    draws = _drawn(b, generator, _integers).to(region.device)  # (B, 1)
    rank = (draws % count.clamp(min=1)).int()
    index = torch.searchsorted(running, rank, right=True).clamp(max=flat.shape[1] - 1)  # (B, 1)
    stride = side / w
    cells = torch.cat([index % w, index // w], dim=1)  # (B, 2) x, y
    coords = cells * stride + (stride - 1.0) / 2.0
    inside = target.flatten(1).gather(1, index).squeeze(1)
    labels = torch.where(inside, float(Label.FOREGROUND), float(Label.BACKGROUND))
    empty = count.squeeze(1) == 0
    return coords.float().masked_fill(empty[:, None], 0.0), labels.masked_fill(empty, float(Label.EMPTY))


def _drawn(count: int, source: Randomness, number: Callable[[int, torch.Generator], Tensor]) -> Tensor:
    """Random numbers for `count` masks, on their generators' device."""
    return source.draw(number) if isinstance(source, PhotoGenerators) else number(count, source)


def uniform(count: int, generator: Randomness) -> Tensor:
    """`(count)` random numbers from 0 to 1, on the generator's device."""
    return _drawn(count, generator, lambda n, own: torch.rand(n, generator=own, device=own.device))


def _normal(count: int, generator: torch.Generator) -> Tensor:
    """`(count, 2, 2)` normal with mean 0 and variance 1."""
    return torch.randn(count, 2, 2, generator=generator, device=generator.device)


def _integers(count: int, generator: torch.Generator) -> Tensor:
    """`(count, 1)` int64 uniform from 0 to below `_MANY`."""
    return torch.randint(_MANY, (count, 1), generator=generator, device=generator.device)


def _check(target: Tensor, side: int) -> None:
    if target.ndim != 3 or target.dtype != torch.bool or target.shape[1] != target.shape[2]:
        raise UsageError(
            f"target is {target.dtype} of shape {tuple(target.shape)}; give bool masks (B, h, h) of the square frame"
        )
    if side < target.shape[1]:
        raise UsageError(f"a target of {target.shape[1]} pixels is finer than its frame of {side} pixels; resize it")
