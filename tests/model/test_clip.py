"""CLIP, TinyCLIP and SigLIP 2 against transformers: embeddings, names and shapes.

transformers is a test dependency, and importing it takes seconds: this module and those of `tests/weights` do.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sam_edge.model.clip import CLIP_CONFIGS, Clip, ClipConfig, ClipImageGraph, ClipTextGraph, clip_config
from sam_edge.model.clip.clip import with_folded_normalization
from sam_edge.weights.clip_catalogue import CLIP_RELEASES
from sam_edge.weights.clip_checkpoint import shapes_of_clip
from sam_edge.weights.clip_layouts import CLIP_HUGGING_FACE, to_clip
from sam_edge.weights.families import build_empty
from sam_edge.weights.seeded import seed_module
from sam_edge_runtime.errors import UsageError

from .clip_models import small_config, their_config

transformers = pytest.importorskip("transformers", reason="transformers is a test dependency: pip install '.[dev]'")
BOUND = 1e-4
FAMILIES = ("CLIP", "TinyCLIP", "SigLIP 2")


def theirs_of(config: ClipConfig) -> torch.nn.Module:
    if config.pooled:
        return transformers.SiglipModel(transformers.SiglipConfig(**their_config(config))).eval()
    return transformers.CLIPModel(transformers.CLIPConfig(**their_config(config))).eval()


def both(title: str) -> tuple[Clip, torch.nn.Module]:
    config = small_config(title)
    theirs = theirs_of(config)
    seed_module(theirs, 5)
    ours = Clip(config).eval()
    ours.load_state_dict(to_clip(theirs.state_dict(), CLIP_HUGGING_FACE, title), strict=True)
    return ours, theirs


def inputs_of(config: ClipConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Four texts of different lengths, padded as the family pads them, and four normalized images."""
    draw = np.random.default_rng(3)
    tokens = draw.integers(2, config.vocabulary - 1, (4, config.context))
    for row, length in enumerate((3, 7, 11, config.context)):
        tokens[row, length - 1] = config.end
        tokens[row, length:] = (
            0 if config.pooled or row == 1 else config.end
        )  # OpenAI pads with 0, transformers with end
    images = draw.standard_normal((4, 3, config.side, config.side)).astype(np.float32)
    return torch.from_numpy(tokens), torch.from_numpy(images)


@pytest.mark.parametrize("title", FAMILIES)
def test_both_encoders_equal_transformers(title):
    ours, theirs = both(title)
    tokens, images = inputs_of(ours.config)
    with torch.inference_mode():
        expected = theirs(input_ids=tokens, pixel_values=images)
        text, image = ours.encode_text(tokens), ours.encode_image(images)
    for name, found, wanted in (("text", text, expected.text_embeds), ("image", image, expected.image_embeds)):
        assert found.shape == (4, ours.config.dim), name
        assert (found - wanted).abs().max() < BOUND, name
        assert torch.pdist(found).min() > 100 * BOUND, f"{name}: the embeddings hardly depend on the input"


@pytest.mark.parametrize("title", FAMILIES)
def test_the_graphs_normalize_and_take_tokens_as_floats(title):
    ours, _ = both(title)
    config = ours.config
    tokens, _ = inputs_of(config)
    pixels = torch.from_numpy(np.random.default_rng(4).uniform(0, 255, (2, 3, 32, 32)).astype(np.float32))
    mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in (config.mean, config.std))
    with torch.inference_mode():
        image = ours.encode_image((pixels / 255 - mean) / std)
        assert (ClipImageGraph(ours)(pixels) - image).abs().max() < 1e-5
        assert (ClipTextGraph(ours)(tokens.float()) - ours.encode_text(tokens)).abs().max() < 1e-5


@pytest.mark.parametrize("title", FAMILIES)
def test_the_first_convolution_normalizes_where_all_channels_have_one_deviation(title):
    ours, _ = both(title)
    plain = ClipImageGraph(ours).eval()
    folded = with_folded_normalization(plain)
    if title != "SigLIP 2":
        assert folded is plain
        return
    pixels = torch.from_numpy(np.random.default_rng(5).uniform(0, 255, (2, 3, 32, 32)).astype(np.float32))
    with torch.inference_mode():
        expected = plain(pixels)
        assert (folded(pixels) - expected).abs().max() < 1e-5
        assert plain.normalizes
        assert torch.equal(plain(pixels), expected)
    assert not torch.equal(folded.visual.conv1.weight, ours.visual.conv1.weight)
    assert folded.visual.head.probe is ours.visual.head.probe


def test_a_later_end_token_or_padding_does_not_count_in_clip():
    ours, _ = both("CLIP")
    end = ours.config.end
    tokens = torch.tensor([[62, 5, 9, end, *[end] * 8], [62, 5, 9, end, *[0] * 8], [62, 5, 9, end, 7, end, *[3] * 6]])
    with torch.inference_mode():
        one, other, third = ours.encode_text(tokens)
    assert (one - other).abs().max() < 1e-6
    assert (one - third).abs().max() < 1e-6


@pytest.mark.parametrize("variant", CLIP_CONFIGS)
def test_names_and_shapes_of_every_variant_are_those_of_transformers(variant):
    config = clip_config(variant)
    theirs = build_empty(lambda: theirs_of(config)).state_dict()
    found = {name: tuple(tensor.shape) for name, tensor in to_clip(theirs, CLIP_HUGGING_FACE, variant).items()}
    assert found == shapes_of_clip(variant)
    release = CLIP_RELEASES[variant]
    parameters = sum(tensor.numel() for tensor in build_empty(lambda: Clip(config)).parameters())
    assert (release.variant, release.parameters, release.input_side) == (variant, parameters, config.side)
    assert release.size is None or 4 * parameters < release.size < 4.001 * parameters


def test_impossible_sizes_and_unknown_variants_are_refused():
    with pytest.raises(UsageError, match=r"no text encoder called 'mobileclip_s0': choose one of tinyclip_vit_8m_16"):
        clip_config("mobileclip_s0")
    with pytest.raises(UsageError, match="no activation called 'relu': choose one of quick_gelu"):
        ClipConfig(**{**vars(small_config("CLIP")), "activation": "relu"})
    with pytest.raises(UsageError, match="the patch divides the side"):
        ClipConfig(**{**vars(small_config("CLIP")), "patch": 7})
