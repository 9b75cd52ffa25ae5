"""Automatic masks: time and memory of a bundle and of segment_anything's generator in torch, with the same weights.

    python benchmarks/automatic.py                              # the table of results/automatic.json
    python benchmarks/automatic.py --measure PHOTO ..           # measure on photos, then the table

Each photo is searched by each contestant in a process of its own, interleaved, so that a busy machine slows all of them
alike and each peak memory is its own. Both use nano, its settings and a grid of 32 x 32 clicks. The reference is PyPI's
segment-anything 1.0 around the same torch modules (`tests/reference_generator.py`). The masks are compared too: their
numbers, and the mean IoU of each reference mask with the best of ours.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from tables.automatic import REFERENCE, automatic_table

from sam_edge.reporting.versions import commit
from sam_edge_runtime.benchmark.machine import machine

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "automatic.json"
CONSOLE = Console(stderr=True, markup=False, highlight=False)
Row = dict[str, Any]


def main() -> None:
    """Measure what is wanted, and print the table."""
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(_searched(arguments.child, arguments.photos[0], arguments.masks)))
        return
    if arguments.photos:
        document = {"machine": machine(), "commit": commit(), "runs": _measured(arguments)}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(automatic_table(json.loads(RESULTS.read_text("utf-8"))["runs"]))


def _measured(arguments: argparse.Namespace) -> list[Row]:
    """A row for each kind, photo and round."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for target in arguments.targets:
            command = [sys.executable, "-m", "sam_edge", "export", "--target", target, "--out", f"{folder}/{target}"]
            command += ["--prompts", "1,8"] if target == "tflite" else []
            subprocess.run(command, check=True, capture_output=True)
        kinds = {REFERENCE: REFERENCE, **{f"sam-edge, {target}": f"{folder}/{target}" for target in arguments.targets}}
        for number in range(arguments.rounds):
            for photo in arguments.photos:
                wanted: list[dict[str, Any]] = []
                for kind, what in kinds.items():
                    masks = Path(folder) / "masks.json"
                    command = [sys.executable, __file__, "--measure", str(photo), "--child", what]
                    command += ["--masks", str(masks)]
                    said = subprocess.run(command, check=True, capture_output=True, text=True)
                    found = json.loads(masks.read_text("utf-8"))
                    wanted = wanted or found
                    row = {"kind": kind, "photo": photo.name, "round": number, **json.loads(said.stdout)}
                    rows.append(row | {"masks": len(found), "agreement": _agreement(wanted, found)})
                    CONSOLE.print(f"{kind} {photo.name}: {row['seconds']:.1f} s")
    return rows


def _searched(what: str, path: Path, masks: Path) -> dict[str, float]:
    """Search one photo in this process, and write the masks to a file."""
    from sam_edge_runtime import AutomaticMaskGenerator, AutomaticSettings, read_photo  # noqa: PLC0415

    photo = read_photo(path)
    settings = AutomaticSettings.for_variant("nano", output_mode="coco_rle")
    if what == REFERENCE:
        sys.path.insert(0, str(ROOT))
        from sam_edge.weights.load import find_source, load_sam  # noqa: PLC0415
        from tests.reference_generator import reference_generator  # noqa: PLC0415

        generator = reference_generator(load_sam("nano", find_source("nano", None), None).sam, **vars(settings))
    else:
        generator = AutomaticMaskGenerator(what, settings)
    begun = time.perf_counter()
    found = generator.generate(photo)
    seconds = time.perf_counter() - begun
    masks.write_text(json.dumps([record["segmentation"] for record in found]), encoding="utf-8")
    return {"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def _agreement(wanted: list[dict[str, Any]], found: list[dict[str, Any]]) -> float:
    """Mean over the wanted masks of the best IoU with one of the masks in `found`."""
    from pycocotools import mask as coco  # noqa: PLC0415

    if not wanted or not found:
        return float(not wanted and not found)
    return float(np.asarray(coco.iou(wanted, found, [0] * len(found))).max(axis=1).mean())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--measure", dest="photos", nargs="+", type=Path, metavar="PHOTO", help="measure on these photos"
    )
    parser.add_argument("--targets", nargs="+", default=["onnx", "tflite"], choices=["onnx", "tflite"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--masks", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
