"""JSON of other annotation tools, beside their photos: converted to SA-1B's layout, or named with what to do.

| file | what |
|---|---|
| `format` | what a layout is, and checks that several layouts share |
| `outlines`, `pixels` | shapes as polygons; pixels and polygons with holes as run-length encodings |
| `coco` | COCO, and segment_anything's `amg.py` |
| `labelme` | LabelMe, X-AnyLabeling, ISAT |
| `label_studio`, `supervisely`, `via`, `darwin` | the tools of these names; `darwin` is V7's |
| `cvat` | CVAT's encoding of a mask, in a record of another layout |

`FORMATS` is the table of what is recognized. Polygons stay polygons here, unless they have holes.
"""

from __future__ import annotations

from typing import Any

from sam_edge.data.skips import BrokenRecordError

from . import coco, darwin, label_studio, labelme, supervisely, via
from .format import Format, PhotoSize, has, is_list_of

# In this order: the first that recognizes a document counts.
FORMATS = (
    *coco.FORMATS,
    *labelme.FORMATS,
    *label_studio.FORMATS,
    *supervisely.FORMATS,
    *via.FORMATS,
    Format("Labelbox", lambda document: is_list_of(document, "data_row", dict) or has(document, data_row=dict)),
    *darwin.FORMATS,
)


def to_sa1b(document: object, photo_size: PhotoSize) -> dict[str, Any] | None:
    """A document of another tool about one photo in SA-1B's layout; None if its layout is unknown.

    Args:
        document: parsed JSON.
        photo_size: gives (H, W) in pixels of the upright photo, for layouts that do not have it.

    Raises:
        BrokenRecordError: the layout is known and not read, or damaged, or the document describes several photos.
    """
    each = _format_of(document)
    if each is None:
        return None
    if each.convert is None:
        raise BrokenRecordError(f"its JSON is {each.tool}'s, which is not read: {each.remedy}")
    try:
        return each.convert(document, photo_size)
    except BrokenRecordError as error:
        raise BrokenRecordError(f"its JSON is {each.tool}'s, and damaged: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise BrokenRecordError(f"its JSON is {each.tool}'s, and damaged ({error!r:.80})") from error


def records_by_photo(document: object) -> dict[str, Any]:
    """The parts of a document that describes several photos, by the photos' file names; empty for other documents.

    Each part is a document of its own, for `to_sa1b` or in SA-1B's layout.
    """
    each = _format_of(document)
    if each is None or each.split is None:
        return {}
    try:
        return each.split(document)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return {}


def _format_of(document: object) -> Format | None:
    return next((each for each in FORMATS if each.recognizes(document)), None)
