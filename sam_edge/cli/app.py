"""The `sam-edge` command: its verbs, and how errors become one line and an exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

import sam_edge
from sam_edge_runtime.errors import BoundError, SamEdgeError, UsageError, system_line

from . import (
    annotate,
    benchmark,
    convert,
    data_compare,
    data_convert,
    data_describe,
    demo,
    distill,
    doctor,
    download,
    engine_run,
    engine_status,
    evaluate,
    export,
    export_clip,
    info,
    models,
    predict,
    segment,
    serve,
    site,
    train,
    verify,
)
from .console import note

BAD_INPUT, BOUND_MISSED = 2, 1

app = typer.Typer(
    name="sam-edge",
    help="Segment Anything on phones, browsers and boards: export, quantize, run, and verify that the masks are right.",
    epilog="Start with:  sam-edge export --out nano, then  sam-edge predict nano photo.jpg --point 320,240",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sam-edge {sam_edge.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    """Root of the command line."""


VERBS = {
    "models": models,
    "download": download,
    "convert": convert,
    "export": export,
    "export-clip": export_clip,
    "verify": verify,
    "predict": predict,
    "segment": segment,
    "annotate": annotate,
    "serve": serve,
    "site": site,
    "info": info,
    "benchmark": benchmark,
    "train": train,
    "distill": distill,
    "evaluate": evaluate,
    "doctor": doctor,
    "demo": demo,
}
# Verbs of two words: what all of them are about, and one file for each.
GROUPS = {
    "data": (
        "Describe, compare and convert data sets of photos and masks.",
        {"describe": data_describe, "compare": data_compare, "convert": data_convert},
    ),
    "engine": (
        "Run a data engine: rounds of annotation and training.",
        {"run": engine_run, "status": engine_status},
    ),
}
for name, verb in VERBS.items():
    app.command(name, epilog=verb.EXAMPLES)(verb.command)
for group, (what, verbs) in GROUPS.items():
    part = typer.Typer(help=what, no_args_is_help=True, rich_markup_mode="rich")
    for name, verb in verbs.items():
        part.command(name, epilog=verb.EXAMPLES)(verb.command)
    app.add_typer(part, name=group)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line with `arguments` and return its exit code."""
    try:
        _check_printable(arguments)
        app(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BoundError as error:
        note(f"bound missed: {error}", "red")
        return BOUND_MISSED
    except SamEdgeError as error:
        return _refuse(str(error))
    except MemoryError:
        return _refuse("out of memory: choose a smaller model or a smaller --input-size")
    except OSError as error:
        return _refuse(system_line(error))
    return 0


def _check_printable(arguments: list[str]) -> None:
    """Refuse arguments that a message must not repeat on the terminal."""
    for argument in arguments:
        if not argument.isprintable() and not _exists(argument):
            raise UsageError(f"the argument {argument!r} holds characters that cannot be printed: type it again")


def _exists(argument: str) -> bool:
    """Whether an argument is the name of a file or folder, whose name may hold anything."""
    try:
        return Path(argument).exists()
    except (OSError, ValueError):
        return False


def _refuse(line: str) -> int:
    note(f"error: {line}", "red")
    return BAD_INPUT
