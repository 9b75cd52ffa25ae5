"""`sam-edge engine run`: rounds of annotation and training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam_edge_runtime.errors import UsageError, missing_package

from .console import INTERRUPTED, line, note, progress_bar, whole
from .options import MaxPixels, allow_pixels

if TYPE_CHECKING:
    from sam_edge.serving.server import Served

EXAMPLES = (
    "Examples:  sam-edge engine run loop.toml --out loop      sam-edge engine run loop.toml --data shards/ --out loop"
)


def command(
    loop: Annotated[Path, typer.Argument(help="The loop: a TOML file.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for masks, models and the report. A loop there goes on.")
    ] = Path("engine"),
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder that photos and validation data are relative to. Default: the loop's.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Worker processes that read photos for training. Default: half of the cores, at most 8.",
            min=0,
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Where people annotate: address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option("--port", help="Where people annotate: port. Default: 8000, or the next that is free.")
    ] = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Run a data engine: people or a simulated annotator draw masks with the model's help, the model learns, and so on.

    The stages are those of "Segment Anything" (arXiv 2304.02643, section 4): manual, semi-automatic, automatic. It may
    be interrupted at any time, even by kill -9: the same command goes on.
    """
    allow_pixels(max_pixels)
    try:
        from sam_edge.engine.loop import read_loop  # noqa: PLC0415
        from sam_edge.engine.run import EngineJob, run_engine  # noqa: PLC0415  # brings torch and the server
        from sam_edge.training.reading import default_workers  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"the engine needs {missing_package(error)}: pip install 'sam-edge[train,serve]'") from error
    found = read_loop(loop)
    readers = default_workers() if workers is None else workers
    job = EngineJob(found, loop.parent, loop.parent if data is None else data, out, host, port, readers, _announce)
    with progress_bar("opening the data") as show:
        try:
            rounds = run_engine(job, show)
        except KeyboardInterrupt:
            note(f"interrupted: what is done is kept in {out}; run the same command to go on")
            raise typer.Exit(INTERRUPTED) from None
    show_rounds(rounds)
    line(str(out / "report.html"))


def show_rounds(rounds: list[dict[str, Any]]) -> None:
    """Print the table of the rounds, and what was left out."""
    from rich.table import Table  # noqa: PLC0415

    from sam_edge.engine.report import table  # noqa: PLC0415

    columns, rows = table(rounds)
    shown = Table(box=None, pad_edge=False)
    for name in columns:
        shown.add_column(name.replace(" a ", "\na "), justify="left" if name == "stage" else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*row)
    whole(shown)
    for each in rounds:
        for key, other in each.get("duplicates", {}).items():
            note(f"left out: {key} is a near-duplicate of {other}")
        for key, reason in each.get("left_out", {}).items():
            note(f"left out: {key}: {reason}")


def _announce(served: Served) -> None:
    for text in served.notes:
        note(text)
    line(served.address)
