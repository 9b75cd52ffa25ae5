"""Each kind of MIL operation in numpy, with MIL's parameter names.

Semantics are those of coremltools' operation definitions for iOS 15 to 18. Floats come in and go out as float32;
integers and texts as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .compression import COMPRESSION
from .elementwise import ELEMENTWISE
from .images import IMAGES
from .products import PRODUCTS
from .reductions import REDUCTIONS
from .shapes import SHAPES

OPERATIONS: dict[str, Callable[..., Any]] = {
    **COMPRESSION,
    **ELEMENTWISE,
    **IMAGES,
    **PRODUCTS,
    **REDUCTIONS,
    **SHAPES,
}

# Kinds that only move numbers, or repeat them: what they make needs no rounding that its parts did not have.
MOVES = frozenset(SHAPES) - {"fill", "fill_like", "one_hot", "pad", "range_1d"} | {"identity"}
