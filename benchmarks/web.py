"""Headless Chromium beside native ONNX Runtime, and the page of `sam-edge serve` from its opening to a mask.

    make web                                   # builds the page; Node.js and Chromium have to be there
    python benchmarks/web.py                   # the tables of results/web.json
    python benchmarks/web.py --measure         # export nano four times, measure, then the tables

Networks: each bundle in a process of its own, natively and in a tab, with the same threads, photo (1500 x 2250) and
click, in interleaved rounds. `encode` is the encoder alone, `click` is `predict` with the photo set, `photo` is
`set_image` and a click. In the browser they are timed on the page, from the request to a worker until its answer, as a
page meets them. Ratios are taken within a round.

Page: `sam-edge serve` with nano in fp32, from this machine's disk, in a fresh profile of a browser that runs already.
A script chooses a JPEG as soon as the page lets it, clicks as soon as the page says that the photo is ready, and notes
when the mask is drawn. Then it moves the pointer over the photo and counts the masks that the page gets. Then it opens
the page once more. Bytes are those of the first visit, headers included; the server compresses nothing, so gzip's size
stands beside them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from tables.web import web_page_table, web_table

from sam_edge.reporting.versions import commit, tool_versions
from sam_edge.serving.page import INDEX, STATIC
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.benchmark.photo import benchmark_photo
from sam_edge_runtime.benchmark.process import Worker
from sam_edge_runtime.benchmark.rounds import Rounds, interleave
from sam_edge_runtime.benchmark.spread import ratios, spread
from sam_edge_runtime.benchmark.worker import Job
from sam_edge_runtime.bundle.bundle import Bundle

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.web.browser import PACKAGE, TOOLS, browser_path, why_not

RESULTS = Path(__file__).parent / "results" / "web.json"
PRECISIONS = ("fp32", "fp16", "w8", "w8a8")
THREADS = (1, 2)
STEPS = ("encode", "click", "photo")
SETTLE = 0.25  # seconds: threads look for work after a run, beside whatever is measured next
SAMPLE = "astronaut.jpg"  # of the page's own, 512 x 512
JPEG_QUALITY = 92
ENGINE = PACKAGE / "node_modules" / "onnxruntime-web"
CONSOLE = Console(stderr=True, markup=False, highlight=False)
Row = dict[str, Any]


def main() -> None:
    """Measure if wanted, and print the tables."""
    arguments = _arguments()
    if arguments.measure:
        missing = why_not() or (None if (STATIC / INDEX).is_file() else "the page is not built: run `make web`")
        if missing is not None:
            sys.exit(missing)
        document = _measured(arguments)
        arguments.results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    document = json.loads(arguments.results.read_text("utf-8"))
    print(f"\n{web_table(document['rows'])}\n\n{web_page_table(document['page'])}")


def _measured(arguments: argparse.Namespace) -> Row:
    """The whole document."""
    document: Row = {
        "machine": machine(),
        "commit": commit(),
        "versions": tool_versions(("onnxruntime",))
        | {"onnxruntime-web": json.loads((ENGINE / "package.json").read_text("utf-8"))["version"]},
    }
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        site, data = folder / "site", folder / "data"
        build = [str(TOOLS / "vite"), "build", "--config", "benchmark/vite.config.ts", "--outDir", str(site)]
        subprocess.run(build, cwd=PACKAGE, check=True, stdout=sys.stderr)
        bundles = {precision: _exported(precision, data / precision) for precision in arguments.precisions}
        photo = benchmark_photo(next(iter(bundles.values())))
        np.save(data / "photo.npy", photo)
        Image.fromarray(photo).save(data / "photo.png", compress_level=1)
        Image.fromarray(photo).save(data / "photo.jpg", quality=JPEG_QUALITY)
        command = (str(shutil.which("node")), str(PACKAGE / "benchmark" / "drive.mjs"))
        browser = stack.enter_context(Worker("browser", (*command, str(browser_path()), str(site), str(data))))
        document["photo"] = photo.shape[:2]
        document["rows"] = _beside_native(browser, bundles, data, arguments)
        _ask(browser, close=True)
        if "fp32" in bundles:
            document["page"] = _page(browser, bundles["fp32"], data, arguments)
            document["versions"]["chromium"] = document["page"].pop("chromium")
    return document


def _ask(browser: Worker, **request: Any) -> Row:
    """The answer of `runtime/web/benchmark/drive.mjs` to one request."""
    return browser.request(json.dumps(request))


def _exported(precision: str, out: Path) -> Bundle:
    command = [sys.executable, "-m", "sam_edge", "export", "--model", "nano", "--target", "onnx"]
    command += ["--precision", precision, "--out", str(out)]
    subprocess.run(command, check=False, stdout=sys.stderr)  # exit code 1: a bundle that misses a bound
    return Bundle.open(out)


def _beside_native(browser: Worker, bundles: dict[str, Bundle], data: Path, arguments: argparse.Namespace) -> list[Row]:
    """A row for each precision and number of threads."""
    cases = [(precision, threads) for precision in bundles for threads in arguments.threads]
    engines = {}
    with ExitStack() as stack:
        measures = []
        for precision, threads in cases:
            name = f"{precision}, {threads} thread(s)"
            job = {"name": name, "bundle": precision, "photo": "photo.png", "threads": threads}
            engines[name] = _ask(browser, open=job)["engine"]
            if engines[name]["threads"] != threads:
                sys.exit(f"{name}: the browser computes with {engines[name]['threads']} thread(s)")
            native = stack.enter_context(Worker(name))
            native.request(Job(str(data / precision), str(data / "photo.npy"), time.time(), threads=threads).to_json())
            measures += [partial(_in_browser, browser, name), partial(_natively, native)]
        taken = interleave(
            measures,
            Rounds(arguments.rounds, warm_up=arguments.warm_up, budget=arguments.budget),
            lambda what, done, total: CONSOLE.print(f"{what} {done}/{total}"),
        )
    rows = []
    for place, (precision, threads) in enumerate(cases):
        here, native_samples = taken[2 * place], taken[2 * place + 1]
        row: Row = {"precision": precision, "threads": threads, "bytes": bundles[precision].size}
        for step in STEPS:
            own, other = ([sample[step] for sample in samples] for samples in (here, native_samples))
            row[step] = {"browser": spread(own), "native": spread(other), "ratio": ratios(own, other)}
        rows.append(row)
    return rows


def _in_browser(browser: Worker, name: str) -> dict[str, float]:
    seconds: dict[str, float] = _ask(browser, measure=name)["seconds"]
    time.sleep(SETTLE)
    return seconds


def _natively(native: Worker) -> dict[str, float]:
    seconds = native.measure()
    time.sleep(SETTLE)
    return seconds


def _page(browser: Worker, bundle: Bundle, data: Path, arguments: argparse.Namespace) -> Row:
    """Figures of the served page: seconds to masks, masks a second, bytes."""
    photos = [STATIC / "samples" / SAMPLE, data / "photo.jpg"]
    sizes = [Image.open(photo).size for photo in photos]
    visits: list[list[Row]] = [[] for _ in photos]
    with _served(bundle) as address:
        for number in range(arguments.visits):
            for own, photo, (width, height) in zip(visits, photos, sizes, strict=True):
                CONSOLE.print(f"visit {number + 1}/{arguments.visits}, photo of {width} x {height}")
                job = {"address": address, "photo": str(photo), "width": width, "height": height}
                own.append(_ask(browser, visit={**job, "seconds": arguments.hover}))
    return {
        "chromium": visits[0][0]["chromium"],
        "badge": visits[0][0]["cold"]["badge"],
        "photos": [
            {
                "width": width,
                "height": height,
                **{
                    visit: {
                        what: spread([each[visit]["seconds"][what] for each in own])
                        for what in ("page", "photo", "mask")
                    }
                    for visit in ("cold", "again")
                },
                "hover": spread([each["hover"]["rate"] for each in own]),
                "moves": spread([each["hover"]["moves"] for each in own]),
            }
            for own, (width, height) in zip(visits, sizes, strict=True)
        ],
        "wire": _wire([each["wire"] for own in visits for each in own]),
        "engines": {path.name: path.stat().st_size for path in sorted((ENGINE / "dist").glob("*.wasm"))},
    }


def _wire(visits: list[list[Row]]) -> list[Row]:
    """For each file that a first visit asked for: bytes, and what gzip makes of a file of the page."""
    files: dict[str, list[int]] = {}
    for visit in visits:
        for path in dict.fromkeys(each["path"] for each in visit):
            files.setdefault(path, []).append(sum(each["bytes"] for each in visit if each["path"] == path))
    rows = []
    for path, counts in sorted(files.items()):
        served = STATIC / (path.lstrip("/") or INDEX)
        sent, packed = round(median(counts)), None
        if served.is_file():
            content = served.read_bytes()
            packed = len(gzip.compress(content))
            if sent < len(content):  # of a worker's script the browser tells the headers alone
                sent += len(content)
        rows.append({"path": path, "bytes": sent, "gzip": packed})
    return rows


@contextmanager
def _served(bundle: Bundle) -> Iterator[str]:
    """The address of `sam-edge serve`, while it runs."""
    command = [sys.executable, "-m", "sam_edge", "serve", str(bundle.root), "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = server.stdout.readline().strip() if server.stdout else ""
            if not address:
                sys.exit("sam-edge serve did not start; its reason is above")
            yield address
        finally:
            server.terminate()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--measure", action="store_true", help="measure, and write the results")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--threads", nargs="+", type=int, default=list(THREADS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--warm-up", type=int, default=3, help="rounds before, in which the browser optimizes its code")
    parser.add_argument(
        "--budget", type=float, default=420.0, help="seconds for the rounds, of which three are measured"
    )
    parser.add_argument("--visits", type=int, default=5, help="fresh profiles for each photo")
    parser.add_argument("--hover", type=float, default=5.0, help="seconds that the pointer moves in each")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
