"""A module again with some of its parts replaced, for a graph that computes the same in another way."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)
Replacements = Mapping[type[nn.Module], Callable[[Any], nn.Module]]


def twin_of(module: Module, replacements: Replacements) -> Module:
    """The twin of a graph: same class and answers up to rounding, the same parameters, and the same mode.

    Parameters are shared, so nothing is held twice and a change of one is seen by both; `module` stays as it is.

    Args:
        module: the graph.
        replacements: what makes a part's stand-in of it, by the part's very class.

    Raises:
        TypeError: the graph itself would be replaced by something of another class.
    """
    twin = rewritten(module, replacements)
    if not isinstance(twin, type(module)):
        raise TypeError(f"{type(module).__name__} became {type(twin).__name__}")
    return twin.train(module.training)


def rewritten(module: nn.Module, replacements: Replacements) -> nn.Module:
    """`module`, or what stands for it.

    A shallow copy: parameters and code are the plain one's, only its children may differ. Children come first, so a
    replacement finds its parts replaced already.
    """
    twin = copy.copy(module)
    # A shallow copy shares the table of children, and children of the twin are not the plain module's.
    children = module._modules.items()
    twin._modules = {name: None if child is None else rewritten(child, replacements) for name, child in children}
    replacement = replacements.get(type(module))
    return twin if replacement is None else replacement(twin)
