"""Who may ask: the rules that a request must keep before anything of it is read.

Pages of other sites can make a browser send requests to this machine. Four rules stand against them.

- `Host` must be a name under which the server was started. A site whose name was made to lead to this machine (DNS
  rebinding) sends its own name.
- `Origin` must be the page's own. Every request that changes something needs one, unless it has the token in its
  `Authorization` header, which a page of another site cannot set.
- `Sec-Fetch-Site`, where a browser sends it, must not name another site, except for opening the page itself.
- The token must come with every request: in the cookie that the printed address sets, or in `Authorization`.

The cookie is not sent with requests of other sites (SameSite=Strict), and no script can read it (HttpOnly). Cookies do
not tell ports apart, so its name is derived from the token: two servers on one machine do not disturb each other.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from sam_edge_runtime.errors import UsageError

from .api_error import ApiError

TOKEN_VARIABLE = "SAM_EDGE_TOKEN"  # noqa: S105 - the variable's name
SHORTEST_TOKEN = 16
_TOKEN_BYTES = 24
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_READING = frozenset({"GET", "HEAD"})
_BEARER = "bearer "


def new_token() -> str:
    """A random token, or the one that the environment sets.

    Raises:
        UsageError: the environment's is too short, or has characters that an address cannot hold.
    """
    named = os.environ.get(TOKEN_VARIABLE, "")
    if not named:
        return secrets.token_urlsafe(_TOKEN_BYTES)
    if len(named) < SHORTEST_TOKEN or not all(c.isascii() and (c.isalnum() or c in "-_") for c in named):
        raise UsageError(
            f"{TOKEN_VARIABLE} is no token: set it to {SHORTEST_TOKEN} or more letters, digits, - and _, or unset it"
        )
    return named


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, so that no other machine reaches it."""
    if host.lower() == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


@dataclass(frozen=True)
class Access:
    """The rules of one server.

    Attributes:
        token: that every request must bring; None: none is needed.
        hosts: names and addresses, in lower case, that `Host` may have.
        any_address: whether it may also be any IP address: the server listens on all of them.
    """

    token: str | None
    hosts: frozenset[str] = _LOOPBACK_NAMES
    any_address: bool = False

    @classmethod
    def of(cls, host: str, token: str | None) -> Access:
        """The rules of a server that listens on `host`.

        Raises:
            UsageError: no token, although other machines reach that address.
        """
        if token is None and not is_loopback(host):
            raise UsageError(
                f"--no-token is for this machine alone, and --host {host} is open to others: leave one of them out"
            )
        address = _address(host)
        if address is not None and address.is_unspecified:
            own = {socket.gethostname().lower(), socket.getfqdn().lower()}
            return cls(token, _LOOPBACK_NAMES | own, any_address=True)
        named = frozenset({host.lower()})
        return cls(token, _LOOPBACK_NAMES | named if is_loopback(host) else named)

    @property
    def cookie(self) -> str:
        """The name of the cookie."""
        digest = hashlib.sha256((self.token or "").encode()).hexdigest()
        return f"sam_edge_{digest[:12]}"

    def check(self, method: str, headers: Headers) -> None:
        """Refuse a request that breaks a rule.

        Raises:
            ApiError: which rule.
        """
        host = self._checked_host(headers)
        bearer = self._has_bearer(headers)
        self._check_origin(method, host, headers, bearer=bearer)
        if self.token is not None and not bearer and not self._is_token(self._cookie_of(headers)):
            raise ApiError(401, "token", "open the address that `sam-edge serve` printed: it holds the token")

    def opens(self, method: str, headers: Headers, token: str | None) -> bool:
        """Whether a request for the page brings the right token in its address; the host is checked, too.

        Raises:
            ApiError: the host is another.
        """
        if self.token is None or token is None or method not in _READING:
            return False
        self._checked_host(headers)
        return self._is_token(token)

    def _checked_host(self, headers: Headers) -> str:
        named = headers.getlist("host")
        host = named[0].lower() if len(named) == 1 else ""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            urlsplit(f"//{host}").port  # noqa: B018 - raises for a port that is no number
        except ValueError:
            name = ""
        if "@" in host or not (name in self.hosts or (self.any_address and _address(name) is not None)):
            raise ApiError(403, "forbidden", "the Host of this request is not this server: use the address it printed")
        return host

    def _check_origin(self, method: str, host: str, headers: Headers, *, bearer: bool) -> None:
        origins = headers.getlist("origin")
        for origin in origins:
            if origin.lower() not in (f"http://{host}", f"https://{host}"):
                raise ApiError(403, "forbidden", "this request comes from the page of another site")
        if not origins and method not in _READING and not bearer:
            raise ApiError(403, "forbidden", "this request has no Origin: send one, or the token in Authorization")
        site = headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin"):
            opens_page = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
            if method not in _READING or not opens_page:
                raise ApiError(403, "forbidden", "this request comes from the page of another site")

    def _has_bearer(self, headers: Headers) -> bool:
        authorization = headers.get("authorization", "")
        return authorization.lower().startswith(_BEARER) and self._is_token(authorization[len(_BEARER) :])

    def _cookie_of(self, headers: Headers) -> str:
        found = [cookie_parser(line).get(self.cookie) for line in headers.getlist("cookie")]
        return next((each for each in found if each is not None), "")

    def _is_token(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())
