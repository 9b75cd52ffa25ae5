"""Parity of the models here with their authors' code: largest differences of features, masks and scores.

    python benchmarks/parity.py                         # the table of what was measured
    python benchmarks/parity.py --measure               # all models, some minutes, then the table
    python benchmarks/parity.py --measure edgetam vit_b # these models

Both sides have the same seeded weights and compute in fp32 on a CPU. A difference is the largest one, as a share of the
reference's largest value, over all prompts. Names and shapes of the state dict are compared with those of the authors'
model.

References: parts of what the authors' own code computed at 1024 pixels (EfficientViT-SAM's L0: 512), stored in
`tests/model/data`, because that code cannot be installed beside the CPU build of torch; PyPI's segment-anything 1.0;
and transformers' models. The latter two run here at 256 pixels.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from parity_comparisons import (
    SIDE,
    Differences,
    beside_mobile_sam,
    beside_segment_anything,
    beside_stored,
    beside_transformers,
)
from parity_references import HIERA_CONFIGS, HQ_CONFIGS, SLIM_CONFIGS, STORED, VIT_CONFIGS, has_official_names
from rich.console import Console
from tables.parity import parity_table

from sam_edge.model import VARIANTS
from sam_edge.reporting.versions import commit, tool_versions

RESULTS = Path(__file__).parent / "results" / "parity.json"
CONSOLE = Console(stderr=True, markup=False, highlight=False)
References = dict[str, tuple[int, Callable[[str], Differences]]]


def references(variant: str) -> References:
    """What a model is compared with: names of the code, the side in pixels, and the comparison."""
    found: References = {}
    if variant in STORED:
        found[STORED[variant].code] = (STORED[variant].side, beside_stored)
    if variant == "tiny_vit":
        found["ChaoningZhang/MobileSAM"] = (1024, beside_mobile_sam)
    if variant in VIT_CONFIGS:
        found["segment-anything 1.0"] = (SIDE, beside_segment_anything)
    if variant in HIERA_CONFIGS or variant in HQ_CONFIGS or variant in SLIM_CONFIGS:
        found["transformers"] = (SIDE, beside_transformers)
    return found


def measured(variant: str) -> list[dict[str, Any]]:
    """Rows of one model, one for each reference; where there is none, one of its names alone.

    Returns:
        Rows of `variant`, `names` (whether they are official), `reference`, `side`, `chosen` (whether all choices are
        the same), and the largest differences by kind.
    """
    names = has_official_names(variant)
    rows = []
    for code, (side, compare) in references(variant).items():
        begun = time.perf_counter()
        with torch.inference_mode():
            found = compare(variant)
        row = {"variant": variant, "names": names, "reference": code, "side": side, **found.largest}
        rows.append({**row, "chosen": all(found.chosen), "seconds": round(time.perf_counter() - begun, 1)})
    return rows or [{"variant": variant, "names": names, "reference": None}]


def main() -> None:
    """Measure if wanted, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    known = [variant for variant in VARIANTS if variant != "nano"]  # which is nobody else's
    parser.add_argument("--measure", nargs="*", metavar="MODEL", help="measure these models; none named: all")
    chosen = parser.parse_args().measure
    if chosen is not None:
        for variant in chosen or known:
            rows = measured(variant)
            CONSOLE.print("\n".join(map(str, rows)))
            before = json.loads(RESULTS.read_text("utf-8"))["models"] if RESULTS.exists() else []
            kept = [row for row in before if row["variant"] != variant] + rows
            kept.sort(key=lambda row: known.index(row["variant"]))
            versions = tool_versions(("torch", "segment-anything", "transformers"))
            document = {"commit": commit(), "versions": versions, "models": kept}
            RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(parity_table(json.loads(RESULTS.read_text("utf-8"))["models"]))


if __name__ == "__main__":
    main()
