"""`sam-edge annotate`: masks for a whole data set, in SA-1B's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam_edge_runtime.errors import UsageError

from .console import ERRORS, INTERRUPTED, line, note
from .options import Bundle, Checkpoint, Crops, Iou, Model, Nms, Offset, Points, Smallest, Stability, chosen

SHOWN_FAILURES = 10
EXAMPLES = (
    "Examples:  sam-edge annotate photos/ --bundle phone --out shards      "
    "sam-edge annotate 'sa_{000000..000019}.tar' --existing --processes 4 --out shards      "
    "torchrun --nnodes 2 --nproc-per-node 1 -m sam_edge annotate photos.tar --out shards"
)


def command(
    source: Annotated[
        str, typer.Argument(help="Photos: a folder, a tar as SA-1B's, a pattern, or a list of photos (.txt).")
    ],
    bundle: Bundle = None,
    model: Model = "nano",
    checkpoint: Checkpoint = None,
    existing: Annotated[
        bool, typer.Option("--existing", help="Keep the masks that are there; look for others where they are not.")
    ] = False,
    points_per_side: Points = None,
    pred_iou_thresh: Iou = None,
    stability_score_thresh: Stability = None,
    stability_score_offset: Offset = None,
    box_nms_thresh: Nms = None,
    crop_n_layers: Crops = None,
    min_mask_region_area: Smallest = None,
    records_per_shard: Annotated[int, typer.Option(help="Photos of each shard that is written.")] = 1000,
    processes: Annotated[int, typer.Option(help="Processes on this machine, which share its cores.")] = 1,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the shards.")] = Path("shards"),
) -> None:
    """Find everything in all photos of a data set; write shards as SA-1B's, photos and JSON records.

    Interrupt it when you like, with kill -9 too: the same command goes on where it was, and nothing is lost or done
    twice. Photos that cannot be used are listed in OUT/failures and are no reason to stop.
    """
    try:
        from sam_edge.annotation.annotate import (  # noqa: PLC0415  # brings webdataset
            AnnotateJob,
            annotate,
            place_among_hosts,
        )
    except ImportError as error:
        raise UsageError(f"annotation needs {error.name or error}: pip install 'sam-edge[evaluate]'") from error
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    settings = chosen(
        points_per_side=points_per_side,
        pred_iou_thresh=pred_iou_thresh,
        stability_score_thresh=stability_score_thresh,
        stability_score_offset=stability_score_offset,
        box_nms_thresh=box_nms_thresh,
        crop_n_layers=crop_n_layers,
        min_mask_region_area=min_mask_region_area,
    )
    job = AnnotateJob(source, out, bundle, model, checkpoint, settings, existing, records_per_shard, processes)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=ERRORS, disable=place_among_hosts()[0] > 0) as bar:
        task = bar.add_task("annotating", total=None, rate="")

        def show(done: int, failed: int, total: int) -> None:
            if bar.tasks[0].total is None:
                bar.reset(task, total=total, completed=done, rate="")  # what was done before took no time
            what = f"annotating, {failed} failed" if failed else "annotating"
            bar.update(task, completed=done, description=what, rate=f"{bar.tasks[0].speed or 0.0:.2f} photos/s")

        try:
            result = annotate(job, show)
        except KeyboardInterrupt:
            note(f"interrupted: what is finished is kept in {out}, and the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
    failures = list(result.failures.items())
    for name, reason in failures[:SHOWN_FAILURES]:
        note(f"left out: {name}: {reason}")
    if len(failures) > SHOWN_FAILURES:
        note(f"and {len(failures) - SHOWN_FAILURES} more, all of them in {out / 'failures'}")
    line(f"{out}  {result.photos} photos annotated, {len(failures)} left out")
