"""The options of a conversion, beside the graph and its contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sam_edge_runtime.arrays import Call


@dataclass(frozen=True)
class Metadata:
    """The metadata of an artifact, where its format has fields for it.

    Attributes:
        title: one line.
        licence: SPDX identifier.
        version: of sam-edge.
        notes: further entries, by name.
    """

    title: str = ""
    licence: str = ""
    version: str = ""
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Conversion:
    """The options of a conversion.

    Attributes:
        precision: name of the recipe.
        samples: calls of the graph to measure on; needed by `mixed`.
        metadata: of the artifact.
        picture_input: take the photo as an 8-bit RGB image instead of a tensor (Core ML).
    """

    precision: str = "fp32"
    samples: tuple[Call, ...] = ()
    metadata: Metadata = Metadata()
    picture_input: bool = False


PLAIN = Conversion()
# Statistics of an artifact, for the report.
Inspection = dict[str, Any]
