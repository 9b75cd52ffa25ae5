"""Modules that importing the runtime loads, and its public names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import sam_edge
import sam_edge_runtime

HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "coremltools",
    "ai_edge_litert",
    "typer",
    "rich",
    "PIL",
    "pycocotools",
)
ROOT = Path(__file__).parents[2]


def test_importing_the_runtime_loads_no_engine_and_no_converter():
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'runtime')!r}); import sam_edge_runtime; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists():
    for name in sam_edge_runtime.__all__:
        assert getattr(sam_edge_runtime, name) is not None


def test_the_version_equals_that_of_the_distribution():
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert sam_edge_runtime.__version__ == sam_edge.__version__ == declared[1]
    assert f"\nversion: {declared[1]}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
