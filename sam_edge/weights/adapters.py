"""Merge LoRA adapters into the layers that they adapt: W + s B A ("LoRA", https://arxiv.org/abs/2106.09685, section 4).

The kinds, as data in `SURGERIES`:

- micro-sam and its kin (Sam_LoRA, SAMed) replace `qkv` by a module that holds it beside pairs of matrices for the
  queries, keys or values; s is 1. micro-sam may treat the MLP likewise.
- `peft` stores `lora_A` and `lora_B` beside any linear layer, as `base_layer` or in a file of their own; s is
  `lora_alpha / r`, which only `adapter_config.json` records.

Products are computed and added in float32, whatever the precision of the file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sam_edge_runtime.errors import CheckpointError, short_name

State = dict[str, torch.Tensor]

PARTS = ("q", "k", "v")  # thirds of the rows of qkv


@dataclass(frozen=True)
class Surgery:
    """Where one kind of adapter keeps its matrices. `{at}` is the name up to the adapted layer.

    Attributes:
        down: pattern of the names of A; `part` is the third of qkv that it adapts, or the number of a linear layer.
        up: name of B.
        bases: where the adapted weight may be.
        merged: the name that the weight has without the adapter.
        thirds: whether `part` is a third of the rows.
        scaled: whether the scale is in `adapter_config.json`; else it is 1.
    """

    down: re.Pattern[str]
    up: str
    bases: tuple[str, ...]
    merged: str
    thirds: bool = False
    scaled: bool = False


SURGERIES = (
    Surgery(
        re.compile(r"(?P<at>.*\.qkv)\.w_a_linear_(?P<part>[qkv])\.weight"),
        "{at}.w_b_linear_{part}.weight",
        ("{at}.qkv_proj.weight",),
        "{at}.weight",
        thirds=True,
    ),
    Surgery(
        re.compile(r"(?P<at>.*\.qkv)\.linear_a_(?P<part>[qkv])\.weight"),
        "{at}.linear_b_{part}.weight",
        ("{at}.qkv.weight",),
        "{at}.weight",
        thirds=True,
    ),
    Surgery(
        re.compile(r"(?P<at>.*\.mlp)\.w_a_linear_(?P<part>[12])\.weight"),
        "{at}.w_b_linear_{part}.weight",
        ("{at}.mlp_layer.lin{part}.weight",),
        "{at}.lin{part}.weight",
    ),
    Surgery(
        re.compile(r"(?P<at>.*)\.lora_A(?P<part>\.(?!weight$)[^.]+)?\.weight"),
        "{at}.lora_B{part}.weight",
        ("{at}.base_layer.weight", "{at}.weight"),
        "{at}.weight",
        scaled=True,
    ),
)
# What stays of the modules that held the adapted layers: their other tensors, such as the bias, get the plain names.
PLAIN = ((".qkv.qkv_proj.", ".qkv."), (".qkv.qkv.", ".qkv."), (".mlp.mlp_layer.", ".mlp."), (".base_layer.", "."))
SAVED = re.compile(r"\.modules_to_save\.[^.]+\.")  # peft's copy of a module that was trained as a whole
# Names that adapters leave where they cannot be merged: DoRA, FacT, matrices without their layer.
REMAINS = re.compile(r"(.*\.)?(lora_\w+|w_[ab]_\w+|linear_[ab]_[qkv]|\w*FacT\w*|down_proj|up_proj)(\..*)?")


@dataclass(frozen=True)
class PeftConfig:
    """What merging needs of peft's `adapter_config.json`.

    Attributes:
        base: path or `OWNER/NAME` of the model that was adapted; empty if the file does not say.
        alpha: the numerator of the scale.
        by_root: whether the scale is `alpha / sqrt(r)` instead of `alpha / r` (rank-stabilized LoRA).
    """

    base: str
    alpha: float
    by_root: bool = False

    @classmethod
    def from_json(cls, document: Any, label: str) -> PeftConfig:
        """Read the configuration.

        Raises:
            CheckpointError: it is none, or of an adapter that is not W + s B A with one scale.
        """
        if not isinstance(document, dict):
            raise CheckpointError(f"{label} is no JSON object: copy it again")
        kind = document.get("peft_type")
        if kind != "LORA":
            raise CheckpointError(
                f"{label} is of a {short_name(str(kind))} adapter, and only LORA is merged: merge it in peft "
                "(merge_and_unload) and save the model"
            )
        unmerged = [key for key in ("use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern") if document.get(key)]
        alpha, base = document.get("lora_alpha"), document.get("base_model_name_or_path")
        if unmerged or isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            reason = f"it sets {unmerged[0]}" if unmerged else "lora_alpha is no number"
            raise CheckpointError(
                f"the adapter of {label} cannot be merged ({reason}): merge it in peft (merge_and_unload) and save "
                "the model"
            )
        return cls(base if isinstance(base, str) else "", float(alpha), document.get("use_rslora") is True)

    def scale(self, rank: int) -> float:
        """The factor of B A."""
        return self.alpha / (math.sqrt(rank) if self.by_root else rank)


def merge_adapters(state: State, config: PeftConfig | None, label: str) -> tuple[State, str]:
    """Merge all adapters.

    Args:
        state: the model's tensors and the adapters', under the official names.
        config: of peft's adapters.
        label: the checkpoint's name in error messages.

    Returns:
        The model's tensors under their plain names, and a description such as `LoRA of rank 4 in 24 layers`; empty if
        there was no adapter.

    Raises:
        CheckpointError: an adapter lacks its base, its second matrix or its scale, does not fit, or is of another kind.
    """
    result = dict(state)
    ranks: set[int] = set()
    layers: set[str] = set()
    for name in list(state):
        for surgery in SURGERIES:
            if found := surgery.down.fullmatch(name):
                places = {key: value or "" for key, value in found.groupdict().items()}
                rank, merged = _merge(result, name, surgery, places, config, label)
                ranks.add(rank)
                layers.add(merged)
                break
    result = {_plain(name): tensor for name, tensor in result.items() if ".original_module." not in name}
    for name in result:
        if REMAINS.fullmatch(name):
            raise CheckpointError(
                f"{label} holds an adapter that cannot be merged ({short_name(name)}): merge it where it was trained, "
                "and save the model"
            )
    described = f"LoRA of rank {' and '.join(map(str, sorted(ranks)))} in {len(layers)} layers" if layers else ""
    return result, described


def _merge(
    state: State, name: str, surgery: Surgery, places: Mapping[str, str], config: PeftConfig | None, label: str
) -> tuple[int, str]:
    """Merge one pair of matrices in place; returns its rank and the name of the layer."""
    up_name, merged = surgery.up.format(**places), surgery.merged.format(**places)
    candidates = [each.format(**places) for each in surgery.bases]
    base_name = next((each for each in (*candidates, merged) if each in state), None)
    if base_name is None:
        raise CheckpointError(without_base(label, name))
    down, up, base = state.pop(name), state.pop(up_name, None), state[base_name]
    if up is None:
        raise CheckpointError(f"{label} holds {short_name(name)} without {short_name(up_name)}: copy the file again")
    rows = slice(0, base.shape[0] if base.ndim else 0)
    if surgery.thirds:
        third, index = rows.stop // len(PARTS), PARTS.index(places["part"])
        rows = slice(index * third, (index + 1) * third)
    if not all(each.ndim == 2 and _is_dense(each) for each in (down, up, base)) or (
        down.shape[0] == 0
        or (up.shape[1], up.shape[0], down.shape[1]) != (down.shape[0], rows.stop - rows.start, base.shape[1])
    ):
        raise CheckpointError(
            f"{label}: the adapter {short_name(name)} {tuple(down.shape)} and {tuple(up.shape)} does not fit "
            f"{short_name(base_name)} {tuple(base.shape)}: use the model that it was trained on"
        )
    if surgery.scaled and config is None:
        raise CheckpointError(
            f"{label} holds peft's adapters, and the scale that they are merged with is in adapter_config.json: put "
            "that beside it, or merge them in peft (merge_and_unload) and save the model"
        )
    rank = down.shape[0]
    factor = config.scale(rank) if surgery.scaled and config is not None else 1.0
    weight = state.pop(base_name).float().clone()
    weight[rows] += factor * (up.float() @ down.float())
    state[merged] = weight
    return rank, merged


def without_base(label: str, name: str) -> str:
    """The message for a file that holds adapters without the model that they adapt."""
    return (
        f"{label} holds a LoRA without its base model ({short_name(name)}): merge it where it was trained, or save the "
        "whole model's state_dict"
    )


def _is_dense(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and tensor.device.type == "cpu" and tensor.is_floating_point()


def _plain(name: str) -> str:
    for wrapped, plain in PLAIN:
        name = name.replace(wrapped, plain)
    return SAVED.sub(".", name)
