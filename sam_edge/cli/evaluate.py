"""`sam-edge evaluate`: measure accuracy against human masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam_edge.data.skips import ALLOWED_BROKEN
from sam_edge_runtime.errors import DataError, UsageError, missing_package

from .console import line, note, progress_bar, whole
from .options import (
    AUTO,
    MODEL_HELP,
    AllowBroken,
    Checkpoint,
    Crops,
    Iou,
    MaxPixels,
    Nms,
    Offset,
    Points,
    Smallest,
    Stability,
    allow_pixels,
    chosen,
    model_of,
)

if TYPE_CHECKING:
    from rich.table import Table

EXAMPLES = (
    "Examples:  sam-edge evaluate --data coco/val.tar      "
    "sam-edge evaluate --bundle phone --data coco/val.tar --data ccp/val.tar --out report      "
    "sam-edge evaluate --model nano --bundle nano-onnx --bundle nano-int8 --protocol automatic --data coco/val.tar"
    "      "
    "sam-edge evaluate --protocol text --data coco/val.tar      "
    "sam-edge evaluate --protocol instances --boxes truth --data coco/val.tar      "
    "sam-edge evaluate --suite suite.toml --data shards --processes 2 --out suite"
)


SUITE_OPTIONS = {"suite", "data", "out", "processes", "max_pixels"}


def command(
    context: typer.Context,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            help="Photos with masks: a tar in SA-1B's layout, a folder or a pattern. For edges: BSDS500. Repeatable. "
            "With --suite: the folder that its paths are relative to.",
        ),
    ] = None,
    suite: Annotated[
        Path | None,
        typer.Option(help="TOML file with models, data and protocols: a run that the same command resumes."),
    ] = None,
    processes: Annotated[
        int, typer.Option(help="With --suite: processes that share the cores; under torchrun, of each host.")
    ] = 1,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol",
            help="Protocol: clicks (with boxes; the default), box (boxes only), automatic (automatic masks), edges, "
            "proposals (average recall of object proposals), instances (masks from a detector's boxes) or text "
            "(words). For the last two DATA.names.json beside DATA.tar names the masks. Repeatable.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help=f"Variant to measure in fp32 torch; {MODEL_HELP} Default: auto, or none if --bundle is given.",
        ),
    ] = None,
    checkpoint: Checkpoint = None,
    input_size: Annotated[
        int | None, typer.Option(help="Frame side of the torch model, in pixels. Default: as it was trained.")
    ] = None,
    bundle: Annotated[
        list[Path] | None, typer.Option(help="Bundle to measure. Repeatable: several share one table.")
    ] = None,
    clicks: Annotated[int, typer.Option(help="Clicks for each mask.")] = 9,
    first_point: Annotated[
        str, typer.Option(help="clicks: where the first one goes: centre, the mask's innermost point, or random.")
    ] = "centre",
    against: Annotated[
        str | None,
        typer.Option(
            help="clicks: compare with a second model, a bundle's folder, VARIANT or VARIANT=CHECKPOINT.",
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            help="clicks: figures by group, from a CSV file with the columns photo, mask (or not) and groups."
        ),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            help="instances: a detector's boxes, as COCO's results file, or truth for those of the human masks.",
        ),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(
            help="instances, proposals: human masks as COCO's or LVIS's JSON; --data then names the photos alone."
        ),
    ] = None,
    grabcut: Annotated[
        bool,
        typer.Option(
            "--grabcut/--no-grabcut", help="Also measure OpenCV's GrabCut, which takes longer than the model."
        ),
    ] = True,
    points_per_side: Points = None,
    pred_iou_thresh: Iou = None,
    stability_score_thresh: Stability = None,
    stability_score_offset: Offset = None,
    box_nms_thresh: Nms = None,
    crop_n_layers: Crops = None,
    min_mask_region_area: Smallest = None,
    words: Annotated[
        str | None,
        typer.Option(help="text: words of the torch model, `shipped` or a file.", show_default="shipped"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Measure at most this many photos of each source. Default: all.")
    ] = None,
    allow_broken: AllowBroken = ALLOWED_BROKEN,
    pictures: Annotated[int, typer.Option(help="Number of photos in examples.png.")] = 6,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the report.")] = Path("evaluation"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier report.")] = False,
    max_pixels: MaxPixels = None,
) -> None:
    """Measure accuracy against human masks, by the tasks of "Segment Anything".

    Prints tables, and writes report.json, report.html, pictures, and for instances the masks as COCO's results.
    """
    allow_pixels(max_pixels)
    if suite is not None:
        given = [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
        _suite(suite, data or [], out, processes, [name for name in given if name not in SUITE_OPTIONS])
        return
    try:
        from sam_edge.evaluation.evaluate import evaluate  # noqa: PLC0415  # brings the engine
        from sam_edge.evaluation.groups import MEANING  # noqa: PLC0415
        from sam_edge.evaluation.job import CLICKS, EvaluateJob  # noqa: PLC0415
        from sam_edge.evaluation.report import tables  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"evaluation needs {missing_package(error)}: pip install 'sam-edge[evaluate]'") from error

    if model is not None or not bundle:
        model = model_of(model or AUTO, checkpoint)
    job = EvaluateJob(
        data=tuple(data or ()),
        out=out,
        model=model,
        checkpoint=checkpoint,
        input_side=input_size,
        bundles=tuple(bundle or ()),
        protocols=tuple(dict.fromkeys(protocol or (CLICKS,))),
        clicks=clicks,
        grabcut=grabcut,
        settings=chosen(
            points_per_side=points_per_side,
            pred_iou_thresh=pred_iou_thresh,
            stability_score_thresh=stability_score_thresh,
            stability_score_offset=stability_score_offset,
            box_nms_thresh=box_nms_thresh,
            crop_n_layers=crop_n_layers,
            min_mask_region_area=min_mask_region_area,
        ),
        limit=limit,
        allow_broken=allow_broken,
        pictures=pictures,
        overwrite=overwrite,
        words=words,
        boxes=boxes,
        annotations=annotations,
        against=against,
        groups=groups,
        first_point=first_point,
    )
    with progress_bar() as show:
        result = evaluate(job, show)
    for subject in result.subjects:
        line("; ".join(f"{name}: {value}" for name, value in subject.items() if value is not None))
    for title, columns, rows in tables(result):
        whole(_table(title, columns, rows))
    if result.groups:
        line(MEANING)
    measured = (result.figures, result.automatic, result.proposals, result.instances, result.text)
    left_out = [name for figures in measured for each in figures for name in each.skipped]
    for name in dict.fromkeys(left_out):
        note(f"left out: {name}")
    line(str(result.report / "report.html"))
    if result.complaint is not None:
        raise DataError(result.complaint)


def _suite(path: Path, data: list[str], out: Path, processes: int, others: list[str]) -> None:
    """Run a suite, and print its tables."""
    try:
        from sam_edge.suite.page import WARNING  # noqa: PLC0415
        from sam_edge.suite.recipe import read_suite  # noqa: PLC0415
        from sam_edge.suite.run import SuiteJob, run_suite  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"a suite needs {missing_package(error)}: pip install 'sam-edge[train]'") from error

    if others:
        options = ", ".join("--" + name.replace("_", "-") for name in others)
        raise UsageError(f"{options} cannot be given beside --suite: write it in {path}")
    if len(data) > 1:
        raise UsageError(f"--data names the folder of the suite's paths, and is given {len(data)} times")
    job = SuiteJob(read_suite(path), Path(data[0]) if data else path.parent, out, processes)
    with progress_bar() as show:
        run = run_suite(job, show)
    for name, reason in (*run.failures.items(), *run.complaints.items()):
        note(f"{name}: {reason}")
    if run.result is not None:
        for section in run.result.sections:
            line(section.title, "bold")
            for each in section.tables:
                whole(_table(each.title, each.columns, each.rows))
                if each.published:
                    columns = [f"{one.model}, {one.data}" for one in each.published]
                    rows = [row for row in each.published_rows() if any(row[1])]
                    whole(_table("published", columns, rows))
        if run.result.has_published:
            line(WARNING)
        line(str(out / "suite.html"))
    elif not run.failures:
        note("other hosts are at work: whoever measures the last cell writes suite.html")
    if run.failures:
        raise DataError(
            f"{len(run.failures)} of {run.cells} cells could not be measured; mend them, and run the same command again"
        )
    if run.complaints:
        raise DataError(next(iter(run.complaints.values())))


def _table(title: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> Table:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    table.add_column(title, no_wrap=True)
    for name in columns:
        table.add_column(name.replace(", ", "\n"), justify="right", no_wrap=True)
    for name, cells in rows:
        table.add_row(name, *cells)
    return table
