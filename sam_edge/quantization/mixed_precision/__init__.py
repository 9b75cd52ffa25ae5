"""The search behind `--precision auto`: the fastest mixture of bit widths whose masks stay within a bound.

`blocks` says which parts of a network are decided together, `sensitivity` what each of them costs in masks, `trials`
makes and measures candidates on the target's own runtime, `mixture` decides which to try, and `search` puts them
together. What comes out is a recipe like any other, with the evidence for it beside it.
"""

from .configuration import Found
from .search import Search
from .trials import Evaluator, TrialCache

__all__ = ["Evaluator", "Found", "Search", "TrialCache"]
