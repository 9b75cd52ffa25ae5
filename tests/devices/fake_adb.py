"""A stand-in for the `adb` program: one fake device, whose files lie in a folder, and the real program's messages.

Shell commands run in this machine's `sh`, with the device's paths turned into the folder's and the device's programs
into `fake_tools.py`; so what a command leaves behind, is left behind. What it is to do wrong stands in `state.json` in
the folder that `FAKE_DEVICE` names. Messages, streams and exit codes are those of adb 29 to 35
(https://android.googlesource.com/platform/packages/modules/adb/, transport.cpp and client/file_sync_client.cpp); the
ones of a device that is not there were compared with Debian's 1:29.0.6.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

HOME = Path(os.environ["FAKE_DEVICE"])
STATE = json.loads((HOME / "state.json").read_text())
TMP = "/data/local/tmp"
SERIAL = STATE.get("serial", "emulator-5554")


def complain(text: str, code: int = 1) -> None:
    sys.stderr.write(text + "\n")
    sys.exit(code)


def here(text: str) -> str:
    return text.replace(TMP, str(HOME / "files"))


def tick() -> int:
    """The number of this call of push or shell, from 1."""
    counter = HOME / "calls"
    number = int(counter.read_text()) + 1 if counter.exists() else 1
    counter.write_text(str(number))
    return number


def devices() -> None:
    if STATE.get("server_fails"):
        complain(
            "* daemon not running; starting now at tcp:5037\n* failed to start daemon\nerror: cannot connect to daemon"
        )
    listed = STATE.get("devices", f"{SERIAL}\tdevice")
    sys.stdout.write(f"List of devices attached\n{listed}\n\n")


def push(local: str, remote: str) -> None:
    content = Path(local).read_bytes()
    used = sum(path.stat().st_size for path in (HOME / "files").rglob("*") if path.is_file())
    target = Path(here(remote))
    if used + len(content) > STATE.get("capacity", 1 << 40):
        target.write_bytes(content[: max(0, STATE["capacity"] - used)])
        words = (
            f"adb: error: failed to copy '{local}' to '{remote}': remote couldn't create file: No space left on device"
        )
        complain(words, 0 if STATE.get("old") else 1)
    if STATE.get("cuts_pushes"):
        content = content[: len(content) // 2]
    target.write_bytes(content)
    sys.stdout.write(f"{local}: 1 file pushed, 0 skipped. 31.4 MB/s ({len(content)} bytes in 0.001s)\n")


def shell(script: str, number: int) -> None:
    if "pkill" in script and "slow_cleaning" in STATE:
        (HOME / "cleaning").write_text("now")
        time.sleep(STATE["slow_cleaning"])
    tool = f"{sys.executable} {Path(__file__).with_name('fake_tools.py')}"
    programs = HOME / "bin"
    script = here(script)
    for name in ("benchmark_model", "onnxruntime_perf_test"):
        script = script.replace(f"./{name} ", f"test -x {name} && {tool} {name} ")
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/sh", "-c", script], stdout=subprocess.PIPE, env=environment, check=False)
    output = done.stdout.replace(str(HOME / "files").encode(), TMP.encode())
    if number == STATE.get("cut_at"):
        sys.stdout.buffer.write(output[: len(output) // 2])
        (HOME / "gone").touch()
        complain("error: closed")
    lost = number == STATE.get("lost_at")
    if lost:
        output = output[: len(output) // 2]
    sys.stdout.buffer.write(output.replace(b"\n", b"\r\n") if STATE.get("old") else output)
    if lost:  # the connection ends without a word
        sys.exit(255)
    code = done.returncode if done.returncode >= 0 else 128 - done.returncode
    sys.exit(0 if STATE.get("old") else code)


def main(arguments: list[str]) -> None:
    with (HOME / "log").open("a") as log:
        log.write(json.dumps(arguments) + "\n")
    if arguments == ["devices"]:
        devices()
        return
    assert arguments[0] == "-s"
    serial, verb, *rest = arguments[1:]
    number = tick()
    if number >= STATE.get("gone_at", 1 << 30) or (HOME / "gone").exists() or serial != SERIAL:
        complain(f"error: device '{serial}' not found")
    if number >= STATE.get("unauthorized_at", 1 << 30):
        complain(
            "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\n"
            "Try 'adb kill-server' if that seems wrong.\nOtherwise check for a confirmation dialog on your device."
        )
    if verb == "push":
        push(*rest)
    else:
        assert verb == "shell"
        shell(" ".join(rest), number)


if __name__ == "__main__":
    main(sys.argv[1:])
