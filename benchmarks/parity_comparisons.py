"""Comparisons of `parity.py`: largest differences of features, masks and scores from each reference.

A reference is stored outputs of the authors' code, PyPI's segment-anything, or transformers. The latter two run here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from parity_references import HIERA_CONFIGS, HQ_CONFIGS, SAM2_NAMES, SLIM_CONFIGS, STORED, VIT_CONFIGS
from torch import Tensor

from sam_edge.model import DecoderGraph, Sam, build_sam
from sam_edge.weights.layouts import OFFICIAL

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.hugging_face import with_sam2_weights, with_sam_weights
from tests.model.builders import reference_sam, resized_pair, seed, seeded_sam, seeded_tensor
from tests.model.stored import (
    DATA,
    Encoded,
    normal_image,
    predictor_of,
    prompt_arguments,
    with_official_weights,
)

SIDE = 256  # of references that run here
STEP = 14  # at which masks are stored; SAM-HQ's at twice of it
LIMIT = 32.0  # SAM 2's predictor clamps low-resolution logits to it


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
