"""Names out of a file that nobody vouches for, made fit for one line on a terminal."""

from __future__ import annotations

LONGEST = 200  # characters; the longest name in mobile_sam.pt has 75, and two shapes may follow it


def in_one_line(text: str) -> str:
    """`text` without line breaks, escape sequences or endless length, which a hostile file could put in a name."""
    plain = text if text.isprintable() else ascii(text)[1:-1]
    return plain if len(plain) <= LONGEST else plain[:LONGEST] + "..."
