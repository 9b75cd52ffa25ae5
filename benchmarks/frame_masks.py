"""Human masks by frame: what nano loses or gains where a photo is not padded to a square.

    python benchmarks/frame_masks.py                           # the table of results/frame_masks.json
    python benchmarks/frame_masks.py --measure --data DATA     # export both bundles, measure on coco/val and ccp/val

Two fp32 bundles in ONNX Runtime, with the same weights: one takes the square, one has six frames and takes each photo
in the one that fits best. Prompts are `sam-edge evaluate`'s: the mask's box, and 1 to 9 clicks. Nothing is timed. A
photo's masks rise and fall together, so whole photos are drawn for the intervals: 95 %, 1,000 bootstrap samples.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from tables.frame_masks import frame_masks_table

from sam_edge.data.skips import SkipLog
from sam_edge.data.sources import open_source
from sam_edge.data.stream import walk
from sam_edge.evaluation.measure import PhotoMeasurement, Protocol, measure
from sam_edge.reporting.versions import commit, tool_versions
from sam_edge_runtime.backends import load_backend
from sam_edge_runtime.bundle.bundle import Bundle

RESULTS = Path(__file__).parent / "results" / "frame_masks.json"
SQUARE, FITTING = "square", "3:2,2:3,4:3,3:4,16:9,9:16"
SETS = {"coco/val": None, "ccp/val": 20}  # and how many photos; None: all
SHOWN_CLICKS = (1, 3, 9)
SAMPLES = 1000
CONSOLE = Console(stderr=True, markup=False, highlight=False)


def main() -> None:
    """Measure if wanted, and print the table."""
    arguments = _arguments()
    if arguments.measure:
        document = {
            "commit": commit(),
            "versions": tool_versions(("torch", "onnxruntime")),
            "rows": _measured(arguments.data, arguments.limit),
        }
        arguments.results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(frame_masks_table(json.loads(arguments.results.read_text("utf-8"))["rows"]))


def _measured(data: Path, limit: int | None) -> list[dict[str, Any]]:
    """A row for each data set and prompt."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        bundles = {frames: _exported(frames, Path(name) / str(place)) for place, frames in enumerate((SQUARE, FITTING))}
        for data_set, photos in SETS.items():
            source = open_source(str(data / f"{data_set}.tar"))
            samples = list(islice(walk(source, SkipLog()), limit or photos))
            found = {}
            for frames, bundle in bundles.items():
                CONSOLE.print(f"{data_set}, {frames}: {len(samples)} photos")
                protocol = Protocol(clicks=max(SHOWN_CLICKS), grabcut=False)
                found[frames] = list(measure(load_backend(bundle), bundle.manifest, samples, protocol))
            rows += [
                {"data": data_set, "photos": len(found[SQUARE]), **_compared(prompt, found[SQUARE], found[FITTING])}
                for prompt in (0, *SHOWN_CLICKS)
            ]
    return rows


def _compared(clicks: int, square: list[PhotoMeasurement], fitting: list[PhotoMeasurement]) -> dict[str, Any]:
    """The mIoU of both, and the interval of their difference."""

    def ious(photo: PhotoMeasurement) -> npt.NDArray[np.float64]:
        return photo.shown[clicks - 1] if clicks else photo.box.single

    before, after = [ious(photo) for photo in square], [ious(photo) for photo in fitting]
    differences = np.array([new.sum() - old.sum() for old, new in zip(before, after, strict=True)])
    counts = np.array([len(old) for old in before])
    picks = np.random.default_rng(0).integers(len(counts), size=(SAMPLES, len(counts)))
    low, high = np.percentile(differences[picks].sum(axis=1) / counts[picks].sum(axis=1), (2.5, 97.5))
    return {
        "clicks": clicks,
        "masks": int(counts.sum()),
        "square": float(np.concatenate(before).mean()),
        "fitting": float(np.concatenate(after).mean()),
        "low": float(low),
        "high": float(high),
    }


def _exported(frames: str, out: Path) -> Bundle:
    command = [sys.executable, "-m", "sam_edge", "export", "--model", "nano", "--target", "onnx", "--points", "10"]
    subprocess.run([*command, "--frame", frames, "--out", str(out)], check=True, stdout=sys.stderr)
    return Bundle.open(out)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--measure", action="store_true", help="measure, and write the results")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with coco/val.tar and ccp/val.tar")
    parser.add_argument("--limit", type=int, help="photos of each set; default: all of coco/val, 20 of ccp/val")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
