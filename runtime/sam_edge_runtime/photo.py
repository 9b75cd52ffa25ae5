"""Photos in, pictures out.

`read_photo` turns any common picture file into the one form the runtime works with, an (H, W, 3) uint8 RGB array that
stands upright. What it decides: an EXIF orientation is applied (a damaged one counts as none); transparency is
laid over white, as browsers and viewers show it, because the colours hidden under clear pixels are arbitrary; 16-bit
greyscale is scaled from its full range to 8 bits, where Pillow's own conversion would clip; of an animation the first
picture counts; colour profiles are ignored. Only formats that photos come in are opened, so that no file can
make Pillow start a helper program such as Ghostscript. `draw_overlay` shows masks and prompts on a photo.
"""

from __future__ import annotations

import colorsys
import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .contract import Label
from .errors import PhotoError, UsageError
from .metrics import eroded

if TYPE_CHECKING:
    from PIL import Image

Photo = npt.NDArray[np.uint8]

# Above it a photo counts as a decompression bomb: a quarter of a gigabyte of RGB, which is also where Pillow warns.
LARGEST_PHOTO_PIXELS = 1024**3 // 4 // 3

# HEIF is there when the app has registered a plugin for it (pillow-heif); AVIF and WEBP depend on Pillow's build.
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "MPO", "JPEG2000", "AVIF", "HEIF")

_EXIF_ORIENTATION = 0x0112  # TIFF 6.0, tag 274
_WHITE = (255, 255, 255, 255)

# Eight colours that stay apart for colour-blind readers, black left out (Okabe and Ito, jfly.uni-koeln.de/color).
_MASK_COLOURS: tuple[tuple[int, int, int], ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
)
_POINT_COLOURS = {int(Label.FOREGROUND): (0, 200, 0), int(Label.BACKGROUND): (220, 0, 0)}
_BOX_COLOUR = (0, 200, 0)
_RIM_COLOUR = (255, 255, 255)
_MASK_OPACITY = 0.45
_GOLDEN = 0.618034  # of the way round the colours from one mask to the next: neighbours in a list stay apart
# Widths as parts of the photo's longest side.
_LINE_PART, _POINT_PART = 1 / 500, 1 / 100


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


def jpeg_bytes(picture: Photo, quality: int = 90) -> bytes:
    """A JPEG file of a picture (H, W, 3) uint8 RGB."""
    from PIL import Image  # noqa: PLC0415

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return file.getvalue()


def png_bytes(pixels: npt.NDArray[np.bool_] | Photo) -> bytes:
    """A PNG file of a mask (H, W) bool, as 0 and 255, or of a picture (H, W, 3) uint8 RGB.

    Raises:
        UsageError: the array is neither.
    """
    from PIL import Image  # noqa: PLC0415

    is_mask = pixels.ndim == 2 and pixels.dtype == np.bool_
    is_picture = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8
    if not pixels.size or not (is_mask or is_picture):
        raise UsageError(
            f"a {pixels.dtype} array of shape {pixels.shape} is no picture; give (H, W) bool or (H, W, 3) uint8"
        )
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8) * np.uint8(255) if is_mask else pixels).save(file, "PNG")
    return file.getvalue()


def draw_overlay(
    photo: Photo,
    masks: npt.ArrayLike | None = None,
    points: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    boxes: npt.ArrayLike | None = None,
) -> Photo:
    """Show masks and prompts on a photo: a veil and a crisp contour per mask, discs for points, lines for boxes.

    Args:
        photo: (H, W, 3) uint8 RGB; it is not changed.
        masks: (M, H, W) or (H, W) bool.
        points: (N, 2) x, y in pixels of the photo.
        labels: (N) 1 foreground (green), 0 background (red); others are not drawn. None: all foreground.
        boxes: (K, 4) or (4) x0, y0, x1, y1 in pixels of the photo.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: a mask is not of the photo's size, or points and labels differ in number.
    """
    from PIL import Image, ImageDraw  # noqa: PLC0415

    height, width = photo.shape[:2]
    line = max(1, round(max(height, width) * _LINE_PART))
    radius = max(3, round(max(height, width) * _POINT_PART))
    layers = np.asarray([] if masks is None else masks, np.bool_)
    layers = layers.reshape(-1, *layers.shape[-2:]) if layers.ndim >= 2 else np.zeros((0, height, width), np.bool_)
    if layers.shape[1:] != (height, width):
        raise UsageError(f"masks of shape {layers.shape} do not fit a photo of shape {photo.shape}; use (M, H, W)")
    places = np.asarray([] if points is None else points, np.float64).reshape(-1, 2)
    kinds = np.ones(len(places)) if labels is None else np.asarray(labels).reshape(-1)
    if len(kinds) != len(places):
        raise UsageError(f"{len(places)} points have {len(kinds)} labels; give one label a point")

    canvas = Image.fromarray(_veiled(photo, layers, line))
    draw = ImageDraw.Draw(canvas)
    corners = np.asarray([] if boxes is None else boxes, np.float64).reshape(-1, 2, 2)
    corners = np.clip(np.sort(corners, axis=1), -line, [width + line, height + line])
    for top_left, bottom_right in corners.tolist():
        draw.rectangle((*top_left, *bottom_right), outline=_BOX_COLOUR, width=line)
    for (x, y), kind in zip(places.tolist(), kinds.tolist(), strict=True):
        if (colour := _POINT_COLOURS.get(int(kind))) is not None:
            around: Any = (x - radius, y - radius, x + radius, y + radius)
            draw.ellipse(around, fill=colour, outline=_RIM_COLOUR, width=max(1, radius // 3))
    return np.array(canvas)


def draw_everything(photo: Photo, masks: Iterable[npt.NDArray[np.bool_]], longest: int = 1600) -> Photo:
    """Show all of a photo's masks, each in a colour of its own, small ones over large ones.

    Args:
        photo: (H, W, 3) uint8 RGB; it is not changed.
        masks: each (H, W) bool, asked for one at a time, the largest first.
        longest: pixels of the picture's longest side; a larger photo is made smaller.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    from PIL import Image  # noqa: PLC0415

    height, width = photo.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = np.array(Image.fromarray(photo).resize(size, Image.Resampling.LANCZOS))
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64) for new, old in ((size[1], height), (size[0], width))
    )
    owner = np.zeros(picture.shape[:2], np.int32)  # 0: no mask
    count = 0
    for count, mask in enumerate(masks, 1):
        owner[mask[np.ix_(rows, columns)]] = count
    hues = (np.arange(count) * _GOLDEN) % 1.0
    colours = np.array([(0, 0, 0), *(colorsys.hsv_to_rgb(hue, 0.75, 1.0) for hue in hues)], np.float32) * 255
    veil = picture * np.float32(1 - _MASK_OPACITY) + colours[owner] * np.float32(_MASK_OPACITY)
    drawn = np.where(owner[:, :, None] > 0, np.rint(veil).astype(np.uint8), picture)
    edge = np.zeros(owner.shape, np.bool_)
    edge[:, 1:] |= owner[:, 1:] != owner[:, :-1]
    edge[1:] |= owner[1:] != owner[:-1]
    drawn[edge] = _RIM_COLOUR
    return drawn


def _veiled(photo: Photo, masks: npt.NDArray[np.bool_], line: int) -> Photo:
    """The photo under each mask's transparent colour, with contours of `line` pixels just inside the masks."""
    picture = photo.copy()
    for index, mask in enumerate(masks):
        colour = np.array(_MASK_COLOURS[index % len(_MASK_COLOURS)], np.float32)
        veil = picture[mask] * np.float32(1 - _MASK_OPACITY) + colour * np.float32(_MASK_OPACITY)
        picture[mask] = np.rint(veil).astype(np.uint8)
    for index, mask in enumerate(masks):
        picture[mask & ~eroded(mask, line)] = _MASK_COLOURS[index % len(_MASK_COLOURS)]
    return picture
