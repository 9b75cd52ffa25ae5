"""`sam-edge verify`: is the bundle still right?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import ERRORS, OUTPUT, line, note

EXAMPLES = "Examples:  sam-edge verify bundle      sam-edge verify bundle --checkpoint sam_vit_b.pth --images photos/"


def command(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.", show_default=False)],
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="The weights the bundle was made from. Default: looked for in the cache; seeded ones are made."
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of photos, or one photo. Default: the bundle's golden pictures.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the report. Default: BUNDLE-report.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the bundle's engine. Default: the engine's choice.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Execution provider, such as cuda. Default: the CPU.")] = None,
) -> None:
    """Compare a bundle's masks with those of fp32 torch, or of golden.npz where torch or the weights are missing.

    Prints a table and writes report.json and report.html. Exit code 1 if a bound is missed.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    from sam_edge.verification.verify import VerifyJob, verify  # noqa: PLC0415

    from .tables import agreement_table  # noqa: PLC0415

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=ERRORS, transient=True) as bar:
        task = bar.add_task("opening the bundle", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total or None)

        result = verify(VerifyJob(bundle, checkpoint, images, out, threads, provider), show)
    skipped = sum(photo.skipped for photo in result.photos)
    OUTPUT.print(agreement_table(result.manifest, result.reference, result.agreement, skipped))
    for reason in result.unreadable:
        note(f"left out: {reason}")
    if result.html is not None:
        note(result.html)
    line(str(result.report / ("report.json" if result.html else "report.html")))
    for missed in result.missed:
        note(f"bound missed: {missed}", "red")
    if result.missed:
        raise typer.Exit(1)
