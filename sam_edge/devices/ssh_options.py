"""A host that SSH reaches, and how: its address, its Python, keys and configuration.

What is not given here is left to a person's own configuration of `ssh`, which knows hosts by short names. All of it is
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
    """Where to connect; `user` and `port` are left to the configuration where they are None."""

    host: str
    user: str | None = None
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `[USER@]HOST[:PORT]`; an IPv6 address with a port stands in brackets.

        Raises:
            UsageError: it is none.
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
            raise UsageError(f"host {text!r} is no address: write [USER@]HOST[:PORT], such as pi@raspberrypi.local:22")
        if colon and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
            raise UsageError(
                f"host {text!r} has port {port!r}: give a number from 1 to 65535, or leave it out for ssh's"
            )
        return cls(host, user or None, int(port) if colon else None)

    @property
    def arguments(self) -> list[str]:
        """What `ssh` is given."""
        port = ["-p", str(self.port)] if self.port else []
        return [*port, *(["-l", self.user] if self.user else []), self.host]


@dataclass(frozen=True)
class SshOptions:
    """A host, and how it is reached.

    Attributes:
        host: `[USER@]HOST[:PORT]`; HOST may be an alias of the configuration.
        python: the interpreter there, by name or by path; a relative path begins in the home folder.
        identity: file of a private key; None: those that `ssh` knows.
        config: file to read instead of a person's own configuration.
        settings: further ones as `NAME=VALUE`, as after `ssh -o`.
        folder: where on the host the folder for all files is made; None: where temporary files go there.
        connect_timeout: seconds to wait for an answer.
        ssh: the program here, by name or by path.

    Raises:
        UsageError: one of them cannot be meant, or a file is not there.
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
            raise UsageError(f"{self.python!r} is no Python: give a name or a path on the host, such as python3")
        for what, path in (("key", self.identity), ("configuration", self.config)):
            if path is not None and not path.is_file():
                raise UsageError(f"{what} {path} is not there: name a file, or leave it out for those that ssh knows")
        for setting in self.settings:
            if not _SETTING.fullmatch(setting) or not setting.isprintable():
                raise UsageError(f"ssh setting {setting!r} is none: write NAME=VALUE, such as ProxyJump=gateway")
        if self.folder is not None and not (self.folder.startswith("/") and self.folder.isprintable()):
            raise UsageError(f"folder {self.folder!r} does not begin at the host's root: write such as /var/tmp")
        if self.connect_timeout < 1:
            raise UsageError(f"{self.connect_timeout} seconds to connect are none: give 1 or more, such as 15")

    @property
    def by_hand(self) -> str:
        """The command that connects by hand, for messages."""
        given = [*(["-F", str(self.config)] if self.config else []), *Address.parse(self.host).arguments]
        return shlex.join(["ssh", *(["-i", str(self.identity)] if self.identity else []), *given])
