"""What the site is made of beside its pages: the command reference, out of the command line itself."""

from __future__ import annotations

import html
import re

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from sam_edge.cli.app import app

PLACE = "<!-- commands -->"


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the reference of all commands where a page asks for it."""
    return markdown.replace(PLACE, _commands()) if PLACE in markdown else markdown


def _commands() -> str:
    command = typer.main.get_command(app)
    with typer.Context(command) as context:
        text = get_docs_for_click(obj=command, ctx=context, name="sam-edge")
    text = html.unescape(text.partition("\n**Commands**")[2].partition("\n## ")[2])
    # A command's last paragraph is its examples, several in one line and six spaces apart.
    return re.sub(r"^Examples?:  (.*)$", _examples, f"## {text}", flags=re.MULTILINE)


def _examples(match: re.Match[str]) -> str:
    return "\n".join(["**Examples**:\n", "```console", *(f"$ {each}" for each in re.split(r" {4,}", match[1])), "```"])
