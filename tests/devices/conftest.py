"""A fake device behind a stand-in for `adb`, programs that pass for Android's, and bundles of a few bytes."""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sam_edge.devices.android import AndroidOptions
from sam_edge_runtime.bundle.bundle import Bundle, record_files
from sam_edge_runtime.bundle.contract import Layout
from tests.runtime.standin import manifest, write_onnx_bundle

HERE = Path(__file__).parent
PROPERTIES = {
    "ro.product.manufacturer": "Acme",
    "ro.product.model": "Phone 9",
    "ro.soc.manufacturer": "Acme",
    "ro.soc.model": "X1",
    "ro.build.version.release": "14",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a",
    "ro.serialno": "SECRET42",
}
DF = "Filesystem      1K-blocks     Used Available Use% Mounted on\n/dev/block/dm-8 {total} 9013288  {free} 21% /data\n"


def elf(machine: int = 183, interpreter: str = "/system/bin/linker64", *, size: int = 4096) -> bytes:
    """A 64-bit program's headers, and zeros."""
    name = interpreter.encode() + b"\0"
    head = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 1 if interpreter else 0, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, len(name), len(name), 1)
    return (head + segment + name).ljust(size, b"\0")


@dataclass
class FakeDevice:
    """The stand-in program, and the folder that is the device."""

    adb: Path
    home: Path

    def set(self, **state) -> None:
        path = self.home / "state.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **state}))

    @property
    def files(self) -> list[str]:
        """What is on the device."""
        return sorted(path.name for path in (self.home / "files").rglob("*"))

    @property
    def commands(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.home / "log").read_text().splitlines()]

    @property
    def calls(self) -> int:
        return int((self.home / "calls").read_text())

    def program(self, name: str, text: str) -> None:
        path = self.home / "bin" / name
        path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}END\n")
        path.chmod(0o755)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    home = tmp_path / "device"
    for folder in ("files", "bin"):
        (home / folder).mkdir(parents=True)
    (home / "state.json").write_text("{}")
    monkeypatch.setenv("FAKE_DEVICE", str(home))
    adb = tmp_path / "adb"
    adb.write_text(f'#!/bin/sh\nexec {sys.executable} -S {HERE / "fake_adb.py"} "$@"\n')
    adb.chmod(0o755)
    fake = FakeDevice(adb, home)
    fake.program("getprop", "".join(f"[{name}]: [{value}]\n" for name, value in PROPERTIES.items()))
    fake.program("df", DF.format(total=114380260, free=91366972))
    return fake


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, Path]:
    """Programs that a look at their headers takes for Android's."""
    paths = {
        "litert_tool": tmp_path / "android_aarch64_benchmark_model",
        "ort_tool": tmp_path / "onnxruntime_perf_test",
    }
    for path in paths.values():
        path.write_bytes(elf())
    return paths


@pytest.fixture
def options(device: FakeDevice, tools: dict[str, Path]) -> Callable[..., AndroidOptions]:
    def make(**changes) -> AndroidOptions:
        return AndroidOptions(**{"adb": str(device.adb), "timeout": 60.0, **tools, **changes})

    return make


@pytest.fixture
def tflite_bundle(tmp_path: Path) -> Bundle:
    """A bundle whose graphs are a few bytes, with a decoder of two capacities; no engine here opens it."""
    root = tmp_path / "tflite"
    root.mkdir()
    (root / "encoder.tflite").write_bytes(b"e" * 3000)
    (root / "decoder.tflite").write_bytes(b"d" * 2000)
    described = manifest(
        8,
        4,
        target="tflite",
        layout=Layout.NHWC,
        batches=(1, 8),
        encoder="encoder.tflite",
        decoder="decoder.tflite",
        files=record_files(root),
    )
    (root / "manifest.json").write_text(described.to_json())
    return Bundle.open(root)


@pytest.fixture
def onnx_bundle(tmp_path: Path) -> Bundle:
    """Two tiny real graphs, the decoder with free axes."""
    return write_onnx_bundle(tmp_path / "onnx")


@pytest.fixture(autouse=True)
def _fake_device_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here may reach a phone that happens to be plugged in."""
    monkeypatch.setenv("ANDROID_SERIAL", "no-such-device")
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(20000 + os.getpid() % 20000))
