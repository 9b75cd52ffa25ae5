"""A program that would not run on the device is refused before anything is pushed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from sam_edge.devices.elf import AndroidBinary
from sam_edge_runtime.errors import UsageError
from tests.devices.conftest import elf

REMEDY = "see the manual"


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        AndroidBinary.read(path, REMEDY)
    line = str(caught.value)
    assert line.endswith(REMEDY)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(("machine", "abi"), [(183, "arm64-v8a"), (62, "x86_64")])
@pytest.mark.parametrize("interpreter", ["/system/bin/linker64", ""])
def test_a_program_for_android_is_accepted_static_or_dynamic(tmp_path, machine, abi, interpreter):
    path = tmp_path / "tool"
    path.write_bytes(elf(machine, interpreter))
    assert AndroidBinary.read(path, REMEDY) == AndroidBinary(path, abi, 4096)


def test_this_machines_own_program_is_refused():
    if sys.platform != "linux":
        pytest.skip("programs of this system are no ELF files")
    assert "another system than Android" in refused(Path(sys.executable).resolve())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"#!/bin/sh\n" * 20, "no ELF file"),
        (b"", "no ELF file"),
        (elf(machine=8), "processor EM_MIPS"),
        (elf()[:100], "damaged"),
        (elf(interpreter="/lib/ld-linux-aarch64.so.1"), "its interpreter is /lib/ld-linux-aarch64.so.1"),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    path = tmp_path / "tool"
    path.write_bytes(content)
    assert words in refused(path)


def test_a_missing_file_is_named(tmp_path):
    assert "No such file" in refused(tmp_path / "none")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "it is no regular file" in refused(tmp_path / "pipe")


def test_a_program_for_another_processor_is_refused(tmp_path):
    path = tmp_path / "tool"
    path.write_bytes(elf(machine=62))
    binary = AndroidBinary.read(path, REMEDY)
    binary.check_runs_on(("arm64-v8a", "x86_64"), REMEDY)
    with pytest.raises(UsageError, match=r"is for x86_64, and the device runs arm64-v8a"):
        binary.check_runs_on(("arm64-v8a",), REMEDY)
