"""The wrapper around adb: its choice of a device, its commands, and its errors."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from sam_edge.devices.adb import Adb, DeviceFullError, DeviceGoneError, SlowCallError
from sam_edge.devices.phone import describe, free_bytes
from sam_edge_runtime.errors import BackendError, UsageError

FOLDER = "/data/local/tmp"


@pytest.fixture
def adb(device) -> Adb:
    return Adb(str(device.adb))


def refused(kind, call, *arguments) -> str:
    with pytest.raises(kind) as caught:
        call(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 400
    return line


# Devices --------------------------------------------------------------------------------------------------------------


def test_the_only_device_needs_no_name(adb, device):
    assert adb.connect(None).serial == "emulator-5554"
    device.set(devices="A1\tdevice\nB2\tunauthorized")
    assert adb.devices() == {"A1": "device", "B2": "unauthorized"}
    assert adb.connect("A1").serial == "A1"


@pytest.mark.parametrize(
    ("listed", "serial", "kind", "words"),
    [
        ("", None, UsageError, ["no device is connected", "USB debugging"]),
        ("", "X", UsageError, ["'X' is not connected", "USB debugging"]),
        ("A1\tdevice\nB2\tdevice", None, UsageError, ["2 devices", "A1, B2"]),
        ("A1\tdevice", "B2", UsageError, ["'B2' is not connected", "there is A1"]),
        ("A1\tunauthorized", None, BackendError, ["'A1' is unauthorized", "Allow USB debugging?"]),
        ("A1\toffline", "A1", BackendError, ["'A1' is offline", "adb reconnect"]),
        ("A1\trecovery", "A1", BackendError, ["'A1' is recovery", "start into Android"]),
        ("A1\tno permissions (missing udev rules?); see [http://x]", None, BackendError, ["no permissions", "udev"]),
    ],
)
def test_an_unusable_device_gives_one_line_with_a_remedy(adb, device, listed, serial, kind, words):
    device.set(devices=listed)
    line = refused(kind, adb.connect, serial)
    assert [word for word in words if word not in line] == []


def test_without_the_program_the_package_is_named(tmp_path):
    assert "apt install adb" in refused(UsageError, Adb(str(tmp_path / "none")).devices)


def test_a_server_that_does_not_start_is_reported(adb, device):
    device.set(server_fails=True)
    assert "cannot connect to daemon" in refused(BackendError, adb.devices)


# Shell and files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True])
def test_both_streams_and_the_exit_code_arrive(adb, device, old):
    device.set(old=old)  # no exit codes, and carriage returns
    connection = adb.connect(None)
    answer = connection.shell("echo out; echo err >&2; exit 7")
    assert (answer.text, answer.code) == ("out\nerr\n", 7)
    assert connection.shell("printf 'no newline'").text == "no newline"
    assert connection.shell("sh -c 'kill -9 $$'").code == 137


def test_a_file_arrives_and_goes(adb, device, tmp_path):
    file = tmp_path / "model.bin"
    file.write_bytes(b"x" * 1000)
    connection = adb.connect(None)
    connection.push(file, f"{FOLDER}/model.bin")
    assert (device.home / "files" / "model.bin").read_bytes() == b"x" * 1000
    connection.remove(f"{FOLDER}/model.bin")
    connection.remove(f"{FOLDER}/model.bin")  # it is not there, which is no error
    assert device.files == []


@pytest.mark.parametrize("old", [False, True])
def test_a_full_device_is_detected_even_if_push_succeeds(adb, device, tmp_path, old):
    device.set(capacity=400, old=old)
    (tmp_path / "model.bin").write_bytes(b"x" * 1000)
    connection = adb.connect(None)
    line = refused(DeviceFullError, connection.push, tmp_path / "model.bin", f"{FOLDER}/model.bin")
    assert "no space left" in line


def test_an_incomplete_push_is_refused(adb, device, tmp_path):
    device.set(cuts_pushes=True)
    (tmp_path / "model.bin").write_bytes(b"x" * 1000)
    line = refused(BackendError, adb.connect(None).push, tmp_path / "model.bin", f"{FOLDER}/model.bin")
    assert "500 bytes of 1000" in line


def test_a_lost_device_is_gone(adb, device):
    connection = adb.connect(None)
    device.set(gone_at=2)
    assert connection.shell("echo here").text == "here\n"
    assert "'emulator-5554' not found" in refused(DeviceGoneError, connection.shell, "echo here")


def test_a_command_that_is_cut_off_means_a_lost_device(adb, device):
    device.set(cut_at=1)
    assert "is gone (closed)" in refused(DeviceGoneError, adb.connect(None).shell, "echo a long answer")


def test_a_connection_that_ends_silently_means_a_lost_device(adb, device):
    device.set(lost_at=1)
    assert "ended the connection midway" in refused(DeviceGoneError, adb.connect(None).shell, "echo a long answer")


def test_a_killed_shell_gives_its_exit_code(adb):
    assert adb.connect(None).shell("kill -9 $$").code == 137


def test_authorization_withdrawn_midway_is_reported(adb, device):
    connection = adb.connect(None)
    device.set(unauthorized_at=1)
    assert "Allow USB debugging?" in refused(DeviceGoneError, connection.shell, "echo here")


def test_a_command_that_takes_too_long_is_killed(adb):
    assert "longer than 0.5 seconds" in refused(SlowCallError, adb.connect(None).shell, "sleep 20", 0.5)


# The device -----------------------------------------------------------------------------------------------------------


def test_a_device_is_described_without_its_serial_number(adb):
    phone = describe(adb.connect(None))
    assert phone.device.described == "Acme Phone 9, Acme X1, Android 14, arm64-v8a"
    assert phone.abis == ("arm64-v8a", "armeabi-v7a")
    assert "SECRET42" not in repr(phone)


def test_an_older_device_names_its_board(adb, device):
    device.program(
        "getprop",
        "[ro.product.model]: [Acme 3]\n[ro.product.manufacturer]: [Acme]\n"
        "[ro.build.version.release]: [9]\n[ro.board.platform]: [acme845]\n",
    )
    assert describe(adb.connect(None)).device.described == "Acme 3, acme845, Android 9"
    device.program("getprop", "[ro.product.model]: []\n")
    assert "is it Android" in refused(BackendError, describe, adb.connect(None))


@pytest.mark.parametrize(
    ("text", "free"),
    [
        ("Filesystem     1K-blocks  Used Available Use% Mounted on\n/dev/dm-8 1000 400 600 40% /data\n", 600 * 1024),
        (
            "Filesystem 1K-blocks Used Available Use% Mounted on\n/dev/block/by-name/userdata\n 9 4 5 4% /data\n",
            5 * 1024,
        ),
        (
            "Filesystem               Size     Used     Free   Blksize\n/data   12.0G     2.2G     9.8G   4096\n",
            int(9.8 * 2**30),
        ),
        ("df: not found\n", None),
    ],
)
def test_free_space_is_read_in_every_form(adb, device, text, free):
    device.program("df", text)
    assert free_bytes(adb.connect(None), FOLDER) == free


# The real program -----------------------------------------------------------------------------------------------------


@pytest.fixture
def real(monkeypatch, tmp_path):
    """The real adb with a server of its own, which ends with the test."""
    program = shutil.which("adb")
    if program is None:
        pytest.skip("adb is not installed (Debian, Ubuntu: apt install adb)")
    monkeypatch.setenv("HOME", str(tmp_path))  # its key goes there
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(20000 + os.getpid() % 20000))
    adb = Adb(program)
    if adb.devices():
        pytest.skip("a device is connected to this machine")
    yield adb
    subprocess.run([program, "kill-server"], check=False, capture_output=True)


def test_the_real_program_without_a_device(real):
    assert real.devices() == {}
    assert "no device is connected" in refused(UsageError, real.connect, None)
    assert "device 'nobody' is not connected" in refused(UsageError, real.connect, "nobody")


def test_the_real_program_reports_a_lost_device_as_expected(real, tmp_path):
    from sam_edge.devices.adb import Connection

    (tmp_path / "file").write_bytes(b"x")
    gone = Connection(real, "nobody")
    for call, arguments in ((gone.shell, ("echo here",)), (gone.push, (tmp_path / "file", f"{FOLDER}/file"))):
        assert "device 'nobody' not found" in refused(DeviceGoneError, call, *arguments)
