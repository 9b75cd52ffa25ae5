"""Reads picture files as photos: upright (H, W, 3) uint8 RGB arrays, the only form that the runtime works with.

- The EXIF orientation is applied; a damaged EXIF block counts as none.
- Transparency is blended with white, as browsers do: the colours of fully transparent pixels are arbitrary.
- 16-bit greyscale is scaled from its full range to 8 bits; Pillow's own conversion would clip it.
- The first picture of an animation is read.
- Colour profiles are ignored.

Only photo formats are opened, so that no file can make Pillow start a helper program such as Ghostscript.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.errors import PhotoError

if TYPE_CHECKING:
    from PIL import Image


# A photo with more pixels counts as a decompression bomb: 256 MB of RGB, where Pillow warns too.
LARGEST_PHOTO_PIXELS = 1024**3 // 4 // 3

# HEIF needs a plugin that the app registers (pillow-heif); AVIF and WEBP depend on Pillow's build.
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "MPO", "JPEG2000", "AVIF", "HEIF")

# File endings, in lower case, by which photos are found in folders and archives. A file that is named is read whatever
# its ending.
PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")

_WHITE = (255, 255, 255, 255)


def read_photo(path: str | Path) -> Photo:
    """Read a picture file as an upright RGB photo.

    The EXIF orientation is applied, transparency is blended with white, 16-bit greyscale is scaled to 8 bits, and the
    first picture of an animation is taken. Colour profiles are ignored.

    Args:
        path: a JPEG, PNG, WebP, TIFF, BMP, GIF, PNM, JPEG 2000 or AVIF file; HEIF too where the app has registered a
            Pillow plugin for it. Any colour mode except floating-point pixels.

    Returns:
        (H, W, 3) uint8 RGB in 0..255, contiguous and writable: the form that `SamPredictor.set_image` takes.

    Raises:
        PhotoError: the file is missing, empty, damaged, of another format, or larger than `LARGEST_PHOTO_PIXELS`
            (89 million pixels).
    """
    path = Path(path)
    _check_file(path)
    return _decoded(path, str(path), upright=True)


def decode_photo(content: bytes, name: str, *, upright: bool = True) -> Photo:
    """Read a picture file from memory, as `read_photo` reads one from disk.

    Args:
        content: the whole file.
        name: the photo's name in errors.
        upright: apply the EXIF orientation. False gives the pixels as stored, which is how data sets draw their masks;
            of a TIFF it has no effect, because Pillow applies the orientation of TIFFs itself.

    Returns:
        (H, W, 3) uint8 RGB, contiguous and writable.

    Raises:
        PhotoError: as `read_photo`.
    """
    if not content:
        raise PhotoError(f"photo '{name}' is empty (0 bytes); copy it again")
    return _decoded(io.BytesIO(content), name, upright=upright)


def _decoded(file: Path | io.BytesIO, name: str, *, upright: bool) -> Photo:
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415 - loaded by the first photo, not by the import

    Image.init()
    formats = [name for name in PHOTO_FORMATS if name in Image.OPEN]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata; Pillow raises what matters
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=formats) as picture:
                _check_size(name, *picture.size)
                picture.load()
                pixels = _rgb(name, picture)
                return np.ascontiguousarray(_upright(pixels, _orientation(picture)) if upright else pixels)
    except PhotoError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise _too_large(name, "its header claims") from None
    except UnidentifiedImageError:
        raise PhotoError(
            f"photo '{name}' is no picture in a supported format ({', '.join(formats)}), or its header is damaged; "
            "save it as JPEG or PNG"
        ) from None
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise PhotoError(f"photo '{name}' is truncated or damaged ({reason}); copy or save it again") from error


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


def _check_size(name: str, width: int, height: int) -> None:
    """Refuse a photo without pixels or with too many, before they are decoded."""
    if width < 1 or height < 1:
        raise PhotoError(f"photo '{name}' has {width}x{height} pixels; it needs at least one")
    if width * height > LARGEST_PHOTO_PIXELS:
        raise _too_large(name, f"{width}x{height} is")


def _too_large(name: str, what: str) -> PhotoError:
    return PhotoError(
        f"photo '{name}' is too large to decode safely: {what} more than {LARGEST_PHOTO_PIXELS:,} pixels; scale it down"
    )


def _rgb(name: str, picture: Image.Image) -> Photo:
    """The pixels of a loaded picture of any mode as (H, W, 3) uint8 RGB."""
    from PIL import Image  # noqa: PLC0415

    if picture.mode == "F":
        raise PhotoError(f"photo '{name}' has floating-point pixels of unknown range; save it with 8 or 16 bits")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        grey = np.asarray(picture).astype(np.int64)
        if grey.min() < 0 or grey.max() > 0xFFFF:
            raise PhotoError(
                f"photo '{name}' has pixel values from {grey.min()} to {grey.max()}; save it with 8 or 16 bits"
            )
        # 65535 becomes 255; rounded to the nearest.
        return np.repeat(((grey * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, _WHITE), rgba)
    return np.array(picture.convert("RGB"))


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) where there is none or the EXIF block is damaged."""
    from PIL import ExifTags  # noqa: PLC0415

    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - damaged metadata must not lose a photo whose pixels are fine
        return 1


def _upright(pixels: Photo, orientation: int) -> Photo:
    """Undo an EXIF orientation (EXIF 2.3, tag 274)."""
    from PIL import ExifTags, Image, ImageOps  # noqa: PLC0415

    if orientation == 1:
        return pixels
    # A picture with this tag alone: of a whole EXIF block, Pillow rewrites the other tags too, and fails on some.
    picture = Image.fromarray(pixels)
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    return np.array(ImageOps.exif_transpose(picture))
