"""Real photos and masks, which are not part of the project. SAM_EDGE_TEST_DATA names their folder.

It holds SA-1B's layout: `coco/val.tar`, `ccp/val.tar`, `sa1b/record_examples.json`. Without it these tests are skipped.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "SAM_EDGE_TEST_DATA"


def real_data(name: str) -> Path:
    """The file `name` in the folder of real data; skips the test if there is none."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"{VARIABLE} names no folder of real data")
    path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"{name} is not in the folder that {VARIABLE} names")
    return path
