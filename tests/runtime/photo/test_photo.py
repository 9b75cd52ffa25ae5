"""Photos of every kind are read, other files are refused, and masks and prompts are drawn."""

from __future__ import annotations

import io
import os
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from sam_edge_runtime.errors import PhotoError, UsageError
from sam_edge_runtime.photo import read as photo_module
from sam_edge_runtime.photo.draw import draw_overlay
from sam_edge_runtime.photo.formats import LIMIT_VARIABLE, PHOTO_ENDINGS
from sam_edge_runtime.photo.read import decode_photo, read_orientation, read_photo
from sam_edge_runtime.photo.write import png_bytes


def picture(size: tuple[int, int] = (13, 9)) -> Image.Image:
    width, height = size
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def saved(folder, image: Image.Image, name: str = "photo.png", **options):
    path = folder / name
    image.save(path, **options)
    return path


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# Reading ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm"])
def test_rgb_is_read_as_it_is(tmp_path, name):
    result = read_photo(saved(tmp_path, picture(), name))
    assert result.shape == (9, 13, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    assert result.flags.writeable
    np.testing.assert_array_equal(result, np.asarray(picture()))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_become_rgb_as_pillow_converts_them(tmp_path, mode):
    name = {"YCbCr": "a.jpg"}.get(mode, "a.tif")
    path = saved(tmp_path, picture().convert(mode), name)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_photo(path), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_blended_with_white(tmp_path, mode):
    image = picture().convert(mode)
    alpha = np.zeros((9, 13), np.uint8)
    alpha[:, :5], alpha[:, 5:9] = 255, 128
    image.putalpha(Image.fromarray(alpha))
    result = read_photo(saved(tmp_path, image)).astype(float)
    colour = np.asarray(image.convert("RGB")).astype(float)
    opacity = alpha[:, :, None] / 255
    assert np.abs(result - (colour * opacity + 255 * (1 - opacity))).max() <= 1
    assert (result[:, 9:] == 255).all()


def test_a_palette_with_a_transparent_colour_is_blended_with_white(tmp_path):
    image = Image.new("P", (4, 2), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 1), 1)
    result = read_photo(saved(tmp_path, image, "a.png", transparency=0))
    assert result[0, 0].tolist() == [255, 255, 255]
    assert result[1, 1].tolist() == [200, 100, 50]


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_sixteen_bits_are_scaled_over_their_whole_range(tmp_path, name):
    values = np.array([[0, 128, 129, 257, 32768, 65278, 65279, 65535]], np.uint16)
    result = read_photo(saved(tmp_path, Image.fromarray(values), name))
    assert result[0, :, 0].tolist() == [0, 0, 1, 1, 128, 254, 254, 255]
    assert (result == result[:, :, :1]).all()


def test_mode_i_within_sixteen_bits_is_scaled_too(tmp_path):
    image = Image.fromarray(np.array([[0, 65535, 257 * 7]], np.int32))
    assert image.mode == "I"
    assert read_photo(saved(tmp_path, image, "a.tif"))[0, :, 0].tolist() == [0, 255, 7]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_the_exif_orientation_is_applied(tmp_path, name, orientation):
    path = saved(tmp_path, picture(), name, exif=oriented(orientation))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert expected.shape[:2] == ((9, 13) if orientation < 5 else (13, 9))
    np.testing.assert_array_equal(read_photo(path), expected)


# EXIF 2.3, tag 274: where the first row and the first column of the stored pixels belong.
FIRST_ROW_AND_COLUMN = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
SIDES = {"top": np.s_[0], "bottom": np.s_[-1], "left": np.s_[:, 0], "right": np.s_[:, -1]}


@pytest.mark.parametrize("orientation", FIRST_ROW_AND_COLUMN)
def test_an_orientation_puts_the_first_row_and_column_where_exif_says(tmp_path, orientation):
    stored = np.asarray(picture())
    upright = read_photo(saved(tmp_path, picture(), exif=oriented(orientation)))
    row, column = (upright[SIDES[side]] for side in FIRST_ROW_AND_COLUMN[orientation])
    assert sorted(row.tolist()) == sorted(stored[0].tolist())
    assert sorted(column.tolist()) == sorted(stored[:, 0].tolist())
    assert upright.flags.c_contiguous
    assert upright.flags.writeable


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_the_orientation_that_decoding_undoes_is_reported(tmp_path, name, orientation):
    content = saved(tmp_path, picture(), name, exif=oriented(orientation)).read_bytes()
    assert read_orientation(content) == orientation
    assert decode_photo(content, name).shape[:2] == ((9, 13) if orientation < 5 else (13, 9))
    assert read_orientation(b"no picture") == read_orientation(saved(tmp_path, picture(), name).read_bytes()) == 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_grey_of_fewer_bits_in_sixteen_is_scaled_by_its_depth(tmp_path, name, bits):
    top = (1 << bits) - 1
    values = np.array([[0, top // 2, top]], np.uint16)
    result = read_photo(saved(tmp_path, Image.fromarray(values), name))
    assert result[0, :, 0].tolist() == [0, 127, 255]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm", "alpha.png"])
def test_colour_of_fewer_bits_in_sixteen_is_scaled_by_its_depth(tmp_path, name, bits):
    cv2 = pytest.importorskip("cv2")
    top = (1 << bits) - 1
    values = np.linspace(0, top, 30).round().astype(np.uint16).reshape(2, 5, 3)
    stored = np.dstack([values[:, :, ::-1], np.full((2, 5), 0xFFFF, np.uint16)]) if name == "alpha.png" else values
    if name != "alpha.png":
        stored = values[:, :, ::-1]  # OpenCV writes BGR
    path = tmp_path / name
    assert cv2.imwrite(str(path), stored)
    result = read_photo(path).astype(float)
    assert np.abs(result - values / top * 255).max() <= 1.01


def test_an_orientation_beside_a_tag_that_pillow_cannot_write_is_applied(tmp_path):
    # Tag 256, the width, as a byte string where Pillow writes a number: `ImageOps.exif_transpose` of the file fails.
    entries = [(0x0100, 7, 1, 5), (0x0112, 3, 1, 6)]
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    path = saved(tmp_path, picture(), "a.jpg", exif=b"Exif\x00\x00II*\x00" + struct.pack("<I", 8) + ifd)
    with Image.open(path) as image, pytest.raises(struct.error):
        ImageOps.exif_transpose(image)
    assert read_photo(path).shape == (13, 9, 3)


@pytest.mark.parametrize("exif", [b"Exif\x00\x00junk", b"Exif\x00\x00II*\x00\xff\xff\xff\xff", b"Exif\x00\x00MM\x00*"])
def test_a_damaged_exif_block_does_not_lose_the_photo(tmp_path, exif):
    assert read_photo(saved(tmp_path, picture(), "a.jpg", exif=exif)).shape == (9, 13, 3)


def test_an_unknown_orientation_counts_as_upright(tmp_path):
    assert read_photo(saved(tmp_path, picture(), "a.jpg", exif=oriented(99))).shape == (9, 13, 3)


def test_the_first_picture_of_an_animation_is_read(tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    path = saved(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert read_photo(path)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("ending", [*sorted(set(PHOTO_ENDINGS) - {".heic", ".heif"}), ".mpo"])
def test_photos_of_every_listed_ending_are_read(tmp_path, ending):
    image = picture().convert("1") if ending == ".pbm" else picture()
    kind = {".jpe": "JPEG", ".jfif": "JPEG"}.get(ending)
    assert read_photo(saved(tmp_path, image, f"a{ending}", format=kind)).shape == (9, 13, 3)


def test_heic_is_read_where_its_plugin_is_installed(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    for table in (Image.OPEN, Image.MIME, Image.SAVE):
        monkeypatch.delitem(table, "HEIF", raising=False)
    heif.from_pillow(picture((64, 48))).save(tmp_path / "a.HEIC")
    assert read_photo(tmp_path / "a.HEIC").shape == (48, 64, 3)


def test_heic_is_named_where_its_plugin_is_missing(tmp_path, monkeypatch):
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr("sam_edge_runtime.photo.formats.find_spec", lambda name: None)
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(bytes.fromhex("000000186674797068656963000000006d69663168656963") + bytes(200))
    with pytest.raises(PhotoError, match=r"IMG_1\.HEIC' is a HEIC.*pip install pillow-heif"):
        read_photo(path)


@pytest.mark.parametrize(("start", "kind"), [(b"%PDF-1.7\n", "PDF"), (b"\xff\x0a" + bytes(20), "JPEG XL")])
def test_a_file_of_another_kind_is_named(tmp_path, start, kind):
    (tmp_path / "a.jpg").write_bytes(start)
    with pytest.raises(PhotoError, match=f"a {kind} file, which is not supported; save it as JPEG"):
        read_photo(tmp_path / "a.jpg")


def test_a_path_may_be_a_string(tmp_path):
    assert read_photo(str(saved(tmp_path, picture()))).shape == (9, 13, 3)


# Refusing -----------------------------------------------------------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def in_memory(kind: str) -> bytes:
    file = io.BytesIO()
    picture((200, 150)).save(file, kind)
    return file.getvalue()


BAD_FILES = {
    "zero bytes": (b"", "0 bytes"),
    "text": (b"not a picture at all\n" * 10, "no picture"),
    "truncated JPEG": (in_memory("JPEG")[:3000], "truncated or damaged"),
    "truncated PNG": (in_memory("PNG")[:3000], "truncated or damaged"),
    "JPEG header alone": (in_memory("JPEG")[:4], "no picture"),
    "zero width": (png_header(0, 10), "pixels|damaged|no picture"),
    "zero height PPM": (b"P6 5 0 255\n", "pixels|damaged|no picture"),
    "bomb that Pillow warns of": (png_header(12_000, 12_000), "too large"),
    "bomb that Pillow refuses": (png_header(60_000, 60_000), "too large"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n", "no picture"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_in_one_line(tmp_path, name):
    content, message = BAD_FILES[name]
    path = tmp_path / "bad.jpg"
    path.write_bytes(content)
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        with pytest.raises(PhotoError, match=message) as error:
            read_photo(path)
    assert not leaked
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_floating_point_pixels_are_refused(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.ones((2, 2), np.float32)), "a.tif")
    with pytest.raises(PhotoError, match=r"a\.tif.*floating-point"):
        read_photo(path)


def test_integers_beyond_sixteen_bits_are_refused(tmp_path):
    path = saved(tmp_path, Image.fromarray(np.array([[0, 70000]], np.int32)), "a.tif")
    with pytest.raises(PhotoError, match=r"a\.tif.*70000"):
        read_photo(path)


def test_the_size_limit_holds_when_pillows_own_is_off(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(photo_module, "LARGEST_PHOTO_PIXELS", 100)
    with pytest.raises(PhotoError, match="13x9 is more than 100 pixels"):
        read_photo(saved(tmp_path, picture()))


def test_photos_of_108_megapixels_pass_the_limit_and_the_environment_sets_another(tmp_path, monkeypatch):
    assert photo_module.largest_photo() > max(12_000 * 9_000, 24_000 * 4_000)
    path = saved(tmp_path, picture())
    monkeypatch.setenv(LIMIT_VARIABLE, "100")
    with pytest.raises(PhotoError, match=r"13x9 is more than 100 pixels.*--max-pixels.*GB"):
        read_photo(path)
    monkeypatch.setenv(LIMIT_VARIABLE, "many")
    with pytest.raises(UsageError, match="SAM_EDGE_MAX_PIXELS is 'many'"):
        read_photo(path)


def test_a_limit_that_the_user_sets_holds_beyond_pillows(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # Pillow refuses twice as many
    path = saved(tmp_path, picture())
    with pytest.raises(PhotoError, match="too large"):
        read_photo(path)
    monkeypatch.setenv(LIMIT_VARIABLE, "1000")
    assert read_photo(path).shape == (9, 13, 3)


def test_a_path_that_is_no_file_is_refused(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for path, message in [
        (tmp_path / "missing.jpg", "does not exist"),
        (tmp_path, "is a folder"),
        (fifo, "no regular file"),
        ("a\0b", "cannot be opened|does not exist"),
    ]:
        with pytest.raises(PhotoError, match=message):
            read_photo(path)


def test_reading_leaves_pillows_settings_alone(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    read_photo(saved(tmp_path, picture()))
    assert before == Image.MAX_IMAGE_PIXELS


# Drawing ------------------------------------------------------------------------------------------------------------


def test_a_png_holds_the_pixels():
    mask = np.eye(5, 8, dtype=bool)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(mask)))), mask * 255)
    pixels = np.asarray(picture())
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(pixels)))), pixels)


@pytest.mark.parametrize("array", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2), bool)])
def test_other_arrays_are_no_png(array):
    with pytest.raises(UsageError, match="no picture"):
        png_bytes(array)


def test_an_overlay_shows_masks_points_and_boxes():
    photo = np.full((200, 300, 3), 100, np.uint8)
    mask = np.zeros((200, 300), bool)
    mask[50:150, 50:150] = True
    points, labels = [[100, 100], [250, 20], [280, 180]], [1, 0, -1]
    result = draw_overlay(photo, mask, points, labels, [[160, 60, 240, 140]])
    assert result.shape == photo.shape
    assert result.dtype == np.uint8
    assert (photo == 100).all()
    assert result[100, 100].tolist() == [0, 200, 0]
    assert result[20, 250].tolist() == [220, 0, 0]
    assert result[20, 247].tolist() == [255, 255, 255]  # the rim
    assert result[180, 280].tolist() == [100, 100, 100]  # an unused slot
    assert result[60, 200].tolist() == [0, 200, 0]  # the box
    assert result[50, 60].tolist() == [0, 114, 178]  # the contour
    assert result[49, 60].tolist() == [100, 100, 100]
    blend = result[70, 70].astype(int)
    np.testing.assert_array_equal(blend, np.rint(0.55 * 100 + 0.45 * np.array([0, 114, 178])).astype(int))


def test_an_overlay_has_seven_colours_before_the_first_comes_again():
    masks = np.zeros((8, 8, 80), bool)
    for index, mask in enumerate(masks):
        mask[:, 10 * index : 10 * index + 8] = True
    drawn = draw_overlay(np.zeros((8, 80, 3), np.uint8), masks)
    contours = [tuple(drawn[0, 10 * index].tolist()) for index in range(8)]
    assert len(set(contours)) == 7
    assert contours[7] == contours[0]
    assert (0, 0, 0) not in contours


def test_an_overlay_of_nothing_is_the_photo():
    photo = np.asarray(picture())
    np.testing.assert_array_equal(draw_overlay(photo), photo)
    np.testing.assert_array_equal(draw_overlay(photo, np.zeros((2, 9, 13), bool), [], [], []), photo)


def test_boxes_beyond_the_photo_and_single_boxes_are_drawn():
    photo = np.zeros((50, 50, 3), np.uint8)
    assert draw_overlay(photo, boxes=[-1e9, 10, 1e9, 20])[10, 25].tolist() == [0, 200, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"masks": np.ones((9, 12), bool)}, "do not fit"), ({"points": [[1, 1]], "labels": [1, 0]}, "1 points have 2")],
)
def test_an_overlay_of_other_shapes_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        draw_overlay(np.asarray(picture()), **arguments)


def test_a_progressive_jpeg_that_repeats_its_last_scan_is_refused(tmp_path):
    file = io.BytesIO()
    picture((64, 48)).save(file, "JPEG", progressive=True)
    whole = file.getvalue()
    last = whole.rindex(b"\xff\xda")
    bomb = whole[:-2] + whole[last:-2] * 3000 + whole[-2:]
    (tmp_path / "bomb.jpg").write_bytes(bomb)
    with pytest.raises(PhotoError, match="scans, more than 100"):
        read_photo(tmp_path / "bomb.jpg")
    with pytest.raises(PhotoError, match="scans, more than 100"):
        decode_photo(bomb, "bomb.jpg")
    assert decode_photo(whole, "fine.jpg").shape == (48, 64, 3)
