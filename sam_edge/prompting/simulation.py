"""Prompts as a user might give them, simulated from target masks.

"Segment Anything" (arXiv 2304.02643), appendix A, "Training algorithm": begin with a point or a box, correct the last
answer with points drawn from its errors while its logits go back in as mask prompt; eleven steps in all, two of which
carry no new point, so that the model learns to improve on a mask alone.

Prompts are in the form of the decoder's contract and grow by one slot with each point; new points go in front, so that
the corners of a box or SAM's "not a point" stay at the end, as the runtime lays them out. Attention knows no order.

Targets are bool masks `(B, h, w)` of the square frame, which may be coarser than its S pixels: the paper's rules hold
for the mask's pixels, and the coordinates that come out are frame pixels. A point on pixel (x, y) of a mask of full
resolution has the coordinates (x, y), because the prompt encoder itself adds the half pixel to its centre; a point on
a coarse pixel has those of that pixel's centre.

Numbers are drawn on the generator's own device and then moved: a CPU generator gives the same prompts on every
machine. How many are drawn never depends on what the masks hold.
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

SAMPLED_POINTS = 8  # more than these bring little, the paper found
BOX_SHARE = 0.5  # first prompts that are boxes; the others are points
JITTER_SHARE = 0.1  # standard deviation of a box corner's noise, in box sides
LARGEST_JITTER = 20.0  # its bound in pixels of a frame of NATIVE_SIDE

_MANY = 2**62  # a whole number below it, modulo a pixel count, is uniform to one part in 2**40


class Step(Enum):
    """What a step of the simulated session adds to the prompts."""

    FIRST = "a point or a box"
    POINT = "a point from the error region, and the last mask"
    REFINE = "the last mask alone"


def schedule(generator: torch.Generator, points: int = SAMPLED_POINTS) -> tuple[Step, ...]:
    """The steps of one session: the first prompt, `points` sampled points, and two steps without a new one.

    Of those two, one comes at a random place between two of the points (with a single point: behind it), the other at
    the end (arXiv 2304.02643, appendix A, "Training algorithm").

    Args:
        generator: decides the place.
        points: sampled points, 8 in the paper.

    Returns:
        `points` + 3 steps: 11 in the paper.

    Raises:
        UsageError: fewer than one point.
    """
    if points < 1:
        raise UsageError(f"a schedule of {points} sampled points corrects nothing; give at least 1, the paper's is 8")
    before = int(torch.randint(1, max(points, 2), (), generator=generator, device=generator.device))
    return (
        Step.FIRST,
        *[Step.POINT] * before,
        Step.REFINE,
        *[Step.POINT] * (points - before),
        Step.REFINE,
    )


@dataclass(frozen=True)
class TrainingPrompts:
    """B prompts in the decoder's form (`sam_edge_runtime.bundle.contract.decoder_contract`).

    Attributes:
        coords: `(B, N, 2)` float32 x, y in pixels of the frame.
        labels: `(B, N)` float32 values of `Label`.
        mask_input: `(B, 1, S/4, S/4)` float32 logits.
        has_mask_input: `(B)` float32, 1 where `mask_input` counts.
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
        """The decoder's inputs behind the embedding, in order."""
        return self.coords, self.labels, self.mask_input, self.has_mask_input

    def with_points(self, coords: Tensor, labels: Tensor) -> TrainingPrompts:
        """One more point a prompt, at `coords (B, 2)` with `labels (B)`."""
        return replace(
            self,
            coords=torch.cat([coords.unsqueeze(1), self.coords], dim=1),
            labels=torch.cat([labels.unsqueeze(1), self.labels], dim=1),
        )

    def with_mask(self, logits: Tensor) -> TrainingPrompts:
        """The last answer `(B, 1, S/4, S/4)` as mask prompt: logits, not thresholded, without their gradient."""
        if logits.shape != self.mask_input.shape:
            raise UsageError(
                f"the mask fed back is {tuple(logits.shape)} and must be {tuple(self.mask_input.shape)}: one "
                "low-resolution mask a prompt, of the same frame"
            )
        return replace(self, mask_input=logits.detach().float(), has_mask_input=torch.ones_like(self.has_mask_input))


@dataclass(frozen=True)
class PhotoGenerators:
    """Generators of several photos: all their masks are worked on at once, and no photo's numbers depend on another.

    Attributes:
        generators: one a photo.
        counts: masks of each photo.
    """

    generators: tuple[torch.Generator, ...]
    counts: tuple[int, ...]

    def draw(self, number: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        """What `number` gives for each photo's count and generator, one after another."""
        return torch.cat([number(n, own) for n, own in zip(self.counts, self.generators, strict=True)])


Randomness = torch.Generator | PhotoGenerators


def first_prompts(target: Tensor, side: int, generator: Randomness) -> TrainingPrompts:
    """The session's first prompts: with equal probability a point or a box (appendix A, "Training algorithm").

    Points are uniform over the target, boxes are its bounding box with noise.

    Args:
        target: `(B, h, w)` bool, none of them empty.
        side: frame side S in pixels.
        generator: decides everything random.

    Returns:
        Prompts of two slots: a point and SAM's "not a point", or the two corners; no mask.

    Raises:
        UsageError: a target that is not bool, not square or empty.
    """
    _check(target, side)
    b = len(target)
    is_box = (_drawn(b, generator, _uniform) < BOX_SHARE).to(target.device)
    points, point_labels = _clicks_in(target, target, side, generator)
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
    step: Step,
    logits: Tensor,
    target: Tensor,
    side: int,
    generator: Randomness,
    valid: Tensor | None = None,
) -> TrainingPrompts:
    """The prompts of a step after the first: the last mask, and in a `POINT` step a point from its errors.

    Args:
        prompts: those of the step before.
        step: `POINT` or `REFINE`.
        logits: `(B, 1, S/4, S/4)` the answer that goes on (`selection.fed_back`).
        target: `(B, h, w)` bool.
        side: frame side S in pixels.
        generator: decides the points.
        valid: `(B, h, w)` or `(1, h, w)` bool, true where the frame holds photo; no point falls elsewhere.

    Returns:
        The prompts, with one slot more in a `POINT` step.

    Raises:
        UsageError: `FIRST`, or tensors that do not belong together.
    """
    if step is Step.FIRST:
        raise UsageError("the first step has no mask to go on from; make its prompts with first_prompts")
    refined = prompts.with_mask(logits)
    if step is Step.REFINE:
        return refined
    return refined.with_points(*error_points(logits, target, side, generator, valid))


@torch.no_grad()
def error_points(
    logits: Tensor, target: Tensor, side: int, generator: Randomness, valid: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One point a prompt, uniform over where the mask is wrong (appendix A, "Training algorithm").

    It is foreground where the mask misses the target, background where it exceeds it. Where the mask has no error there
    is nothing to click (the paper is silent): the slot stays empty, and the step is one without a new point.

    Args:
        logits: `(B, 1, h', w')`; interpolated bilinearly when the target is finer, as the reference does.
        target: `(B, h, w)` bool.
        side: frame side S in pixels.
        generator: decides the points.
        valid: `(B, h, w)` or `(1, h, w)` bool, true where the frame holds photo.

    Returns:
        Coordinates `(B, 2)` in frame pixels and labels `(B)`: `FOREGROUND`, `BACKGROUND` or `EMPTY` (at 0, 0).

    Raises:
        UsageError: tensors that do not belong together.
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
    return _clicks_in(error, target, side, generator)


def tight_boxes(target: Tensor, side: int) -> Tensor:
    """Bounding boxes `(B, 4)` x0, y0, x1, y1 in frame pixels of masks `(B, h, w)` bool; the last pixels are inside.

    So a mask of one pixel has a box whose corners coincide, as the reference's own boxes of masks do
    (segment_anything 1.0, utils/amg.py, `batched_mask_to_box`). An empty mask has the whole frame.
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
    """Boxes as users draw them, a little off (arXiv 2304.02643, appendix A, "Training algorithm").

    Each coordinate gets Gaussian noise with a standard deviation of 10 % of the box's side along that axis, cut off at
    20 pixels of a 1024-pixel frame and in proportion at other sides.

    Args:
        boxes: `(B, 4)` x0, y0, x1, y1 in frame pixels, both corners inside.
        side: frame side S in pixels.
        generator: decides the noise.

    Returns:
        `(B, 4)`, within the frame, with x0 <= x1 and y0 <= y1.
    """
    corners = boxes.reshape(-1, 2, 2)
    sizes = corners[:, 1] - corners[:, 0] + 1.0  # (B, 2)
    noise = _drawn(len(boxes), generator, _normal).to(boxes.device)  # (B, 2, 2)
    bound = LARGEST_JITTER * side / NATIVE_SIDE
    moved = corners + (noise * JITTER_SHARE * sizes.unsqueeze(1)).clamp(-bound, bound)
    # In a box of few pixels the noise may exchange the corners.
    return moved.clamp(0.0, side - 1.0).sort(dim=1).values.reshape(-1, 4)


def _clicks_in(region: Tensor, target: Tensor, side: int, generator: Randomness) -> tuple[Tensor, Tensor]:
    """A uniform pixel of each region `(B, h, w)`: coordinates `(B, 2)`, and labels `(B)` by the target there."""
    b, _, w = region.shape
    flat = region.flatten(1)
    running = flat.cumsum(dim=1, dtype=torch.int32)  # how many of the region's pixels lie up to here
    count = running[:, -1:]
    draws = _drawn(b, generator, _whole).to(region.device)  # (B, 1)
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
    """Numbers for `count` masks, on their generators' device."""
    return source.draw(number) if isinstance(source, PhotoGenerators) else number(count, source)


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    """`(count)` from 0 to 1."""
    return torch.rand(count, generator=generator, device=generator.device)


def _normal(count: int, generator: torch.Generator) -> Tensor:
    """`(count, 2, 2)` of mean 0 and variance 1."""
    return torch.randn(count, 2, 2, generator=generator, device=generator.device)


def _whole(count: int, generator: torch.Generator) -> Tensor:
    """`(count, 1)` int64 from 0 to `_MANY`."""
    return torch.randint(_MANY, (count, 1), generator=generator, device=generator.device)


def _check(target: Tensor, side: int) -> None:
    if target.ndim != 3 or target.dtype != torch.bool or target.shape[1] != target.shape[2]:
        raise UsageError(
            f"target is {target.dtype} of shape {tuple(target.shape)}; give bool masks (B, h, h) of the square frame"
        )
    if side < target.shape[1]:
        raise UsageError(f"a target of {target.shape[1]} pixels is finer than its frame of {side}; resize it")
