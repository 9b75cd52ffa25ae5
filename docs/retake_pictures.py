"""Take the pictures of the page in docs/pictures again: `python docs/retake_pictures.py`.

It starts `sam-edge serve` with nano in fp32 and in INT8 and drives Chromium over it. The badge of the page shows times:
take the pictures on an idle machine. It needs the built page (`make web`), Chromium, and scikit-image's sample photos.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / part) for part in ("", "exporters", "quant", "runtime")]

from sam_edge.cli.app import run  # noqa: E402
from sam_edge.data.sample_photos import copy_samples  # noqa: E402
from sam_edge.serving.default_bundle import default_bundle  # noqa: E402
from sam_edge.serving.page import STATIC  # noqa: E402
from tests.serving.chromium import drive, why_no_page  # noqa: E402
from tests.serving.running import running  # noqa: E402

PICTURES = Path(__file__).parent / "pictures"


def main() -> None:
    """Take all pictures."""
    if reason := why_no_page():
        sys.exit(reason)
    nano = default_bundle(lambda stage, done, total: print(f"{stage} ({done} of {total})"))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        small = folder / "nano-int8"
        export = ["export", "--model", "nano", "--precision", "w8a8", "--out", str(small)]
        run(export)  # exit code 1: a bundle that misses a bound
        if not small.is_dir():
            sys.exit("nano cannot be exported in INT8")
        for path in copy_samples(folder / "photos"):
            if path.stem == "astronaut":  # the script annotates the first photo of the queue, a cat
                path.rename(path.with_stem("portrait"))
        annotate = ("--annotate", folder / "photos", "--out", folder / "masks")
        with (
            running(STATIC, nano, "--port", "0") as photo,
            running(STATIC, nano, small, "--port", "0") as compare,
            running(STATIC, nano, *annotate, "--port", "0") as annotation,
        ):
            print(drive("pictures.mjs", photo.address, compare.address, annotation.address, PICTURES))


if __name__ == "__main__":
    main()
