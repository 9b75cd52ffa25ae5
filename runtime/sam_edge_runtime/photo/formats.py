"""Picture formats: which are read, how their files end, and how a file is named that is not read.

HEIF (the HEIC photos of iPhones) is read where pillow-heif is installed; AVIF, WebP and JPEG 2000 where Pillow was
built with them.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec

# Pillow's names. No other format is opened, so that no file can make Pillow start a helper program.
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "MPO", "JPEG2000", "AVIF", "HEIF")

# File endings, in lower case, by which photos are recognized in folders and archives; of two files of one name the
# one whose ending comes first is the photo. A file that is named is read whatever its ending.
PHOTO_ENDINGS = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".jpe",
    ".png",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".heic",
    ".heif",
    ".jp2",
    ".j2k",
    ".gif",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
)

LIMIT_VARIABLE = "SAM_EDGE_MAX_PIXELS"  # of the environment: the largest photo that is decoded, in pixels
LARGEST_LIMIT = (1 << 31) - 1

_HEIF, _AVIF = "HEIC (HEIF)", "AVIF"
# ISO/IEC 23008-12 (HEIF), annex B, and the AV1 Image File Format: the brands at byte 8.
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"), _HEIF),
    **dict.fromkeys((b"avif", b"avis"), _AVIF),
}
_STARTS = {
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"<svg": "SVG",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"FUJIFILMCCD-RAW": "Fujifilm raw",
    b"\0\0\x01\0": "Windows icon",
}
START_BYTES = 16  # of a file, enough for `kind_of`


def kind_of(start: bytes) -> str | None:
    """The name of the format of a file that begins with `start`, if it is one that Pillow alone may not read."""
    if start[4:8] == b"ftyp" and start[8:12] in _BRANDS:
        return _BRANDS[start[8:12]]
    return next((name for magic, name in _STARTS.items() if start.startswith(magic)), None)


def register_plugin(start: bytes) -> None:
    """Let pillow-heif read a HEIF file that begins with `start`, if it is installed and not yet registered."""
    from PIL import Image  # noqa: PLC0415

    if kind_of(start) == _HEIF and "HEIF" not in Image.OPEN:
        with suppress(ImportError):
            import_module("pillow_heif").register_heif_opener()


def unread(start: bytes) -> tuple[str, str] | None:
    """What a file is that could not be identified, and the remedy; None if its start says nothing."""
    from PIL import Image  # noqa: PLC0415

    kind = kind_of(start)
    if kind is None:
        return None
    if kind == _HEIF and find_spec("pillow_heif") is None:
        return f"a {kind} picture, which needs pillow-heif", "pip install pillow-heif, or save it as JPEG or PNG"
    if kind == _AVIF and "AVIF" not in Image.OPEN:
        return f"an {kind} picture, which this build of Pillow does not read", "save it as JPEG or PNG"
    if kind in (_HEIF, _AVIF):
        return f"a picture of the kind {kind} with a damaged header", "copy it again, or save it as JPEG or PNG"
    return f"a {kind} file, which is not supported", "save it as JPEG or PNG"
