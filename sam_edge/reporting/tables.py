"""Tables that several commands print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sam_edge_runtime.agreement.agreement import Agreement, bounds_of
from sam_edge_runtime.bundle.manifest import Manifest


def agreement_table(manifest: Manifest, reference: str, agreement: Agreement, engine: str, skipped: int = 0) -> Table:
    """A bundle's figures beside their bounds. `skipped` prompts need more slots than its decoder has."""
    counts = f"photos {len(agreement.photos)}, prompts {len(agreement.prompts)}"
    if skipped:
        counts += f" ({skipped} left out, which need more slots than this decoder has)"
    table = Table(
        title=escape(f"{manifest.variant} {manifest.target} {manifest.precision} against {reference}"),
        title_justify="left",
        caption=escape(f"{counts}; computed by {engine}; weights {manifest.checkpoint.described}"),
        caption_justify="left",
    )
    table.add_column("figure")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("bound", justify="right", no_wrap=True)
    for check in agreement.checks(bounds_of(manifest)):
        style = "green" if check.holds else "red"
        table.add_row(Text(check.figure), Text(check.measured, style=style), Text(check.bound))
    return table


@dataclass(frozen=True)
class Row:
    """One bundle in a table of several.

    Attributes:
        manifest: the bundle's manifest.
        agreement: its figures.
        missed: whether a bound is missed.
        seconds: time of the export or verification.
        peak: peak memory in bytes; 0 where the system does not report it.
    """

    manifest: Manifest
    agreement: Agreement
    missed: bool
    seconds: float
    peak: int


def overview_table(rows: Sequence[Row]) -> Table:
    """A row for each of several bundles."""
    table = Table(
        title="all bundles",
        title_justify="left",
        caption="SNR of the worst photo's embedding; mean IoU of masks and of their boundaries; largest error of an "
        "IoU prediction; lowest mask IoU and its prompt; size of the bundle; seconds and peak memory here",
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    table.add_column("bundle")
    for column in ("SNR dB", "mask", "boundary", "predicted"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("worst prompt", min_width=14)
    for column in ("MB", "s", "GB"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        manifest, agreement = row.manifest, row.agreement
        table.add_row(
            Text(f"{manifest.variant} {manifest.target} {manifest.precision}", style="red" if row.missed else "green"),
            f"{agreement.embedding_snr_db:.1f}",
            f"{agreement.mask_miou:.6f}",
            f"{agreement.boundary_miou:.4f}",
            f"{agreement.iou_prediction_error:.0e}",
            Text(f"{min(agreement.worst[1].mask_iou):.4f} {agreement.worst[1].prompt}"),
            f"{manifest.size / 1e6:,.0f}",
            f"{row.seconds:.0f}",
            f"{row.peak / 1e9:.1f}" if row.peak else "",
        )
    return table
