"""Cost of an app that only runs bundles: megabytes of a fresh environment, and milliseconds to import the runtime.

    python benchmarks/install.py                                       # the table of results/install.json
    python benchmarks/install.py --measure --out benchmarks/results/install.json

For each extra, pip installs `sam-edge[EXTRA]` into a fresh virtual environment in a temporary folder. It builds from a
copy of the checkout, because a build leaves files where it runs, and includes those of an earlier one. Sizes are of the
files in each distribution's RECORD; modules that pip compiled are included and also reported separately; pip itself and
setuptools do not count. Import time is the wall time of `python -c "import sam_edge_runtime"`, interleaved with `python
-c pass`, with files in the system's cache. MB are 1,000,000 bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from sam_edge.reporting.versions import commit
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.benchmark.spread import ratios, spread

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "install.json"
CONSOLE = Console(stderr=True, markup=False, highlight=False)
EXTRAS = ("onnx", "tflite")
INSTALLERS = ("pip", "setuptools", "wheel")
IMPORT, NOTHING = "import sam_edge_runtime", "pass"
HEAVIEST, MOST_MODULES = 8, 10
MEGABYTE = 1e6
# Run in the environment: size and version of every distribution, and whether torch can be found.
SIZES = """
import importlib.util, json
from importlib.metadata import distributions
found = {}
for each in distributions():
    paths = [each.locate_file(file) for file in each.files or ()]
    sizes = [(path.suffix == ".pyc", path.stat().st_size) for path in paths if path.is_file()]
    found[each.metadata["Name"]] = {
        "version": each.version,
        "bytes": sum(size for _, size in sizes),
        "compiled_bytes": sum(size for compiled, size in sizes if compiled),
    }
print(json.dumps({"distributions": found, "torch": importlib.util.find_spec("torch") is not None}))
"""
_IMPORT_TIME = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \|\s*(\S+)")


class InstallError(Exception):
    """pip or venv failed.

    Attributes:
        said: its error output, whose last line is the message.
    """

    def __init__(self, said: str) -> None:
        super().__init__((said.strip().splitlines() or ["no reason given"])[-1])
        self.said = said


def main() -> None:
    """Measure what is wanted, and print the table."""
    arguments = _arguments()
    if arguments.measure:
        document = {"machine": machine(), "commit": commit(), "installs": _measured(arguments)}
        arguments.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    from tables.install import install_table  # noqa: PLC0415 - not beside this file in tests

    installs = json.loads(arguments.out.read_text("utf-8"))["installs"]
    print(install_table(installs) + "\n" + details(installs))


def details(installs: list[dict[str, Any]]) -> str:
    """The largest distributions and the slowest modules of each extra."""
    lines = []
    for each in installs:
        sizes = sorted(each["distributions"].items(), key=lambda item: -item[1]["bytes"])
        named = [f"{name} {entry['bytes'] / MEGABYTE:.1f}" for name, entry in sizes[:HEAVIEST]]
        lines += ["", f"`[{each['extra']}]`, MB: {', '.join(named)}, {len(sizes) - len(named)} more."]
        slowest = [f"{entry['module']} {entry['self_ms']:.1f}" for entry in each["modules"]]
        lines.append(f"Slowest modules by themselves, ms under -X importtime: {', '.join(slowest)}.")
    return "\n".join(lines)


def make_environment(extra: str, folder: Path, source: Path) -> Path:
    """A fresh environment with `sam-edge[extra]` from `source`; returns its interpreter.

    Raises:
        InstallError: venv or pip failed.
    """
    python = folder / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--no-input", f"{source}[{extra}]"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
        if done.returncode:
            raise InstallError(done.stderr)
    return python


def copy_sources(folder: Path) -> Path:
    """Copy the files of the checkout that git tracks or would track."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def installed_sizes(python: Path) -> dict[str, Any]:
    """Total `bytes`, those of compiled modules, both for each of `distributions`, and whether `torch` is installed."""
    found: dict[str, Any] = json.loads(_said([str(python), "-c", SIZES], python.parent).stdout)
    kept = {name: entry for name, entry in found["distributions"].items() if name.lower() not in INSTALLERS}
    return {
        **{what: sum(entry[what] for entry in kept.values()) for what in ("bytes", "compiled_bytes")},
        "distributions": kept,
        "torch": found["torch"],
    }


def _measured(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    installs = []
    for extra in arguments.extras:
        with tempfile.TemporaryDirectory(prefix="sam-edge-install-") as folder:
            place = Path(folder)
            CONSOLE.print(f"installing sam-edge[{extra}]")
            python = make_environment(extra, place / "environment", copy_sources(place / "source"))
            sizes = installed_sizes(python)
            CONSOLE.print(f"{sizes['bytes'] / MEGABYTE:.1f} MB; importing {arguments.repetitions} times")
            installs.append({"extra": extra, **sizes, **_import_times(python, arguments.repetitions)})
    return installs


def _import_times(python: Path, repetitions: int) -> dict[str, Any]:
    """Times of interleaved fresh processes in milliseconds, and the modules with the longest own import time."""
    programs = {"import_ms": IMPORT, "pass_ms": NOTHING}
    taken: dict[str, list[float]] = {name: [] for name in programs}
    for round_number in range(repetitions + 1):
        for name in sorted(programs, reverse=round_number % 2 == 1):
            begun = time.perf_counter()
            _said([str(python), "-c", programs[name]], python.parent)
            if round_number:  # the first round brings files into the system's cache
                taken[name].append((time.perf_counter() - begun) * 1e3)
    more = [own - other for own, other in zip(*taken.values(), strict=True)]
    return {
        "repetitions": repetitions,
        **{name: spread(values) for name, values in taken.items()},
        "difference_ms": spread(more),
        "ratio": ratios(*taken.values()),
        "modules": _slowest_modules(python),
    }


def _slowest_modules(python: Path) -> list[dict[str, Any]]:
    said = _said([str(python), "-X", "importtime", "-c", IMPORT], python.parent).stderr
    rows = [
        {"module": name, "self_ms": int(own) / 1e3, "cumulative_ms": int(both) / 1e3}
        for own, both, name in _IMPORT_TIME.findall(said)
    ]
    return sorted(rows, key=lambda row: -row["self_ms"])[:MOST_MODULES]


def _said(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run outside of the checkout, so that the installed package is imported."""
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=_environment())


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Size of an installation, and time to import the runtime.")
    parser.add_argument(
        "--measure", action="store_true", help="make environments and measure; otherwise only print the table"
    )
    parser.add_argument("--extras", nargs="+", default=list(EXTRAS), choices=EXTRAS)
    parser.add_argument("--repetitions", type=int, default=30, help="number of fresh processes of each kind")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
