"""A description of this machine, which every measured figure needs to be comparable."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from sam_edge_runtime.system.cores import usable_cores

# Flags of /proc/cpuinfo, on x86 and Arm, that decide which kernels an engine uses.
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")
_CPUINFO, _MODEL = Path("/proc/cpuinfo"), Path("/proc/device-tree/model")


def machine() -> dict[str, Any]:
    """Device, processor, instruction sets, cores that this process may use, memory in bytes, system, Python."""
    processor, flags = _apple_chip() or platform.processor() or platform.machine(), ""
    if _CPUINFO.is_file():
        lines = [line.partition(":")[::2] for line in _CPUINFO.read_text(errors="replace").splitlines()]
        fields = {name.strip().lower(): value.strip() for name, value in reversed(lines)}
        processor = fields.get("model name", fields.get("hardware", processor))
        flags = fields.get("flags", fields.get("features", ""))
    return {
        "device": _board() or platform.machine(),
        "processor": processor,
        "instructions": [flag for flag in _FLAGS if flag in flags.split()],
        "cores": usable_cores(),
        "memory_bytes": _memory(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _apple_chip() -> str:
    """The name of a Mac's chip, such as `Apple M2`; empty elsewhere."""
    if sys.platform != "darwin":
        return ""
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - no input


def _board() -> str:
    """The name of a board, such as `Raspberry Pi 5 Model B Rev 1.0`; empty where there is none."""
    return _MODEL.read_text(errors="replace").strip("\0 \n") if _MODEL.is_file() else ""


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None
