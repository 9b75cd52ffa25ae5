"""How far a loop is, as its folder tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_edge_runtime.errors import SamEdgeError, UsageError

from .folder import FORMAT, LOOP_FILE, ROUND_FILE, START_FILE, RoundFolder, read_document, rounds_of
from .habits import Habits
from .loop import Loop, Round


@dataclass(frozen=True)
class Status:
    """A loop in a folder.

    Attributes:
        loop: the loop.
        finished: its start and its complete rounds, as `report.json` has them.
        rounds: the folders of all rounds.
    """

    loop: Loop
    finished: list[dict[str, Any]]
    rounds: tuple[RoundFolder, ...]


def status_of(folder: Path) -> Status:
    """Read a loop's folder.

    Raises:
        UsageError: it holds no loop.
        OutputError: a file there is damaged.
    """
    document = read_document(folder / LOOP_FILE)
    if document is None or document.get("format") != FORMAT:
        raise UsageError(f"{folder} holds no loop of sam-edge: name the --out of `sam-edge engine run`")
    loop = _loop(document, folder)
    rounds = rounds_of(loop, folder)
    documents = [read_document(folder / START_FILE), *(each.read(ROUND_FILE) for each in rounds)]
    return Status(loop, [each for each in documents if each is not None], rounds)


def _loop(document: dict[str, Any], folder: Path) -> Loop:
    try:
        values = dict(document["loop"])
        rounds = tuple(Round(**each) for each in values.pop("rounds"))
        habits = Habits(**values.pop("annotator"))
        return Loop(**{**values, "validation": tuple(values["validation"])}, rounds=rounds, annotator=habits)
    except (KeyError, TypeError, ValueError, SamEdgeError) as error:
        raise UsageError(f"{folder / LOOP_FILE} is of another version ({error!r:.200}): run the loop anew") from error
