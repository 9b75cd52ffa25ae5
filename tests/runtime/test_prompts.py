"""Prompts are checked by the conventions of the frame that they are arranged for."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge_runtime.bundle.contract import FrameSize, Label
from sam_edge_runtime.bundle.conventions import EFFICIENT_SAM
from sam_edge_runtime.errors import PromptError
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.prompts import build_prompts

SIZE = (48, 64)
SAM_FRAME, EFFICIENT_SAM_FRAME = (Frame(FrameSize.square(256), SIZE, *more) for more in ((), (EFFICIENT_SAM,)))


def test_points_outside_and_masks_are_refused_where_the_family_does_not_know_them():
    mask = np.zeros((1, 1, 64, 64))
    build_prompts(SAM_FRAME, [[[5, 5]]], [[0]], None, mask)
    with pytest.raises(PromptError, match="label 0"):
        build_prompts(EFFICIENT_SAM_FRAME, [[[5, 5]]], [[0]], None, None)
    with pytest.raises(PromptError, match="no mask prompts"):
        build_prompts(EFFICIENT_SAM_FRAME, [[[5, 5]]], [[1]], None, mask)


def test_six_clicks_fill_six_slots_without_padding_behind_them():
    clicks = [[[x, 5] for x in range(6)]]
    assert build_prompts(SAM_FRAME, clicks, [[1] * 6], None, None).labels.tolist() == [[1] * 6 + [Label.PADDING]]
    assert build_prompts(EFFICIENT_SAM_FRAME, clicks, [[1] * 6], None, None).labels.tolist() == [[1] * 6]
    with pytest.raises(PromptError, match="7 slots"):
        build_prompts(EFFICIENT_SAM_FRAME, [[[x, 5] for x in range(7)]], [[1] * 7], None, None)
