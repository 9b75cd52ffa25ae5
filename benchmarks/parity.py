"""Parity of the models here with their authors' code: largest differences of features, masks and scores.

    python benchmarks/parity.py                         # the table of what was measured
    python benchmarks/parity.py --measure               # all models, some minutes, then the table
    python benchmarks/parity.py --measure edgetam vit_b # these models

Both sides have the same seeded weights and compute in fp32 on a CPU. A difference is the largest one, as a share of the
reference's largest value, over all prompts. Names
and shapes of the state dict are compared with those of the authors' model.

References: parts of what the authors' own code computed at 1024 pixels (EfficientViT-SAM's L0: 512), stored in
`tests/model/data`, because that code cannot be installed beside the CPU build of torch; PyPI's segment-anything 1.0;
and transformers' models. The latter two run here at 256 pixels.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from sam_edge.model import VARIANTS, DecoderGraph, Sam, build_sam
from sam_edge.model.hiera import HIERA_BASE_PLUS, HIERA_LARGE, HIERA_SMALL, HIERA_TINY
from sam_edge.model.variants import SLIM_50, SLIM_77, VIT_B, VIT_H, VIT_L
from sam_edge.reporting.versions import commit, tool_versions
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
from tests.hugging_face import TWIN, sam_model, with_sam2_weights, with_sam_weights
from tests.model.builders import reference_sam, resized_pair, seed, seeded_sam, seeded_tensor
from tests.model.stored import (
    DATA,
    EFFICIENT_SAM_PROMPTS,
    SAM_PROMPTS,
    Encoded,
    converted_shapes,
    normal_image,
    official_shapes,
    predictor_of,
    prompt_arguments,
    with_official_weights,
)
from tests.reference import import_segment_anything

RESULTS = Path(__file__).parent / "results" / "parity.json"
SIDE = 256  # of references that run here
STEP = 14  # at which masks are stored; SAM-HQ's at twice of it
LIMIT = 32.0  # SAM 2's predictor clamps low-resolution logits to it
CONSOLE = Console(stderr=True, markup=False, highlight=False)
Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class Differences:
    """Largest differences by kind, each as a share of the reference's largest value.

    Attributes:
        largest: of `features`, `masks`, `iou` and `object_score`.
        chosen: for each prompt, whether both sides choose the same mask.
    """

    largest: dict[str, float] = field(default_factory=dict)
    chosen: list[bool] = field(default_factory=list)

    def add(self, kind: str, ours: Any, theirs: Any) -> None:
        """Count two arrays.

        Raises:
            ValueError: they have different shapes.
        """
        one, other = (np.asarray(each, np.float64) for each in (ours, theirs))
        if one.shape != other.shape:
            raise ValueError(f"{kind}: shape {one.shape} here, {other.shape} there")
        share = float(np.abs(one - other).max() / np.abs(other).max())
        self.largest[kind] = max(share, self.largest.get(kind, 0.0))

    def add_scores(self, ours: Any, theirs: Any) -> None:
        """Count IoU predictions of all four outputs, and which of the masks 1 to 3 is the best by them."""
        self.add("iou", ours, theirs)
        self.chosen.append(int(np.argmax(ours[1:])) == int(np.argmax(theirs[1:])))


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


# Stored outputs -----------------------------------------------------------------------------------------------------


def beside_stored(variant: str) -> Differences:
    """Features, and masks and scores of `SamPredictor`, beside stored outputs."""
    source, found = STORED[variant], Differences()
    sam = with_official_weights(build_sam(variant), source.layout, source.smaller)
    maps = _features(sam, normal_image(source.side))
    for (file, key, (channels, rows, columns)), whole in zip(source.features, maps, strict=True):
        with np.load(DATA / file) as stored:
            found.add("features", whole[0, ::channels, ::rows, ::columns], stored[source.prefix + key])
    predictor = predictor_of(sam, *maps)
    backend = cast("Encoded", predictor.backend)
    sam2, hq = variant in SAM2_NAMES, "hq" in variant
    step = 2 * STEP if hq else STEP
    with np.load(DATA / source.outputs) as stored, np.load(DATA / "sam2_predictions.npz") as predicted:
        for name, slots in source.prompts.items():
            _, _, low_res = predictor.predict(**prompt_arguments(name, slots), multimask_output=not sam2)
            decoded = backend.decoded[-1]
            key = source.prefix + name + source.separator
            masks, scores = decoded.low_res_masks[0], decoded.iou_predictions[0]
            theirs = stored[key + "masks"]
            found.add("masks", masks[:, ::step, ::step], theirs[:4] + theirs[4:] if hq else theirs)
            if decoded.object_scores is None:
                found.add_scores(scores, stored[key + "iou"])
                continue
            found.add("iou", scores, stored[key + "iou"])
            found.add("object_score", decoded.object_scores[0], stored[key + "object_score"])
            ours = np.abs(masks.clip(-LIMIT, LIMIT) - low_res).max(axis=(1, 2)).argmin()
            found.chosen.append(int(ours) == int(np.abs(stored[key + "iou"] - predicted[key + "single_iou"]).argmin()))
    return found


def beside_mobile_sam(variant: str) -> Differences:
    """TinyViT's features beside MobileSAM's stored ones; the rest beside segment-anything's, which it is."""
    found, sam = Differences(), with_official_weights(build_sam(variant), OFFICIAL)
    for name, parameter in sam.image_encoder.named_parameters():
        if name.endswith("attention_biases"):  # zero where the stored embedding was computed
            parameter.zero_()
    embedding = sam.image_encoder(normal_image(1024))
    with np.load(DATA / "tiny_vit_embedding.npz") as stored:
        found.add("features", embedding[:, ::8], stored["embedding_every_8th_channel"])
    _compare_with_segment_anything(sam, reference_sam(torch.nn.Identity()), embedding, found)
    return found


def _features(sam: Sam, image: Tensor) -> tuple[Tensor, ...]:
    """The maps that the decoder takes of a photo."""
    maps = sam.image_encoder(image)
    projection = getattr(sam.mask_decoder, "projection", None)
    if projection is not None:
        maps = projection()(*maps)
    return maps if isinstance(maps, tuple) else (maps,)


# References that run here -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prompt:
    """A prompt, in shares of the frame's side.

    Attributes:
        points: x, y of each click; the first is foreground, others background.
        box: of the object, or None.
    """

    points: tuple[tuple[float, float], ...] = ()
    box: tuple[float, float, float, float] | None = None

    def slots(self, side: int) -> tuple[Tensor, Tensor]:
        """Coordinates `(1, N, 2)` and labels `(1, N)`: clicks, then a padding point or the box."""
        slots = [(x, y, float(not index)) for index, (x, y) in enumerate(self.points)]
        if self.box is None:
            slots.append((0.0, 0.0, -1.0))
        else:
            slots += [(*self.box[:2], 2.0), (*self.box[2:], 3.0)]
        given = torch.tensor([slots])
        return given[..., :2] * side, given[..., 2]

    def tensors(self, side: int) -> tuple[tuple[Tensor, Tensor] | None, Tensor | None]:
        """Clicks `(1, N, 2)` with labels `(1, N)`, and the box `(1, 4)`."""
        coords, labels = self.slots(side)
        count = len(self.points)
        points = (coords[:, :count], labels[:, :count]) if count else None
        return points, None if self.box is None else torch.tensor([self.box]) * side


PROMPTS = (
    Prompt(points=((0.3, 0.2),)),
    Prompt(points=((0.3, 0.2), (0.7, 0.6))),
    Prompt(box=(0.125, 0.1, 0.65, 0.6)),
)


def _decoded(sam: Sam, maps: tuple[Tensor, ...], prompt: Prompt) -> tuple[Tensor, ...]:
    """Masks, IoU predictions and, where the model has them, object scores of one prompt, without the batch axis."""
    cells = sam.side // 4
    embedding, *further = maps
    inputs = (*prompt.slots(sam.side), torch.zeros(1, 1, cells, cells), torch.zeros(1))
    return tuple(each[0] for each in DecoderGraph(sam)(embedding, *inputs, *further))


def beside_segment_anything(variant: str) -> Differences:
    """SAM's ViTs."""
    encoder, theirs = resized_pair(VIT_CONFIGS[variant], SIDE)
    sam, found = Sam(encoder).eval(), Differences()
    for part in (sam.prompt_encoder, sam.mask_decoder):
        seed(part)
    sam.side = SIDE
    sam.prompt_encoder.set_input_side(SIDE)
    image = seeded_tensor("image", 1, 3, SIDE, SIDE)
    expected = theirs(image)
    found.add("features", encoder(image), expected)
    _compare_with_segment_anything(sam, reference_sam(theirs, SIDE), expected, found)
    return found


def _compare_with_segment_anything(sam: Sam, theirs: Any, embedding: Tensor, found: Differences) -> None:
    """Prompt encoder and mask decoder, which get the same weights, on the same embedding."""
    for name in ("prompt_encoder", "mask_decoder"):
        getattr(theirs, name).load_state_dict(getattr(sam, name).state_dict(), strict=True)
    for prompt in PROMPTS:
        points, box = prompt.tensors(sam.side)
        sparse, dense = theirs.prompt_encoder(points=points, boxes=box, masks=None)
        positions = theirs.prompt_encoder.get_dense_pe()
        masks, iou = theirs.mask_decoder.predict_masks(embedding, positions, sparse, dense)
        ours = _decoded(sam, (embedding,), prompt)
        found.add("masks", ours[0], masks[0])
        found.add_scores(ours[1], iou[0])


def beside_transformers(variant: str) -> Differences:
    """SamModel, SamHQModel or Sam2Model."""
    sam, found = seeded_sam(variant, SIDE), Differences()
    image = seeded_tensor("image", 1, 3, SIDE, SIDE)
    if variant in HIERA_CONFIGS:
        theirs: Any = with_sam2_weights(sam, HIERA_CONFIGS[variant])
        encoded = theirs.get_image_embeddings(image)
        maps = _features(sam, image)
        for ours, expected in zip((maps[1], maps[2], maps[0]), encoded, strict=True):
            found.add("features", ours, expected)
        _compare_with_transformers(sam, theirs, maps, {"image_embeddings": encoded}, found)
        return found
    hq = variant in HQ_CONFIGS
    theirs = with_sam_weights(sam, (HQ_CONFIGS if hq else SLIM_CONFIGS)[variant], hq=hq)
    given: dict[str, Any] = {}
    if hq:
        embedding, early = theirs.get_image_embeddings(image)
        ours, our_early = sam.image_encoder(image)
        found.add("features", our_early, early[0].permute(0, 3, 1, 2))
        given["intermediate_embeddings"] = early
    else:
        embedding, ours = theirs.get_image_embeddings(image), sam.image_encoder(image)
    found.add("features", ours, embedding)
    _compare_with_transformers(sam, theirs, _features(sam, image), {"image_embeddings": embedding, **given}, found)
    return found


def _compare_with_transformers(
    sam: Sam, theirs: Any, maps: tuple[Tensor, ...], encoded: dict[str, Any], found: Differences
) -> None:
    """Masks and scores of all prompts."""
    for prompt in PROMPTS:
        points, box = prompt.tensors(sam.side)
        given: dict[str, Any] = {} if box is None else {"input_boxes": box[None]}
        if points is not None:
            given |= {"input_points": points[0][None], "input_labels": points[1][None].long()}
        masks, iou, *scores = _decoded(sam, maps, prompt)
        single, three = (theirs(**encoded, **given, multimask_output=each) for each in (False, True))
        tokens = torch.arange(1, 4)
        if "intermediate_embeddings" in encoded:  # SamHQModel sorts the three masks by their IoU predictions
            tokens = 1 + iou[1:].argsort(descending=True)
        order = torch.cat([torch.zeros(1, dtype=torch.long), tokens])
        found.add("masks", masks[order], torch.cat([single.pred_masks[0, 0], three.pred_masks[0, 0]]))
        found.add_scores(iou[order], torch.cat([single.iou_scores[0, 0], three.iou_scores[0, 0]]))
        if scores:
            found.add("object_score", scores[0], three.object_score_logits[0, 0])


# Names and shapes ---------------------------------------------------------------------------------------------------


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


# Rows ---------------------------------------------------------------------------------------------------------------

References = dict[str, tuple[int, Callable[[str], Differences]]]


def references(variant: str) -> References:
    """What a model is compared with: names of the code, the side in pixels, and the comparison."""
    found: References = {}
    if variant in STORED:
        found[STORED[variant].code] = (STORED[variant].side, beside_stored)
    if variant == "tiny_vit":
        found["ChaoningZhang/MobileSAM"] = (1024, beside_mobile_sam)
    if variant in VIT_CONFIGS:
        found["segment-anything 1.0"] = (SIDE, beside_segment_anything)
    if variant in HIERA_CONFIGS or variant in HQ_CONFIGS or variant in SLIM_CONFIGS:
        found["transformers"] = (SIDE, beside_transformers)
    return found


def measured(variant: str) -> list[dict[str, Any]]:
    """Rows of one model, one for each reference; where there is none, one of its names alone.

    Returns:
        Rows of `variant`, `names` (whether they are official), `reference`, `side`, `chosen` (whether all choices are
        the same), and the largest differences by kind.
    """
    names = has_official_names(variant)
    rows = []
    for code, (side, compare) in references(variant).items():
        begun = time.perf_counter()
        with torch.inference_mode():
            found = compare(variant)
        row = {"variant": variant, "names": names, "reference": code, "side": side, **found.largest}
        rows.append({**row, "chosen": all(found.chosen), "seconds": round(time.perf_counter() - begun, 1)})
    return rows or [{"variant": variant, "names": names, "reference": None}]


def main() -> None:
    """Measure if wanted, and print the table."""
    from tables.documents import TABLES  # noqa: PLC0415  # tests import this module, and not as a script

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    known = [variant for variant in VARIANTS if variant != "nano"]  # which is nobody else's
    parser.add_argument("--measure", nargs="*", metavar="MODEL", help="measure these models; none named: all")
    chosen = parser.parse_args().measure
    if chosen is not None:
        for variant in chosen or known:
            rows = measured(variant)
            CONSOLE.print("\n".join(map(str, rows)))
            before = json.loads(RESULTS.read_text("utf-8"))["models"] if RESULTS.exists() else []
            kept = [row for row in before if row["variant"] != variant] + rows
            kept.sort(key=lambda row: known.index(row["variant"]))
            versions = tool_versions(("torch", "segment-anything", "transformers"))
            document = {"commit": commit(), "versions": versions, "models": kept}
            RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(TABLES["parity"]())


if __name__ == "__main__":
    main()
