"""Properties of an Android device: model, chip, version, processor modes, free space.

They are read with `getprop`; their names are Android's (https://source.android.com/docs/core/architecture/
configuration/add-system-properties). `ro.soc.model` exists since Android 12; before, `ro.board.platform` and
`ro.hardware` are closest. The serial number is not read: figures describe a kind of device, not one person's.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from sam_edge_runtime.errors import BackendError

from .adb import Connection
from .timing import Device

_PROPERTY = re.compile(r"^\[([^\]]+)\]: \[(.*)\]\s*$", re.MULTILINE)
_SUFFIXES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Phone:
    """A device's description, and the processor modes (ABIs) that it runs, best first."""

    device: Device
    abis: tuple[str, ...]


def describe(connection: Connection) -> Phone:
    """Read the device's properties.

    Raises:
        BackendError: it does not report its model and version.
    """
    properties = dict(_PROPERTY.findall(connection.shell("getprop").text))

    def first(*names: str) -> str:
        return next((properties[name].strip() for name in names if properties.get(name, "").strip()), "")

    maker, model = first("ro.product.manufacturer", "ro.product.brand"), first("ro.product.model")
    version = first("ro.build.version.release")
    if not model or not version:
        raise BackendError(
            f"device '{connection.serial}' does not report model and version: is it Android? See `adb shell getprop`"
        )
    soc_maker, soc = first("ro.soc.manufacturer"), first("ro.soc.model")
    chip = f"{soc_maker} {soc}".strip() if soc else first("ro.board.platform", "ro.hardware")
    abi = first("ro.product.cpu.abi")
    abis = tuple(filter(None, (abi, *(each.strip() for each in first("ro.product.cpu.abilist").split(",")))))
    named = model if not maker or model.lower().startswith(maker.lower()) else f"{maker} {model}"
    return Phone(Device(named, chip, f"Android {version}", abi), tuple(dict.fromkeys(abis)))


def free_bytes(connection: Connection, folder: str) -> int | None:
    """Free bytes where `folder` lies; None if the output of the device's `df` has an unknown form."""
    lines = connection.shell(f"df -k {shlex.quote(folder)}").text.strip().splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("Filesystem")]
    if not heads or heads[0] + 1 >= len(lines):
        return None
    columns = lines[heads[0]].replace("Mounted on", "Mounted").split()
    cells = " ".join(lines[heads[0] + 1 :]).split()  # after a long name the line is broken
    for name, unit in (("Available", 1 << 10), ("Avail", 1 << 10), ("Free", 1)):
        if name in columns and len(cells) > columns.index(name):
            return _size(cells[columns.index(name)], unit)
    return None


def _size(cell: str, unit: int) -> int | None:
    """Bytes from `91366972` in `unit`, or from `9.8G`, as devices before Android 6 print it."""
    found = re.fullmatch(r"([\d.]+)([KMGT]?)", cell)
    if not found:
        return None
    return int(float(found[1]) * (_SUFFIXES[found[2]] if found[2] else unit))
