"""The search behind `--precision auto`: the fastest mixture of bit widths whose masks stay within a bound.

`blocks` says which parts of a network are decided together, `sensitivity` what each of them costs in masks, `trials`
makes and measures candidates on the target's own runtime, and `mixture` decides which to try. What comes out is a
recipe like any other, with the evidence for it beside it.
"""

from .blocks import blocks_of
from .mixture import Found, Measured, find_mixture
from .sensitivity import masks_lost
from .trials import Bench, Judge, Ledger

__all__ = ["Bench", "Found", "Judge", "Ledger", "Measured", "blocks_of", "find_mixture", "masks_lost"]
