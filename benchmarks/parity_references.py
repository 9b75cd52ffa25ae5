"""Authors' code that `parity.py` compares with: which outputs are stored, which models run here, and their names."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sam_edge.model.hiera import HIERA_BASE_PLUS, HIERA_LARGE, HIERA_SMALL, HIERA_TINY
from sam_edge.model.variants import SLIM_50, SLIM_77, VIT_B, VIT_H, VIT_L
from sam_edge.weights.families import shapes_built, shapes_of_variant
from sam_edge.weights.layouts import (
    EFFICIENT_SAM_OFFICIAL,
    EFFICIENTVIT_SAM_OFFICIAL,
    HUGGING_FACE,
    OFFICIAL,
    REPVIT_SAM_OFFICIAL,
    SAM2_OFFICIAL,
    Layout,
)

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.hugging_face import TWIN, sam_model
from tests.model.stored import DATA, EFFICIENT_SAM_PROMPTS, SAM_PROMPTS, converted_shapes, official_shapes
from tests.reference import import_segment_anything

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Stored:
    """Stored outputs of an author's code.

    Attributes:
        code: what computed them.
        layout: of the official names, by which weights are seeded.
        prefix: of a model's keys.
        features: files and keys of the maps that the decoder takes, and the steps of channels, rows and columns.
        outputs: the file of masks and scores.
        separator: between the parts of their keys.
        prompts: slots of the prompts.
        side: of the image.
        smaller: endings of the names whose weights are multiplied by 0.3.
    """

    code: str
    layout: Layout
    prefix: str
    features: tuple[tuple[str, str, tuple[int, int, int]], ...]
    outputs: str
    separator: str = "."
    prompts: Mapping[str, list[tuple[float, float, int]]] = field(default_factory=lambda: SAM_PROMPTS)
    side: int = 1024
    smaller: tuple[str, ...] = ()


def _sam2(name: str) -> Stored:
    encoded = "sam2_outputs.npz" if name == "edgetam" else "sam2_image_encoders.npz"
    finest = 4 if name == "tiny" else 16
    return Stored(
        "facebookresearch/EdgeTAM" if name == "edgetam" else "facebookresearch/sam2",
        SAM2_OFFICIAL,
        f"{name}_",
        (
            (encoded, "image_embed", (16, 3, 3)),
            (encoded, "high_res_0", (finest, 7, 7)),
            (encoded, "high_res_1", (finest, 5, 5)),
        ),
        "sam2_outputs.npz",
        separator="_",
    )


def _hq(variant: str) -> Stored:
    file = "sam_hq_outputs.npz"
    features = ((file, "embedding", (16, 9, 9)), (file, "hq_features", (4, 28, 28)))
    return Stored("segment-anything-hq 0.3", OFFICIAL, f"{variant}.", features, file)


def _plain(code: str, layout: Layout, family: str, prefix: str = "", **more: Any) -> Stored:
    file = f"{family}_outputs.npz"
    return Stored(code, layout, prefix, ((file, "embedding", (16, 6, 6)),), file, **more)


SAM2_NAMES = {f"sam2.1_hiera_{size}": size for size in ("tiny", "small", "base_plus", "large")} | {"edgetam": "edgetam"}
STORED: dict[str, Stored] = {
    **{variant: _sam2(name) for variant, name in SAM2_NAMES.items()},
    **{variant: _hq(variant) for variant in ("sam_hq_vit_b", "light_hq")},
    **{
        variant: _plain(
            "yformer/EfficientSAM",
            EFFICIENT_SAM_OFFICIAL,
            "efficient_sam",
            f"{variant}.",
            prompts=EFFICIENT_SAM_PROMPTS,
        )
        for variant in ("efficient_sam_vitt", "efficient_sam_vits")
    },
    "efficientvit_sam_l0": _plain("mit-han-lab/efficientvit", EFFICIENTVIT_SAM_OFFICIAL, "efficientvit_sam", side=512),
    "repvit_sam": _plain(
        "THU-MIG/RepViT",
        REPVIT_SAM_OFFICIAL,
        "repvit_sam",
        smaller=("token_mixer.0.conv.bn.weight", "token_mixer.0.conv1.weight", "channel_mixer.m.2.bn.weight"),
    ),
}
VIT_CONFIGS = {"vit_b": VIT_B, "vit_l": VIT_L, "vit_h": VIT_H}
SLIM_CONFIGS = {"slimsam_50": SLIM_50, "slimsam_77": SLIM_77}
HQ_CONFIGS = {f"sam_hq_{name}": config for name, config in VIT_CONFIGS.items()}
HIERA_CONFIGS = {
    "sam2.1_hiera_tiny": HIERA_TINY,
    "sam2.1_hiera_small": HIERA_SMALL,
    "sam2.1_hiera_base_plus": HIERA_BASE_PLUS,
    "sam2.1_hiera_large": HIERA_LARGE,
}


def has_official_names(variant: str) -> bool:
    """Whether our state dict has the names and shapes of the authors' model, no more and no fewer."""
    if variant in SLIM_CONFIGS:  # whose authors give no list; transformers writes them
        theirs = dict(shapes_built(lambda: sam_model(SLIM_CONFIGS[variant])))
        theirs.pop(TWIN)
        return converted_shapes(variant, HUGGING_FACE) == theirs
    if variant in VIT_CONFIGS:
        with torch.device("meta"):
            reference = import_segment_anything().sam_model_registry[variant]()
        return shapes_of_variant(variant) == {name: tuple(each.shape) for name, each in reference.state_dict().items()}
    if variant == "tiny_vit":
        names = json.loads((DATA / "mobile_sam_state_dict.json").read_text("utf-8"))["state_dict"]
        return shapes_of_variant(variant) == {name: tuple(shape) for name, (shape, _) in names.items()}
    if "hq" in variant:
        table = json.loads((DATA / "sam_hq_state_dicts.json").read_text("utf-8"))[variant]
        added = {f"mask_decoder.{name}": tuple(shape) for name, shape in table["added"].items()}
        return shapes_of_variant(variant) == {**shapes_of_variant(table["plain"]), **added}
    if variant in SAM2_NAMES:
        return converted_shapes(variant, SAM2_OFFICIAL) == _sam2_names(SAM2_NAMES[variant])
    family = variant.rsplit("_", 1)[0]
    if family == "efficientvit_sam":
        layout, file = EFFICIENTVIT_SAM_OFFICIAL, "efficientvit_sam_state_dicts.json"
    elif family == "efficient_sam":
        layout, file = EFFICIENT_SAM_OFFICIAL, "efficient_sam_state_dicts.json"
    else:
        layout, file = REPVIT_SAM_OFFICIAL, "repvit_sam_state_dict.json"
    return converted_shapes(variant, layout) == official_shapes(file, variant)


def _sam2_names(name: str) -> Shapes:
    """Those of the image path of an official checkpoint."""
    if name == "edgetam":
        encoder = official_shapes("sam2_state_dicts.json", "edgetam_encoder")
    else:
        encoders = official_shapes("sam2_image_encoders.json", name)
        encoder = {f"image_encoder.{each}": shape for each, shape in encoders.items()}
    return {**encoder, **official_shapes("sam2_state_dicts.json", "image")}
