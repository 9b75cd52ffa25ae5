"""Two annotations of the same photos: pairs of masks, their IoU, and photos that only one has."""

from __future__ import annotations

import json
from itertools import permutations

import numpy as np
import pytest

from sam_edge.cli.app import run
from sam_edge.datasets.compare import CompareJob, _boundary_iou, compare, matched
from sam_edge_runtime.agreement.metrics import boundary_iou
from sam_edge_runtime.errors import DataError, UsageError
from tests.data.builders import encoded, pairs, picture, record, rle_of, write_folder, write_tar

SIZE = (40, 50)


def annotated(path, **photos: np.ndarray) -> str:
    """A folder of photos with masks (M, H, W)."""
    files = []
    for name, masks in photos.items():
        files += [
            (f"{name}.png", encoded(picture(0, masks.shape[1:]), "PNG")),
            (f"{name}.json", json.dumps(record(masks)).encode()),
        ]
    return str(write_folder(path, files))


def boxes(*corners: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """Masks of rectangles: top, left, bottom, right."""
    masks = np.zeros((len(corners), *size), bool)
    for mask, (top, left, bottom, right) in zip(masks, corners, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def test_the_same_masks_in_another_order_agree(tmp_path):
    one = str(write_tar(tmp_path / "a.tar", pairs(4)))
    other = write_folder(tmp_path / "b", pairs(4))
    for path in other.glob("*.json"):
        document = json.loads(path.read_text())
        document["annotations"].reverse()
        path.write_text(json.dumps(document))
    found = compare(CompareJob(one, str(other)))
    assert (found.photos, found.masks, found.pairs) == (4, [12, 12], 12)
    assert (found.iou, found.boundary_iou, found.good, found.very_good) == (12, 12, 12, 12)


def test_figures_of_known_masks(tmp_path):
    first = boxes((0, 0, 20, 20), (20, 20, 40, 40), (0, 40, 10, 50))
    second = boxes((20, 20, 40, 38), (0, 0, 20, 10))  # IoU 0.9, not above; 0.5; the third has no partner
    found = compare(CompareJob(annotated(tmp_path / "a", x=first), annotated(tmp_path / "b", x=second)))
    assert (found.masks, found.pairs) == ([3, 2], 2)
    assert found.iou == pytest.approx(0.9 + 0.5)
    assert (found.good, found.very_good) == (1, 0)
    rows = dict(found.rows())
    assert (rows["mean IoU of pairs"], rows["mean IoU of all masks of a"]) == ("0.700", "0.467")
    assert rows["pairs with an IoU above 0.75"] == "50.0%"


@pytest.mark.parametrize("seed", range(10))
def test_pairs_are_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    ious = rng.random((rng.integers(1, 6), 5)) * (rng.random(5) < 0.7)
    found = sum(ious[i, j] for i, j in matched(ious))
    best = max(sum(ious[i, j] for i, j in enumerate(order[: len(ious)])) for order in permutations(range(5)))
    assert found == pytest.approx(best)
    assert all(ious[pair] > 0 for pair in matched(ious))


@pytest.mark.parametrize("seed", range(10))
def test_boundary_iou_of_a_part_is_that_of_the_whole(seed):
    rng = np.random.default_rng(seed)
    masks = np.zeros((2, 120, 150), bool)
    for mask in masks:
        top, left = rng.integers(0, 60, 2)
        mask[top : top + rng.integers(1, 60), left : left + rng.integers(1, 90)] = True
    masks ^= rng.random(masks.shape) < 0.001
    assert _boundary_iou(rle_of(masks[0]), rle_of(masks[1])) == pytest.approx(boundary_iou(*masks))


def test_photos_that_only_one_has_are_named(tmp_path, capsys):
    one = str(write_tar(tmp_path / "a.tar", pairs(3)))
    other = str(write_tar(tmp_path / "b.tar", pairs(5, start=2)))
    assert run(["data", "compare", one, other]) == 0
    captured = capsys.readouterr()
    assert "only in a.tar: sa_0, sa_1" in captured.err
    assert "only in b.tar: sa_3, sa_4, sa_5 and 1 more" in captured.err
    assert run(["data", "compare", one, other, "--json", "--no-boundary"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["photos"], document["iou"], document["boundary_iou"]) == (1, 1.0, None)


def test_photos_of_other_sizes_are_not_compared(tmp_path):
    same, other = boxes((0, 0, 9, 9)), boxes((0, 0, 9, 9), size=(30, 30))
    one = annotated(tmp_path / "a", x=same, y=same)
    found = compare(CompareJob(one, annotated(tmp_path / "b", x=same, y=other)))
    assert (found.photos, found.broken_count) == (1, 1)
    assert "[40, 50]" in found.broken[0]


def test_annotations_without_a_common_photo_are_refused(tmp_path):
    tars = [str(write_tar(tmp_path / f"{n}.tar", pairs(2, start=9 * n))) for n in range(2)]
    with pytest.raises(DataError, match="no photo of the same name"):
        compare(CompareJob(*tars))
    with pytest.raises(UsageError, match="twice"):
        CompareJob(tars[0], tars[0])


def test_photos_without_masks_and_names_that_come_twice_are_refused(tmp_path):
    tar = str(write_tar(tmp_path / "a.tar", pairs(1)))
    photos = str(write_folder(tmp_path / "photos", [("sa_0.png", encoded(picture(0), "PNG"))]))
    with pytest.raises(DataError, match="without masks"):
        compare(CompareJob(tar, photos))
    twice = str(write_tar(tmp_path / "b.tar", [*pairs(1, prefix="a/sa_"), *pairs(1, prefix="b/sa_")]))
    with pytest.raises(DataError, match="two photos called sa_0"):
        compare(CompareJob(tar, twice))
