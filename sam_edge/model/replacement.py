"""A copy of a module in which submodules of some classes are replaced: the tool of every graph rewrite."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)
Replacements = Mapping[type[nn.Module], Callable[[Any], nn.Module]]


def replace_modules(module: Module, replacements: Replacements) -> Module:
    """A copy of a graph with submodules replaced, in the same mode (training or evaluation).

    Parameters are shared: they are held in memory once, and a change is seen by both. `module` itself stays as it is.

    Args:
        module: the graph.
        replacements: by exact class, a function from a submodule of that class to its replacement.

    Raises:
        TypeError: the graph itself would be replaced by a module of another class.
    """
    copied = replace_any(module, replacements)
    if not isinstance(copied, type(module)):
        raise TypeError(f"{type(module).__name__} became {type(copied).__name__}")
    return copied.train(module.training)


def replace_any(module: nn.Module, replacements: Replacements) -> nn.Module:
    """A copy of `module` with submodules replaced, or the replacement of `module` itself.

    Children are replaced first, so the function of a replacement receives a module whose children are replaced already.
    """
    copied = copy.copy(module)
    # A shallow copy shares the dict of children; it needs one of its own.
    children = module._modules.items()
    copied._modules = {name: None if child is None else replace_any(child, replacements) for name, child in children}
    replacement = replacements.get(type(module))
    return copied if replacement is None else replacement(copied)
