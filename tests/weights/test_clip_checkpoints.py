"""Checkpoints of CLIP's kin: OpenAI's, TinyCLIP's and transformers' layouts, and what is refused."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam_edge.model.clip import CLIP_CONFIGS, Clip, clip_config
from sam_edge.weights import clip_checkpoint
from sam_edge.weights.clip_checkpoint import load_clip, recognize_clip
from sam_edge.weights.clip_layouts import holds_clip
from sam_edge.weights.seeded import seed_module
from sam_edge.weights.source import parse_source
from sam_edge.weights.state_file import read_file
from sam_edge_runtime.errors import CheckpointError, UsageError
from sam_edge_runtime.system.files import sha256_of
from tests.model.clip_models import small_config
from tests.weights.conftest import cached_repository

State = dict[str, torch.Tensor]


@pytest.fixture
def clip(monkeypatch: pytest.MonkeyPatch) -> Clip:
    """A seeded model of a small size, which takes the place of ViT-B/32."""
    config = small_config("CLIP")
    monkeypatch.setitem(CLIP_CONFIGS, "clip_vit_b_32", config)
    clip_checkpoint.shapes_of_clip.cache_clear()
    model = Clip(config).eval()
    seed_module(model, 7)
    yield model
    clip_checkpoint.shapes_of_clip.cache_clear()


def openai(state: State) -> State:
    """Our names as OpenAI's code has them (clip/model.py): written here a second time, independently of the package."""
    result = {}
    for name, tensor in state.items():
        plain = name.removeprefix("text.").replace("attn.in_proj.", "attn.in_proj_")
        if plain in ("visual.proj.weight", "text_projection.weight"):
            result[plain.removesuffix(".weight")] = tensor.t().contiguous().clone()
        else:
            result[plain] = tensor.clone()
    return result


def hugging_face(state: State) -> State:
    """Our names as transformers' CLIPModel has them, likewise."""
    renamed = {
        "token_embedding.weight": "embeddings.token_embedding.weight",
        "positional_embedding": "embeddings.position_embedding.weight",
        "class_embedding": "embeddings.class_embedding",
        "conv1.weight": "embeddings.patch_embedding.weight",
    }
    parts = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
    lasts = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm", "ln_final": "final_layer_norm"}
    result = {"logit_scale": state["logit_scale"].clone()}
    result["visual_projection.weight"] = state["visual.proj.weight"].clone()
    result["text_projection.weight"] = state["text.text_projection.weight"].clone()
    for part, model in (("text", "text_model"), ("visual", "vision_model")):
        for name, tensor in state.items():
            if not name.startswith(f"{part}."):
                continue
            rest = name.removeprefix(f"{part}.")
            if rest in ("proj.weight", "text_projection.weight"):
                continue
            if rest.startswith("transformer.resblocks."):
                index, inner = rest.removeprefix("transformer.resblocks.").split(".", 1)
                at = f"{model}.encoder.layers.{index}."
                if inner.startswith("attn.in_proj."):
                    for letter, third in zip("qkv", tensor.chunk(3), strict=True):
                        result[f"{at}self_attn.{letter}_proj.{inner.removeprefix('attn.in_proj.')}"] = third.clone()
                    continue
                inner = inner.replace("attn.out_proj", "self_attn.out_proj")
                for ours, theirs in parts.items():
                    inner = inner.replace(f"{ours}.", f"{theirs}.")
                result[at + inner] = tensor.clone()
            else:
                first, _, last = rest.partition(".")
                result[f"{model}.{renamed.get(rest) or f'{lasts[first]}.{last}'}"] = tensor.clone()
    return result


def tinyclip(state: State) -> State:
    """As TinyCLIP's release has them: each encoder behind DistributedDataParallel."""
    result = {}
    for name, tensor in openai(state).items():
        if name == "logit_scale":
            result["_logit_scale.logit_scale"] = tensor
        else:
            encoder = "_image_encoder" if name.startswith("visual.") else "_text_encoder"
            result[f"{encoder}.module.{name}"] = tensor
    return result


class Node(torch.nn.Module):
    """A module with the tensors of a state dict under their names."""

    def __init__(self, state: State) -> None:
        super().__init__()
        children: dict[str, State] = {}
        for name, tensor in state.items():
            first, _, rest = name.partition(".")
            if rest:
                children.setdefault(first, {})[rest] = tensor
            elif tensor.is_floating_point():
                self.register_parameter(first, torch.nn.Parameter(tensor, requires_grad=False))
            else:
                self.register_buffer(first, tensor)
        for name, child in children.items():
            self.add_module(name, Node(child))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1.0


def as_program(path: Path, state: State) -> None:
    """As OpenAI's releases are: a TorchScript archive in half precision, with three integers beside the weights."""
    extra = {name: torch.tensor(7) for name in ("input_resolution", "context_length", "vocab_size")}
    halved = {name: tensor.half() for name, tensor in openai(state).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit itself, from Python 3.14 on
        torch.jit.save(torch.jit.trace(Node({**halved, **extra}), torch.zeros(1)), str(path))


def assert_loaded(path: Path, clip: Clip, tolerance: float = 0.0) -> None:
    loaded = load_clip("auto", parse_source(path))
    assert loaded.variant == "clip_vit_b_32"
    assert not loaded.clip.training
    for (name, found), wanted in zip(loaded.clip.state_dict().items(), clip.state_dict().values(), strict=True):
        assert (found - wanted).abs().max() <= tolerance * wanted.abs().max(), name


@pytest.mark.parametrize("layout", [openai, hugging_face, tinyclip])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
def test_every_layout_is_recognized_and_loaded(clip, tmp_path, layout, wrapped):
    state = layout(clip.state_dict())
    path = tmp_path / "weights.pt"
    torch.save({"epoch": 3, "state_dict": {f"module.{n}": t for n, t in state.items()}} if wrapped else state, path)
    assert holds_clip(read_file(path))
    assert_loaded(path, clip)


def test_a_torchscript_archive_is_read_without_its_program(clip, tmp_path):
    path = tmp_path / "ViT-B-32.pt"
    as_program(path, clip.state_dict())
    assert_loaded(path, clip, tolerance=1e-3)


def test_an_archive_that_imports_anything_else_is_refused_and_nothing_runs(tmp_path):
    path, mark = tmp_path / "weights.pt", tmp_path / "ran"
    program = f"cos\nsystem\n(S'touch {mark}'\ntR."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", program)
        archive.writestr("m/constants.pkl", b"\x80\x02).")
    with pytest.raises(CheckpointError, match=r"is a TorchScript program .*it names os.system"):
        read_file(path)
    assert not mark.exists()


@pytest.mark.parametrize("act", ["gelu", "quick_gelu"])
def test_config_json_beside_the_weights_decides_about_the_activation(clip, tmp_path, act):
    save_file(hugging_face(clip.state_dict()), tmp_path / "model.safetensors", {"format": "pt"})
    sections = {each: {"hidden_act": act} for each in ("text_config", "vision_config")}
    (tmp_path / "config.json").write_text(json.dumps(sections))
    loaded = load_clip("clip_vit_b_32", parse_source(tmp_path))
    assert loaded.clip.config.activation == act
    assert (loaded.clip.text.transformer.resblocks[0].mlp.activation) == act


@pytest.mark.parametrize("address", ["hf:someone/clip", "hf:someone/clip/model.safetensors"])
def test_config_json_of_a_repository_decides_too_and_its_card_is_read_once(clip, hub, monkeypatch, address):
    folder = cached_repository(hub, "someone/clip")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    save_file(hugging_face(clip.state_dict()), folder / "model.safetensors", {"format": "pt"})
    sections = {each: {"hidden_act": "gelu"} for each in ("text_config", "vision_config")}
    (folder / "config.json").write_text(json.dumps(sections))
    asked, real = [], huggingface_hub.hf_hub_download

    def recorded(repository: str, name: str, **options: Any) -> str:
        asked.append(name)
        return real(repository, name, **options)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", recorded)
    loaded = load_clip("auto", parse_source(address))
    assert (loaded.clip.config.activation, loaded.licence) == ("gelu", "mit")
    assert sorted(asked) == ["README.md", "config.json", "model.safetensors"]


def test_wrong_weights_are_refused_in_one_line(clip, tmp_path):
    path = tmp_path / "weights.pt"

    def saved(**changes: Any) -> Any:
        state = openai(clip.state_dict())
        state.update({name: tensor for name, tensor in changes.items() if tensor is not None})
        for name in [name for name, tensor in changes.items() if tensor is None]:
            del state[name]
        torch.save(state, path)
        return parse_source(path)

    for changes, words in (
        ({"ln_final.weight": None}, r"nearest is clip_vit_b_32: missing text.ln_final.weight$"),
        ({"visual.proj": torch.zeros(48, 23)}, r"nearest is clip_vit_b_32: shapes: visual.proj.weight is \(23, 48\)"),
        ({"ln_final.weight": torch.full((32,), torch.nan)}, r"ln_final.weight holds NaN"),
    ):
        with pytest.raises(CheckpointError, match=words) as error:
            load_clip("auto", saved(**changes))
        assert "\n" not in str(error.value)
    with pytest.raises(CheckpointError, match=r"holds the weights of clip_vit_b_32, not of siglip2_base_16_224"):
        load_clip("siglip2_base_16_224", saved())
    with pytest.raises(UsageError, match="fits every model: choose one of"):
        load_clip("auto", parse_source("random:0"))
    broken = hugging_face(clip.state_dict())
    del broken["text_model.encoder.layers.1.self_attn.k_proj.bias"]
    torch.save(broken, path)
    with pytest.raises(CheckpointError, match="no three projections q, k and v"):
        load_clip("auto", parse_source(path))


def test_sams_front_door_says_what_to_do_with_clip(clip, tmp_path, capsys):
    from sam_edge.cli.app import run
    from sam_edge.weights.recognition import read_checkpoint

    path = tmp_path / "weights.pt"
    torch.save(openai(clip.state_dict()), path)
    with pytest.raises(CheckpointError, match=r"weights.pt holds a text and an image encoder \(CLIP's kin\).*--rank"):
        read_checkpoint(parse_source(path))
    assert run(["info", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["model"], facts["family"], facts["activation"]) == ("clip_vit_b_32", "CLIP", "quick_gelu")
    assert facts["sha256"] == sha256_of(path)
    assert run(["info", str(path)]) == 0
    assert "not the official file" in capsys.readouterr().out
    assert recognize_clip(parse_source(path)).described == "weights.pt: clip_vit_b_32, CLIP; official names; quick_gelu"


def test_seeded_weights_depend_on_the_seed():
    one, same, other = (
        load_clip("tinyclip_vit_8m_16", parse_source(f"random:{seed}")).clip.visual.proj.weight for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert np.isfinite(one.numpy()).all()
    assert clip_config("tinyclip_vit_8m_16").dim == one.shape[0]
