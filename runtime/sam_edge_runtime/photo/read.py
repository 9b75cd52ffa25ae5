"""Reads picture files as photos: upright (H, W, 3) uint8 RGB arrays, the only form that the runtime works with.

- The EXIF orientation is applied; a damaged EXIF block counts as none.
- Transparency is blended with white, as browsers do: the colours of fully transparent pixels are arbitrary.
- 16-bit samples are scaled to 8 bits by the depth that the picture uses (`depth`); Pillow's own conversion would clip
  greyscale, and leave 10, 12 and 14 bits nearly black.
- The first picture of an animation is read.
- Colour profiles are ignored.

Only photo formats are opened, so that no file can make Pillow start a helper program such as Ghostscript.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.errors import PhotoError, UsageError

from .depth import STRIP, has_deep_colour, is_dark, scale_colour, to_8_bits
from .formats import LARGEST_LIMIT, LIMIT_VARIABLE, PHOTO_FORMATS, START_BYTES, register_plugin, unread
from .orientation import TURNS, upright

if TYPE_CHECKING:
    from PIL import Image


# A photo with more pixels counts as a decompression bomb, unless `LIMIT_VARIABLE` allows more. The largest that are
# common, of 108-megapixel phones, pass; decoding one takes about a gigabyte.
LARGEST_PHOTO_PIXELS = 1 << 27
BYTES_A_PIXEL = 10  # at the peak, measured for JPEG and PNG: Pillow's 4, twice 3 of RGB; WebP takes 18

MOST_SCANS = 100  # of a progressive JPEG; encoders write about ten

_WHITE = (255, 255, 255, 255)


def read_photo(path: str | Path) -> Photo:
    """Read a picture file as an upright RGB photo.

    The EXIF orientation is applied, transparency is blended with white, 16-bit samples are scaled to 8 bits by the
    depth that the picture uses, and the first picture of an animation is taken. Colour profiles are ignored.

    Args:
        path: a JPEG, PNG, WebP, TIFF, BMP, GIF, PNM, JPEG 2000 or AVIF file; HEIF too where pillow-heif is installed.
            Any colour mode except floating-point pixels.

    Returns:
        (H, W, 3) uint8 RGB in 0..255, contiguous and writable: the form that `SamPredictor.set_image` takes.

    Raises:
        PhotoError: the file is missing, empty, damaged, of another format, or larger than `LARGEST_PHOTO_PIXELS`
            (134 million pixels); the environment variable `LIMIT_VARIABLE` sets another limit.
    """
    path = Path(path)
    _check_file(path)
    return _decoded(path, str(path))


def decode_photo(content: bytes, name: str) -> Photo:
    """Read a picture file from memory, as `read_photo` reads one from disk.

    Args:
        content: the whole file.
        name: the photo's name in errors.

    Returns:
        (H, W, 3) uint8 RGB, upright, contiguous and writable.

    Raises:
        PhotoError: as `read_photo`.
    """
    if not content:
        raise PhotoError(f"photo '{name}' is empty (0 bytes); copy it again")
    return _decoded(io.BytesIO(content), name)


def read_orientation(content: bytes) -> int:
    """EXIF's orientation of a picture file in memory, 1 to 8; 1 (upright) where there is none, or it is damaged.

    `decode_photo` undoes it. Orientations of 5 or more swap width and height.
    """
    header = _header(content)
    return 1 if header is None else header[1]


def read_size(content: bytes) -> tuple[int, int] | None:
    """(H, W) in pixels of the upright photo in a picture file in memory, by its header; None if that is damaged."""
    header = _header(content)
    if header is None:
        return None
    (width, height), orientation = header
    return (width, height) if TURNS[orientation].transpose else (height, width)


def _header(content: bytes) -> tuple[tuple[int, int], int] | None:
    """Width, height and orientation of a stored picture; None where its header is damaged."""
    from PIL import Image  # noqa: PLC0415

    try:
        register_plugin(content[:START_BYTES])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_formats()) as picture:
                size, orientation = picture.size, _orientation(picture)
    except Exception:  # noqa: BLE001 - decoding reports what is wrong with the file
        return None
    return size, orientation if orientation in TURNS else 1


def largest_photo() -> int:
    """The largest number of pixels that is decoded: `LARGEST_PHOTO_PIXELS`, or what the environment sets.

    Raises:
        UsageError: the environment variable is not a number above 0.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        return LARGEST_PHOTO_PIXELS
    if not text.isdecimal() or not 0 < int(text) <= LARGEST_LIMIT:
        raise UsageError(f"{LIMIT_VARIABLE} is {text!r}: set it to a number of pixels, such as 200000000, or unset it")
    return int(text)


def _formats() -> list[str]:
    from PIL import Image  # noqa: PLC0415 - loaded by the first photo, not by the import

    Image.init()
    return [name for name in PHOTO_FORMATS if name in Image.OPEN]


def _decoded(file: Path | io.BytesIO, name: str) -> Photo:
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

    limit = largest_photo()
    start = b""
    try:
        start = _start_of(file)
        register_plugin(start)
        formats = _formats()
        if os.environ.get(LIMIT_VARIABLE) and Image.MAX_IMAGE_PIXELS is not None:  # the user allows more than Pillow
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, limit)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata and large photos; what matters is raised
            with Image.open(file, formats=formats) as picture:
                _check_size(name, *picture.size, limit)
                if picture.info.get("progressive"):
                    _check_scans(name, file)
                deep = has_deep_colour(picture)
                picture.load()
                scaled = _scaled(file, formats, picture) if deep else picture
                return upright(_rgb(name, scaled), _orientation(picture))
    except PhotoError:
        raise
    except Image.DecompressionBombError:
        raise _too_large(name, "its header claims", limit) from None
    except UnidentifiedImageError:
        what, remedy = unread(start) or (
            f"no picture in a supported format ({', '.join(formats)}), or its header is damaged",
            "save it as JPEG or PNG",
        )
        raise PhotoError(f"photo '{name}' is {what}; {remedy}") from None
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise PhotoError(f"photo '{name}' is truncated or damaged ({reason}); copy or save it again") from error


def _start_of(file: Path | io.BytesIO) -> bytes:
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:START_BYTES]
    with file.open("rb") as opened:
        return opened.read(START_BYTES)


def _scaled(file: Path | io.BytesIO, formats: list[str], picture: Image.Image) -> Image.Image:
    """A loaded picture of 16-bit colour, scaled by the depth that it uses."""
    from PIL import Image  # noqa: PLC0415

    kept = np.array(picture)
    if kept.ndim != 3 or not is_dark(kept):
        return picture
    with Image.open(file, formats=formats) as again:
        scale_colour(kept, again)
    return Image.fromarray(kept)


def _check_file(path: Path) -> None:
    """Refuse a path that is not a readable, non-empty file."""
    try:
        if not path.exists():
            raise PhotoError(f"photo '{path}' does not exist; check the path")
        if path.is_dir():
            raise PhotoError(f"photo '{path}' is a folder; name one picture file in it")
        if not path.is_file():
            raise PhotoError(f"photo '{path}' is no regular file; name a picture file")
        if path.stat().st_size == 0:
            raise PhotoError(f"photo '{path}' is empty (0 bytes); copy it again")
        with path.open("rb"):
            pass
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PhotoError(
            f"photo {str(path)!r} cannot be opened ({reason}); check the path and its permissions"
        ) from None


def _check_scans(name: str, file: Path | io.BytesIO) -> None:
    """Refuse a progressive JPEG that repeats its scans: each takes the time of a whole decoding.

    Inside a scan 0xFF is followed by 0x00 or a restart marker, so 0xFFDA begins a scan (ITU-T T.81, B.1.1.2).
    """
    content = file.read_bytes() if isinstance(file, Path) else file.getvalue()
    scans = content.count(b"\xff\xda")
    if scans > MOST_SCANS:
        raise PhotoError(f"photo '{name}' has {scans} scans, more than {MOST_SCANS}: save it as JPEG or PNG again")


def _check_size(name: str, width: int, height: int, limit: int) -> None:
    """Refuse a photo without pixels or with too many, before they are decoded."""
    if width < 1 or height < 1:
        raise PhotoError(f"photo '{name}' has {width}x{height} pixels; it needs at least one")
    if width * height > limit:
        raise _too_large(name, f"{width}x{height} is", limit, f" (decoding takes {_gigabytes(width * height)})")


def _too_large(name: str, what: str, limit: int, memory: str = "") -> PhotoError:
    return PhotoError(
        f"photo '{name}' is too large to decode safely: {what} more than {limit:,} pixels; scale it down, or allow it "
        f"with --max-pixels or {LIMIT_VARIABLE}{memory}"
    )


def _gigabytes(pixels: int) -> str:
    return f"about {pixels * BYTES_A_PIXEL / 1e9:.1f} GB"


def _rgb(name: str, picture: Image.Image) -> Photo:
    """The pixels of a loaded picture of any mode as (H, W, 3) uint8 RGB."""
    if picture.mode == "F":
        raise PhotoError(f"photo '{name}' has floating-point pixels of unknown range; save it with 8 or 16 bits")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        grey = np.asarray(picture)
        if grey.min() < 0 or grey.max() > 0xFFFF:
            raise PhotoError(
                f"photo '{name}' has pixel values from {grey.min()} to {grey.max()}; save it with 8 or 16 bits"
            )
        return np.repeat(to_8_bits(grey)[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        return _on_white(picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _on_white(picture: Image.Image) -> Photo:
    """A picture with transparency blended with white, strip by strip, because it takes several copies."""
    from PIL import Image  # noqa: PLC0415

    width, height = picture.size
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, STRIP):
        strip = picture.crop((0, top, width, min(top + STRIP, height))).convert("RGBA")
        blended = Image.alpha_composite(Image.new("RGBA", strip.size, _WHITE), strip)
        pixels[top : top + STRIP] = np.asarray(blended.convert("RGB"))
    return pixels


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) where there is none or the EXIF block is damaged."""
    from PIL import ExifTags  # noqa: PLC0415

    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - damaged metadata must not lose a photo whose pixels are fine
        return 1
