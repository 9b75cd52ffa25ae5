"""Prompts are checked by the conventions of the frame that they are arranged for."""

from __future__ import annotations

import numpy as np
import pytest

from sam_edge_runtime.bundle.contract import FrameSize, Label
from sam_edge_runtime.bundle.conventions import EFFICIENT_SAM, Conventions
from sam_edge_runtime.errors import PromptError
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.prompts import Prompts, build_prompts

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


TEXT_FRAME = Frame(FrameSize.square(256), SIZE, Conventions(text_channels=3))


def test_text_is_a_prompt_of_its_own_and_joins_others():
    vectors = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    alone = build_prompts(TEXT_FRAME, None, None, None, None, text=vectors)
    assert alone.labels.tolist() == [[Label.EMPTY], [Label.EMPTY]]
    (feed,) = alone.feeds((4,), 3)
    assert feed.text is not None
    assert feed.text.has_text.tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(feed.text.embeddings[:2], vectors)
    assert not feed.text.embeddings[2:].any()
    with_click = build_prompts(TEXT_FRAME, [[[5, 5]]], [[1]], None, None, text=vectors[:1])
    assert with_click.labels.tolist() == [[Label.FOREGROUND, Label.PADDING]]
    joined = Prompts.joined([with_click, build_prompts(TEXT_FRAME, None, None, None, None, text=vectors[1:])])
    np.testing.assert_array_equal(joined.text, vectors)


@pytest.mark.parametrize(
    ("frame", "text", "says"),
    [
        (SAM_FRAME, [[1.0, 2.0, 3.0]], "takes no text"),
        (TEXT_FRAME, [[1.0, 2.0]], r"shape \(1, 2\); this model takes \(B, 3\)"),
        (TEXT_FRAME, [[1.0, np.nan, 3.0]], "not finite"),
        (TEXT_FRAME, [[1.0, 1e39, 3.0]], "not finite"),
        (TEXT_FRAME, np.zeros((2, 3)), "different numbers of prompts"),
    ],
)
def test_text_that_cannot_be_used_is_refused(frame, text, says):
    with pytest.raises(PromptError, match=says):
        build_prompts(frame, [[[5, 5]]], [[1]], None, None, text=text)
