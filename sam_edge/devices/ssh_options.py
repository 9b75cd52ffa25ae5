"""A host and how to reach it: address, Python interpreter, key and configuration.

Everything else is left to the user's own configuration of `ssh`, which may define short names of hosts. All options are
checked before anything is started, so that no part of an address can be taken for an option or a command.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from sam_edge_runtime.errors import UsageError

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@\\-]*\$?")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9_.-]+)?")
_SETTING = re.compile(r"[A-Za-z][A-Za-z0-9]*[= ]\S.*")


@dataclass(frozen=True)
class Address:
    """The address of a host; if `user` or `port` is None, the configuration of `ssh` decides."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse `[USER@]HOST[:PORT]`; an IPv6 address with a port is in brackets.

        Raises:
            UsageError: `text` is not an address.
        """
        user, _, place = text.rpartition("@")
        if place.startswith("["):
            host, bracket, tail = place[1:].partition("]")
            colon, port = tail[:1] if bracket else "[", tail[1:]
        elif place.count(":") > 1:
            host, colon, port = place, "", ""
        else:
            host, colon, port = place.partition(":")
        named = _NAME.fullmatch(host) or _IPV6.fullmatch(host)
        if not named or (("@" in text) and not _USER.fullmatch(user)) or colon not in ("", ":"):
            raise UsageError(
                f"host {text!r:.100} is not an address: write [USER@]HOST[:PORT], such as pi@raspberrypi.local:22"
            )
        if colon and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
            raise UsageError(
                f"host {text!r:.100} has port {port!r:.40}: give a number from 1 to 65535, or leave it out for ssh's"
            )
        return cls(host, user or None, int(port) if colon else None)

    @property
    def arguments(self) -> list[str]:
        """The address as arguments of `ssh`."""
        port = ["-p", str(self.port)] if self.port else []
        return [*port, *(["-l", self.user] if self.user else []), self.host]


@dataclass(frozen=True)
class SshOptions:
    """A host, and how to reach it.

    Attributes:
        host: `[USER@]HOST[:PORT]`; HOST may be an alias from the configuration.
        python: Python interpreter on the host, by name or path; a relative path starts in the home folder.
        identity: file of a private key; None for the keys that `ssh` knows.
        config: configuration file to read instead of the user's own.
        settings: further settings as `NAME=VALUE`, as after `ssh -o`.
        folder: folder on the host in which a folder for all files is made; None for its temporary folder.
        connect_timeout: seconds to wait for a connection.
        ssh: the `ssh` program on this machine, by name or path.

    Raises:
        UsageError: a bad option, or a file that does not exist.
    """

    host: str
    python: str = "python3"
    identity: Path | None = None
    config: Path | None = None
    settings: tuple[str, ...] = ()
    folder: str | None = None
    connect_timeout: int = 15
    ssh: str = "ssh"

    def __post_init__(self) -> None:
        Address.parse(self.host)
        if not self.python.strip() or self.python.startswith("-") or not self.python.isprintable():
            raise UsageError(
                f"{self.python!r} is not a Python interpreter: give a name or a path on the host, such as python3"
            )
        for what, path in (("key", self.identity), ("configuration", self.config)):
            if path is not None and not path.is_file():
                raise UsageError(f"{what} {path} does not exist: name a file, or leave it out for what ssh knows")
        for setting in self.settings:
            if not _SETTING.fullmatch(setting) or not setting.isprintable():
                raise UsageError(f"ssh setting {setting!r} is malformed: write NAME=VALUE, such as ProxyJump=gateway")
        if self.folder is not None and not (self.folder.startswith("/") and self.folder.isprintable()):
            raise UsageError(f"folder {self.folder!r} is not an absolute path on the host: write /var/tmp, for example")
        if self.connect_timeout < 1:
            raise UsageError(f"{self.connect_timeout} seconds to connect are too few: give 1 or more, such as 15")

    @property
    def by_hand(self) -> str:
        """The command that connects by hand, for error messages."""
        given = [*(["-F", str(self.config)] if self.config else []), *Address.parse(self.host).arguments]
        return shlex.join(["ssh", *(["-i", str(self.identity)] if self.identity else []), *given])
