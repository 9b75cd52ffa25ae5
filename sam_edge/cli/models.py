"""`sam-edge models`: the model variants, and which weights are on this machine."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from sam_edge.weights.cache import cached
from sam_edge.weights.catalogue import RELEASES, SHIPPED

from .console import OUTPUT, line

EXAMPLES = "Fetch one of them with:  sam-edge download tiny_vit"


def command() -> None:
    """List the model variants: parameters, input size, licence, and where their weights come from."""
    table = Table(box=None, pad_edge=False)
    for name, justify in (("variant", "left"), ("parameters", "right"), ("input", "right"), ("licence", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # a literal, through a loop
    table.add_column("file", justify="right", no_wrap=True)
    table.add_column("in the cache", overflow="fold")
    for name, shipped in SHIPPED.items():
        table.add_row(
            Text(name, style="bold"),
            f"{shipped.parameters / 1e6:.1f} M",
            str(shipped.input_side),
            shipped.licence,
            f"{shipped.path.stat().st_size / 1e6:.0f} MB",
            Text("comes with sam-edge"),
        )
    for name, release in RELEASES.items():
        path = cached(release)
        table.add_row(
            Text(name, style="bold"),
            f"{release.parameters / 1e6:.1f} M",
            str(release.input_side),
            release.licence,
            f"{release.size / 1e6:.0f} MB",
            Text("no" if path is None else str(path)),
        )
    OUTPUT.print(table)
    OUTPUT.print()
    for name, shipped in SHIPPED.items():
        line(f"{name}: {shipped.note}", "bold")
        line(f"  model card: {shipped.card}")
    for name, release in RELEASES.items():
        line(f"{name}: {release.note}", "bold")
        line(f"  {release.url}")
        line(f"  sha256 {release.sha256}")
