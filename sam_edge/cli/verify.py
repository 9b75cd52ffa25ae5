"""`sam-edge verify`: compare the masks of bundles with those of fp32 torch."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from sam_edge_runtime.errors import UsageError

from .console import OUTPUT, line, note, progress_bar
from .options import MaxPixels, allow_pixels

if TYPE_CHECKING:
    from sam_edge.prediction.reference_cache import ReferenceCache
    from sam_edge.verification.verify import Verification, VerifyJob

EXAMPLES = (
    "Examples:  sam-edge verify bundle      sam-edge verify bundles/*      sam-edge verify bundle --trace      "
    "sam-edge verify bundle --checkpoint sam_vit_b.pth --images photos/"
)


def command(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="Folder of a bundle, or several.", show_default=False)
    ],
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="Weights that the bundle was made from: a file, a folder, hf:OWNER/NAME or random:SEED. Default: as "
            "recorded in the bundle."
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Photo, or folder of photos. Default: the pictures in the bundle's golden.npz.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the report of a single bundle. Default: BUNDLE-report."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the bundle's engine. Default: one for each core.")
    ] = None,
    trace: Annotated[
        bool,
        typer.Option("--trace", help="Also compare every tensor with fp32 torch, and name the first wrong one."),
    ] = False,
    provider: Annotated[
        str | None, typer.Option(help="ONNX Runtime's execution provider, such as cuda. Default: the CPU.")
    ] = None,
    max_pixels: MaxPixels = None,
) -> None:
    """Compare the masks of bundles with those of fp32 torch, or with golden.npz if torch or the weights are missing.

    Prints a table and writes report.json and report.html for each bundle. Exit code 1 means that a bound is missed.
    """
    allow_pixels(max_pixels)
    from sam_edge.prediction.reference_cache import ReferenceCache  # noqa: PLC0415
    from sam_edge.reporting.folders import is_verification  # noqa: PLC0415
    from sam_edge.reporting.tables import Row, overview_table  # noqa: PLC0415
    from sam_edge.verification.verify import VerifyJob  # noqa: PLC0415
    from sam_edge_runtime.system.memory import peak_bytes, reset_peak  # noqa: PLC0415

    if len(bundles) > 1:
        if out is not None:
            raise UsageError(
                f"--out {out} is for a single bundle, and {len(bundles)} are named: leave it out, or verify one bundle"
            )
        bundles = [
            bundle for bundle in bundles if not is_verification(bundle)
        ]  # `bundles/*` also matches earlier reports
    rows, known = [], ReferenceCache()
    for bundle in bundles:
        begun = perf_counter()
        reset_peak()
        result = _verify(VerifyJob(bundle, checkpoint, images, out, threads, provider, trace), known)
        rows.append(Row(result.manifest, result.agreement, bool(result.missed), perf_counter() - begun, peak_bytes()))
    if len(rows) > 1:
        OUTPUT.print(overview_table(rows))
    if any(row.missed for row in rows):
        raise typer.Exit(1)


def _verify(job: VerifyJob, known: ReferenceCache) -> Verification:
    """Verify one bundle and print the result."""
    from sam_edge.reporting.tables import agreement_table  # noqa: PLC0415
    from sam_edge.verification.verify import verify  # noqa: PLC0415

    with progress_bar("opening the bundle") as show:
        result = verify(job, show, known)
    skipped = sum(photo.skipped for photo in result.photos)
    OUTPUT.print(agreement_table(result.manifest, result.reference, result.agreement, result.engine, skipped))
    for reason in result.unreadable:
        note(f"left out: {reason}")
    if result.html is not None:
        note(result.html)
    line(str(result.report / ("report.json" if result.html else "report.html")))
    for traced in result.traced:
        line(traced.sentence, "red" if traced.first_wrong else "green")
    for missed in result.missed:
        note(f"bound missed: {missed}", "red")
    return result
