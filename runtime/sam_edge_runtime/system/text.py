"""Files that users name: regular ones only, and text as editors on every system write it."""

from __future__ import annotations

import codecs
import errno
import os
import stat
from pathlib import Path

# The longer marks first: UTF-32's begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_regular(path: Path, most: int | None = None) -> bytes:
    """The content of a regular file. A pipe could block for ever, and a device such as `/dev/zero` has no end.

    Args:
        path: the file.
        most: largest number of bytes; None: any.

    Raises:
        OSError: it cannot be read, or is something else.
        ValueError: it has more than `most` bytes.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        if most is not None and status.st_size > most:
            raise ValueError(f"it has more than {most:,} bytes")
        return file.read()


def read_text(path: Path) -> str:
    """The text of a file: UTF-8, or what its byte order mark says; every line ends in a line feed.

    Raises:
        OSError: it cannot be read.
        UnicodeDecodeError: it is no such text.
    """
    content = read_regular(path)
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")
