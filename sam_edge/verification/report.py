"""`report.html`: the figures of a verification, and pictures in which a person can check them.

It is one file without scripts or external links, so that it can be mailed. For each kind of prompt it shows the masks
that differ most on a photo: fp32 torch's, the bundle's, and their difference.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sam_edge.reporting.pages import render
from sam_edge.reporting.search import COLUMNS, TriedRow, goal_sentence, search_of, tried_rows
from sam_edge_runtime.agreement.agreement import Check
from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.bundle.bundle import SEARCH_PLOT, Bundle
from sam_edge_runtime.photo.draw import draw_overlay
from sam_edge_runtime.system.files import sha256_of

from .compare import Illustration, PhotoComparison

SHOWN_PHOTOS = 12  # with more, browsers open the file slowly
PANEL_WIDTH = 420
ONLY_REFERENCE, ONLY_BUNDLE = (214, 39, 40), (31, 119, 180)  # red, blue
TEMPLATE = "report.html.j2"


@dataclass(frozen=True)
class Panel:
    """One picture of the report: its caption and its JPEG as base64."""

    caption: str
    jpeg: str


@dataclass(frozen=True)
class PromptPictures:
    """A prompt's three panels."""

    prompt: str
    iou: float
    differing_pixels: int
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class PhotoPictures:
    """A photo's pictures, one row for each kind of prompt."""

    photo: str
    size: tuple[int, int]
    rows: tuple[PromptPictures, ...]


def draw_photo(photo: Photo, comparison: PhotoComparison) -> PhotoPictures:
    """Draw the illustrations of a comparison.

    Args:
        photo: `(H, W, 3)` uint8.
        comparison: the photo's comparison, with full-size masks.
    """
    rows = tuple(_draw_prompt(photo, illustration) for illustration in comparison.illustrations)
    return PhotoPictures(comparison.agreement.photo, (photo.shape[0], photo.shape[1]), rows)


def _draw_prompt(photo: Photo, illustration: Illustration) -> PromptPictures:
    points, labels, box = illustration.points, illustration.labels, illustration.box
    reference, bundle = (
        draw_overlay(photo, mask[None], points, labels, None if box is None else box[None])
        for mask in illustration.masks
    )
    differing = illustration.masks[0] ^ illustration.masks[1]
    panels = (
        Panel("fp32 torch", _jpeg(reference)),
        Panel("this bundle", _jpeg(bundle)),
        Panel(f"difference: {np.count_nonzero(differing)} pixels", _jpeg(_difference(photo, illustration))),
    )
    return PromptPictures(illustration.prompt, illustration.iou, int(np.count_nonzero(differing)), panels)


def _difference(photo: Photo, illustration: Illustration) -> Photo:
    """The photo faded, red where only the reference has the mask, and blue where only the bundle has it.

    Single pixels are widened, so that they remain visible when the panel is scaled down.
    """
    from PIL import Image, ImageFilter  # noqa: PLC0415

    faded: Photo = (255 - (255 - photo.astype(np.uint16)) // 4).astype(np.uint8)
    reference, bundle = illustration.masks
    size = 2 * (photo.shape[1] // PANEL_WIDTH) + 1
    for only, colour in ((reference & ~bundle, ONLY_REFERENCE), (bundle & ~reference, ONLY_BUNDLE)):
        widened = Image.fromarray(only.astype(np.uint8)).filter(ImageFilter.MaxFilter(size))
        faded[np.asarray(widened, np.bool_)] = colour
    return faded


def _jpeg(picture: Photo) -> str:
    from PIL import Image  # noqa: PLC0415  # only when a report is written

    image = Image.fromarray(picture)
    image.thumbnail((PANEL_WIDTH, 2 * PANEL_WIDTH))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    return base64.b64encode(stream.getvalue()).decode()


@dataclass(frozen=True)
class SearchSection:
    """What the page says of the search that found the bundle's recipe.

    Attributes:
        sentence: what decided.
        columns: of the table.
        rows: the configurations that were tried.
        png: the plot of time against loss as base64; empty where the bundle has none.
    """

    sentence: str
    columns: tuple[str, ...]
    rows: tuple[TriedRow, ...]
    png: str


def search_section(bundle: Bundle) -> SearchSection | None:
    """The section on a bundle's search; None where its recipe was not searched for."""
    search = search_of(bundle.report())
    if search is None:
        return None
    rows = tuple(tried_rows(search))
    shown = [place for place in range(len(COLUMNS)) if any(row.cells[place] for row in rows)]
    plot, record = bundle.root / SEARCH_PLOT, bundle.manifest.files.get(SEARCH_PLOT)
    is_own = record is not None and plot.is_file() and sha256_of(plot) == record.sha256
    return SearchSection(
        goal_sentence(search),
        tuple(COLUMNS[place] for place in shown),
        tuple(TriedRow(tuple(row.cells[place] for place in shown), row.chosen) for row in rows),
        base64.b64encode(plot.read_bytes()).decode() if is_own else "",
    )


def write_html(
    path: Path,
    report: dict[str, Any],
    checks: tuple[Check, ...],
    photos: list[PhotoPictures],
    search: SearchSection | None = None,
) -> str | None:
    """Write the page.

    Args:
        path: the `.html` file.
        report: the content of `report.json`.
        checks: the figures beside their bounds.
        photos: the drawn photos, which may be fewer than were compared.
        search: the search that found the bundle's recipe, if there was one.

    Returns:
        None, or the reason why there is no page: jinja2, an extra, is missing.
    """
    try:
        page = render(Path(__file__).with_name(TEMPLATE), report=report, checks=checks, photos=photos, search=search)
    except ImportError:
        return "report.html needs jinja2: pip install 'sam-edge[report]'"
    path.write_text(page, encoding="utf-8")
    return None
