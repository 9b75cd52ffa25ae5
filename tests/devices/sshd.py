"""A real sshd on loopback, run as the current user, with its own port, keys and configuration."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAM = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
SEPARATION = Path("/run/sshd")  # Debian's sshd wants it where it runs as root
PATIENCE = 15.0
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
LogLevel VERBOSE
"""
CLIENT = """\
UserKnownHostsFile {folder}/known_hosts
GlobalKnownHostsFile /dev/null
IdentitiesOnly yes
IdentityAgent none
IdentityFile {folder}/key
"""


@dataclass(frozen=True)
class Server:
    """A running sshd, and what a client needs for it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def host(self) -> str:
        return f"{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1:{self.port}"

    @property
    def config(self) -> Path:
        return self.folder / "client"

    @property
    def logins(self) -> int:
        """Number of accepted logins."""
        return (self.folder / "log").read_text(errors="replace").count("Accepted publickey")

    def sessions(self) -> list[int]:
        """Processes of sshd that serve a connection now."""
        parents, names = {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                head, _, tail = path.read_text(errors="replace").rpartition(")")
            except OSError:  # it has ended meanwhile
                continue
            number, _, name = head.partition(" (")
            parents[int(number)], names[int(number)] = int(tail.split()[1]), name
        found = [self.process.pid]
        for number in found:
            found += [child for child, parent in parents.items() if parent == number and "sshd" in names[child]]
        return found[1:]


class NoServerError(Exception):
    """No server can be started; the message says why."""


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Start a server.

    Raises:
        NoServerError: there can be none here.
    """
    for program, name in ((PROGRAM, "sshd"), (shutil.which("ssh"), "ssh"), (shutil.which("ssh-keygen"), "ssh-keygen")):
        if program is None:
            raise NoServerError(f"there is no {name} here (Debian, Ubuntu: apt install openssh-server)")
    if os.getuid() == 0 and not SEPARATION.is_dir():
        try:
            SEPARATION.mkdir(mode=0o755)
        except OSError as error:
            raise NoServerError(f"sshd needs {SEPARATION}, which cannot be made: {error}") from error
    for name in ("host_key", "key", "stranger"):
        make_key(folder / name)
    (folder / "authorized_keys").write_text((folder / "key.pub").read_text())
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "server").write_text(SERVER.format(folder=folder, port=port))
    (folder / "client").write_text(CLIENT.format(folder=folder))
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {(folder / 'host_key.pub').read_text()}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([str(PROGRAM), "-D", "-e", "-f", str(folder / "server")], stderr=log)
    server = Server(folder, port, process)
    try:
        _wait(server)
        yield server
    finally:
        process.terminate()
        process.wait()


def make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _wait(server: Server) -> None:
    """Wait until a login works."""
    name, _, _ = server.host.partition("@")
    command = ["ssh", "-F", str(server.config), "-o", "BatchMode=yes", "-p", str(server.port), "-l", name, "127.0.0.1"]
    deadline = time.monotonic() + PATIENCE
    while True:
        done = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
        if not done.returncode:
            return
        if server.process.poll() is not None or time.monotonic() > deadline:
            said = (server.folder / "log").read_text(errors="replace").strip().splitlines()[-3:]
            raise NoServerError(f"sshd cannot be started here: {done.stderr.strip()}; {' '.join(said)}")
        time.sleep(0.1)
