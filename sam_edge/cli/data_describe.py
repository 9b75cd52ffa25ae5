"""`sam-edge data describe`: how many masks, of which sizes and shapes, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam_edge_runtime.errors import UsageError, missing_package

from .console import INTERRUPTED, line, note, progress_bar, whole
from .options import MaxPixels, allow_pixels

SHOWN_BROKEN = 3  # of each source
EXAMPLES = (
    "Examples:  sam-edge data describe coco/train.tar ccp/train.tar --out page      "
    "sam-edge data describe annotations/instances_val2017.json --json      "
    "sam-edge data describe 'sa_{000000..000999}.tar' --jobs 16 --out sa1b"
)


def command(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC...",
            help="Shards in SA-1B's layout, folders, JSON files (COCO, LVIS, ...) or patterns; each gets a column.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder for a page with plots. An interrupted run goes on there.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures and histograms as JSON.")] = False,
    jobs: Annotated[int | None, typer.Option(help="Processes. Default: one for each core.", show_default=False)] = None,
    decode_photos: Annotated[
        bool, typer.Option("--decode-photos", help="Also decode each photo, which finds damaged ones and takes longer.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier page.")] = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Describe data sets side by side: masks of a photo, their sizes, concavity and places, and broken records.

    The figures are those of figures 5 and 6 of "Segment Anything" (arXiv 2304.02643). Only annotations are read, and
    they are not kept in memory, so sources may be of any size.
    """
    allow_pixels(max_pixels)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    try:
        from sam_edge.datasets.describe import DescribeJob, describe  # noqa: PLC0415  # brings webdataset
        from sam_edge_runtime.system.cores import usable_cores  # noqa: PLC0415
        from sam_edge_runtime.system.documents import json_text  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"descriptions need {missing_package(error)}: pip install 'sam-edge[evaluate]'") from error
    job = DescribeJob(tuple(sources), out, usable_cores() if jobs is None else jobs, decode_photos, overwrite=overwrite)
    with progress_bar("indexing") as show:
        try:
            description = describe(job, lambda done, total: show("records", done, total))
        except KeyboardInterrupt:
            kept = f": what was read is kept in {out}; run the same command to go on" if out is not None else ""
            note(f"interrupted{kept}")
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        typer.echo(json_text(description.to_json()), nl=False)
    else:
        table = Table(box=None, pad_edge=False)
        table.add_column("", no_wrap=True)
        for name in description.names:
            table.add_column(Text(name), justify="right", no_wrap=True)
        for name, cells in description.rows():
            table.add_row(name, *map(Text, cells))
        whole(table)
    for name, statistics in zip(description.names, description.statistics, strict=True):
        for skip in list(statistics.named.values())[:SHOWN_BROKEN]:
            note(f"broken: {skip.key} of {name}: {skip.reason}")
        if statistics.broken > SHOWN_BROKEN:
            where = f": see {out / 'report.html'}" if out is not None else ""
            note(f"and {statistics.broken - SHOWN_BROKEN} more of {name}{where}")
    if out is not None and not as_json:
        line(str(out / "report.html"))
