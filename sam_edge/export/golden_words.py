"""The words of a golden test: those whose masks no rounding changes."""

from __future__ import annotations

import numpy as np
import torch

from sam_edge_runtime.agreement.golden_inputs import PICTURE_SIZES, draw_picture
from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.bundle.contract import MASK_THRESHOLD, SINGLE_OUTPUT
from sam_edge_runtime.decoding import decode_prompts
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.prompts import build_prompts

from .context import ExportContext

WORDS = 2  # of a golden test
CANDIDATES = 12  # seeded embeddings to choose from, where no vocabulary has words
INSIDE = 0.02  # least share of the frame that a word's mask has, and leaves


def golden_words(context: ExportContext) -> dict[str, Float32]:
    """The vectors `(D,)` of the words that the model is surest of on the golden test's first picture, by name.

    A word that is not there at all may have a mask of single pixels, which the smallest rounding changes.
    """
    channels = context.manifest.conventions.text_channels
    if channels is None:
        return {}
    picture, _ = draw_picture(PICTURE_SIZES[0], 0)
    frame = Frame(context.manifest.frame, PICTURE_SIZES[0], context.manifest.conventions)
    features = context.reference.encode(frame.image(picture))
    if context.words is not None:
        names, vectors = context.words.vocabulary.names, context.words.vocabulary.vectors
        with torch.inference_mode():
            maps = context.words.maps(torch.from_numpy(features[0]), torch.from_numpy(vectors))[0].numpy()
    else:  # a decoder does not know whose embeddings it gets
        vectors = np.random.default_rng(0).standard_normal((CANDIDATES, channels)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        names = tuple(f"embedding {row}" for row in range(CANDIDATES))
        prompts = build_prompts(frame, None, None, None, None, text=vectors)
        decoded = decode_prompts(context.reference, context.manifest.of_any_capacity(), features, prompts)
        maps = decoded.low_res_masks[:, SINGLE_OUTPUT : SINGLE_OUTPUT + 1]
    certain = np.abs(maps).mean(axis=(1, 2, 3))  # of the outline, whether or not the word is there
    inside = (maps > MASK_THRESHOLD).mean(axis=(1, 2, 3))
    order = np.argsort(-certain * ((inside > INSIDE) & (inside < 1 - INSIDE)))[:WORDS]
    return {names[row]: vectors[row] for row in order}
