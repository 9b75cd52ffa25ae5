"""Background clicks on the nearest other object, for training.

One click on one of two similar things often selects both. A user then clicks on the second thing, as background. In
SAM's own sessions such a click comes only where the model was wrong already, in proportion to the error's area. Here a
share of the masks gets it as its second prompt, whether the model was wrong or not. So the model sees many examples of
"this one, not that one". Names are not needed: the nearest object that does not overlap is often of the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sam_edge_runtime.bundle.contract import Label

from .simulation import Randomness, TrainingPrompts, clicks_in, uniform

MOST_SHARED = 0.05  # share of the smaller of two masks that both may cover, if they are different objects
COARSE = 4  # every fourth pixel along both axes decides on overlaps and distances


def with_neighbour_clicks(
    prompts: TrainingPrompts, masks: Sequence[Tensor], share: float, side: int, generator: Randomness
) -> TrainingPrompts:
    """Replace the newest click of a share of the prompts by a background click on the nearest other object.

    Args:
        prompts: B prompts, whose first slot is the newest.
        masks: one tensor `(M, h, w)` bool for each photo; the sum of M is B.
        share: of the prompts, 0 to 1; a mask without another object keeps its click.
        side: frame side S in pixels.
        generator: draws everything random; its numbers do not depend on the masks.

    Returns:
        Prompts of the same slots.
    """
    target = torch.cat(list(masks))
    region = torch.cat([nearest_others(own) for own in masks])
    chosen = uniform(len(target), generator).to(target.device) < share
    coords, labels = clicks_in(region, target, side, generator)
    chosen = chosen & (labels != float(Label.EMPTY))
    newest = torch.where(chosen[:, None], coords, prompts.coords[:, 0])
    label = torch.where(chosen, labels, prompts.labels[:, 0])
    return replace(
        prompts,
        coords=torch.cat([newest.unsqueeze(1), prompts.coords[:, 1:]], dim=1),
        labels=torch.cat([label.unsqueeze(1), prompts.labels[:, 1:]], dim=1),
    )


@torch.no_grad()
def nearest_others(masks: Tensor) -> Tensor:
    """The pixels of each mask's nearest other object, without its own.

    Two masks are different objects if they share at most `MOST_SHARED` of the smaller one. The nearest is that with the
    least distance between centres of mass.

    Args:
        masks: `(M, h, w)` bool of one photo.

    Returns:
        `(M, h, w)` bool; empty where there is no other object.
    """
    coarse = masks[:, ::COARSE, ::COARSE].float()
    areas = coarse.sum(dim=(1, 2))
    shared = coarse.flatten(1) @ coarse.flatten(1).T  # (M, M)
    places = [torch.arange(length, device=masks.device).float() for length in coarse.shape[1:]]
    centres = torch.stack([coarse.sum(2) @ places[0], coarse.sum(1) @ places[1]], 1) / areas.clamp(min=1.0)[:, None]
    distance = torch.cdist(centres, centres)
    least = torch.minimum(areas[:, None], areas[None])
    other = (shared <= MOST_SHARED * least) & (least > 0)  # a mask is not its own neighbour: it shares everything
    distance = distance.masked_fill(~other, torch.inf)
    return masks[distance.argmin(dim=1)] & ~masks & other.any(dim=1)[:, None, None]
