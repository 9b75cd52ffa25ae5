"""`sam-edge data convert`: a data set in another tool's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam_edge_runtime.errors import UsageError, missing_package

from .console import INTERRUPTED, line, note, progress_bar
from .options import MaxPixels, allow_pixels

SHOWN = 3  # records left out that are named
EXAMPLES = (
    "Examples:  sam-edge data convert sa_000000.tar coco --to coco --masks polygons      "
    "sam-edge data convert annotations/instances_val2017.json shards --to sa1b --photos val2017      "
    "sam-edge data convert labelme/ voc --to voc --with-photos"
)


def command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="Shards in SA-1B's layout, a folder (LabelMe, Pascal VOC, Cityscapes, BSDS500, ...), a JSON file "
            "(COCO, LVIS, ...) or a pattern.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="Format: sa1b, coco, lvis, labelme, voc or cityscapes.")],
    masks: Annotated[
        str | None,
        typer.Option(
            help="Form of the masks. coco, lvis: rle, uncompressed or polygons; labelme: rle or polygons. Polygons "
            "fill holes; the others are exact. Default: rle; for lvis polygons.",
            show_default=False,
        ),
    ] = None,
    with_photos: Annotated[
        bool, typer.Option("--with-photos", help="Also write the photos; sa1b always has them.")
    ] = False,
    photos: Annotated[
        Path | None,
        typer.Option(help="Folder of the photos, if they are not beside the annotation.", show_default=False),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier conversion.")] = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Write a data set of photos and masks in another tool's format. The source stays as it is.

    Label pictures (voc, cityscapes) have one object a pixel, so overlapping masks lose pixels. What masks lose is
    printed.
    """
    allow_pixels(max_pixels)
    try:
        from sam_edge.datasets.convert import ConvertJob, convert  # noqa: PLC0415  # brings webdataset
    except ImportError as error:
        raise UsageError(f"conversions need {missing_package(error)}: pip install 'sam-edge[evaluate]'") from error
    job = ConvertJob(source, out, to, masks, with_photos, photos, overwrite)
    with progress_bar("indexing") as show:
        try:
            result = convert(job, lambda done, total: show("records", done, total))
        except KeyboardInterrupt:
            note("interrupted: nothing was written")
            raise typer.Exit(INTERRUPTED) from None
    for skip in result.named[:SHOWN]:
        note(f"left out: {skip}")
    if result.left_out > SHOWN:
        note(f"and {result.left_out - SHOWN:,} more")
    line(f"{out}  {result.photos:,} photos, {result.loss.masks:,} masks, {result.left_out:,} records left out")
    line(str(result.loss))
