"""The packages that a host needs, checked on the host before anything is copied.

The host's own Python runs this file from standard input:

    python - TARGET... < ssh_requirements.py

Packages are imported, not only looked up: on boards a library that they need is often missing. The file itself uses
only Python's standard library. It prints one line: a mark, and JSON with `missing` (each package's reason), `free`
(free bytes in the current folder) and `platform`.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys

MARK = "sam-edge-host:"
OLDEST = (3, 10)
# Modules by the distribution that contains them; one of them is enough.
ALWAYS: dict[str, tuple[str, ...]] = {"numpy": ("numpy",), "Pillow": ("PIL.Image",)}
ENGINES: dict[str, dict[str, tuple[str, ...]]] = {
    "onnx": {"onnxruntime": ("onnxruntime",)},
    "tflite": {"ai-edge-litert": ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")},
    "coreml": {"coremltools": ("coremltools",)},
}


def requirements(targets: list[str], platform: str) -> dict[str, tuple[str, ...]]:
    """Modules that bundles for `targets` need. Off a Mac Core ML bundles are refused later, so they need none."""
    needed = dict(ALWAYS)
    for target in targets:
        if target != "coreml" or platform == "darwin":
            needed.update(ENGINES.get(target, {}))
    return needed


def why_missing(modules: tuple[str, ...]) -> str | None:
    """Why none of the modules can be imported; None if one can."""
    reason = None
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - importing a package may raise anything
            reason = reason or (str(error).strip() or type(error).__name__).splitlines()[0]
        else:
            return None
    return reason


def main() -> None:
    """Print the line with the result."""
    needed = requirements(sys.argv[1:], sys.platform)
    missing = {name: reason for name, modules in needed.items() if (reason := why_missing(modules))}
    found = {"missing": missing, "free": shutil.disk_usage(".").free, "platform": sys.platform}
    print(f"\n{MARK}{json.dumps(found)}", flush=True)


if __name__ == "__main__":
    main()
