"""Bodies of requests: read up to a limit, and checked field by field.

Forms are refused: a page of another site can send one without asking first.
"""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any

import numpy as np
from starlette.requests import ClientDisconnect, Request

from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.system.documents import parse_json

from .api_error import ApiError, invalid, too_large

LARGEST_DOCUMENT = 8 << 20  # bytes of JSON; the longest masks of SA-1B have some ten thousand
LARGEST_PICTURE = 256 << 20  # bytes of a picture file; a JPEG of 108 megapixels has some fifty million
_FARTHEST = 1e9  # pixels
_PICTURE_TYPES = ("image/", "application/octet-stream")


def media_type(request: Request) -> str:
    """The content type of a request, in lower case and without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_body(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        ApiError: it has more than `most` bytes; no more of them are read.
    """
    refusal = too_large(f"the body has more than {most:,} bytes")
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed) > most:
        raise refusal
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise refusal
            parts.append(part)
    except ClientDisconnect as error:
        raise invalid("the connection ended within the body") from error
    return b"".join(parts)


async def read_picture(request: Request) -> bytes:
    """The bytes of a picture file.

    Raises:
        ApiError: another content type, none, or too many bytes.
    """
    if not media_type(request).startswith(_PICTURE_TYPES):
        raise ApiError(415, "media_type", "send a picture's bytes as image/* or application/octet-stream")
    content = await read_body(request, LARGEST_PICTURE)
    if not content:
        raise invalid("the picture is empty (0 bytes)")
    return content


async def read_document(request: Request) -> Document:
    """The JSON object in a request.

    Raises:
        ApiError: another content type, no object, or too many bytes.
    """
    if media_type(request) != "application/json":
        raise ApiError(415, "media_type", "send the document as application/json")
    content = await read_body(request, LARGEST_DOCUMENT)
    try:
        document = parse_json(content)
    except ValueError as error:
        raise invalid(f"the document is no JSON ({error})") from error
    return Document(document, "the document")


class Document:
    """A JSON object whose members are read with checks.

    Args:
        content: the parsed JSON.
        name: what messages call it.

    Raises:
        ApiError: `content` is no object.
    """

    def __init__(self, content: object, name: str) -> None:
        if not isinstance(content, dict):
            raise invalid(f"{name} is no JSON object")
        self.content: dict[str, Any] = content
        self._name = name

    def has(self, key: str) -> bool:
        """Whether there is a member, null included."""
        return key in self.content

    def text(self, key: str, longest: int) -> str:
        """A text that is not blank.

        Raises:
            ApiError: missing, something else, too long, or with characters that cannot be printed.
        """
        value = self.optional_text(key, longest)
        if value is None:
            raise invalid(f"{key} is missing in {self._name}")
        return value

    def optional_text(self, key: str, longest: int) -> str | None:
        """A text; None where it is missing, null or blank."""
        value = self.content.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > longest or not value.isprintable():
            raise invalid(f"{key} is no line of at most {longest} printable characters")
        return value.strip() or None

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self.content.get(key, default)
        if not isinstance(value, bool):
            raise invalid(f"{key} is neither true nor false")
        return value

    def number(self, key: str, least: float, most: float) -> float | None:
        """A number from `least` to `most`; None where it is missing or null."""
        value = self.content.get(key)
        return None if value is None else _number(value, key, least, most)

    def numbers(self, key: str, width: int, longest: int) -> list[list[float]]:
        """Rows of `width` numbers each, at most `longest`; none where it is missing or null."""
        value = self.content.get(key)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > longest:
            raise invalid(f"{key} is no list of at most {longest} rows")
        if not all(isinstance(row, list) and len(row) == width for row in value):
            raise invalid(f"{key} has a row that is not {width} numbers")
        return [[_number(each, key, -_FARTHEST, _FARTHEST) for each in row] for row in value]

    def row(self, key: str, width: int) -> list[float] | None:
        """`width` numbers; None where they are missing or null."""
        value = self.content.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != width:
            raise invalid(f"{key} is not {width} numbers")
        return [_number(each, key, -_FARTHEST, _FARTHEST) for each in value]

    def documents(self, key: str, longest: int) -> list[Document]:
        """Objects, one or more and at most `longest`."""
        value = self.content.get(key)
        if not isinstance(value, list) or not 1 <= len(value) <= longest:
            raise invalid(f"{key} is no list of 1 to {longest} objects")
        return [Document(each, f"{key} {number}") for number, each in enumerate(value)]

    def logits(self, key: str, shape: tuple[int, int]) -> Float32 | None:
        """Low-resolution logits of a shape (h, w); None where they are missing or null."""
        value = self.content.get(key)
        if value is None:
            return None
        document = Document(value, key)
        text = document.content.get("float32")
        if document.content.get("shape") != list(shape) or not isinstance(text, str):
            raise invalid(f"{key} has not the shape {list(shape)} of this bundle's low-resolution masks")
        try:
            values = np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
        except (binascii.Error, ValueError) as error:
            raise invalid(f"{key}: float32 is not base64 of numbers") from error
        if values.size != shape[0] * shape[1] or not np.isfinite(values).all():
            raise invalid(f"{key} has not {shape[0]} x {shape[1]} finite numbers")
        return values.reshape(shape)


def _number(value: object, key: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise invalid(f"{key} has {value!r:.40} where a number should stand")
    if not least <= value <= most:
        raise invalid(f"{key} {value!r:.40} is out of range: {least:g} to {most:g}")
    return float(value)


def encoded_logits(low_res: Float32) -> dict[str, Any]:
    """Low-resolution logits (h, w) as they stand in an answer."""
    return {
        "shape": list(low_res.shape),
        "float32": base64.b64encode(np.ascontiguousarray(low_res, "<f4").tobytes()).decode("ascii"),
    }
