"""What a host must have before anything is copied to it: run there by its own Python, from standard input.

    python - TARGET... < ssh_requirements.py

Packages are imported, not looked for: on boards they are often there without a library that they need. It needs
nothing but Python's own library, and prints one line: a mark, and JSON with `missing` (each package's reason), `free`
(bytes where it runs) and `platform`.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys

MARK = "sam-edge-host:"
OLDEST = (3, 10)
# Modules by the distribution that brings them; any of them will do.
ALWAYS: dict[str, tuple[str, ...]] = {"numpy": ("numpy",), "Pillow": ("PIL.Image",)}
ENGINES: dict[str, dict[str, tuple[str, ...]]] = {
    "onnx": {"onnxruntime": ("onnxruntime",)},
    "tflite": {"ai-edge-litert": ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")},
    "coreml": {"coremltools": ("coremltools",)},
}


def requirements(targets: list[str], platform: str) -> dict[str, tuple[str, ...]]:
    """Modules that bundles for `targets` need; Core ML's are refused off a Mac, and need nothing there."""
    needed = dict(ALWAYS)
    for target in targets:
        if target != "coreml" or platform == "darwin":
            needed.update(ENGINES.get(target, {}))
    return needed


def why_missing(modules: tuple[str, ...]) -> str | None:
    """Why none of the modules can be imported; None where one can."""
    reason = None
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - an import of somebody else's package raises anything
            reason = reason or (str(error).strip() or type(error).__name__).splitlines()[0]
        else:
            return None
    return reason


def main() -> None:
    """Print what was found."""
    needed = requirements(sys.argv[1:], sys.platform)
    missing = {name: reason for name, modules in needed.items() if (reason := why_missing(modules))}
    found = {"missing": missing, "free": shutil.disk_usage(".").free, "platform": sys.platform}
    print(f"\n{MARK}{json.dumps(found)}", flush=True)


if __name__ == "__main__":
    main()
