"""Folders that hold a report of sam-edge: recognized by the `format` in their `report.json`."""

from __future__ import annotations

import json
from pathlib import Path

EVALUATION, VERIFICATION = "sam-edge-evaluation", "sam-edge-verification"


def is_evaluation(folder: Path) -> bool:
    """Whether `folder` holds a report of `sam-edge evaluate`, which may be replaced."""
    return _format_of(folder) == EVALUATION


def is_verification(folder: Path) -> bool:
    """Whether `folder` holds a report of `sam-edge verify`, which may be replaced."""
    return _format_of(folder) == VERIFICATION


def _format_of(folder: Path) -> object:
    """The `format` of the folder's `report.json`; None where it is missing or damaged."""
    try:
        document = json.loads((folder / "report.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return document.get("format") if isinstance(document, dict) else None
