"""Every MIL operation type as a numpy function with MIL's parameter names.

The semantics are those of coremltools' operation definitions for iOS 15 to 18. Floats are float32 on both sides;
integers and strings are passed as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .compression import COMPRESSION
from .elementwise import ELEMENTWISE
from .image_resizing import IMAGE_RESIZING
from .pooling import POOLING
from .products import PRODUCTS
from .reductions import REDUCTIONS
from .shapes import SHAPES

OPERATIONS: dict[str, Callable[..., Any]] = {
    **COMPRESSION,
    **ELEMENTWISE,
    **IMAGE_RESIZING,
    **POOLING,
    **PRODUCTS,
    **REDUCTIONS,
    **SHAPES,
}

# Types whose outputs hold values of their inputs alone, moved or repeated: they need no rounding again.
MOVES = frozenset(SHAPES) - {"fill", "fill_like", "one_hot", "pad", "range_1d"} | {"identity", "max_pool"}
