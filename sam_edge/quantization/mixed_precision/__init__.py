"""The search behind `--precision auto`: the fastest mixed-precision configuration that keeps its masks.

A configuration gives each block of the network a scheme. `blocks` groups layers into blocks, `sensitivity` simulates
what each block costs in masks, `trials` makes configurations and measures them on the target's own runtime, `labelled`
measures what they lose on human masks, `goals` says which ones may be returned, `configuration` decides which one to
try next, and `search` puts them together. The result is a recipe like any other, with its evidence.
"""

from .configuration import SearchResult
from .goals import AgreementGoal, HumanGoal
from .labelled import HumanMasks
from .search import Search
from .trials import Evaluator, TrialCache

__all__ = ["AgreementGoal", "Evaluator", "HumanGoal", "HumanMasks", "Search", "SearchResult", "TrialCache"]
