"""Picture files to photos.

`read_photo` turns any common picture file into the one form that the runtime works with: an (H, W, 3) uint8 RGB array
that stands upright. An EXIF orientation is applied; a damaged one counts as none. Transparency is laid over white, as
browsers and viewers show it, because the colours hidden under clear pixels are arbitrary. 16-bit greyscale is scaled
from its full range to 8 bits, where Pillow's own conversion would clip. Of an animation the first picture counts.
Colour profiles are ignored. Only formats that photos come in are opened, so that no file can make Pillow start a helper
program such as Ghostscript.
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


# Above it a photo counts as a decompression bomb: a quarter of a gigabyte of RGB, which is also where Pillow warns.
LARGEST_PHOTO_PIXELS = 1024**3 // 4 // 3

# HEIF is there when the app has registered a plugin for it (pillow-heif); AVIF and WEBP depend on Pillow's build.
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "MPO", "JPEG2000", "AVIF", "HEIF")

_EXIF_ORIENTATION = 0x0112  # TIFF 6.0, tag 274
_WHITE = (255, 255, 255, 255)


def read_photo(path: str | Path) -> Photo:
    """Read a picture file as an upright RGB photo.

    Args:
        path: a JPEG, PNG, WebP, TIFF, BMP, GIF, PNM, JPEG 2000 or AVIF file of any colour mode but 32-bit floats.

    Returns:
        (H, W, 3) uint8 RGB, contiguous and writable.

    Raises:
        PhotoError: the file is missing, is none of these formats, is damaged, or has more than
            `LARGEST_PHOTO_PIXELS` pixels.
    """
    path = Path(path)
    _check_file(path)
    return _decoded(path, str(path), upright=True)


def decode_photo(content: bytes, name: str, *, upright: bool = True) -> Photo:
    """Read a picture file whose bytes are at hand, as `read_photo` reads one from a path.

    Args:
        content: the whole file.
        name: what to call it in an error.
        upright: apply an EXIF orientation. Without it the pixels come as they are stored, which is what masks were
            drawn on that lie beside a photo in a data set.

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
            warnings.simplefilter("ignore")  # Pillow remarks on odd metadata; what matters it raises
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
            f"photo '{name}' is no picture in a format read here ({', '.join(formats)}), or its header is damaged; "
            "save it as JPEG or PNG"
        ) from None
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise PhotoError(f"photo '{name}' is truncated or damaged ({reason}); copy or save it again") from error


def _check_file(path: Path) -> None:
    """Refuse what is no file with something in it."""
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
    """Refuse a photo without pixels or with too many, before any of them is decoded."""
    if width < 1 or height < 1:
        raise PhotoError(f"photo '{name}' has {width}x{height} pixels; it needs at least one")
    if width * height > LARGEST_PHOTO_PIXELS:
        raise _too_large(name, f"{width}x{height} is")


def _too_large(name: str, what: str) -> PhotoError:
    return PhotoError(
        f"photo '{name}' is too large to decode safely: {what} more than {LARGEST_PHOTO_PIXELS:,} pixels; scale it down"
    )


def _rgb(name: str, picture: Image.Image) -> Photo:
    """The pixels of a loaded picture of any mode as (H, W, 3) RGB."""
    from PIL import Image  # noqa: PLC0415

    if picture.mode == "F":
        raise PhotoError(f"photo '{name}' has floating-point pixels of unknown range; save it with 8 or 16 bits")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        grey = np.asarray(picture).astype(np.int64)
        if grey.min() < 0 or grey.max() > 0xFFFF:
            raise PhotoError(
                f"photo '{name}' has pixel values from {grey.min()} to {grey.max()}; save it with 8 or 16 bits"
            )
        # 65535 becomes 255, rounded to the nearest.
        return np.repeat(((grey * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", clear.size, _WHITE), clear)
    return np.array(picture.convert("RGB"))


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) when there is none or when the EXIF block is damaged."""
    try:
        return int(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - the pixels are fine; a broken description of them must not lose the photo
        return 1


def _upright(pixels: Photo, orientation: int) -> Photo:
    """Undo an EXIF orientation (EXIF 2.3, tag 274: where the first row and column of the stored pixels belong)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    upside_down, mirrored = {
        2: (False, True),
        3: (True, True),
        4: (True, False),
        6: (False, True),
        7: (True, True),
        8: (True, False),
    }.get(orientation, (False, False))
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]
