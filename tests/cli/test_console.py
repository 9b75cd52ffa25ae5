"""Control codes in printed text are shown and have no effect."""

from __future__ import annotations

import io

from rich.table import Table
from rich.text import Text

from sam_edge.cli.console import SafeConsole

HOSTILE = "\x1b[2J\x1b]0;all is well\x07 \r\u202e[red]name[/red]"


def printed(what: object, *, colour: bool) -> str:
    file = io.StringIO()
    SafeConsole(file=file, force_terminal=colour, color_system="standard" if colour else None, width=200).print(what)
    return file.getvalue()


def test_codes_in_text_and_tables_are_shown_and_not_obeyed():
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(Text(HOSTILE, style="red"))
    table.add_row(HOSTILE)
    for what in (HOSTILE, Text(HOSTILE), table):
        text = printed(what, colour=False)
        assert text.replace("\n", "").isprintable()
        assert "all is well" in text
        assert "[red]name[/red]" in text


def test_our_own_colours_stay():
    assert printed(Text("fine", style="red"), colour=True) == "\x1b[31mfine\x1b[0m\n"
