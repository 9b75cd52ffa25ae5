"""COCO's run-length encoding equals pycocotools'."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from sam_edge_runtime.automatic import rle
from sam_edge_runtime.errors import UsageError


def masks() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {
        "empty": np.zeros((5, 7), bool),
        "full": np.ones((5, 7), bool),
        "one pixel off": np.zeros((1, 1), bool),
        "one pixel on": np.ones((1, 1), bool),
        "first pixel": np.eye(4, 6, dtype=bool),
        "one row": rng.random((1, 50)) > 0.5,
        "one column": rng.random((50, 1)) > 0.5,
        "large blob": np.hypot(*np.ogrid[-600:600, -800:800]) < 400,
        "large empty": np.zeros((1500, 2250), bool),
        "long then short runs": np.arange(1200 * 900).reshape(900, 1200).T >= 1_000_000,
    }
    for density in (0.001, 0.1, 0.5, 0.9):
        shapes[f"noise {density}"] = rng.random((123, 77)) < density
    return shapes


@pytest.mark.parametrize("name", masks())
def test_encoding_and_decoding_equal_pycocotools(name):
    mask = masks()[name]
    expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    result = rle.encode(mask)
    assert result == {"size": list(expected["size"]), "counts": expected["counts"].decode()}
    np.testing.assert_array_equal(rle.decode(result), mask)
    assert rle.decode(result).dtype == np.bool_
    assert rle.area(result) == mask.sum() == coco.area(expected)


@pytest.mark.parametrize("name", masks())
def test_the_uncompressed_form_compresses_to_the_same(name):
    mask = masks()[name]
    uncompressed: rle.UncompressedRle = {"size": list(mask.shape), "counts": rle.run_lengths(mask).tolist()}
    assert sum(uncompressed["counts"]) == mask.size
    assert rle.compress(np.array(uncompressed["counts"])) == rle.encode(mask)["counts"]
    np.testing.assert_array_equal(rle.decode(uncompressed), mask)
    assert rle.area(uncompressed) == mask.sum()
    from_coco = coco.frPyObjects(uncompressed, *mask.shape)
    assert from_coco["counts"].decode() == rle.encode(mask)["counts"]


def test_a_strided_mask_is_encoded_like_its_copy():
    mask = np.random.default_rng(1).random((40, 60)) > 0.5
    assert rle.encode(mask[::2, ::-3]) == rle.encode(mask[::2, ::-3].copy())


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ({"size": [4, 4], "counts": "ab c"}, "characters outside"),
        ({"size": [4, 4], "counts": "äö"}, "characters outside"),
        ({"size": [4, 4], "counts": "P"}, "within a number"),
        ({"size": [4, 4], "counts": "P" * 40 + "0"}, "41 characters, more than 12"),
        ({"size": [4, 4], "counts": ""}, "cover 0 pixels"),
        ({"size": [4, 4], "counts": "5"}, "cover 5 pixels"),
        ({"size": [4, 4], "counts": [10, 7]}, "cover 17 pixels"),
        ({"size": [4, 4], "counts": [16, -4, 4]}, "a run of -4 pixels"),
        ({"size": [4, 4], "counts": [20, -4]}, "more than its 16 pixels"),
        ({"size": [4, 4], "counts": [2**63, 16]}, "more than its 16 pixels"),
        ({"size": [4, 4], "counts": [10**30]}, "more than its 16 pixels"),
        ({"size": [4, 4], "counts": rle.compress(np.array([2**50, 16]))}, "a run of 1125899906842624 pixels"),
        ({"size": [4, 4], "counts": [16.0]}, "neither COCO's string nor a list of integers"),
        ({"size": [4, 4], "counts": [True] * 16}, "neither COCO's string nor a list of integers"),
        ({"size": [4, 4], "counts": None}, "neither COCO's string nor a list of integers"),
        ({"size": [4, 4], "counts": b"`0"}, "neither COCO's string nor a list of integers"),
        ({"size": [4], "counts": [4]}, r"the size \[4\]"),
        ({"size": [4, -4], "counts": [0]}, r"the size \[4, -4\]"),
        ({"size": [2**31, 2**31], "counts": [2**62]}, "the size"),
        ({"size": ["4", 4], "counts": [16]}, "the size"),
        ({"size": 16, "counts": [16]}, "the size 16"),
        ({"counts": [16]}, "no RLE"),
        ([16], "no RLE"),
        (None, "no RLE"),
    ],
)
def test_damaged_encodings_are_refused(damaged, message):
    for use in (rle.decode, rle.area):
        with pytest.raises(UsageError, match=message):
            use(damaged)


def test_a_mask_larger_than_any_photo_is_refused_before_it_is_made():
    huge = {"size": [10**6, 10**6], "counts": [10**12]}
    with pytest.raises(UsageError, match="larger than any photo"):
        rle.decode(huge)
    assert rle.area(huge) == 0


@pytest.mark.parametrize("counts", [b"`0", [16], None, 16])
def test_only_a_string_is_decompressed(counts):
    with pytest.raises(UsageError, match="give COCO's string"):
        rle.decompress(counts)


@pytest.mark.parametrize("no_mask", [np.zeros((3, 3), np.uint8), np.zeros((1, 3, 3), bool), np.zeros(3, bool)])
def test_other_arrays_are_refused(no_mask):
    with pytest.raises(UsageError, match=r"bool array of shape \(H, W\)"):
        rle.encode(no_mask)


def test_several_encodings_at_once_equal_each_alone():
    rng = np.random.default_rng(0)
    masks = [rng.random(tuple(rng.integers(1, 30, 2))) < rng.random() for _ in range(40)]
    strings = ["", *(rle.encode(mask)["counts"] for mask in masks), ""]
    lengths, numbers = rle.decompress_all(strings)
    assert len(numbers) == len(strings)
    ends = np.cumsum(numbers)
    for string, end, count in zip(strings, ends, numbers, strict=True):
        assert lengths[end - count : end].tolist() == rle.decompress(string).tolist()


def test_a_number_does_not_go_on_in_the_next_encoding():
    with pytest.raises(UsageError, match="cut off"):
        rle.decompress_all(["0P", "1"])
    assert rle.decompress_all([])[0].tolist() == []
