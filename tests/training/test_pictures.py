"""Contact sheets: what is drawn where, and which steps are shown."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from sam_edge.prompting.simulation import TrainingPrompts
from sam_edge.training.batch import Batch
from sam_edge.training.pictures import BOX, CLICKS, GAP, MASK, OPACITY, OUTLINE, TILE, ContactSheet, outline, tile
from sam_edge_runtime.bundle.contract import Label

SIDE = 512  # twice the tile
GREY = 100.0


def drawn(coords: list[list[float]], labels: list[float]) -> np.ndarray:
    """A grey photo, the target in its upper left quarter, the mask in its left half; the lower eighth is padding."""
    target, valid = np.zeros((SIDE, SIDE), bool), np.ones((SIDE, SIDE), bool)
    target[: SIDE // 2, : SIDE // 2] = True
    valid[SIDE * 7 // 8 :] = False
    logits = np.full((SIDE // 4, SIDE // 4), -5, np.float32)
    logits[:, : SIDE // 8] = 5
    photo = np.full((3, SIDE, SIDE), GREY, np.float32)
    places = np.array(coords, np.float32).reshape(-1, 2)
    return np.asarray(tile(photo, target, valid, logits, places, np.array(labels, np.float32), "1"))


def test_a_tile_shows_photo_mask_and_outline():
    pixels = drawn([], [])
    blue = ((1 - OPACITY) * GREY + OPACITY * np.array(MASK)).astype(np.uint8)
    assert tuple(pixels[60, 200]) == (GREY,) * 3
    np.testing.assert_array_equal(pixels[60, 60], blue)
    np.testing.assert_array_equal(pixels[200, 60], blue)
    assert tuple(pixels[240, 60]) == (GREY,) * 3, "the mask is not drawn on padding"
    assert tuple(pixels[60, 127]) == tuple(pixels[127, 60]) == OUTLINE
    assert tuple(pixels[60, 0]) == tuple(blue), "the edge of the picture is no outline"


def test_prompts_are_drawn_at_their_places():
    pixels = drawn(
        [[399.5, 99.5], [199.5, 399.5], [299.5, 299.5], [419.5, 379.5], [459.5, 19.5]],
        [Label.FOREGROUND, Label.BACKGROUND, Label.BOX_TOP_LEFT, Label.BOX_BOTTOM_RIGHT, Label.EMPTY],
    )
    assert tuple(pixels[50, 200]) == CLICKS[Label.FOREGROUND]
    assert tuple(pixels[200, 100]) == CLICKS[Label.BACKGROUND]
    assert tuple(pixels[150, 180]) == tuple(pixels[190, 180]) == tuple(pixels[170, 150]) == BOX
    assert tuple(pixels[10, 230]) == (GREY,) * 3, "an empty slot is no prompt"


def test_outlines_are_the_pixels_with_a_neighbour_outside():
    mask = np.zeros((6, 7), bool)
    mask[1:5, 2:] = True
    expected = np.zeros_like(mask)
    expected[[1, 4], 2:] = True
    expected[1:5, 2] = True
    np.testing.assert_array_equal(outline(mask), expected)


def sheet_of(photos: int, steps: int) -> Image.Image | None:
    """Photo p has brightness 20 p and p + 1 masks; output 2 of its first mask is fed back and covers everything."""
    side = 256
    counts = [photo + 1 for photo in range(photos)]
    images = torch.stack([torch.full((3, side, side), 20.0 * photo) for photo in range(photos)])
    masks = tuple(torch.ones(count, side, side, dtype=torch.bool) for count in counts)
    batch = Batch(images, masks, torch.ones(photos, side, side, dtype=torch.bool), tuple(range(photos)), step=0)
    rows = sum(counts)
    logits = torch.full((rows, 4, side // 4, side // 4), -1.0, dtype=torch.bfloat16)
    firsts = torch.tensor(counts).cumsum(0) - torch.tensor(counts)
    logits[firsts, 2] = 1.0
    prompts = TrainingPrompts(
        torch.zeros(rows, 2, 2), torch.full((rows, 2), -2.0), torch.zeros(rows, 1, 64, 64), torch.zeros(rows)
    )
    sheet = ContactSheet()
    for step in range(steps):
        sheet(batch, step, prompts, logits, torch.full((rows,), 2))
    content = sheet.png()
    return None if content is None else Image.open(io.BytesIO(content))


def test_each_photo_has_a_row_and_each_step_a_column():
    picture = sheet_of(3, 2)
    assert picture is not None
    assert picture.size == (2 * TILE + GAP, 3 * TILE + 2 * GAP)
    pixels = np.asarray(picture)
    for photo in range(3):
        for column in range(2):
            found = pixels[photo * (TILE + GAP) + 128, column * (TILE + GAP) + 128]
            np.testing.assert_allclose(found, (1 - OPACITY) * 20 * photo + OPACITY * np.array(MASK), atol=1)


def test_a_sheet_shows_some_of_many_photos_and_steps():
    picture = sheet_of(6, 11)
    assert picture is not None
    assert picture.size == (6 * (TILE + GAP) - GAP, 4 * (TILE + GAP) - GAP)
    assert sheet_of(1, 0) is None
