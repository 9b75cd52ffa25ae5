"""Stage `text`: CLIP's embeddings of masks as prompts in training, its embeddings of words in use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sam_edge.model import DecoderGraph, Sam, build_sam
from sam_edge.model.clip import Clip
from sam_edge.model.graphs import TextDecoderGraph
from sam_edge.model.text_token import add_text_token, load_text_token, text_token_of
from sam_edge.prediction.crops import crop_masks
from sam_edge.training.batch import Batch
from sam_edge.training.losses import RITM
from sam_edge.training.objective import SessionRecipe
from sam_edge.training.recipe import Phase
from sam_edge.training.text import TextObjective, TextPrompts, clip_crops
from sam_edge.weights.seeded import seed_module
from sam_edge_runtime.bundle.contract import Label
from sam_edge_runtime.bundle.tokenizer import TextTokenizer
from sam_edge_runtime.errors import CheckpointError, UsageError
from tests.clip_scenes import GREY, NAMES, config, scene, train_clip, write_tokenizer

SIDE = 256
PHASE = Phase(1, SIDE, interactions=3)


def tiny_clip(seed: int = 1) -> Clip:
    clip = Clip(config()).eval()
    seed_module(clip, seed)
    return clip


def batch_of(seeds: tuple[int, ...], names: tuple[str, ...] = NAMES, most: int = 4) -> Batch:
    """Scenes in frames of 256 pixels; `most` masks of each are targets."""
    made = [scene(seed, SIDE, names=names) for seed in seeds]
    return Batch(
        torch.stack([torch.from_numpy(each.photo).permute(2, 0, 1).float() for each in made]),
        tuple(torch.from_numpy(each.masks[:most]) for each in made),
        torch.ones(len(made), SIDE, SIDE, dtype=torch.bool),
        seeds,
        step=seeds[0],
    )


@pytest.fixture
def objective() -> TextObjective:
    sam = build_sam("nano")
    seed_module(sam, 1)
    made = TextObjective(sam, tiny_clip(), RITM, SessionRecipe(), seed=9)
    made.begin(PHASE)
    return made


def test_the_vector_is_the_first_prompt_and_points_follow(objective):
    seen: list[TextPrompts] = []
    objective.watcher = lambda batch, index, prompts, masks, chosen: seen.append(prompts)
    photos = batch_of((1, 2))
    losses = objective(photos)
    assert torch.isfinite(losses["loss"])
    first, second, third = seen
    assert (first.labels == float(Label.EMPTY)).all()
    assert (first.has_mask_input == 0).all()
    vectors = objective.embed(photos)
    for prompts in seen:
        assert torch.equal(prompts.text_embeddings, vectors)
        assert (prompts.has_text == 1).all()
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    points = [int((each.labels >= 0).sum(dim=1).max()) for each in (second, third)]
    assert points[0] == 1
    assert (second.has_mask_input == 1).all()


def test_crops_do_not_depend_on_how_the_batch_is_divided(objective):
    together = objective.embed(batch_of((1, 2)))
    apart = torch.cat([objective.embed(batch_of((seed,))) for seed in (1, 2)])
    torch.testing.assert_close(together, apart)
    assert not torch.equal(objective.embed(replace(batch_of((1, 2)), numbers=(3, 4))), together)


def test_crops_are_those_of_the_ranking():
    made, clip = scene(4, SIDE), tiny_clip()
    factors = torch.tensor([1.0, 1.3, 1.7, 2.0])
    zeroed = torch.tensor([True, False, True, False])
    image = torch.from_numpy(made.photo).permute(2, 0, 1).float()
    masks = torch.from_numpy(made.masks)
    crops, inside = clip_crops(image, torch.ones(SIDE, SIDE, dtype=torch.bool), masks, clip, factors, zeroed)
    wanted = crop_masks(made.photo, made.masks, clip.config.side, GREY, factors.numpy(), zeroed.numpy())
    mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in (clip.config.mean, clip.config.std))
    theirs = (torch.from_numpy(wanted.pixels) / 255 - mean) / std
    assert (crops - theirs).abs().mean() < 0.2  # two ways to resample noise, in deviations of the colours
    assert (inside - torch.from_numpy(wanted.patches(clip.config.patch))).abs().mean() < 0.1


def test_without_text_the_outputs_are_those_of_the_plain_decoder():
    sam = build_sam("nano").eval()
    seed_module(sam, 2)
    sam.set_input_side(SIDE)
    plain = DecoderGraph(sam).eval()
    add_text_token(sam, 32)
    graph = TextDecoderGraph(sam).eval()
    draw = torch.Generator().manual_seed(1)
    embeddings = torch.randn(1, sam.channels, 16, 16, generator=draw)
    coords = torch.rand(2, 3, 2, generator=draw) * SIDE
    labels = torch.tensor([[1.0, -1.0, -2.0], [2.0, 3.0, -2.0]])
    masks, has = torch.randn(2, 1, 64, 64, generator=draw), torch.tensor([0.0, 1.0])
    vectors = torch.nn.functional.normalize(torch.randn(2, 32, generator=draw), dim=-1)
    with torch.inference_mode():
        wanted = plain(embeddings, coords, labels, masks, has)
        without = graph(embeddings, coords, labels, masks, has, vectors, torch.zeros(2))
        one = graph(embeddings, coords, labels, masks, has, vectors, torch.tensor([1.0, 0.0]))
    for found, expected, mixed in zip(without, wanted, one, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mixed[1], expected[1], atol=1e-5, rtol=1e-5)
        assert (mixed[0] - expected[0]).abs().max() > 1e-3


def test_a_text_token_is_saved_and_loaded_with_the_model(tmp_path: Path):
    from safetensors.torch import save_file

    from sam_edge.weights.load import load_sam
    from sam_edge.weights.source import parse_source

    sam = build_sam("nano")
    add_text_token(sam, 32)
    seed_module(sam, 3)
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in sam.state_dict().items()}, path)
    loaded = load_sam("auto", parse_source(path)).sam
    assert torch.equal(text_token_of(loaded).project.weight, text_token_of(sam).project.weight)
    with pytest.raises(UsageError, match="is for embeddings of 32 numbers, and these have 512"):
        add_text_token(loaded, 512)
    narrow = {"text_token.project.weight": torch.zeros(7, 32), "text_token.project.bias": torch.zeros(7)}
    with pytest.raises(CheckpointError, match=r"x holds a text token of shape \(7, 32\)"):
        load_text_token(build_sam("nano"), narrow, "x")
    assert not load_text_token(build_sam("nano"), {"image_encoder.x": torch.zeros(1)}, "x")
    with pytest.raises(UsageError, match="takes no text: train it with"):
        text_token_of(build_sam("nano"))


class TinyEncoder(torch.nn.Module):
    """Five convolutions to an embedding of stride 16."""

    any_side, further_outputs = True, ()

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[torch.nn.Module] = []
        for given, made, kernel, stride in ((3, 24, 4, 4), (24, 48, 3, 2), (48, channels, 3, 2)):
            layers += [torch.nn.Conv2d(given, made, kernel, stride, kernel // 2 if kernel == 3 else 0), torch.nn.GELU()]
        layers += [torch.nn.Conv2d(channels, channels, 3, 1, 1), torch.nn.GELU()]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Conv2d(channels, channels, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)

    def set_input_side(self, side: int) -> None:
        """Do nothing: no part depends on the frame's side."""


@pytest.mark.slow
def test_words_reach_masks_that_no_training_named(tmp_path: Path):
    """A tiny SAM learns from CLIP's embeddings of masks; two kinds are no target. Then it is asked by words."""
    tokenizer = TextTokenizer(write_tokenizer(tmp_path / "tokenizer.json"), config())
    torch.manual_seed(0)
    clip = train_clip(tokenizer)
    held_out = ("blue square", "yellow disc")
    trained = tuple(name for name in NAMES if name not in held_out)
    sam = Sam(TinyEncoder(64), channels=64, native_side=SIDE)
    sam.prompt_encoder.set_input_side(SIDE)
    objective = TextObjective(sam, clip, RITM, SessionRecipe(), seed=0)
    objective.begin(replace(PHASE, interactions=1))
    before = mean_iou(sam, clip, tokenizer, NAMES)
    parameters, steps = list(sam.parameters()), 400
    optimizer = torch.optim.AdamW(parameters, 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    batches = [batch_of(tuple(5000 + 4 * index + each for each in range(4)), trained) for index in range(20)]
    for step in range(steps):
        numbers = tuple(4 * step + each for each in range(4))
        losses = objective(replace(batches[step % len(batches)], numbers=numbers, step=step))
        optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    named, unnamed = mean_iou(sam, clip, tokenizer, trained), mean_iou(sam, clip, tokenizer, held_out)
    assert before < 0.1
    assert named > 0.5
    assert unnamed > 0.35


@torch.inference_mode()
def mean_iou(sam: torch.nn.Module, clip: Clip, tokenizer: TextTokenizer, names: tuple[str, ...]) -> float:
    """Mean IoU of the single mask of each word in unseen scenes."""
    from sam_edge.model import EncoderGraph

    sam.eval()
    encoder, decoder = EncoderGraph(sam).eval(), TextDecoderGraph(sam).eval()
    ious = []
    for seed in range(20):
        made = scene(100 + seed, SIDE)
        chosen = [index for index, name in enumerate(made.names) if name in names]
        if not chosen:
            continue
        vectors = clip.encode_text(
            torch.from_numpy(tokenizer([f"a photo of a {made.names[index]}" for index in chosen]).ids)
        )
        embeddings = encoder(torch.from_numpy(made.photo).permute(2, 0, 1)[None].float())
        count = len(chosen)
        masks, _ = decoder(
            embeddings,
            torch.zeros(count, 2, 2),
            torch.full((count, 2), float(Label.EMPTY)),
            torch.zeros(count, 1, SIDE // 4, SIDE // 4),
            torch.zeros(count),
            vectors,
            torch.ones(count),
        )
        found = torch.nn.functional.interpolate(masks[:, :1], size=(SIDE, SIDE), mode="bilinear")[:, 0].numpy() > 0
        for mask, index in zip(found, chosen, strict=True):
            ious.append((mask & made.masks[index]).sum() / (mask | made.masks[index]).sum())
    sam.train()
    return float(np.mean(ious))
