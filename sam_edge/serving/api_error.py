"""Refusals of the server: a status, a code for the page, one line for people."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from sam_edge_runtime.errors import OutputError, SamEdgeError, StateError, UsageError, printable

BUSY_SECONDS = 1  # after which a request that found all places taken may come again


class ApiError(Exception):
    """A request that is refused.

    Attributes:
        status: of HTTP.
        code: the page's name for the reason.
        message: one line.
        details: further members of the answer.
    """

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, printable(message), details


def unknown(what: str) -> ApiError:
    """The refusal of something that is not there."""
    return ApiError(404, "unknown", what)


def invalid(message: str) -> ApiError:
    """The refusal of a body whose content cannot be used."""
    return ApiError(422, "invalid", message)


def too_large(message: str) -> ApiError:
    """The refusal of a body or a photo that is too large."""
    return ApiError(413, "too_large", message)


def as_api_error(error: Exception) -> ApiError:
    """How an error of sam-edge or of the system is answered."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, MemoryError):
        return ApiError(500, "failed", "out of memory: use a smaller photo or another bundle")
    if isinstance(error, SamEdgeError):
        if isinstance(error, UsageError) or not isinstance(error, OutputError | StateError):
            return invalid(str(error))
        return ApiError(500, "failed", str(error))
    if isinstance(error, OSError):
        return ApiError(500, "failed", f"a file cannot be read or written ({error.strerror or type(error).__name__})")
    raise error


def json_response(document: Any, status: int = 200) -> Response:
    """A document as JSON. ASCII only, so that a name that is no valid Unicode can be written, too."""
    return Response(json.dumps(document, separators=(",", ":"), allow_nan=False), status, media_type="application/json")


def error_response(error: ApiError) -> Response:
    """The answer to a refused request."""
    response = json_response({"error": error.message, "code": error.code, **error.details}, error.status)
    if error.status == 503:
        response.headers["Retry-After"] = str(BUSY_SECONDS)
    return response
