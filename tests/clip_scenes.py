"""Synthetic scenes of coloured shapes, and a tiny CLIP that is trained on them: a word for each colour and shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from sam_edge.model.clip import Clip
from sam_edge.model.clip.config import GELU, ClipConfig, TransformerConfig
from sam_edge.model.clip.variants import MEAN, STD
from sam_edge.prediction.crops import crop_masks
from sam_edge_runtime.bundle.tokenizer import TextTokenizer

COLOURS = {"red": (210, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220), "yellow": (230, 210, 50)}
SHAPES = ("square", "disc", "cross")
NAMES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
WORDS = ("<|startoftext|>", "a", "photo", "of", "nothing", *COLOURS, *SHAPES, "<unk>", "<|endoftext|>")
CONTEXT = 9
GREY = tuple(255.0 * value for value in MEAN)


@dataclass(frozen=True, eq=False)
class Scene:
    """A photo `(H, W, 3)` uint8, its masks `(M, H, W)` bool, and a name for each."""

    photo: np.ndarray
    masks: np.ndarray
    names: tuple[str, ...]


def scene(seed: int, side: int = 128, count: int = 4, names: tuple[str, ...] = NAMES) -> Scene:
    """Different shapes in different quarters (`count` of nine cells) of a noisy grey photo."""
    draw = np.random.default_rng(seed)
    photo = np.clip(draw.normal(120, 18, (side, side, 3)) + draw.normal(0, 15, (1, 1, 3)), 0, 255)
    chosen = [names[index] for index in draw.permutation(len(names))[:count]]
    cells = draw.permutation(9)[:count]
    y, x = np.mgrid[:side, :side]
    masks = []
    for name, cell in zip(chosen, cells, strict=True):
        colour, shape = name.split()
        size = side / 3
        cx, cy = ((cell % 3 + 0.5) * size + draw.uniform(-4, 4), (cell // 3 + 0.5) * size + draw.uniform(-4, 4))
        radius = draw.uniform(0.28, 0.38) * size
        dx, dy = np.abs(x - cx), np.abs(y - cy)
        mask = {
            "square": np.maximum(dx, dy) < 0.88 * radius,
            "disc": dx**2 + dy**2 < radius**2,
            "cross": (np.minimum(dx, dy) < 0.3 * radius) & (np.maximum(dx, dy) < radius),
        }[shape]
        photo[mask] = np.asarray(COLOURS[colour]) + draw.normal(0, 10, (int(mask.sum()), 3))
        masks.append(mask)
    return Scene(np.clip(photo, 0, 255).astype(np.uint8), np.stack(masks), tuple(chosen))


def config() -> ClipConfig:
    """A CLIP of two small blocks on images of 32 pixels."""
    tower = TransformerConfig(64, 2, 4)
    text = TransformerConfig(48, 1, 4)
    return ClipConfig("CLIP", 32, text, tower, 32, 8, len(WORDS), CONTEXT, GELU, 1e-5, MEAN, STD, end=len(WORDS) - 1)


def write_tokenizer(path: Path) -> Path:
    """A `tokenizer.json` with a token for each word, and the special tokens around a text."""
    import tokenizers

    vocabulary = {word: index for index, word in enumerate(WORDS)}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106  # a token of a vocabulary
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = [(word, vocabulary[word]) for word in (WORDS[0], WORDS[-1])]
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"{WORDS[0]} $A {WORDS[-1]}", special_tokens=special
    )
    made.save(str(path))
    return path


def train_clip(tokenizer: TextTokenizer, steps: int = 160, seed: int = 0) -> Clip:
    """Train a tiny CLIP as CLIP is: each step has one crop and one text of every name, and of nothing."""
    torch.manual_seed(seed)
    made = config()
    clip = Clip(made)
    for parameter in clip.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.6 * parameter.shape[-1] ** -0.5)
    torch.nn.init.constant_(clip.logit_scale, 2.5)
    pool = _crops()
    texts = torch.from_numpy(tokenizer([*(f"a photo of a {name}" for name in NAMES), "a photo of nothing"]).ids)
    draw = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(clip.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    wanted = torch.arange(len(texts))
    clip.train()
    for _ in range(steps):
        images = torch.stack([each[int(draw.integers(len(each)))] for each in pool])
        logits = clip.logit_scale.exp() * clip.encode_image(images) @ clip.encode_text(texts).T
        loss = F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    clip.requires_grad_(requires_grad=False)
    return clip.eval()


def _crops() -> list[torch.Tensor]:
    """Normalized crops of each name, and of empty ground, with and without background."""
    draw = np.random.default_rng(99)
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*NAMES, "")}
    for seed in range(40):
        made = scene(1000 + seed, count=6)
        factors = draw.uniform(1, 2, len(made.masks))
        for zeroed in (True, False):
            crops = crop_masks(made.photo, made.masks, 32, GREY, factors, zeroed)
            for name, pixels in zip(made.names, crops.pixels, strict=True):
                found[name].append(pixels)
        ground = ~made.masks.any(axis=0)
        ground[:, int(draw.integers(30, 90)) :] = False
        for zeroed in (True, False):
            found[""].append(crop_masks(made.photo, ground[None], 32, GREY, 1.0, zeroed).pixels[0])
    mean, std = (torch.tensor(each).reshape(1, 3, 1, 1) for each in (MEAN, STD))
    return [(torch.from_numpy(np.stack(each)) / 255 - mean) / std for each in found.values()]
