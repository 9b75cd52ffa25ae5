"""The words of a golden test: those whose masks no rounding changes."""

from __future__ import annotations

import numpy as np
import torch

from sam_edge_runtime.agreement.golden_inputs import PICTURE_SIZES, draw_picture
from sam_edge_runtime.arrays import Float32, Float64
from sam_edge_runtime.bundle.contract import MASK_THRESHOLD, SINGLE_OUTPUT
from sam_edge_runtime.decoding import decode_prompts
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.prompts import build_prompts

from .context import ExportContext

WORDS = 2  # of a golden test
CANDIDATES = 12  # seeded embeddings to choose from, where no vocabulary has words
MARGIN = 0.05  # of the logits' root mean square: an error at 26 dB
INSIDE = 0.02  # least share of the frame that a word's mask has, and leaves


def golden_words(context: ExportContext) -> dict[str, Float32]:
    """The vectors `(D,)` of the words whose masks on the golden test's pictures are the most stable, by name.

    A word that is not there at all may have a mask of single pixels, which the smallest rounding changes.
    """
    channels = context.manifest.conventions.text_channels
    if channels is None:
        return {}
    if context.words is not None:
        names, vectors = context.words.vocabulary.names, context.words.vocabulary.vectors
    else:  # a decoder does not know whose embeddings it gets
        vectors = np.random.default_rng(0).standard_normal((CANDIDATES, channels)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        names = tuple(f"embedding {row}" for row in range(CANDIDATES))
    each = [stability(_maps(context, vectors, index)) for index in range(len(PICTURE_SIZES))]
    order = np.argsort(-np.min(each, axis=0), kind="stable")[:WORDS]
    return {names[row]: vectors[row] for row in order}


def stability(maps: Float32) -> Float64:
    """How much of each mask `(W, 1, H, W)` stays when its logits are off by `MARGIN`: `(W)`, from 0 to 1.

    The area above the margin by the area above its negative, as in SAM's stability score. The margin is a share of the
    logits' root mean square, as the error of INT8 is. 0 where the mask has, or leaves, almost nothing of the frame.
    """
    margin = MARGIN * np.sqrt(np.square(maps).mean(axis=(1, 2, 3), keepdims=True))
    surely, perhaps = ((maps > MASK_THRESHOLD + each).sum(axis=(1, 2, 3)) for each in (margin, -margin))
    inside = (maps > MASK_THRESHOLD).mean(axis=(1, 2, 3))
    stable: Float64 = surely / np.maximum(perhaps, 1) * ((inside > INSIDE) & (inside < 1 - INSIDE))
    return stable


def _maps(context: ExportContext, vectors: Float32, index: int) -> Float32:
    """Logits `(W, 1, H, W)` of the single masks of some texts on a picture of the golden test."""
    picture, _ = draw_picture(PICTURE_SIZES[index], index)
    frame = Frame(context.manifest.frame, PICTURE_SIZES[index], context.manifest.conventions)
    features = context.reference.encode(frame.image(picture))
    if context.words is not None:
        with torch.inference_mode():
            drawn: Float32 = context.words.maps(torch.from_numpy(features[0]), torch.from_numpy(vectors))[0].numpy()
        return drawn
    prompts = build_prompts(frame, None, None, None, None, text=vectors)
    decoded = decode_prompts(context.reference, context.manifest.of_any_capacity(), features, prompts)
    single: Float32 = decoded.low_res_masks[:, SINGLE_OUTPUT : SINGLE_OUTPUT + 1]
    return single
