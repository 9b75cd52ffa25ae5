"""Background clicks on the nearest other object."""

from __future__ import annotations

import pytest
import torch

from sam_edge.prompting.neighbours import nearest_others, with_neighbour_clicks
from sam_edge.prompting.simulation import PhotoGenerators, TrainingPrompts
from sam_edge_runtime.bundle.contract import Label

SIDE = 64


def block(x0: int, y0: int, x1: int, y1: int) -> torch.Tensor:
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


GEESE = torch.stack([block(0, 0, 12, 12), block(16, 0, 28, 12), block(40, 40, 60, 60)])
GOOSE_AND_HEAD = torch.stack([block(8, 8, 40, 40), block(16, 8, 24, 16)])


def test_the_nearest_object_that_does_not_overlap():
    found = nearest_others(GEESE)
    assert torch.equal(found, GEESE[[1, 0, 1]])
    assert not nearest_others(GOOSE_AND_HEAD).any()  # a part is no other object
    assert not nearest_others(GEESE[:1]).any()
    touching = torch.stack([block(0, 0, 20, 20), block(19, 0, 40, 20)])  # one column in common
    assert torch.equal(nearest_others(touching), torch.stack([block(20, 0, 40, 20), block(0, 0, 19, 20)]))


def prompts(count: int) -> TrainingPrompts:
    return TrainingPrompts(
        torch.full((count, 3, 2), 5.0),
        torch.tensor([[1.0, 1.0, -1.0]]).repeat(count, 1),
        torch.rand(count, 1, SIDE // 4, SIDE // 4),
        torch.ones(count),
    )


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_newest_clicks_is_replaced(share):
    before, masks = prompts(300), [GEESE] * 80 + [GOOSE_AND_HEAD] * 30
    generator = PhotoGenerators(
        tuple(torch.Generator().manual_seed(seed) for seed in range(110)), (3,) * 80 + (2,) * 30
    )
    after = with_neighbour_clicks(before, masks, share, SIDE, generator)
    replaced = after.labels[:, 0] == float(Label.BACKGROUND)
    assert not replaced[240:].any()  # they have no other object
    assert float(replaced[:240].float().mean()) == pytest.approx(share, abs=0.1)
    assert torch.equal(after.coords[:, 1:], before.coords[:, 1:])
    assert torch.equal(after.labels[:, 1:], before.labels[:, 1:])
    assert torch.equal(after.coords[~replaced], before.coords[~replaced])
    others = torch.cat([nearest_others(own) for own in masks])
    for row in replaced.nonzero().flatten().tolist():
        x, y = after.coords[row, 0].long().tolist()
        assert others[row, y, x]
