"""The `adb` program: connected devices, a shell on one, files to one, and its error messages.

`adb` reports errors as prose, in a wording that is older than its exit codes, so failures are recognized by their
words: `transport.cpp` and `file_sync_client.cpp` of https://android.googlesource.com/platform/packages/modules/adb/
have them. Devices before Android 7 return no exit code of a shell command, and old programs end a failed push with 0.
So each command echoes its exit code after its output, and the size of a pushed file is checked. A connection that ends
before the exit code arrives means that the device is gone.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sam_edge_runtime.errors import BackendError, UsageError, first_line

READY = "device"
KILLED = 137  # 128 + SIGKILL
_LOST = 255  # exit code of `adb shell` when the connection ends
_CODE = re.compile(r"sam-edge-exit:(\d+)\s*\Z")
_LISTED = re.compile(r"^(\S[^\t]*)\t\s*(.+?)\s*$", re.MULTILINE)
_GONE = re.compile(
    r"device '.*' not found|device not found|no devices/emulators found|error: closed|connect failed: closed"
    r"|failed to read copy response|protocol fault|connection reset|couldn't read from device|device offline",
    re.IGNORECASE,
)
_STATES = {
    "unauthorized": "unlock it, accept its dialog 'Allow USB debugging?', and run this again",
    "offline": "unplug it and plug it in again, or run `adb reconnect offline`",
    "recovery": "let it start into Android first",
    "bootloader": "let it start into Android first",
    "sideload": "let it start into Android first",
    "authorizing": "wait a moment and run this again",
    "connecting": "wait a moment and run this again",
    "no permissions": "add udev rules for it (Debian, Ubuntu: apt install android-sdk-platform-tools-common)",
}


class DeviceGoneError(BackendError):
    """The device is no longer connected."""


class DeviceFullError(BackendError):
    """The device has no space for a file."""


class SlowCallError(BackendError):
    """A call took longer than its timeout."""


@dataclass(frozen=True)
class ShellOutput:
    """The output of a shell command, both streams in one, and its exit code."""

    text: str
    code: int


@dataclass(frozen=True)
class Adb:
    """The program, by path or by name on PATH, and the timeout of short calls in seconds."""

    program: str = "adb"
    patience: float = 60.0

    def devices(self) -> dict[str, str]:
        """The state of every connected device by its serial number; `READY` is the only state that works.

        Raises:
            UsageError: there is no such program.
            BackendError: its server cannot be started.
        """
        done = self.call(["devices"])
        if done.returncode:
            raise BackendError(
                f"`{self.program} devices` failed ({_said(done)}): run `{self.program} kill-server` and try again"
            )
        _, _, listed = done.stdout.replace("\r", "").partition("List of devices attached")
        return dict(_LISTED.findall(listed))

    def connect(self, serial: str | None) -> Connection:
        """A connection to device `serial`, or to the only one where it is None.

        Raises:
            UsageError: no such program, no device, an unknown serial, or several devices and no serial.
            BackendError: the device takes no commands because it is unauthorized, offline or starting.
        """
        states = self.devices()
        listed = ", ".join(states)
        if not states:
            wanted = f"device '{serial}' is not connected" if serial else "no device is connected"
            raise UsageError(
                f"{wanted}: switch on USB debugging in its developer options, plug it in, and see `adb devices`"
            )
        if serial is None:
            if len(states) > 1:
                raise UsageError(f"{len(states)} devices are connected: name one of {listed}, as in android:SERIAL")
            (serial,) = states
        if serial not in states:
            raise UsageError(f"device '{serial}' is not connected: there is {listed}")
        if states[serial] != READY:
            said = states[serial].split(";")[0]
            known = (remedy for state, remedy in _STATES.items() if said.startswith(state))
            raise BackendError(f"device '{serial}' is {said:.80}: {next(known, 'see `adb devices` and its manual')}")
        return Connection(self, serial)

    def call(self, arguments: list[str], timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run the program. Ctrl-C reaches only this process, which then ends the program.

        Raises:
            UsageError: there is no such program.
            SlowCallError: it took longer than `timeout` seconds (None: `patience`).
        """
        seconds = self.patience if timeout is None else timeout
        try:
            return subprocess.run(  # noqa: S603 - the program that the user named
                [self.program, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                start_new_session=True,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SlowCallError(
                f"`adb {shlex.join(arguments)[:80]}` took longer than {seconds:g} seconds: give it more time, or "
                "restart the device"
            ) from error
        except OSError as error:
            raise UsageError(
                f"'{self.program}' cannot be run ({error.strerror or error}): install Android's platform-tools "
                "(Debian, Ubuntu: apt install adb), or name the program"
            ) from error


@dataclass(frozen=True)
class Connection:
    """A connection to one device."""

    adb: Adb
    serial: str

    def shell(self, command: str, timeout: float | None = None) -> ShellOutput:
        """Run `command` in the device's shell, with both output streams in one.

        Raises:
            DeviceGoneError: the device was lost before the command ended.
            BackendError: the device takes no commands; SlowCallError after `timeout` seconds.
        """
        script = f"( {command} ) 2>&1; code=$?; echo; echo sam-edge-exit:$code"
        done = self.adb.call(["-s", self.serial, "shell", script], timeout)
        text = done.stdout.replace("\r\n", "\n")
        found = _CODE.search(text)
        if found:
            return ShellOutput(text[: found.start()].removesuffix("\n"), int(found[1]))
        if 128 < done.returncode < _LOST and not done.stderr.strip():
            return ShellOutput(text, done.returncode)  # the device's shell itself was killed
        if done.stderr.strip() or done.returncode not in (0, _LOST):
            raise self._refusal(done)
        raise DeviceGoneError(
            f"device '{self.serial}' ended the connection midway: check its cable and whether it restarted"
        )

    def push(self, local: Path, remote: str, timeout: float | None = None) -> None:
        """Copy a file to the device, and check its size there.

        Raises:
            DeviceFullError: the device has no space for it.
            DeviceGoneError: the device was lost meanwhile.
            BackendError: the device refused it, or received only a part.
        """
        done = self.adb.call(["-s", self.serial, "push", str(local), remote], timeout)
        if done.returncode or "failed to copy" in done.stderr + done.stdout:
            raise self._refusal(done)
        size, arrived = local.stat().st_size, self.shell(f"wc -c < {shlex.quote(remote)}").text.strip()
        if arrived != str(size):
            raise BackendError(
                f"{local.name} arrived on device '{self.serial}' with {arrived or 'no'} bytes of {size}: free some "
                "space there and try again"
            )

    def remove(self, remote: str, timeout: float | None = None) -> None:
        """Delete a file, or a folder and everything in it; a missing one is no error.

        Raises:
            BackendError: it could not be deleted, or the device is gone.
        """
        output = self.shell(f"rm -rf {shlex.quote(remote)}", timeout)
        if output.code:
            raise BackendError(
                f"{remote} cannot be removed from device '{self.serial}' ({output.text.strip()[:120]}): remove it with "
                f"`adb shell rm -rf {remote}`"
            )

    def _refusal(self, done: subprocess.CompletedProcess[str]) -> BackendError:
        """The error that a failed call means."""
        said = f"{done.stderr}\n{done.stdout}"
        if "No space left on device" in said:
            return DeviceFullError(f"device '{self.serial}' has no space left: free some in its storage settings")
        if "unauthorized" in said:
            return DeviceGoneError(f"device '{self.serial}' is unauthorized: {_STATES['unauthorized']}")
        if _GONE.search(said):
            return DeviceGoneError(
                f"device '{self.serial}' is gone ({_said(done)}): check its cable and whether it restarted"
            )
        return BackendError(f"adb refused ({_said(done)}): see its manual, or unplug device '{self.serial}' and retry")


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """The first line of the program's messages, without those about its server and without its name."""
    lines = [line for line in f"{done.stderr}\n{done.stdout}".splitlines() if line.strip() and line[0] != "*"]
    said = first_line(Exception(lines[0])) if lines else f"exit code {done.returncode}"
    return re.sub(r"^(adb: )?(error: )?", "", said)[:160]
