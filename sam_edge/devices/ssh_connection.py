"""One SSH connection: a folder on the host, commands in it, and the meaning of error messages of `ssh`.

The system's `ssh` connects, so keys, agents, jump hosts and the rest of the user's configuration apply. It is set never
to prompt. The first `ssh` runs the keeper: a shell on the host that makes the folder and waits for the end of its
input. All commands share its connection (ControlMaster), so there is one handshake.

The keeper's input ends when this process ends, is killed, or loses the connection. Then the keeper kills what still
runs in the folder and removes it. So nothing is left behind, even after `kill -9` here, except while a network fails
silently: then the files stay until the host's sshd notices.

This needs a POSIX shell on the host, and an `ssh` here that can share a connection, which Windows' own cannot.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sam_edge_runtime.errors import BackendError, SamEdgeError, UsageError

from .interruption import undisturbed
from .ssh_options import Address, SshOptions

LOST = 255  # exit code of `ssh` when the connection ends
CLEANING = 30.0  # seconds for cleaning up, during which Ctrl-C has no effect
GONE = 74  # exit code of a command whose folder no longer exists
_LOGIN = 60.0  # seconds for logging in after connecting
_LONGEST_FOLDER = 60  # characters; a socket's path may have about 100, and `ssh` appends some
_MARK = "sam-edge-folder:"
_KEEPER = (
    "trap '' HUP INT TERM PIPE; "
    'd=$(mktemp -d "${1:-${TMPDIR:-/tmp}}/sam-edge-XXXXXXXX") || exit 73; '
    f'echo "{_MARK}$d"; '
    "while read -r line; do :; done; "
    "exec 2>/dev/null; "
    'for p in $(cat "$d/pid"); do kill -s KILL -- "-$p" || kill -s KILL "$p"; done; '
    'rm -rf "$d" || { sleep 1; rm -rf "$d"; }'
)
_COMMAND = (
    f'cd "$1" && echo $$ >pid || exit {GONE}; shift; '
    'export TMPDIR="$PWD" PYTHONPATH="$PWD/runtime${PYTHONPATH:+:$PYTHONPATH}"; '
    '"$@"; c=$?; rm -f pid; exit $c'
)
# `ssh` takes the first of repeated settings, so the user's configuration cannot change these.
_OURS = (
    *("BatchMode=yes", "ControlPersist=no", "ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no"),
    *("PermitLocalCommand=no", "RemoteCommand=none", "LogLevel=ERROR"),
    *("ServerAliveInterval=30", "ServerAliveCountMax=6"),  # a board that swaps may not respond for a while
)
_DISK_FULL = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)


@dataclass(frozen=True)
class CommandOutput:
    """The exit code and the output of a command on the host."""

    code: int
    stdout: bytes
    stderr: str


@dataclass(frozen=True)
class Connection:
    """A connection to a host, and the folder on it."""

    options: SshOptions
    socket: str
    folder: str

    def call(
        self,
        arguments: Sequence[str],
        write: Callable[[IO[bytes]], object] | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> CommandOutput:
        """Run a program in the folder, with `runtime/` on Python's path.

        Args:
            arguments: the program and its arguments, which no shell expands.
            write: writes its standard input; None for no input.
            on_line: called with each line of its standard error, which is then not in the output.

        Raises:
            BackendError: the connection was lost.
        """
        # If the shared connection is gone, `ssh` would open a new one; `false` as its proxy ends it at once.
        command = _ssh(self.options, self.socket, "ControlMaster=no", "ProxyCommand=false")
        command.append(_remote(_COMMAND, self.folder, *arguments))
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            stdin = subprocess.DEVNULL if write is None else subprocess.PIPE
            stderr = err if on_line is None else subprocess.PIPE
            with _start(command, stdin, out, stderr) as process:
                try:
                    if write is not None and process.stdin is not None:
                        with suppress(BrokenPipeError), process.stdin:  # its exit code and messages say more
                            write(process.stdin)
                    if on_line is not None and process.stderr is not None:
                        for line in process.stderr:
                            on_line(plain(line.decode(errors="replace")))
                    code = process.wait()
                except BaseException:  # also on an interrupt; the keeper kills what runs on the host
                    process.kill()
                    raise
            out.seek(0)
            err.seek(0)
            said = err.read().decode(errors="replace").splitlines()
            output = CommandOutput(code, out.read(), "\n".join(map(plain, said)))
        if code in (LOST, GONE):
            raise BackendError(
                f"the connection to {self.options.host} was lost: check whether the host is on and its "
                "network works, and run this again"
            )
        return output


@contextmanager
def connected(options: SshOptions) -> Iterator[Connection]:
    """A connection. Its folder on the host is removed when it ends.

    Raises:
        UsageError: there is no `ssh` on this machine, or it refuses the options.
        BackendError: the host cannot be reached, refuses the login, or cannot make a folder.
    """
    if os.name == "nt" or shutil.which(options.ssh) is None:
        raise UsageError(
            f"'{options.ssh}' cannot be run here: install OpenSSH's client (Debian, Ubuntu: apt install "
            "openssh-client), or name the program; on Windows use WSL"
        )
    place = None if len(tempfile.gettempdir()) <= _LONGEST_FOLDER else "/tmp"  # noqa: S108 - a folder of its own in it
    with tempfile.TemporaryDirectory(prefix="sam-edge-", dir=place) as here, (Path(here) / "said").open("w+b") as said:
        socket, keeper = f"{here}/socket", None
        try:
            command = [*_ssh(options, socket, "ControlMaster=yes"), _remote(_KEEPER, options.folder or "")]
            keeper = _start(command, subprocess.PIPE, subprocess.PIPE, said)
            folder = _folder(keeper, options.connect_timeout + _LOGIN)
            if folder is None:
                said.seek(0)
                raise refusal(options, said.read().decode(errors="replace"))
            yield Connection(options, socket, folder)
        finally:
            with undisturbed():
                _end(keeper)


def refusal(options: SshOptions, said: str) -> SamEdgeError:
    """The error for a folder that was not made on the host, from the messages of `ssh` and the host."""
    host, by_hand = options.host, options.by_hand
    lines = [plain(line).strip() for line in said.splitlines() if line.strip()]
    for pattern, remedy, kind in _MEANINGS:
        for line in lines:
            if re.search(pattern, line, re.IGNORECASE):
                return kind(remedy.format(host=host, by_hand=by_hand, line=line[:200], name=Address.parse(host).host))
    last = lines[-1][:200] if lines else "no message"
    return BackendError(
        f"{host} did not make a folder ({last}): check whether `{by_hand}` logs in to a POSIX shell with mktemp and tar"
    )


# The meaning of OpenSSH's messages (sshconnect.c, sshconnect2.c, readconf.c, authfile.c); the first match counts.
_MEANINGS: tuple[tuple[str, str, type[SamEdgeError]], ...] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "{host} has another host key than before: if it was installed anew, remove the old key with "
        "`ssh-keygen -R {name}` and connect once with `{by_hand}`",
        BackendError,
    ),
    (
        "host key verification failed|no .* host key is known",
        "the host key of {host} is unknown: connect once with `{by_hand}`, compare the key, and accept it",
        BackendError,
    ),
    (
        "permissions .* are too open|bad owner or permissions",
        "ssh refuses a file that others may read or change ({line}): chmod 600 it",
        BackendError,
    ),
    (
        r"permission denied \(|too many authentication failures|no supported authentication",
        "{host} does not let this user in without a password: copy a key there with `ssh-copy-id`, name the user "
        "as USER@HOST, or name the key",
        BackendError,
    ),
    (
        "bad configuration option|can't open user config|unsupported option|missing argument|terminating, .* bad",
        "ssh refuses the options ({line}): see `man ssh_config`",
        UsageError,
    ),
    (
        "could not resolve hostname",
        "there is no host {name}: check its name, or give its IP address",
        BackendError,
    ),
    (
        "connection refused",
        "{host} refused the connection: start its SSH server (sudo systemctl enable --now ssh), or check the port",
        BackendError,
    ),
    (
        "timed out|no route to host|network is unreachable|host is down",
        "{host} cannot be reached ({line}): check whether it is on and in the same network",
        BackendError,
    ),
    (
        "connection (closed|reset)|kex_exchange_identification|broken pipe",
        "{host} ended the connection before logging in ({line}): check whether `{by_hand}` works",
        BackendError,
    ),
    (
        _DISK_FULL.pattern,
        "{host} has no space for a folder ({line}): free some, or name another folder there",
        BackendError,
    ),
    (
        "mktemp: ",
        "no folder can be made on {host} ({line}): name one there that this user may write to",
        BackendError,
    ),
)


def plain(line: str) -> str:
    """A line from another machine, without characters that control a terminal."""
    return "".join(sign for sign in line if sign.isprintable()).rstrip()


def is_disk_full(said: str) -> bool:
    """Whether a program's messages say that the disk is full."""
    return _DISK_FULL.search(said) is not None


def _ssh(options: SshOptions, socket: str, *settings: str) -> list[str]:
    """The `ssh` command without the remote command; of repeated settings `ssh` takes the first."""
    command = [options.ssh, "-T", *(["-F", str(options.config)] if options.config else [])]
    command += [*(["-i", str(options.identity)] if options.identity else [])]
    ours = (*settings, *_OURS, f"ControlPath={socket}", f"ConnectTimeout={options.connect_timeout}")
    for setting in (*ours, *options.settings):
        command += ["-o", setting]
    return command + Address.parse(options.host).arguments


def _remote(script: str, *arguments: str) -> str:
    """A script for `sh` as one line for any login shell."""
    return f"exec sh -c {shlex.join([script, 'sh', *arguments])}"


def _start(
    command: Sequence[str], stdin: int, stdout: int | IO[bytes], stderr: int | IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start `ssh` in a session of its own, which Ctrl-C does not reach, with messages in English."""
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.Popen(  # noqa: S603 - the program that the user named
        command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, start_new_session=True
    )


def _folder(keeper: subprocess.Popen[bytes], patience: float) -> str | None:
    """The folder that the keeper made; earlier output of login scripts is skipped."""
    timer = threading.Timer(patience, keeper.kill)
    timer.start()
    try:
        for line in keeper.stdout or ():
            text = line.decode(errors="replace").rstrip("\n")
            if text.startswith(_MARK):
                return text.removeprefix(_MARK)
    finally:
        timer.cancel()
    return None


def _end(keeper: subprocess.Popen[bytes] | None) -> None:
    """End the keeper's input, and give it time to remove the folder."""
    if keeper is None:
        return
    with keeper:
        if keeper.stdin is not None:
            with suppress(BrokenPipeError):
                keeper.stdin.close()
        try:
            keeper.wait(CLEANING)
        except subprocess.TimeoutExpired:
            keeper.kill()
