"""What figures were had on: a figure without it cannot be compared with another."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from sam_edge_runtime.system.cores import usable_cores

# Of /proc/cpuinfo's flags (x86 and Arm) those that decide which kernels an engine takes.
_TELLING = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
_CPUINFO, _MODEL = Path("/proc/cpuinfo"), Path("/proc/device-tree/model")


def machine() -> dict[str, Any]:
    """Device, processor, instruction sets, cores that this process may use, memory in bytes, system, Python."""
    processor, flags = _apple_chip() or platform.processor() or platform.machine(), ""
    if _CPUINFO.is_file():
        lines = [line.partition(":")[::2] for line in _CPUINFO.read_text(errors="replace").splitlines()]
        said = {name.strip().lower(): value.strip() for name, value in reversed(lines)}
        processor = said.get("model name", said.get("hardware", processor))
        flags = said.get("flags", said.get("features", ""))
    return {
        "device": _board() or platform.machine(),
        "processor": processor,
        "instructions": [flag for flag in _TELLING if flag in flags.split()],
        "cores": usable_cores(),
        "memory_bytes": _memory(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _apple_chip() -> str:
    """What a Mac calls its chip, such as `Apple M2`; empty elsewhere."""
    if sys.platform != "darwin":
        return ""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - no input


def _board() -> str:
    """What a board calls itself, such as `Raspberry Pi 5 Model B Rev 1.0`; empty where nothing says it."""
    return _MODEL.read_text(errors="replace").strip("\0 \n") if _MODEL.is_file() else ""


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has none of it
        return None
