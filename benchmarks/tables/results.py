"""The result files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parents[1] / "results"
Row = dict[str, Any]
VARIANTS = ("nano", "tiny_vit", "vit_b", "vit_l", "vit_h")


def read(name: str) -> Row:
    """The result file `results/NAME.json`."""
    document: Row = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return document
