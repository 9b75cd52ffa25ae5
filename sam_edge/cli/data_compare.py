"""`sam-edge data compare`: two annotations of the same photos."""

from __future__ import annotations

from typing import Annotated

import typer

from sam_edge_runtime.errors import UsageError, missing_package

from .console import note, progress_bar, whole

SHOWN = 3  # photos that are named
EXAMPLES = (
    "Examples:  sam-edge data compare automatic/ corrected/      "
    "sam-edge data compare instances_a.json instances_b.json --json"
)


def command(
    one: Annotated[
        str,
        typer.Argument(
            metavar="A", help="An annotation: shards, a folder or a JSON file (COCO, LVIS, ...).", show_default=False
        ),
    ],
    other: Annotated[str, typer.Argument(metavar="B", help="Another of the same photos.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
    boundaries: Annotated[
        bool, typer.Option("--boundary/--no-boundary", help="Also compute boundary IoU, which takes most of the time.")
    ] = True,
) -> None:
    """Compare two annotations of the same photos: IoU and boundary IoU of masks that are paired one to one.

    Photos are paired by their names. "Segment Anything" (section 5) measures the quality of its masks so.
    """
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    try:
        from sam_edge.datasets.compare import CompareJob, compare  # noqa: PLC0415  # brings webdataset
        from sam_edge_runtime.system.documents import json_text  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"comparisons need {missing_package(error)}: pip install 'sam-edge[evaluate]'") from error
    job = CompareJob(one, other, boundaries)
    with progress_bar("indexing") as show:
        found = compare(job, lambda done, total: show("photos", done, total))
    if as_json:
        typer.echo(json_text(found.to_json()), nl=False)
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        for name, value in found.rows():
            table.add_row(Text(name), Text(value))
        whole(table)
    for name, photos, count in zip(found.names, found.named, found.only, strict=True):
        if count:
            more = f" and {count - SHOWN:,} more" if count > SHOWN else ""
            note(f"only in {name}: {', '.join(photos[:SHOWN])}{more}")
    for text in found.broken[:SHOWN]:
        note(f"not compared: {text}")
