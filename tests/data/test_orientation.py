"""Photo and masks show the same pixels, whichever frame a record's masks refer to."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from sam_edge.data.orientation import decode_annotated
from sam_edge.data.sa1b import parse_record
from sam_edge.data.skips import BrokenRecordError, SkipLog
from sam_edge.data.sources import open_source
from sam_edge.data.stream import walk
from sam_edge_runtime.photo.orientation import TURNS, upright
from tests.data.builders import encoded, exif_of, record, write_folder, write_tar

KINDS = {"JPEG": {"quality": 100, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}, "TIFF": {}}
ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif"}


def stored_photo(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A dark picture (H, W, 3) with a bright rectangle off its centre, and the rectangle's mask (1, H, W)."""
    pixels, mask = np.full((*size, 3), 20, np.uint8), np.zeros((1, *size), bool)
    mask[0, 4:10, 6:22] = True
    pixels[mask[0]] = 230
    return pixels, mask


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The pixels (H, W) or (H, W, 3) upright, by Pillow."""
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def shown_by_its_mask(sample) -> bool:
    """Whether a sample's only mask covers exactly the bright pixels of its photo."""
    (mask,) = sample.masks()
    return mask.shape == sample.photo.shape[:2] and np.array_equal(mask, sample.photo[:, :, 0] > 128)


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_the_upright_frame_cover_what_they_show(tmp_path, kind, orientation, stated):
    pixels, mask = stored_photo((32, 48))
    content = record(turned(mask[0], orientation)[None])
    if stated:
        content["image"]["orientation"] = "upright"
    photo = encoded(pixels, kind, exif=exif_of(orientation), **KINDS[kind])
    files = [(f"a.{ENDINGS[kind]}", photo), ("a.json", json.dumps(content).encode())]
    for source in (write_folder(tmp_path / "folder", files), write_tar(tmp_path / "a.tar", files)):
        (sample,) = walk(open_source(source), SkipLog())
        assert sample.size == ((32, 48) if orientation < 5 else (48, 32))
        assert shown_by_its_mask(sample)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_the_stored_frame_are_turned_with_the_photo(tmp_path, kind, orientation):
    pixels, mask = stored_photo((32, 48))
    content = record(mask, crop_box=[0.0, 0.0, 24.0, 16.0], point_coords=[[7.5, 5.5]])
    if orientation < 5:  # a quarter turn is recognized by its size
        content["image"]["orientation"] = "stored"
    photo = encoded(pixels, kind, exif=exif_of(orientation), **KINDS[kind])
    files = [(f"a.{ENDINGS[kind]}", photo), ("a.json", json.dumps(content).encode())]
    (sample,) = walk(open_source(write_folder(tmp_path / "a", files)), SkipLog())
    assert sample.size == ((32, 48) if orientation < 5 else (48, 32))
    assert shown_by_its_mask(sample)
    _, upright = decode_annotated(photo, "a", parse_record(json.dumps(content).encode()))
    (annotation,) = upright.annotations
    (x, y), bbox = annotation.point_coords[0], annotation.bbox
    assert sample.masks()[0, int(y), int(x)]
    assert bbox is not None
    assert sorted(bbox[2:]) == [5.0, 15.0]
    left, top, width, height = (int(value) for value in annotation.crop_box)
    assert width * height == 24 * 16
    assert sample.masks()[0, top : top + height, left : left + width].sum() == 6 * 16  # the crop holds the rectangle


def test_a_square_without_a_stated_frame_is_taken_for_upright():
    pixels, mask = stored_photo((40, 40))
    for orientation in range(2, 9):
        content = parse_record(json.dumps(record(turned(mask[0], orientation)[None])).encode())
        photo, _ = decode_annotated(encoded(pixels, "PNG", exif=exif_of(orientation)), "a", content)
        np.testing.assert_array_equal(photo, turned(pixels, orientation))


def test_a_stated_frame_is_not_overruled_by_the_size():
    pixels, mask = stored_photo((32, 48))
    content = record(mask)
    content["image"]["orientation"] = "upright"
    photo = encoded(pixels, exif=exif_of(6))
    with pytest.raises(BrokenRecordError, match=r"size \[48, 32\] upright \(its EXIF orientation is 6\), and its JSON"):
        decode_annotated(photo, "a", parse_record(json.dumps(content).encode()))
    content["image"]["orientation"] = "sideways"
    with pytest.raises(BrokenRecordError, match="orientation 'sideways'"):
        parse_record(json.dumps(content).encode())


@pytest.mark.parametrize("orientation", TURNS)
def test_turns_are_those_of_pillow(orientation):
    mask = np.random.default_rng(orientation).random((5, 9)) < 0.5
    np.testing.assert_array_equal(upright(mask, orientation), turned(mask.astype(np.uint8), orientation) > 0)
