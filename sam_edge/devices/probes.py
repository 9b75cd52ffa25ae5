"""Whether a package can be imported here, and what it can compute on.

Each package is asked in a process of its own, because an import can fail, print, take minutes or crash the process.
The process gets this one's search path, so both see the same packages. It answers with one line of JSON.

ONNX Runtime lists every execution provider that it was built with, whether or not the provider's driver is installed.
So each one gets a session that copies one number, and counts as usable only if the session still has it afterwards.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from typing import Any

from sam_edge_runtime.errors import first_line

PATIENCE = 60.0  # seconds that one package may take

# An ONNX model with the one node Identity: input x, output y, one float32 each; IR 8, opset 17.
IDENTITY_MODEL = bytes.fromhex(
    "08083a370a100a017812017922084964656e746974791201675a0f0a0178120a0a08080112040a020801620f0a0179120a0a08080112040a02"
    "080142040a001011"
)
_REMOTE = "AzureExecutionProvider"  # sends the input to a web service; nothing is computed on this machine
_SILENT = 4  # ONNX Runtime's highest severity: a provider that fails says so in its exception
_MARK = "sam-edge-probe:"
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from sam_edge.devices.probes import answer; answer(*sys.argv[2:])"
)


@dataclass(frozen=True)
class Probe:
    """What one package answered.

    Attributes:
        version: its version; None where it is not installed, or does not tell.
        error: why it cannot be imported, one line; None where it can.
        missing: whether it is not installed at all.
        imported: whether that was tried; without it, an installed package may still be broken.
        devices: what it can compute on, by the names that `--provider` takes where it is an engine.
        refused: what it was built for but cannot use here, with the reason.
    """

    version: str | None = None
    error: str | None = None
    missing: bool = False
    imported: bool = True
    devices: tuple[str, ...] = ()
    refused: dict[str, str] | None = None


def look(module: str, distribution: str) -> Probe:
    """Whether a package is installed, without importing it; arguments as those of `probe`."""
    if not _is_there(module.partition(".")[0]):
        return Probe(missing=True, imported=False)
    return Probe(_version(module, distribution), imported=False)


def probe(module: str, distribution: str, patience: float = PATIENCE) -> Probe:
    """Import `module` in a process of its own, and ask it what it can do.

    Args:
        module: dotted name, such as `ai_edge_litert.interpreter`.
        distribution: the package's name for pip, whose version is told.
        patience: seconds after which the process is ended.
    """
    if not _is_there(module.partition(".")[0]):
        return Probe(missing=True)
    command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), module, distribution]
    try:
        done = subprocess.run(  # noqa: S603 - this Python, and names from the table in doctor.py
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Probe(_version(module, distribution), f"took longer than {patience:g} seconds to import")
    _, mark, said = done.stdout.rpartition(_MARK)
    if not mark:
        return Probe(_version(module, distribution), _how_it_ended(done))
    found = json.loads(said)
    found["devices"] = tuple(found.get("devices", ()))
    return Probe(**found)


def answer(module: str, distribution: str) -> None:
    """Import `module` in this process, print one line of JSON, and end the process without what runs at exit."""
    found: dict[str, Any] = {"version": _version(module, distribution)}
    try:
        found |= _QUESTIONS.get(module, _imported)(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a package may raise anything while it is imported
        found["error"] = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
    sys.stdout.write(f"\n{_MARK}{json.dumps(found)}\n")
    sys.stdout.flush()
    os._exit(0)  # engines that clean up at exit take up to seconds, and some crash


def _imported(module: str) -> dict[str, Any]:
    import_module(module)
    return {}


def _onnxruntime(_: str) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 - only in the process that asks
    import onnxruntime  # noqa: PLC0415

    from sam_edge_runtime.backends.onnx import PROVIDERS  # noqa: PLC0415

    onnxruntime.set_default_logger_severity(_SILENT)
    short = {full: name for name, full in PROVIDERS.items()}
    devices, refused = [], {}
    for full in onnxruntime.get_available_providers():
        if full == _REMOTE:
            continue
        name = short.get(full, full)
        try:
            session = onnxruntime.InferenceSession(IDENTITY_MODEL, providers=[full])
            session.run(None, {"x": np.ones(1, np.float32)})
        except Exception as error:  # noqa: BLE001 - its errors have no common class
            refused[name] = first_line(error)
            continue
        if full in session.get_providers():
            devices.append(name)
        else:
            refused[name] = "ONNX Runtime falls back to the CPU: the provider's own libraries cannot be loaded"
    return {"devices": devices, "refused": refused}


def _tflite_runtime(module: str) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415 - only in the process that asks

    import_module(module)
    if int(np.__version__.partition(".")[0]) > 1:
        raise ImportError(f"it works with numpy 1 only, and this is numpy {np.__version__}")
    return {"devices": ["cpu"]}


def _litert(module: str) -> dict[str, Any]:
    import_module(module)
    return {"devices": ["cpu"]}


def _coremltools(module: str) -> dict[str, Any]:
    import_module(module)
    if sys.platform == "darwin":
        import_module("coremltools.libcoremlpython")  # the framework; coremltools is imported without it, too
    return {}


def _torch(_: str) -> dict[str, Any]:
    import torch  # noqa: PLC0415 - only in the process that asks

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{each} ({torch.cuda.get_device_name(each)})" for each in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return {"devices": devices}


_QUESTIONS: dict[str, Callable[[str], dict[str, Any]]] = {
    "onnxruntime": _onnxruntime,
    "ai_edge_litert.interpreter": _litert,
    "tflite_runtime.interpreter": _tflite_runtime,
    "coremltools": _coremltools,
    "torch": _torch,
}


def _is_there(package: str) -> bool:
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):  # half an installation
        return True
    return spec is not None and spec.origin is not None  # a folder of that name, such as a bundle, has no origin


def _version(module: str, distribution: str) -> str | None:
    """The version of what carries `module`: `onnxruntime-gpu` carries the same as `onnxruntime`."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        carriers = packages_distributions().get(module.partition(".")[0], ())
        return next((f"{version(each)} ({each})" for each in carriers), None)


def _how_it_ended(done: subprocess.CompletedProcess[str]) -> str:
    """Why a process gave no answer."""
    if done.returncode < 0:
        try:
            name = signal.Signals(-done.returncode).name
        except ValueError:
            name = f"signal {-done.returncode}"
        return f"crashes while it is imported ({name})"
    lines = done.stderr.strip().splitlines()
    return f"ends the process while it is imported ({lines[-1][:200] if lines else f'exit code {done.returncode}'})"
