"""`sam-edge engine status`: how far a loop is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam_edge_runtime.errors import UsageError, missing_package

from .console import line
from .engine_run import show_rounds

EXAMPLES = "Example:  sam-edge engine status loop"


def command(folder: Annotated[Path, typer.Argument(help="Folder of a loop: the --out of `engine run`.")]) -> None:
    """Tell which rounds and steps of a loop are done, and their figures."""
    try:
        from sam_edge.engine.status import status_of  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"the engine needs {missing_package(error)}: pip install 'sam-edge[train,serve]'") from error
    status = status_of(folder)
    if status.finished:
        show_rounds(status.finished)
    for each in status.rounds:
        steps = each.steps()
        open_steps = [name for name, done in steps.items() if not done]
        what = "complete" if not open_steps else "open" if len(open_steps) == len(steps) else f"next: {open_steps[0]}"
        line(f"{each.path.name}  {what}")
