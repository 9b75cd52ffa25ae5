"""`sam-edge models`: the model variants, and which weights are on this machine."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from sam_edge.weights.cache import cached
from sam_edge.weights.catalogue import RELEASES, SHIPPED, Release, Shipped
from sam_edge.weights.clip_catalogue import CLIP_RELEASES
from sam_edge.weights.licences import restriction

from .console import OUTPUT, line

EXAMPLES = "Fetch one of them with:  sam-edge download tiny_vit"
RESTRICTED = "bold red"
NO_HASH = "no public source states its sha256: names, shapes and numbers are checked when it is loaded"


def command() -> None:
    """List the model variants: family, parameters, input size, licence, and where their weights come from.

    Text encoders, which rank masks by words, follow in a table of their own.

    A licence that forbids commercial use or asks for source code is red: `download` asks for --accept-licence.
    """
    table = _table("variant")
    for shipped in SHIPPED.values():
        table.add_row(*_facts(shipped, shipped.path.stat().st_size), Text("comes with sam-edge"))
    text = _table("text encoder")
    for releases, rows in ((RELEASES, table), (CLIP_RELEASES, text)):
        for release in releases.values():
            path = cached(release)
            rows.add_row(*_facts(release, release.about_bytes), Text("no" if path is None else str(path)))
    OUTPUT.print(table)
    OUTPUT.print()
    OUTPUT.print(text)
    OUTPUT.print()
    for name, shipped in SHIPPED.items():
        line(f"{name}: {shipped.note}", "bold")
        line(f"  model card: {shipped.card}")
    for name, release in {**RELEASES, **CLIP_RELEASES}.items():
        line(f"{name}: {release.note}", "bold")
        line(f"  {release.origin}")
        line(f"  sha256 {release.sha256}" if release.sha256 else f"  {NO_HASH}")
        kind = restriction(release.licence)
        if kind is not None:
            line(f"  its licence, {release.licence}, {kind}: {release.terms}", RESTRICTED)


def _table(first: str) -> Table:
    """An empty table; `first` is the title of the column with the names."""
    table = Table(box=None, pad_edge=False)
    columns = ((first, "left"), ("family", "left"), ("parameters", "right"), ("input", "right"))
    for name, justify in (*columns, ("licence", "left"), ("file", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]  # a literal, through a loop
    table.add_column("in the cache", overflow="fold")
    return table


def _facts(weights: Release | Shipped, size: int) -> tuple[Text | str, ...]:
    """A row's cells up to the file's size, which is in bytes."""
    return (
        Text(weights.variant, style="bold"),
        weights.family,
        f"{weights.parameters / 1e6:.1f} M",
        str(weights.input_side),
        Text(weights.licence, style=RESTRICTED if restriction(weights.licence) else ""),
        f"{size / 1e6:.0f} MB",
    )
