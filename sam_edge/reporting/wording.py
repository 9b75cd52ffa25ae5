"""Names from untrusted files, made safe to print in one line on a terminal."""

from __future__ import annotations

LONGEST = 200  # characters; the longest name in mobile_sam.pt has 75, and two shapes may follow it


def in_one_line(text: str) -> str:
    """`text` with line breaks and escape sequences escaped, and cut to `LONGEST` characters."""
    plain = text if text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= LONGEST else plain[:LONGEST] + "..."
