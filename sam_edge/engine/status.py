"""How far a loop is, as its folder tells; read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam_edge_runtime.errors import UsageError

from .folder import FORMAT, LOOP_FILE, ROUND_FILE, START_FILE, RoundFolder, read_document, rounds_of
from .stages import STAGES


@dataclass(frozen=True)
class Status:
    """A loop in a folder.

    Attributes:
        finished: its start and its complete rounds, as `report.json` has them.
        rounds: the folders of all rounds.
    """

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
    rounds = rounds_of(_stages(document, folder), folder)
    documents = [read_document(folder / START_FILE), *(each.read(ROUND_FILE) for each in rounds)]
    return Status([each for each in documents if each is not None], rounds)


def _stages(document: dict[str, Any], folder: Path) -> list[str]:
    try:
        stages = [each["stage"] for each in document["loop"]["rounds"]]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{folder / LOOP_FILE} is of another version ({error!r:.200}): run the loop anew") from error
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise UsageError(f"{folder / LOOP_FILE} has the unknown stage {unknown[0]!r:.60}: run the loop anew")
    return stages
