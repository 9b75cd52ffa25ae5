"""`sam-edge doctor`: what works on this machine, and what to install for the rest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from .console import OUTPUT, line, progress_bar

if TYPE_CHECKING:
    from sam_edge.devices.doctor import Diagnosis, Finding

EXAMPLES = "Examples:  sam-edge doctor      sam-edge doctor --thorough      sam-edge doctor --json > doctor.json"
_STYLES = {"usable": "green", "installed": "green", "missing": "yellow", "broken": "red", "not here": "dim"}
_GIB = 2**30


def command(
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Import the large packages, too: torch and the converters. Takes longer.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, for a report of a fault.")] = False,
) -> None:
    """Print which extras, engines, quantizers and devices are usable here, and what to install for the rest.

    Packages are imported in processes of their own, so a broken one is named with its error. The exit code is 0
    whatever is found.
    """
    from sam_edge.devices.doctor import EXTRAS, STATES, diagnose  # noqa: PLC0415

    with progress_bar("looking at packages") as show:
        found = diagnose(show, thorough=thorough)
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
        return
    OUTPUT.print(_facts(found))
    purposes = {name: extra.purpose for name, extra in EXTRAS.items()}
    for title, findings in (
        ("engines", found.engines),
        ("quantizers", found.quantizers),
        ("extras", found.extras),
        ("devices to measure on", found.devices),
    ):
        OUTPUT.print()
        OUTPUT.print(_table(title, findings, purposes))
    line("")
    for each in found.packages:
        if each.state == "broken":
            line(f"broken: {each.name} {each.version or ''}: {each.detail}", "red")
    seen = {each.state for group in (found.engines, found.quantizers, found.extras, found.devices) for each in group}
    line("; ".join(f"{state}: {meaning}" for state, meaning in STATES.items() if state in seen))


def _facts(found: Diagnosis) -> Table:
    here, weights = found.machine, found.weights
    facts = Table(show_header=False, box=None, pad_edge=False)
    for name, value in (
        ("sam-edge", " at commit ".join(filter(None, (found.sam_edge["version"], found.sam_edge["commit"])))),
        ("Python", here["python"]),
        ("system", here["system"]),
        ("processor", f"{here['processor']}, {here['cores']} cores"),
        ("memory", _gib(here["memory_bytes"])),
        ("weights", weights["folder"] or weights["error"]),
        ("", f"downloaded: {', '.join(weights['cached']) or 'none'}; free: {_gib(weights['free_bytes'])}"),
    ):
        facts.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    return facts


def _table(title: str, findings: Iterable[Finding], purposes: Mapping[str, str]) -> Table:
    """A row for each: name, state, and in lines what is known of it and what would mend it."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for each in findings:
        known = "; ".join(filter(None, (each.version, each.detail)))
        lines = Text("\n").join(
            Text(text, style=style)
            for text, style in ((purposes.get(each.name), ""), (known, ""), (each.remedy, "cyan"))
            if text
        )
        table.add_row(Text(each.name, style="bold"), Text(each.state, style=_STYLES[each.state]), lines)
    return table


def _gib(count: Any) -> str:
    return "unknown" if count is None else f"{count / _GIB:.0f} GiB"
