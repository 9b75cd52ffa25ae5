"""Memory of this process: its peak, and what it can have."""

from __future__ import annotations

import sys
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MEMORY, _GROUPS, _CONTROL = Path("/proc/meminfo"), Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
_RESET_PEAK = "5"  # proc(5): resets the peak to the present size


def reset_peak() -> bool:
    """Reset the peak to the present size.

    Returns:
        Whether the system can, as Linux can. Otherwise the peak stays that of the process's whole life.
    """
    try:
        _RESET.write_text(_RESET_PEAK)
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """The largest resident size since `reset_peak`, or since the process started, in bytes; 0 on Windows."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_limit() -> int | None:
    """Bytes of memory and swap that this process can have: the machine's, or its container's where that is less.

    None where nothing fixed is known: outside Linux, systems make swap space as they need it.
    """
    try:
        fields = dict(line.split(":", 1) for line in _MEMORY.read_text().splitlines())
        kilobytes = sum(int(fields[name].split()[0]) for name in ("MemTotal", "SwapTotal"))
    except (OSError, KeyError, ValueError, IndexError):
        return None
    return min([kilobytes * 1024, *_container_limits()])


def _container_limits() -> list[int]:
    """Limits of the control groups that this process is in, in version 2 as in version 1; swap is not counted."""
    limits = []
    try:
        groups = [line.split(":", 2) for line in _GROUPS.read_text().splitlines()]
    except OSError:
        return []
    for _, controllers, path in groups:
        version_1 = controllers == "memory"
        if controllers and not version_1:
            continue
        root = _CONTROL / "memory" if version_1 else _CONTROL
        name = "memory.limit_in_bytes" if version_1 else "memory.max"
        for folder in (root / path.lstrip("/"), root):  # in a container, its own group is the root
            try:
                limits.append(int((folder / name).read_text()))
            except (OSError, ValueError):  # `max` where there is no limit
                continue
    return limits
