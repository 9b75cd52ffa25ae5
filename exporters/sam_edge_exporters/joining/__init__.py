"""Joins graphs of several frames over one copy of their weights; a module for each target.

A frame's graph is converted, and quantized, as if it were the only one: its shapes are fixed, and no tool of a vendor
has to know frames. Joining comes last. It finds weights that are equal byte by byte, so it works at every precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """The graph of one frame.

    Attributes:
        name: of the frame's signature or function in a file that holds several.
        source: its artifact. It is not changed.
        path: the artifact to write; for ONNX a file for each part, for other targets the same for all.
    """

    name: str
    source: Path
    path: Path


def joined_path(parts: Sequence[Part]) -> Path:
    """The one path of parts that share a file."""
    (path,) = {part.path for part in parts}
    return path
