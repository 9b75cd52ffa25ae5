"""16-bit samples as 8 bits, scaled by the depth that a picture uses.

Sensors deliver 10, 12 or 14 bits, and many programs store them in 16-bit files without a note of the depth. Scaled
from 65535 they come out nearly black. So the depth is taken from the brightest sample: it is the smallest of `DEPTHS`
that holds it. An underexposed picture that uses less than a quarter of its range is brightened by the same rule.

Pillow opens 16-bit colour with the high bytes of the samples alone. A second pass reads the low bytes of a dark one:
Pillow's decoder for the other byte order takes the other byte. Its decoder of PPM scales by a maximum that can be set.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sam_edge_runtime.arrays import Photo

if TYPE_CHECKING:
    from PIL import Image

DEPTHS = (8, 10, 12, 14, 16)  # bits
STRIP = 256  # rows that are converted at once
_DARK = 65  # the high bytes of 14 bits or fewer are lower; rounded, as PPM's are, they reach 64
_MAX_PPM = 0xFFFF
_OTHER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
Tile = Any  # codec, extents, offset, arguments of the codec


def to_8_bits(samples: npt.NDArray[Any], brightest: int | None = None) -> npt.NDArray[np.uint8]:
    """Integer samples of 0..65535 scaled to 0..255, rounded to the nearest, in the same shape.

    Args:
        samples: of a picture, or of some of its rows.
        brightest: the largest sample of the whole picture; None if `samples` are the whole picture.
    """
    top = _top_of(int(samples.max()) if brightest is None else brightest)
    table = ((np.arange(top + 1, dtype=np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    scaled = np.empty(samples.shape, np.uint8)
    for row in range(0, len(samples), STRIP):  # an index takes eight bytes a sample
        scaled[row : row + STRIP] = table[samples[row : row + STRIP]]
    return scaled


def has_deep_colour(picture: Image.Image) -> bool:
    """Whether an opened picture, not yet loaded, has 16-bit colour of which Pillow keeps 8 bits."""
    return any(_is_ppm(tile) or _low_bytes(tile) is not None for tile in getattr(picture, "tile", ()))


def is_dark(pixels: Photo) -> bool:
    """Whether the 8 bits that Pillow keeps, `(H, W, 3)` or `(H, W, 4)`, show 14 bits or fewer."""
    return int(pixels[:, :, :3].max()) < _DARK


def scale_colour(kept: Photo, again: Any) -> None:
    """Scale the colour of a dark picture by its depth, in place and strip by strip.

    Args:
        kept: the 8 bits that Pillow kept, `(H, W, 3)` or `(H, W, 4)`; the last channel of four is alpha.
        again: the same picture, opened anew by Pillow and not yet loaded.
    """
    tiles: list[Tile] = list(again.tile)
    if all(map(_is_ppm, tiles)):
        brightest = int(kept.max()) * _MAX_PPM // 255 - _MAX_PPM // 510  # lowest sample that rounds to it
        top = max(_top_of(max(brightest, 0)), 256)  # below 256 the decoder reads one byte a sample
        again.tile = [_with(tile, (tile[3][0], top)) for tile in tiles]
        again.load()
        kept[:] = np.asarray(again)
        return
    again.tile = [_low_bytes(tile) or tile for tile in tiles]
    again.load()
    brightest = max(int(samples.max()) for _, samples in _samples(kept, again))
    for row, samples in _samples(kept, again):
        kept[row : row + STRIP, :, :3] = to_8_bits(samples, brightest)


def _samples(kept: Photo, low: Any) -> Iterator[tuple[int, npt.NDArray[np.uint16]]]:
    """The 16-bit colour of strips of rows, and the first row of each."""
    for row in range(0, len(kept), STRIP):
        strip = np.asarray(low.crop((0, row, low.width, min(row + STRIP, low.height))))
        yield row, kept[row : row + STRIP, :, :3].astype(np.uint16) << 8 | strip[:, :, :3]


def _top_of(brightest: int) -> int:
    """The largest sample of the smallest depth that holds `brightest`."""
    return next((1 << bits) - 1 for bits in DEPTHS if brightest < 1 << bits)


def _is_ppm(tile: Tile) -> bool:
    codec, _, _, args = tile
    return codec in ("ppm", "ppm_plain") and args[0] == "RGB" and args[-1] == _MAX_PPM


def _low_bytes(tile: Tile) -> Tile | None:
    """A tile that decodes the low bytes of 16-bit colour; None if the tile holds no such samples."""
    args = tile[3]
    rawmode = args if isinstance(args, str) else args[0] if isinstance(args, tuple) and args else None
    if not isinstance(rawmode, str) or rawmode[:-1] not in ("RGB;16", "RGBA;16"):
        return None
    other = rawmode[:-1] + _OTHER[rawmode[-1]]
    return _with(tile, other if isinstance(args, str) else (other, *args[1:]))


def _with(tile: Tile, args: object) -> Tile:
    """The tile with other arguments, of the same class: newer versions of Pillow have a named tuple."""
    fields = (*tile[:3], args)
    return fields if type(tile) is tuple else type(tile)(*fields)
