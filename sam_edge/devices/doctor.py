"""What sam-edge can do on this machine, and what has to be installed for the rest.

Packages of the optional extras are imported, each in a process of its own (probes.py), several at a time. So a package
that is installed and cannot be imported is found here, with its own error, before a command fails over it. The large
ones, torch and the converters, take half a minute of a processor. Unless they are asked for, they are only looked up,
and called installed, not usable.

The table of extras repeats `pyproject.toml`, because evaluating an installed package's requirements takes a library
that the base installation does not have; a test compares the two.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import sam_edge
from sam_edge.reporting.versions import commit
from sam_edge.weights.cache import CACHE_VARIABLE, cache_folder, cached
from sam_edge.weights.catalogue import RELEASES
from sam_edge_runtime.benchmark.machine import machine
from sam_edge_runtime.bundle.targets import TARGETS
from sam_edge_runtime.errors import SamEdgeError
from sam_edge_runtime.system.cores import usable_cores

from .adb import READY, Adb
from .probes import PATIENCE, Probe, look, probe

USABLE, INSTALLED, MISSING, BROKEN, NOT_HERE = "usable", "installed", "missing", "broken", "not here"
STATES = {
    USABLE: "it was imported or called, and works",
    INSTALLED: "it is there, and was not imported",
    MISSING: "it is not installed or not connected",
    BROKEN: "it is installed and does not work",
    NOT_HERE: "it does not exist for this machine",
}
BASE = ("numpy", "Pillow", "typer", "rich")
_ADB_PATIENCE = 20.0  # seconds; the first call starts adb's server
_MAC = sys.platform == "darwin"
_LINUX_X86 = sys.platform == "linux" and platform.machine() == "x86_64"
(ONNX_RUNTIME,), (CORE_ML,) = TARGETS["onnx"].engines, TARGETS["coreml"].engines
# No extra asks for the predecessor, which LiteRT replaced. It is used where a board has nothing else.
LITERT, PREDECESSOR = TARGETS["tflite"].engines


@dataclass(frozen=True)
class Package:
    """A package of an extra.

    Attributes:
        module: what is imported of it.
        large: whether importing it takes more than a second of a processor.
        offered: whether the extra asks for it on this machine; some packages have no wheels for others.
    """

    module: str
    large: bool = False
    offered: bool = True


@dataclass(frozen=True)
class Extra:
    """An optional part of the installation, `pip install 'sam-edge[NAME]'`.

    Attributes:
        purpose: what it is for.
        packages: names for pip of its own packages.
        includes: other extras that come with it.
    """

    purpose: str
    packages: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()


PACKAGES: dict[str, Package] = {
    ONNX_RUNTIME.distribution: Package(ONNX_RUNTIME.module),
    LITERT.distribution: Package(LITERT.module, offered=sys.platform != "win32"),
    # On a Mac it is an engine.
    CORE_ML.distribution: Package(CORE_ML.module, large=not _MAC, offered=_MAC or _LINUX_X86),
    "pooch": Package("pooch"),
    "requests": Package("requests"),
    "huggingface_hub": Package("huggingface_hub"),
    "pyelftools": Package("elftools.elf.elffile"),
    "jinja2": Package("jinja2"),
    "torch": Package("torch", large=True),
    "onnx": Package("onnx"),
    "onnxscript": Package("onnxscript", large=True),
    "litert-torch": Package("litert_torch", large=True, offered=_LINUX_X86),
    "ai-edge-quantizer": Package("ai_edge_quantizer", offered=_LINUX_X86),
    "safetensors": Package("safetensors"),
    "accelerate": Package("accelerate", large=True),
    "tensorboard": Package("tensorboard"),
    "tomli": Package("tomli", offered=sys.version_info < (3, 11)),
    "webdataset": Package("webdataset", large=True),
    "pycocotools": Package("pycocotools.mask"),
    "scipy": Package("scipy.ndimage"),
    "matplotlib": Package("matplotlib.figure", large=True),
    "opencv-python-headless": Package("cv2"),
    "neural-compressor": Package("neural_compressor", large=True, offered=sys.version_info >= (3, 11)),
    "tokenizers": Package("tokenizers"),
    "starlette": Package("starlette.applications"),
    "uvicorn": Package("uvicorn"),
    "onnxruntime-qnn": Package("onnxruntime_qnn", large=True, offered=_LINUX_X86 and sys.version_info >= (3, 11)),
}
EXTRAS: dict[str, Extra] = {
    "onnx": Extra("run ONNX bundles", ("onnxruntime",)),
    "tflite": Extra("run TFLite bundles", ("ai-edge-litert",)),
    "coreml": Extra("run Core ML bundles on a Mac", ("coremltools",)),
    "download": Extra("fetch weights", ("pooch", "requests", "huggingface_hub")),
    "android": Extra("check benchmark tools for Android devices", ("pyelftools",)),
    "report": Extra("write report.html after a verification", ("jinja2",)),
    "export": Extra(
        "make and quantize bundles, verify against torch",
        ("torch", "onnx", "onnxscript", "litert-torch", "ai-edge-quantizer", "safetensors"),
        ("coreml", "download", "onnx", "report", "tflite"),
    ),
    "evaluate": Extra(
        "measure against human masks, annotate data sets",
        ("webdataset", "pycocotools", "scipy", "matplotlib", "opencv-python-headless", "jinja2"),
    ),
    "train": Extra("train and distil", ("accelerate", "tensorboard", "tomli"), ("evaluate", "export")),
    "neural-compressor": Extra("a second driver and roundings for INT8", ("neural-compressor",), ("export",)),
    "text": Extra("rank masks by words with CLIP's text encoders", ("tokenizers",)),
    "serve": Extra("the page that segments and annotates photos", ("starlette", "uvicorn")),
    "qnn": Extra("compile for Qualcomm's NPU and simulate it", ("onnxruntime-qnn",)),
}


@dataclass(frozen=True)
class Finding:
    """A package, an engine, a quantizer, an extra or a kind of device.

    Attributes:
        name: what it is called.
        state: a key of `STATES`.
        version: its version, where it has one.
        detail: what it can compute on, or why it cannot be used.
        remedy: what makes it usable; empty where it is, or where nothing does on this machine.
    """

    name: str
    state: str
    version: str | None = None
    detail: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was found.

    Attributes:
        sam_edge: `version` and `commit`, which is None where it does not run from a checkout.
        machine: processor, cores, memory in bytes, system, Python (`sam_edge_runtime.benchmark.machine`).
        weights: `folder` of the cache (`~` is the home folder), or None with an `error`; `free_bytes` there; the
            variants that are `cached`.
        base, engines, quantizers, extras, packages, devices: one finding each.
    """

    sam_edge: dict[str, str | None]
    machine: dict[str, Any]
    weights: dict[str, Any]
    base: tuple[Finding, ...]
    engines: tuple[Finding, ...]
    quantizers: tuple[Finding, ...]
    extras: tuple[Finding, ...]
    packages: tuple[Finding, ...]
    devices: tuple[Finding, ...]


def diagnose(
    show: Callable[[str, int, int], None] = lambda *_: None,
    *,
    thorough: bool = False,
    patience: float = PATIENCE,
    adb: str = "adb",
) -> Diagnosis:
    """Look at this machine; nothing that is broken on it makes this fail.

    Args:
        show: is told what was looked at, how many of how many.
        thorough: import the large packages, too.
        patience: seconds that one package may take to be imported.
        adb: the `adb` program, by path or by name on PATH. It starts its server, which goes on running.
    """
    probes = _probe_all(show, patience, thorough=thorough)
    packages = tuple(_package(name, probes) for name in (*PACKAGES, PREDECESSOR.distribution))
    by_name = {each.name: each for each in packages}
    return Diagnosis(
        {"version": sam_edge.__version__, "commit": commit()},
        machine(),
        _weights(),
        tuple(Finding(name, USABLE, _version(name)) for name in BASE),  # this command runs on them
        tuple(_engines(probes, by_name)),
        tuple(_quantizers(by_name)),
        tuple(_extra(name, by_name) for name in EXTRAS),
        packages,
        (_phones(adb), _boards(), _mac(by_name[CORE_ML.distribution])),
    )


def packages_of(extra: str) -> tuple[str, ...]:
    """Names for pip of all packages that `extra` brings, those of the extras that it includes among them."""
    included = (name for other in EXTRAS[extra].includes for name in packages_of(other))
    return tuple(dict.fromkeys((*EXTRAS[extra].packages, *included)))


def _probe_all(show: Callable[[str, int, int], None], patience: float, *, thorough: bool) -> dict[str, Probe]:
    """An answer for each package that this machine may have, by its name for pip."""
    wanted = {name: package for name, package in PACKAGES.items() if package.offered}
    wanted[PREDECESSOR.distribution] = Package(PREDECESSOR.module)
    imported = [name for name, package in wanted.items() if thorough or not package.large]
    found = {name: look(package.module, name) for name, package in wanted.items() if name not in imported}
    with ThreadPoolExecutor(max(2, usable_cores())) as pool:
        running = {pool.submit(probe, wanted[name].module, name, patience): name for name in imported}
        for done in as_completed(running):
            found[running[done]] = done.result()
            show(f"importing {running[done]}", len(found), len(wanted))
    return found


def _package(name: str, probes: Mapping[str, Probe]) -> Finding:
    found = probes.get(name)
    if found is None:
        return Finding(name, NOT_HERE, detail="no extra asks for it on this machine")
    if found.missing:
        return Finding(name, MISSING, remedy=_install(name))
    if found.error is not None:
        replaced = name == PREDECESSOR.distribution
        remedy = _install(name) if replaced else f"pip install --force-reinstall --no-deps {name}"
        return Finding(name, BROKEN, found.version, found.error, remedy)
    if not found.imported:
        return Finding(name, INSTALLED, found.version)
    refused = [f"not {device}: {reason}" for device, reason in (found.refused or {}).items()]
    return Finding(name, USABLE, found.version, "; ".join((", ".join(found.devices), *refused)).strip("; "))


def _install(name: str) -> str:
    """How a package is brought: by the smallest extra that has it."""
    if name == PREDECESSOR.distribution:
        name = LITERT.distribution
    extra = next(each for each, what in EXTRAS.items() if name in what.packages)
    return f"pip install 'sam-edge[{extra}]'"


def _engines(probes: Mapping[str, Probe], packages: Mapping[str, Finding]) -> Iterator[Finding]:
    """What can run a bundle's graphs, and torch, which they are verified against."""
    for engine in (ONNX_RUNTIME, LITERT, PREDECESSOR):
        if engine == PREDECESSOR and probes[engine.distribution].missing:
            continue  # nobody needs it beside LiteRT
        yield _renamed(packages[engine.distribution], engine.name)
    if TARGETS["coreml"].runs_here:
        yield _renamed(packages[CORE_ML.distribution], CORE_ML.name)
    else:
        detail = "Core ML bundles are computed by sam-edge's evaluator in numpy; Core ML itself is on Macs only"
        yield Finding(CORE_ML.name, NOT_HERE, detail=detail)
    yield _renamed(packages["torch"], "torch")


def _quantizers(packages: Mapping[str, Finding]) -> Iterator[Finding]:
    """What `--precision w8` and below need for each target; all come with the extra `export`."""
    for target, names in (
        ("ONNX", (ONNX_RUNTIME.distribution, "onnx")),
        ("TFLite", ("ai-edge-quantizer",)),
        ("Core ML", (CORE_ML.distribution,)),
    ):
        parts = [packages[name] for name in names]
        joined = _joined(target, parts, "export")
        versions = ", ".join(f"{part.name} {part.version}" for part in parts if part.version)
        yield Finding(target, joined.state, versions or None, joined.detail, joined.remedy)


def _extra(name: str, packages: Mapping[str, Finding]) -> Finding:
    """An extra, with the extras that come with it named instead of their packages."""
    included = [_extra(other, packages) for other in EXTRAS[name].includes]
    parts = [packages[each] for each in EXTRAS[name].packages]
    return _joined(name, parts + [Finding(f"[{each.name}]", each.state, remedy=each.remedy) for each in included], name)


def _joined(name: str, parts: list[Finding], extra: str) -> Finding:
    """One finding for several: it is as usable as the worst of those that this machine may have."""
    here = [part for part in parts if part.state != NOT_HERE]
    if not here:
        return Finding(name, NOT_HERE, detail=f"{', '.join(part.name for part in parts)}: no wheels for this machine")
    by_state = {state: [part for part in here if part.state == state] for state in (BROKEN, MISSING, INSTALLED, USABLE)}
    state = next(state for state, those in by_state.items() if those)
    detail = "; ".join(
        f"{said}: {', '.join(part.name for part in by_state[said])}" for said in (BROKEN, MISSING) if by_state[said]
    )
    remedies = {BROKEN: [part.remedy for part in by_state[BROKEN]], MISSING: [f"pip install 'sam-edge[{extra}]'"]}
    return Finding(name, state, detail=detail, remedy="; ".join(dict.fromkeys(remedies.get(state, ()))))


def _renamed(finding: Finding, name: str) -> Finding:
    return Finding(name, finding.state, finding.version, finding.detail, finding.remedy)


def _phones(program: str) -> Finding:
    """Android devices. Serial numbers are left out, since this ends up in reports of faults."""
    name = "Android phones, by adb"
    try:
        states = list(Adb(program, _ADB_PATIENCE).devices().values())
    except SamEdgeError as error:
        what, _, remedy = str(error).partition(": ")
        return Finding(name, MISSING if shutil.which(program) is None else BROKEN, detail=what, remedy=remedy)
    detail = f"connected: {', '.join(states) or 'none'}"
    if READY in states:
        return Finding(name, USABLE, detail=detail)
    remedy = "connect one and accept its dialog 'Allow USB debugging?'; see docs/devices.md"
    return Finding(name, MISSING, detail=detail, remedy=remedy)


def _boards() -> Finding:
    """Whether there is an ssh client that can share a connection, as `benchmark --device ssh:HOST` needs."""
    name, program = "Boards, by ssh", shutil.which("ssh")
    if sys.platform == "win32":
        return Finding(name, NOT_HERE, detail="Windows' ssh cannot share a connection; use WSL")
    if program is None:
        return Finding(name, MISSING, detail="no ssh client", remedy="install OpenSSH (Debian: openssh-client)")
    try:
        done = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(name, BROKEN, detail=f"{program} -V: {error}", remedy="install OpenSSH anew")
    said = (done.stderr or done.stdout).strip().splitlines()
    if done.returncode or not said:
        return Finding(name, BROKEN, detail=f"{program} -V ends with {done.returncode}", remedy="install OpenSSH anew")
    return Finding(name, USABLE, said[0].split(",")[0])


def _mac(coremltools: Finding) -> Finding:
    """Whether this is a Mac on which Core ML can be measured."""
    name = "Mac, by Core ML's tools"
    if not _MAC:
        return Finding(name, NOT_HERE, detail="Core ML is measured on a Mac only")
    return Finding(name, coremltools.state, f"macOS {platform.mac_ver()[0]}", coremltools.detail, coremltools.remedy)


def _weights() -> dict[str, Any]:
    try:
        folder = cache_folder()
    except SamEdgeError:
        reason = f"unknown: pip install 'sam-edge[download]', or name a folder in {CACHE_VARIABLE}"
        return {"folder": None, "error": reason, "free_bytes": None, "cached": []}
    # A clone has small's weights in its own folder.
    found = {name: cached(release) for name, release in RELEASES.items()}
    names = [name for name, path in found.items() if path is not None and path.parent == folder]
    home = Path.home()  # its name may be a person's, and this ends up in public reports
    named = f"~/{folder.relative_to(home).as_posix()}" if folder.is_relative_to(home) else str(folder)
    return {"folder": named, "error": None, "free_bytes": _free_bytes(folder), "cached": names}


def _free_bytes(folder: Path) -> int | None:
    """Free bytes where `folder` is or would be made; None where the system does not say."""
    try:
        there = next(each for each in (folder, *folder.parents) if each.is_dir())
        return shutil.disk_usage(there).free
    except (OSError, StopIteration):
        return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
