"""A program's ELF header: whether it was built for Android, and for which processor.

A benchmark tool that was built for another system fails on the device with a message that does not name the cause:
`not executable`, or a missing loader. The header has the cause. `e_machine` names the processor. The interpreter of a
dynamic program is `/system/bin/linker` or `linker64` on Android, and `/lib64/ld-linux-x86-64.so.2` or the like
elsewhere. A static program has no interpreter and is accepted. Layout:
https://man7.org/linux/man-pages/man5/elf.5.html; Android's names: https://developer.android.com/ndk/guides/abis.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sam_edge_runtime.errors import UsageError, first_line
from sam_edge_runtime.system.text import read_regular

# pyelftools' name of e_machine -> Android's name of the processor
ABIS = {
    "EM_AARCH64": "arm64-v8a",
    "EM_ARM": "armeabi-v7a",
    "EM_X86_64": "x86_64",
    "EM_386": "x86",
    "EM_RISCV": "riscv64",
}
_LOADERS = ("/system/bin/linker", "/apex/", "/system/bin/bootstrap/linker")


@dataclass(frozen=True)
class AndroidBinary:
    """A program or library for Android on this machine.

    Attributes:
        path: its file here.
        abi: Android's name of its processor.
        bytes: size of the file.
    """

    path: Path
    abi: str
    bytes: int

    @classmethod
    def read(cls, path: Path, remedy: str) -> AndroidBinary:
        """Check the file at `path`; every error ends with `remedy`, which says where to get the right one.

        Raises:
            UsageError: no file, no ELF file, an unknown processor, another system than Android, or pyelftools is
                missing.
        """
        try:
            content = read_regular(path)
        except OSError as error:
            raise UsageError(f"{path} cannot be read ({error.strerror or error}): {remedy}") from error
        machine, interpreter = _header(io.BytesIO(content), path, remedy)
        if machine not in ABIS:
            raise UsageError(f"{path} is for processor {machine}, none of {', '.join(ABIS.values())}: {remedy}")
        if interpreter and not interpreter.startswith(_LOADERS):
            raise UsageError(
                f"{path} is a program for another system than Android (its interpreter is {interpreter}): {remedy}"
            )
        return cls(path, ABIS[machine], len(content))

    def check_runs_on(self, abis: tuple[str, ...], remedy: str) -> None:
        """Refuse a program that the device's processor does not run; `abis` are the device's, best first.

        Raises:
            UsageError: it is for another processor.
        """
        if abis and self.abi not in abis:
            raise UsageError(f"{self.path} is for {self.abi}, and the device runs {', '.join(abis)}: {remedy}")


def _header(file: IO[bytes], path: Path, remedy: str) -> tuple[str, str]:
    """`e_machine` and the interpreter, which is empty for a static program or a library."""
    try:
        from elftools.elf.elffile import ELFFile  # noqa: PLC0415 - an extra
        from elftools.elf.segments import InterpSegment  # noqa: PLC0415
    except ImportError as error:
        raise UsageError("measuring on Android needs pyelftools: pip install 'sam-edge[android]'") from error
    if file.read(4) != b"\x7fELF":
        raise UsageError(f"{path} is no program (no ELF file): {remedy}")
    try:
        program = ELFFile(file)
        interpreters = [each.get_interp_name() for each in program.iter_segments() if isinstance(each, InterpSegment)]
        return str(program["e_machine"]), interpreters[0] if interpreters else ""
    except OSError:
        raise
    except Exception as error:  # a damaged header raises whatever its bytes lead to
        raise UsageError(f"{path} is a damaged program ({first_line(error)}): {remedy}") from error
