"""Read a checkpoint as people have it, and recognize what model it is by names and shapes.

The stages, each in its own module: read the files (`contents`), find the model's tensors (`unwrapping`), give them the
official names (`layouts`), merge adapters (`adapters`), join split projections (`pruned_vit`), and find the family
(`families`). No stage knows where the file came from, and none runs code from it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import torch

from sam_edge.model import VARIANTS, build_sam
from sam_edge_runtime.errors import CheckpointError, short_name

from .adapters import merge_adapters
from .catalogue import RELEASES, Release
from .clip_layouts import HoldsClipError, holds_clip
from .contents import Contents, read_source
from .families import (
    Builder,
    Family,
    Shapes,
    family_of,
    guess_variant,
    is_spare,
    is_unused,
    shapes_built,
    shapes_of_variant,
)
from .fit import differences
from .layouts import Layout, layout_of, to_official
from .pruned_vit import join_split_projections
from .source import CheckpointSource
from .unwrapping import State, described, unwrap

AUTO = "auto"  # as `--model`: the model that the checkpoint holds
PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")
SHOWN = 6  # entries that are left out, by name


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The tensors of a checkpoint under the official names, and how they were found.

    Attributes:
        label: the checkpoint's name in messages.
        contents: as it was stored.
        state: tensors by official name.
        layout: whose names they had.
        prefix: what stood before these names, such as `model.module.`.
        adapters: the adapters that were merged; empty if there were none.
        left_out: entries that were not used.
    """

    label: str
    contents: Contents
    state: State
    layout: Layout
    prefix: str
    adapters: str
    left_out: tuple[str, ...]

    @property
    def shapes(self) -> Shapes:
        """Shapes by official name."""
        return {name: tuple(tensor.shape) for name, tensor in self.state.items()}

    @property
    def precision(self) -> str:
        """The types of the floating point tensors, such as `float16`."""
        kinds = {str(each.dtype).removeprefix("torch.") for each in self.state.values() if each.is_floating_point()}
        return " and ".join(sorted(kinds))


@dataclass(frozen=True, eq=False)
class Recognized:
    """What a checkpoint holds.

    Attributes:
        checkpoint: its tensors.
        family: the architecture.
        variant: name of the variant, as `--model` takes it.
        build: makes the untrained model.
    """

    checkpoint: Checkpoint
    family: Family
    variant: str
    build: Builder

    @property
    def release(self) -> Release | None:
        """The official release that the checkpoint is, byte for byte; None if it is none."""
        contents = self.checkpoint.contents
        sizes = {path.stat().st_size for path in contents.files}
        return next(
            (
                release
                for release in RELEASES.values()
                if contents.base is None
                and (sizes == {release.size} or (release.size is None and release.variant == self.variant))
                and contents.sha256 == release.sha256
            ),
            None,
        )

    @property
    def origin(self) -> str:
        """Whose weights these are, as far as the file tells: official, or a note on those of the same modules."""
        return "the official weights" if self.release is not None else self.family.note

    @property
    def described(self) -> str:
        """One line: variant, family, layout, precision, whose weights, what was merged and what was left out."""
        read = self.checkpoint
        facts = [f"{self.variant}, {self.family.title}", f"{read.layout.title}, {read.precision}"]
        facts += [self.origin] if self.origin else []
        if read.prefix:
            facts.append(f"found under {short_name(read.prefix.removesuffix('.'))}")
        if read.adapters:
            facts.append(f"merged {read.adapters}")
        if read.left_out:
            more = f" and {len(read.left_out) - SHOWN} more" if len(read.left_out) > SHOWN else ""
            facts.append(f"left out {', '.join(read.left_out[:SHOWN])}{more}")
        return f"{read.label}: {'; '.join(facts)}"


def read_checkpoint(source: CheckpointSource) -> Checkpoint:
    """The tensors of a file, a folder or a repository under the official names; memory-mapped where possible.

    Raises:
        CheckpointError: it cannot be read or fetched, would run code, holds no model's tensors, two sets of them or two
            layouts, or adapters that cannot be merged.
        UsageError: it is on the Hub, and huggingface_hub is not installed.
    """
    return normalized(read_source(source), source.label)


def normalized(contents: Contents, label: str) -> Checkpoint:
    """The tensors of `contents` under the official names.

    Raises:
        CheckpointError: as `read_checkpoint`.
    """
    own = _under_official_names(contents, label)
    if contents.base is not None:
        base = _under_official_names(contents.base, f"{label}'s base model")
        own = replace(own, state={**base.state, **own.state}, layout=base.layout)
    state, adapters = merge_adapters(own.state, contents.adapter, label)
    state = join_split_projections(state, label)
    kept = {name: tensor for name, tensor in state.items() if not is_unused(name)}
    left_out = own.left_out + _unused([name for name in state if name not in kept], kept)
    return replace(own, state=kept, adapters=adapters, left_out=left_out)


def _unused(names: list[str], kept: State) -> tuple[str, ...]:
    """Tensors of a family's files that are not loaded: by their part, or by their last name within a part in use."""
    parts = {name.partition(".")[0] for name in kept}
    roots = [(name.partition(".")[0], name.rpartition(".")[2]) for name in names]
    counts = Counter(root if root not in parts else f"{root}...{last}" for root, last in roots)
    return tuple(described(entry, count) for entry, count in counts.items())


def _under_official_names(contents: Contents, label: str) -> Checkpoint:
    try:
        found = unwrap(contents.tree, label)
    except CheckpointError:
        if holds_clip(contents.tree):
            raise HoldsClipError(
                f"{label} holds a text and an image encoder (CLIP's kin) and no SAM: name it where masks are ranked by "
                "words (--rank), and a SAM here"
            ) from None
        raise
    layout = layout_of(found.state, label)
    return Checkpoint(
        label, contents, to_official(found.state, layout, label), layout, found.prefix, "", found.left_out
    )


def recognize(checkpoint: Checkpoint, wanted: str = AUTO) -> Recognized:
    """Find the model that the checkpoint holds; tensors that no mask depends on are added as zeros if missing.

    Args:
        checkpoint: the tensors.
        wanted: the variant that they must be, or `auto`.

    Raises:
        CheckpointError: they are those of no model here, or not of `wanted`.
    """
    shapes, label = checkpoint.shapes, checkpoint.label
    family = family_of(shapes)
    found = _find_variant(family, shapes)
    if found is None or family is None:
        raise CheckpointError(_fits_nothing(checkpoint, wanted))
    if wanted not in (AUTO, found[0]):
        raise CheckpointError(
            f"{label} holds the weights of {found[0]}, not of {wanted}: use --model {found[0]}, or leave out --model"
        )
    variant, build, built = found
    state = {**checkpoint.state, **{n: torch.zeros(built[n]) for n in built if n not in shapes}}
    return Recognized(replace(checkpoint, state=state), family, variant, build)


def _find_variant(family: Family | None, shapes: Shapes) -> tuple[str, Builder, Shapes] | None:
    """The variant of the family that `shapes` fit, how to build it, and its names and shapes."""
    if family is None:
        return None
    variant = guess_variant(shapes)
    if variant is not None and not _differences(shapes, shapes_of_variant(variant)):
        return variant, lambda: build_sam(variant), shapes_of_variant(variant)
    if family.read is not None and (found := family.read(shapes)) is not None:
        name, build = found
        built = shapes_built(build)
        if not _differences(shapes, built):
            return name, build, built
    return None


def _differences(shapes: Shapes, wanted: Shapes) -> str:
    return differences(shapes, {name: shape for name, shape in wanted.items() if name in shapes or not is_spare(name)})


def _fits_nothing(checkpoint: Checkpoint, asked: str) -> str:
    """The message for tensors that no model here has."""
    shapes, label = checkpoint.shapes, checkpoint.label
    of_memory = any(entry.startswith(("memory_", "maskmem_")) for entry in checkpoint.left_out)
    if of_memory and not _has(shapes, "image_encoder"):
        return f"{label} holds only the memory parts of a SAM 2 video model and no image encoder: name the whole model"
    variant = asked if asked in VARIANTS else guess_variant(shapes) or _nearest(shapes)
    wanted = shapes_of_variant(variant)
    present, absent = ([root for root in PARTS if _has(shapes, root) is there] for there in (True, False))
    of_present = {name: shape for name, shape in wanted.items() if name.partition(".")[0] in present}
    if absent and not _differences(shapes, of_present):
        return (
            f"{label} holds only the {' and '.join(present)} of {variant}, without {' and '.join(absent)}: save the "
            "state_dict of the whole SAM"
        )
    nearest = f"it is not for {variant}" if variant == asked else f"it fits no model, and the nearest is {variant}"
    near = guess_variant(shapes)
    hint = f"; these are the names and widths of {near}: use --model {near}" if near and near != variant else ""
    return f"{label}: {nearest}: {_differences(shapes, wanted)}{hint}"


def _has(shapes: Shapes, root: str) -> bool:
    return any(name.startswith(f"{root}.") for name in shapes)


def _nearest(shapes: Shapes) -> str:
    """The variant that shares most names and shapes, on average over its parts: encoders have most of the names."""

    def shared(variant: str, part: str) -> float:
        wanted, held = (
            {name: shape for name, shape in each.items() if name.startswith(f"{part}.")}
            for each in (shapes_of_variant(variant), shapes)
        )
        same = sum(1 + (held[name] == shape) for name, shape in wanted.items() if name in held)
        return same / (len(wanted) + len(held))

    return max(VARIANTS, key=lambda variant: sum(shared(variant, part) for part in PARTS))
