"""The figures of words, on numbers that are known."""

from __future__ import annotations

import numpy as np

from sam_edge.evaluation.text import NamedMask, WordsOnPhoto, roc_auc, text_figures, text_rows
from sam_edge.prediction.naming import NamedPhoto
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.photo.frame import Frame


def test_the_area_under_the_roc_curve_counts_pairs():
    draw = np.random.default_rng(0)
    scores, present = np.round(draw.standard_normal(60), 1), draw.random(60) < 0.3
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[present] for b in scores[~present]]
    assert roc_auc(scores, present) == np.mean(pairs)
    assert roc_auc(scores, np.ones(60, np.bool_)) is None


def test_figures_are_means_over_photos_and_their_names():
    one = NamedMask("cat", 0.5, 0.6, 0.2, 0.3, 0.1, 0.0)
    two = NamedMask("cat", 0.7, 0.8, 0.4, 0.5, 0.3, 0.2)
    dog = NamedMask("dog", 0.0, 0.1, 0.0, 0.1, 0.2, 0.1)
    present = np.array([True, False]), np.array([True, True])
    photos = [
        WordsOnPhoto((one,), np.array([2.0, -1.0]), present[0], ("axe",)),
        WordsOnPhoto((two, dog), np.array([1.0, -2.0]), present[1], ()),
    ]
    figures = text_figures("nano", "val.tar", photos)
    assert (figures.photos, figures.pairs, figures.unknown) == (2, 3, ("axe",))
    assert figures.by_word == {"cat": (2, 0.6), "dog": (1, 0.0)}
    np.testing.assert_allclose([figures.union, figures.centre, figures.auc], [0.4, 0.2, 2 / 3])
    rows = dict(text_rows([figures]))
    assert rows["word: union of its masks"] == ["0.400"]
    assert rows["  mean over words"] == ["0.300"]


def test_a_mask_gets_the_name_whose_map_lies_in_it():
    frame = Frame(FrameSize.square(256), (64, 128))
    maps = np.zeros((3, 64, 64), np.float32)
    maps[0, 8:16, 10:20] = 0.9  # hair
    maps[1, 8:32, 10:40] = 0.95  # the person around it
    maps[2, 8:16, 10:20] = 1.0  # not in the photo
    photo = NamedPhoto(("hair", "person", "wig"), np.array([0.9, 0.9, 0.1], np.float32), maps, frame)
    hair, person, nothing = (np.zeros((64, 128), np.bool_) for _ in range(3))
    hair[16:32, 20:40] = True  # a photo pixel is half a pixel of the maps
    person[16:64, 20:80] = True
    assert photo.name(hair).name == "hair"
    assert photo.name(person).name == "person"
    nothing[:, 100:] = True
    assert photo.name(nothing) is None
    assert photo.name(np.zeros_like(hair)) is None
