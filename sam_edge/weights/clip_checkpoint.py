"""Load weights of CLIP's kin: the same sources and the same strictness as SAM's, and which variant they are.

`config.json` beside a file of transformers decides about the activation: OpenCLIP's models have the shapes of OpenAI's,
and another GELU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from sam_edge.model.clip import CLIP_CONFIGS, Clip, ClipConfig, build_clip, clip_config
from sam_edge.model.clip.config import ACTIVATIONS
from sam_edge_runtime.bundle.tokenizer import FILE as TOKENIZER_FILE
from sam_edge_runtime.errors import CheckpointError, UsageError, short_name
from sam_edge_runtime.system.documents import read_json

from .cache import cached
from .catalogue import Release
from .checkpoint import CheckpointRecord
from .clip_catalogue import CLIP_RELEASES
from .clip_layouts import CLIP_ROOTS, clip_layout_of, to_clip
from .contents import Contents, read_source
from .families import shapes_built
from .fit import check_fit, differences
from .layouts import Layout
from .licences import NO_LICENCE_STATED
from .recognition import AUTO
from .seeded import seed_module
from .source import CheckpointSource, parse_source
from .unwrapping import State, unwrap

CONFIG = "config.json"


@dataclass(frozen=True)
class LoadedClip:
    """A model and the origin of its weights.

    Attributes:
        variant: name of the architecture.
        clip: the model, in evaluation mode, without gradients.
        checkpoint: what was loaded.
        licence: of the weights: the SPDX identifier of official ones, what the card of a repository on the Hub states,
            else `NOASSERTION`.
        tokenizer: the `tokenizer.json` beside the weights; None where there is none.
    """

    variant: str
    clip: Clip
    checkpoint: CheckpointRecord
    licence: str
    tokenizer: Path | None = None


@dataclass(frozen=True, eq=False)
class RecognizedClip:
    """What a checkpoint of CLIP's kin holds.

    Attributes:
        label: the checkpoint's name in messages.
        contents: as it was stored.
        state: tensors under the names of the models here.
        layout: whose names they had.
        variant: name of the variant.
        config: its sizes, with the activation that `config.json` states.
    """

    label: str
    contents: Contents
    state: State
    layout: Layout
    variant: str
    config: ClipConfig

    @property
    def described(self) -> str:
        """One line: variant, family, layout and activation."""
        return f"{self.label}: {self.variant}, {self.config.title}; {self.layout.title}; {self.config.activation}"


def find_clip_source(variant: str, checkpoint: str | None) -> CheckpointSource:
    """The source that `--checkpoint` names; by default the weights in the cache.

    Args:
        variant: name of the architecture, or `auto` for the one that `checkpoint` holds.
        checkpoint: a file or folder, `hf:OWNER/NAME` or `random:SEED`; None for the default.

    Raises:
        UsageError: no such variant, a malformed source, or `auto` without one.
        CheckpointError: `checkpoint` is None, and there are no weights in the cache.
    """
    if variant != AUTO:
        clip_config(variant)
    if checkpoint is not None:
        return parse_source(checkpoint)
    if variant == AUTO:
        raise UsageError("which text encoder is meant is unknown: name one of them, or its weights")
    path = cached(CLIP_RELEASES[variant])
    if path is None:
        raise CheckpointError(
            f"no weights for {variant} yet: run `sam-edge download {variant}`, or name a file or hf:OWNER/NAME"
        )
    return parse_source(path)


def recognize_clip(source: CheckpointSource) -> RecognizedClip:
    """Read a file, a folder or a repository, and find out which variant it is.

    Raises:
        CheckpointError: it cannot be read or fetched, would run code, or holds no variant's tensors.
        UsageError: it is on the Hub, and huggingface_hub is not installed.
    """
    label, contents = source.label, read_source(source)
    found = unwrap(contents.tree, label, CLIP_ROOTS, ("visual.", "vision_model.", "_image_encoder."))
    layout = clip_layout_of(found.state)
    state = to_clip(found.state, layout, label)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    variant = next((name for name in CLIP_CONFIGS if shapes == shapes_of_clip(name)), None)
    if variant is None:
        nearest = min(CLIP_CONFIGS, key=lambda name: _distance(shapes, shapes_of_clip(name)))
        faults = differences(shapes, shapes_of_clip(nearest))
        raise CheckpointError(f"{label} fits no text encoder, and the nearest is {nearest}: {faults}")
    config = _stated(clip_config(variant), contents.beside([CONFIG]))
    return RecognizedClip(label, contents, state, layout, variant, config)


def official_release(found: RecognizedClip) -> Release | None:
    """The official release that the checkpoint is, byte for byte; None if it is none, or its hash is not known."""
    release = CLIP_RELEASES[found.variant]
    return release if release.sha256 and found.contents.sha256 == release.sha256 else None


def load_clip(variant: str, source: CheckpointSource) -> LoadedClip:
    """Build a variant and load its weights strictly.

    Args:
        variant: name of the architecture, or `auto` for the one whose weights `source` holds.
        source: its weights.

    Raises:
        UsageError: no such variant, or seeded weights for `auto`.
        CheckpointError: the weights cannot be read, or are another variant's.
    """
    if variant != AUTO:
        clip_config(variant)
    if source.seed is not None:
        if variant == AUTO:
            raise UsageError(f"{source.label} fits every model: choose one of {', '.join(CLIP_CONFIGS)}")
        clip = build_clip(variant)
        seed_module(clip, source.seed)
        return LoadedClip(variant, _frozen(clip), CheckpointRecord(source.label, None, is_random=True), "")
    found = recognize_clip(source)
    if variant not in (AUTO, found.variant):
        raise CheckpointError(f"{found.label} holds the weights of {found.variant}, not of {variant}")
    clip = Clip(found.config).eval()
    record = copy_into_clip(clip, found.state, found)
    release = official_release(found)
    licence = release.licence if release else found.contents.licence or NO_LICENCE_STATED
    beside = found.contents.files[0].parent / TOKENIZER_FILE
    return LoadedClip(found.variant, _frozen(clip), record, licence, beside if beside.is_file() else None)


def copy_into_clip(clip: Clip, state: State, found: RecognizedClip) -> CheckpointRecord:
    """Copy tensors into a model, strictly.

    Raises:
        CheckpointError: names, shapes or numbers are not the model's; it is unchanged.
    """
    check_fit(state, clip, found.label)
    clip.load_state_dict(state, strict=True, assign=False)
    return CheckpointRecord(found.label, found.contents.sha256, is_random=False)


@cache
def shapes_of_clip(variant: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a variant's state dict; no memory is used for the numbers."""
    return dict(shapes_built(lambda: build_clip(variant)))


def _frozen(clip: Clip) -> Clip:
    clip.requires_grad_(requires_grad=False)
    return clip


def _distance(shapes: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> int:
    return sum(shapes.get(name) != wanted.get(name) for name in shapes.keys() | wanted.keys())


def _stated(config: ClipConfig, path: Path | None) -> ClipConfig:
    """The configuration with the activation that transformers' `config.json` states, if there is one."""
    if path is None:
        return config
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}): copy it again, or remove it") from error
    sections = [document.get(each) for each in ("text_config", "vision_config")] if isinstance(document, dict) else []
    stated = {each["hidden_act"] for each in sections if isinstance(each, dict) and "hidden_act" in each}
    if not stated:
        return config
    if len(stated) > 1 or not stated <= set(ACTIVATIONS):
        raise CheckpointError(
            f"{path} states the activation {short_name(' and '.join(map(str, stated)))}: one of "
            f"{', '.join(ACTIVATIONS)} is expected, the same for both encoders"
        )
    return replace(config, activation=stated.pop())
