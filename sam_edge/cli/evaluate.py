"""`sam-edge evaluate`: how well prompts find what people outlined."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam_edge_runtime.errors import UsageError

from .console import ERRORS, OUTPUT, line, note

EXAMPLES = (
    "Examples:  sam-edge evaluate --data coco/val.tar      "
    "sam-edge evaluate --bundle phone --data coco/val.tar --data ccp/val.tar --out report"
)


def command(
    data: Annotated[
        list[str], typer.Option("--data", help="Photos with masks: a tar in SA-1B's layout, a folder, a pattern.")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="Variant, run in fp32 torch.")] = "nano",
    checkpoint: Annotated[
        str | None, typer.Option(help="Its weights: FILE or random:SEED. Default: its own, or the downloaded ones.")
    ] = None,
    input_size: Annotated[int | None, typer.Option(help="Its frame side. Default: what it was trained for.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Measure this bundle instead of a torch model.")] = None,
    clicks: Annotated[int, typer.Option(help="Clicks a mask.")] = 9,
    grabcut: Annotated[
        bool, typer.Option("--grabcut/--no-grabcut", help="Also measure OpenCV's GrabCut, slower than the model.")
    ] = True,
    limit: Annotated[int | None, typer.Option(help="Photos of each source at most. Default: all.")] = None,
    pictures: Annotated[int, typer.Option(help="Photos in examples.png.")] = 6,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the report.")] = Path("evaluation"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier report.")] = False,
) -> None:
    """Measure accuracy against human masks: a box, and 1 to 9 clicks on every mask.

    Prints a table; writes report.json, report.html, clicks.png and examples.png.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    try:
        from sam_edge.evaluation.evaluate import EvaluateJob, evaluate  # noqa: PLC0415  # brings the engine
        from sam_edge.evaluation.measure import Protocol  # noqa: PLC0415
        from sam_edge.evaluation.report import rows  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"evaluation needs {error.name or error}: pip install 'sam-edge[evaluate]'") from error

    job = EvaluateJob(
        data=tuple(data),
        out=out,
        model=model,
        checkpoint=checkpoint,
        input_side=input_size,
        bundle=bundle,
        protocol=Protocol(clicks, grabcut=grabcut),
        limit=limit,
        pictures=pictures,
        overwrite=overwrite,
    )
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=ERRORS, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        result = evaluate(job, show)
    table = Table(box=None, pad_edge=False)
    table.add_column("mIoU with human masks")
    for each in result.figures:
        table.add_column(each.data, justify="right")
    for name, cells in rows(result.figures):
        table.add_row(name, *cells)
    line("; ".join(f"{name}: {value}" for name, value in result.subject.items() if value is not None))
    OUTPUT.print(table)
    for each in result.figures:
        for skipped in each.skipped:
            note(f"left out: {skipped}")
    line(str(result.report / "report.html"))
