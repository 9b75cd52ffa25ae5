"""Requests to the annotation server: the interface that the page uses (docs/serve.md)."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from sam_edge_runtime.errors import DataError, printable

SECONDS = 600.0  # for one answer: a large model encodes a photo that long on a slow machine


class Client:
    """Requests to one server, each on a connection of its own: a server closes those that rest for some seconds.

    Args:
        address: as `sam-edge serve` prints it, with the token.
    """

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port
        self._token = parse_qs(parts.query).get("token", [""])[0]

    def get(self, path: str) -> dict[str, Any]:
        """The document at `path`.

        Raises:
            DataError: the server refuses, or does not answer.
        """
        return self._request("GET", path, None)

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """The answer to a document.

        Raises:
            DataError: the server refuses, or does not answer.
        """
        return self._request("POST", path, json.dumps(body))

    def _request(self, method: str, path: str, body: str | None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self._host, self._port, timeout=SECONDS)
        try:
            connection.request(method, f"/{path}", body, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise DataError(f"the annotation server does not answer ({error!r:.200}): run the command again") from error
        finally:
            connection.close()
        if answer.status // 100 != 2:
            raise DataError(f"the annotation server refused {path}: {printable(content.decode('utf-8', 'replace'))}")
        document: dict[str, Any] = json.loads(content) if content else {}
        return document


def in_address(key: str) -> str:
    """A photo's key as a part of an address."""
    return quote(key, safe="")
