"""What a converter is told beside the graph and its contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# One call of a graph: its inputs by name.
Sample = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class About:
    """What an artifact says of itself where its format has room for it.

    Attributes:
        title: what it is, in a line.
        licence: SPDX identifier.
        version: of this project, which made it.
        notes: more, by name.
    """

    title: str = ""
    licence: str = ""
    version: str = ""
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Conversion:
    """How a graph is to be written.

    Attributes:
        precision: name of the recipe.
        samples: calls of the graph, for what has to be measured; needed by `mixed`.
        about: what the artifact says of itself.
        picture_input: take the photo as a picture of 8-bit RGB instead of a tensor (Core ML).
    """

    precision: str = "fp32"
    samples: tuple[Sample, ...] = ()
    about: About = About()
    picture_input: bool = False


PLAIN = Conversion()
# What an exporter found out about an artifact, for the report.
Findings = dict[str, Any]
