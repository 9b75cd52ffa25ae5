"""Find a model's tensors in what a training script saved: nested in dicts, under prefixes, beside other things.

The dicts are flattened to dotted names first, so that `{"model": {"module.image_encoder.pos_embed": ...}}` and a state
dict with the prefix `model.module.` are the same case. A name belongs to the model from the first segment on that is a
part of some layout (`ROOTS` in `layouts`). What stands before it is the prefix. Everything else is left out, and named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import torch

from sam_edge_runtime.errors import CheckpointError, short_name

from .adapters import without_base
from .layouts import ENCODERS, ROOTS

State = dict[str, torch.Tensor]

DEEPEST = 8  # dicts within dicts that are searched
MOST_NAMES = 100_000  # a pickle of a kilobyte can repeat one dict endlessly; vit_h has 594 names
# Segments that wrappers of modules add wherever the wrapped module stands.
WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# Entries whose tensors bear the names of parameters and are no parameters.
NO_WEIGHTS = re.compile(r"(.*[_.])?(optim\w*|\w*scheduler\w*|scaler\w*|grad\w*|exp_avg\w*|momentum\w*)")
AVERAGED = re.compile(r"(.*[_.])?ema(_.*)?|.*_ema")
# Matrices of adapters that do not say which layer they adapt, as SAMed and Sam_LoRA save them.
NAMELESS_ADAPTER = re.compile(r"(.*\.)?w_[ab]_\d{1,4}")
# What some entries are, for the line that names them.
KNOWN = {
    "decoder_state": "micro-sam's decoder of instances",
    "pixel_mean": "SAM's own is used",
    "pixel_std": "SAM's own is used",
}


@dataclass(frozen=True, eq=False)
class Unwrapped:
    """A model's tensors out of a file.

    Attributes:
        state: tensors under the names of their layout.
        prefix: what stood before these names, such as `model.module.`; empty if nothing did.
        left_out: the entries that belong to no model, such as `optimizer (12 tensors)`.
    """

    state: State
    prefix: str
    left_out: tuple[str, ...]


def unwrap(
    tree: Mapping[object, object],
    label: str,
    roots: Collection[str] = ROOTS,
    encoders: tuple[str, ...] = ENCODERS,
) -> Unwrapped:
    """The tensors in `tree` that belong to a model.

    Args:
        tree: tensors by name, nested in dicts up to eight deep; anything else may stand beside them.
        label: the checkpoint's name in error messages.
        roots: first segments of the model's names.
        encoders: beginnings of the names of its image encoder, by which one of several sets of weights is chosen.

    Raises:
        CheckpointError: there is no such tensor, or two sets of weights of which neither is the other's average.
    """
    tensors, others = _flattened(tree, label)
    states: dict[str, State] = {}
    strays: list[str] = []
    for name, tensor in tensors.items():
        segments = name.split(".")
        place = next((index for index, segment in enumerate(segments) if segment in roots), None)
        if place is None or any(NO_WEIGHTS.fullmatch(segment) for segment in segments[:place]):
            strays.append(name)
            continue
        prefix = "".join(f"{segment}." for segment in segments[:place])
        inner = ".".join(segment for segment in segments[place:] if segment not in WRAPPERS)
        state = states.setdefault(prefix, {})
        if inner in state:
            raise CheckpointError(f"{label} holds {short_name(inner)} twice, with and without a wrapper: save it once")
        state[inner] = tensor
    adapter = next((name for name in strays if NAMELESS_ADAPTER.fullmatch(name)), None)
    if adapter is not None:
        raise CheckpointError(without_base(label, adapter))
    if not states:
        raise CheckpointError(_nothing(label, tensors, others))
    prefix = _chosen(states, encoders, label)
    strays += [each + name for each, state in states.items() if each != prefix for name in state]
    return Unwrapped(states[prefix], prefix, _left_out(strays, others, prefix))


def tensor_names(tree: Mapping[object, object]) -> list[str]:
    """The dotted names of all tensors in `tree`, or of the first of more than a model has."""
    leaves = islice(_leaves(tree, "", DEEPEST), MOST_NAMES)
    return [name for name, value in leaves if isinstance(value, torch.Tensor)]


def _flattened(tree: Mapping[object, object], label: str) -> tuple[State, list[str]]:
    """All tensors by their dotted names, and the dotted names of everything else."""
    tensors: State = {}
    others: list[str] = []
    for name, value in _leaves(tree, "", DEEPEST):
        if isinstance(value, torch.Tensor):
            tensors[name] = value
        else:
            others.append(name)
        if len(tensors) + len(others) > MOST_NAMES:
            raise CheckpointError(f"{label} holds more than {MOST_NAMES:,} entries: save the state dict alone")
    return tensors, others


def _leaves(tree: Mapping[object, object], before: str, depth: int) -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and depth > 1 and value:
            yield from _leaves(value, f"{name}.", depth - 1)
        else:
            yield name, value


def _chosen(states: Mapping[str, State], beginnings: tuple[str, ...], label: str) -> str:
    """The prefix of the weights to load: the only one, the one with an image encoder, or the averaged weights."""
    encoders = [prefix for prefix, state in states.items() if any(name.startswith(beginnings) for name in state)]
    candidates = encoders or list(states)
    if len(candidates) == 1:
        return candidates[0]
    averaged = [each for each in candidates if any(AVERAGED.fullmatch(part) for part in each.split("."))]
    if len(averaged) == 1 and len(candidates) == 2:
        return averaged[0]
    shown = [short_name(each.removesuffix(".") or "its top level") for each in candidates[:3]]
    raise CheckpointError(
        f"{label} holds weights under {'both ' if len(shown) == 2 else ''}{' and '.join(shown)}: "
        "save the right ones alone"
    )


def _nothing(label: str, tensors: State, others: Iterable[str]) -> str:
    if tensors:
        shown = ", ".join(short_name(name) for name in list(tensors)[:3])
        return f"{label} holds no tensor of a model that sam-edge knows: its {len(tensors)} names begin with {shown}"
    shown = ", ".join(short_name(name) for name in list(others)[:3])
    return f"{label} holds no tensors{f', only {shown}' if shown else ''}: name a file of weights"


def _left_out(strays: Iterable[str], others: Iterable[str], prefix: str) -> tuple[str, ...]:
    """Entries that are not loaded: each with the number of its tensors, and what it is where that is known."""
    tensors = Counter(_entry(name, prefix) for name in strays)
    entries = list(dict.fromkeys([*tensors, *(_entry(name, prefix) for name in others)]))
    return tuple(described(entry, tensors[entry]) for entry in entries)


def _entry(name: str, prefix: str) -> str:
    """The beginning of `name` that sets it apart from the weights: the segments shared with `prefix`, and one more."""
    segments, taken = name.split("."), prefix.split(".")[:-1]
    shared = 0
    while shared < min(len(segments) - 1, len(taken)) and segments[shared] == taken[shared]:
        shared += 1
    return ".".join(segments[: shared + 1])


def described(entry: str, tensors: int) -> str:
    """An entry with what it is, where that is known, and the number of its tensors."""
    about = [KNOWN[entry.rpartition(".")[2]]] if entry.rpartition(".")[2] in KNOWN else []
    about += [f"{tensors} tensors"] if tensors > 1 else []
    return short_name(entry) + (f" ({', '.join(about)})" if about else "")
