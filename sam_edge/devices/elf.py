"""A program's ELF header: is it for Android, and for which processor?

A benchmark tool built for this machine would be pushed and then fail on the device with `not executable`, or with a
missing loader, which says little. The header tells beforehand: `e_machine` names the processor, and the interpreter of
a dynamic program is `/system/bin/linker` or `linker64` on Android and something like `/lib64/ld-linux-x86-64.so.2`
elsewhere. A static program has none and is taken. Layout: https://man7.org/linux/man-pages/man5/elf.5.html; Android's
names: https://developer.android.com/ndk/guides/abis.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from sam_edge_runtime.errors import UsageError

# e_machine -> Android's name of the processor
ABIS = {183: "arm64-v8a", 40: "armeabi-v7a", 62: "x86_64", 3: "x86", 243: "riscv64"}
_MAGIC, _INTERPRETER = b"\x7fELF", 3
_LOADERS = ("/system/bin/linker", "/apex/", "/system/bin/bootstrap/linker")
_LARGEST_HEADERS = 1 << 20  # bytes; program headers and interpreter stand at the front


@dataclass(frozen=True)
class AndroidBinary:
    """A program or library for Android on this machine.

    Attributes:
        path: its file here.
        abi: Android's name of the processor that it is for.
        bytes: size of the file.
    """

    path: Path
    abi: str
    bytes: int

    @classmethod
    def read(cls, path: Path, remedy: str) -> AndroidBinary:
        """Check the file at `path`; `remedy` says where to get a right one and ends every refusal.

        Raises:
            UsageError: no file, no ELF, of an unknown processor, or for another system than Android.
        """
        try:
            with path.open("rb") as file:
                head = file.read(_LARGEST_HEADERS)
            size = path.stat().st_size
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror or error}): {remedy}") from error
        if head[:4] != _MAGIC or len(head) < 52:
            raise UsageError(f"{path} is no program (no ELF file): {remedy}")
        try:
            machine, interpreter = _parse(head)
        except (struct.error, ValueError) as error:
            raise UsageError(f"{path} is a damaged program ({error}): {remedy}") from error
        if machine not in ABIS:
            raise UsageError(f"{path} is for processor number {machine}, none of {', '.join(ABIS.values())}: {remedy}")
        if interpreter and not interpreter.startswith(_LOADERS):
            raise UsageError(
                f"{path} is a program for another system than Android (it asks for {interpreter}): {remedy}"
            )
        return cls(path, ABIS[machine], size)

    def check_runs_on(self, abis: tuple[str, ...], remedy: str) -> None:
        """Refuse a program that no processor mode of the device runs; `abis` are the device's, best first.

        Raises:
            UsageError: it is for another processor.
        """
        if abis and self.abi not in abis:
            raise UsageError(f"{self.path} is for {self.abi}, and the device runs {', '.join(abis)}: {remedy}")


def _parse(head: bytes) -> tuple[int, str]:
    """`e_machine`, and the interpreter; empty where the program is static or a library."""
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    (table,) = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, 32 if wide else 28)
    size, count = struct.unpack_from(f"{order}HH", head, 54 if wide else 42)
    for number in range(count):
        start = table + number * size
        (kind,) = struct.unpack_from(f"{order}I", head, start)
        if kind == _INTERPRETER:
            if wide:
                offset, length = (struct.unpack_from(f"{order}Q", head, start + at)[0] for at in (8, 32))
            else:
                offset, length = (struct.unpack_from(f"{order}I", head, start + at)[0] for at in (4, 16))
            name = head[offset : offset + length]
            if len(name) < length:
                raise ValueError("its interpreter lies outside its headers")
            return machine, name.rstrip(b"\0").decode("utf-8", "replace")
    return machine, ""
