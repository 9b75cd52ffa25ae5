"""Folders that hold a report of sam-edge: recognized by the `format` in their `report.json`."""

from __future__ import annotations

from pathlib import Path

from sam_edge_runtime.system.documents import read_json
from sam_edge_runtime.system.folders import others_than

EVALUATION, VERIFICATION = "sam-edge-evaluation", "sam-edge-verification"
CURVE, RECALL, EXAMPLES, AUTOMATIC_MASKS = "clicks.png", "recall.png", "examples.png", "found.png"
_REPORT = frozenset({"report.json", "report.html"})
_FILES = {EVALUATION: _REPORT | {CURVE, RECALL, EXAMPLES, AUTOMATIC_MASKS}, VERIFICATION: _REPORT}


def is_verification(folder: Path) -> bool:
    """Whether `folder` holds a report of `sam-edge verify`."""
    return _format_of(folder) == VERIFICATION


def foreign_in_evaluation(folder: Path) -> tuple[str, ...] | None:
    """Files in a folder that `sam-edge evaluate` did not write; None where it holds no report of it."""
    return _foreign(folder, EVALUATION)


def foreign_in_verification(folder: Path) -> tuple[str, ...] | None:
    """Files in a folder that `sam-edge verify` did not write; None where it holds no report of it."""
    return _foreign(folder, VERIFICATION)


def _foreign(folder: Path, kind: str) -> tuple[str, ...] | None:
    return others_than(folder, _FILES[kind].__contains__) if _format_of(folder) == kind else None


def _format_of(folder: Path) -> object:
    """The `format` of the folder's `report.json`; None where it is missing or damaged."""
    try:
        document = read_json(folder / "report.json")
    except (OSError, ValueError):
        return None
    return document.get("format") if isinstance(document, dict) else None
