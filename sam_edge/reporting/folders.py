"""Folders that hold a report of sam-edge: recognized by the `format` in their `report.json`."""

from __future__ import annotations

import re
from pathlib import Path

from sam_edge_runtime.errors import OutputError
from sam_edge_runtime.system.documents import parse_json, read_json
from sam_edge_runtime.system.folders import others_than
from sam_edge_runtime.system.text import read_regular

EVALUATION, VERIFICATION = "sam-edge-evaluation", "sam-edge-verification"
DESCRIPTION = "sam-edge-description"
DESCRIPTION_PARTS = ".parts"  # folder of what an unfinished run has found
DESCRIPTION_PLOTS = ("masks.png", "sizes.png", "concavity.png", "centres.png", "photos.png")
CURVE, RECALL, EXAMPLES, AUTOMATIC_MASKS = "clicks.png", "recall.png", "examples.png", "found.png"
GROUPS = "groups.png"
BENCHMARK, PAGE_TITLE = "sam-edge-benchmark", "<title>sam-edge benchmark</title>"
LARGEST_RESULT = 64 << 20  # bytes; a page or file of results has a few thousand
_HEAD = 1000  # characters of a page in which its title stands
_ROW = {"subject", "device", "tool", "delegate", "threads"}  # of a row that was measured on a phone
_REPORT = frozenset({"report.json", "report.html"})
_FILES = {
    EVALUATION: _REPORT | {CURVE, RECALL, EXAMPLES, AUTOMATIC_MASKS, GROUPS},
    VERIFICATION: _REPORT,
    DESCRIPTION: _REPORT | set(DESCRIPTION_PLOTS),
}
_RESULTS = re.compile(r"(instances|boxes)(-\d{1,6})?\.json")  # see `results_file`


def results_file(kind: str, number: int) -> str:
    """Name of the file with COCO's results of a column of an evaluation; `kind` is `instances` or `boxes`."""
    return f"{kind}-{number}.json" if number else f"{kind}.json"


def is_verification(folder: Path) -> bool:
    """Whether `folder` holds a report of `sam-edge verify`."""
    return _format_of(folder) == VERIFICATION


def foreign_in_evaluation(folder: Path) -> tuple[str, ...] | None:
    """Files in a folder that `sam-edge evaluate` did not write; None where it holds no report of it."""
    return _foreign(folder, EVALUATION)


def foreign_in_verification(folder: Path) -> tuple[str, ...] | None:
    """Files in a folder that `sam-edge verify` did not write; None where it holds no report of it."""
    return _foreign(folder, VERIFICATION)


def foreign_in_description(folder: Path) -> tuple[str, ...] | None:
    """Files in a folder that `sam-edge data describe` did not write; None where it holds no description."""
    if _format_of(folder) != DESCRIPTION:
        return None
    return others_than(folder, lambda name: name in _FILES[DESCRIPTION] or name.startswith(f"{DESCRIPTION_PARTS}/"))


def check_benchmark_file(path: Path) -> None:
    """Refuse to replace a file that holds no results of `sam-edge benchmark`; those of an earlier run may go.

    Raises:
        OutputError: the file exists and is something else.
    """
    try:
        if not path.exists():
            return
        text = read_regular(path, LARGEST_RESULT).decode("utf-8")
        if text.startswith("<!doctype html>"):
            ours = PAGE_TITLE in text[:_HEAD]
        else:
            document = parse_json(text)
            rows = document if isinstance(document, list) else []
            ours = isinstance(document, dict) and document.get("format") == BENCHMARK
            ours = ours or (bool(rows) and all(isinstance(row, dict) and row.keys() >= _ROW for row in rows))
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise OutputError(f"{path} exists and holds no results of sam-edge benchmark: choose another file")


def _foreign(folder: Path, kind: str) -> tuple[str, ...] | None:
    if _format_of(folder) != kind:
        return None
    results = kind == EVALUATION
    return others_than(folder, lambda name: name in _FILES[kind] or (results and bool(_RESULTS.fullmatch(name))))


def _format_of(folder: Path) -> object:
    """The `format` of the folder's `report.json`; None where it is missing or damaged."""
    try:
        document = read_json(folder / "report.json")
    except (OSError, ValueError):
        return None
    return document.get("format") if isinstance(document, dict) else None
