"""Tables that more than one command prints."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sam_edge_runtime.agreement import Agreement, bounds_for
from sam_edge_runtime.manifest import Manifest


def agreement_table(manifest: Manifest, reference: str, agreement: Agreement, skipped: int = 0) -> Table:
    """Figures of a bundle beside their bounds; `skipped` prompts needed more slots than its decoder has."""
    counts = f"photos {len(agreement.photos)}, prompts {len(agreement.prompts)}"
    if skipped:
        counts += f" ({skipped} more need more slots than this decoder has)"
    table = Table(
        title=escape(f"{manifest.variant} {manifest.target} {manifest.precision} against {reference}"),
        title_justify="left",
        caption=escape(f"{counts}; weights {manifest.checkpoint.described}"),
        caption_justify="left",
    )
    table.add_column("figure")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("bound", justify="right", no_wrap=True)
    for check in agreement.checks(bounds_for(manifest.target, manifest.precision)):
        style = "green" if check.holds else "red"
        table.add_row(Text(check.figure), Text(check.measured, style=style), Text(check.bound))
    return table
