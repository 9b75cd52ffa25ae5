"""`sam-edge annotate`: find all masks of a data set and write SA-1B's format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam_edge_runtime.errors import UsageError, missing_package

from .console import ERRORS, INTERRUPTED, line, note
from .options import (
    AUTO,
    Bundle,
    Checkpoint,
    Crops,
    Iou,
    MaxPixels,
    Model,
    Nms,
    Offset,
    Points,
    Smallest,
    Stability,
    allow_pixels,
    chosen,
    model_of,
)

SHOWN_FAILURES = 10
EXAMPLES = (
    "Examples:  sam-edge annotate photos/ --bundle phone --out shards      "
    "sam-edge annotate 'sa_{000000..000019}.tar' --existing --processes 4 --out shards      "
    "torchrun --nnodes 2 --nproc-per-node 1 -m sam_edge annotate photos.tar --out shards"
)


def command(
    source: Annotated[
        str, typer.Argument(help="Photos: a folder, a tar in SA-1B's layout, a pattern, or a list of photos (.txt).")
    ],
    bundle: Bundle = None,
    model: Model = AUTO,
    checkpoint: Checkpoint = None,
    existing: Annotated[
        bool, typer.Option("--existing", help="Keep the masks of the source, and search only what they do not cover.")
    ] = False,
    points_per_side: Points = None,
    pred_iou_thresh: Iou = None,
    stability_score_thresh: Stability = None,
    stability_score_offset: Offset = None,
    box_nms_thresh: Nms = None,
    crop_n_layers: Crops = None,
    min_mask_region_area: Smallest = None,
    text: Annotated[
        Path | None,
        typer.Option(
            help="Words, one a line (.txt): masks that show one of them get its name. For nano, or a bundle that was "
            "exported with --words.",
            show_default=False,
        ),
    ] = None,
    records_per_shard: Annotated[int, typer.Option(help="Photos in each written shard.")] = 1000,
    short_side: Annotated[
        int | None,
        typer.Option(
            "--short-side",
            help="Make larger photos smaller until their shorter side has this many pixels, as SA-1B's 1500.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[int, typer.Option(help="Processes on this machine. They share its cores.")] = 1,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the shards.")] = Path("shards"),
    max_pixels: MaxPixels = None,
) -> None:
    """Find all masks in every photo of a data set. Write tar shards of photos and JSON records, as SA-1B's.

    It may be interrupted at any time, even by kill -9: the same command resumes, and finished photos are kept.
    Photos that cannot be used are skipped and listed in OUT/failures.
    """
    allow_pixels(max_pixels)
    try:
        from sam_edge.annotation.annotate import (  # noqa: PLC0415  # brings webdataset
            AnnotateJob,
            annotate,
            place_among_hosts,
        )
        from sam_edge.prediction.naming import read_words  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"annotation needs {missing_package(error)}: pip install 'sam-edge[evaluate]'") from error
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
    if bundle is None:
        model = model_of(model, checkpoint)
    words = () if text is None else read_words(text)
    job = AnnotateJob(
        source, out, bundle, model, checkpoint, settings, existing, records_per_shard, processes, words, short_side
    )
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
                bar.reset(
                    task, total=total, completed=done, rate=""
                )  # photos of an earlier run do not count for the rate
            what = f"annotating, {failed} failed" if failed else "annotating"
            bar.update(task, completed=done, description=what, rate=f"{bar.tasks[0].speed or 0.0:.2f} photos/s")

        try:
            result = annotate(job, show)
        except KeyboardInterrupt:
            note(f"interrupted: finished photos are kept in {out}; run the same command to resume")
            raise typer.Exit(INTERRUPTED) from None
    failures = list(result.failures.items())
    for name, reason in failures[:SHOWN_FAILURES]:
        note(f"left out: {name}: {reason}")
    if len(failures) > SHOWN_FAILURES:
        note(f"and {len(failures) - SHOWN_FAILURES} more: all are listed in {out / 'failures'}")
    line(f"{out}  {result.photos} photos annotated, {len(failures)} left out")
