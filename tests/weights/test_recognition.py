"""Checkpoints as people have them: every wrapping, adapters, pruned widths, and what is refused in one line."""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam_edge.model import VARIANTS, build_sam
from sam_edge.model.image_encoder import ImageEncoderViT, ViTConfig
from sam_edge.model.sam import Sam
from sam_edge.weights.catalogue import RELEASES
from sam_edge.weights.contents import Contents
from sam_edge.weights.families import FAMILIES, family_of, shapes_of_variant
from sam_edge.weights.layouts import HUGGING_FACE, from_official, layout_of, to_official
from sam_edge.weights.load import choose_model, find_source, load_sam
from sam_edge.weights.recognition import Recognized, normalized, read_checkpoint, recognize
from sam_edge.weights.seeded import seed_module
from sam_edge.weights.source import CheckpointSource, parse_source
from sam_edge_runtime.errors import CheckpointError, UsageError

State = dict[str, torch.Tensor]
QKV = "image_encoder.blocks.0.attn.qkv"
MLP = "image_encoder.blocks.0.mlp"


def seeded_state(variant: str) -> State:
    sam = build_sam(variant)
    seed_module(sam, 3)
    return {name: tensor.detach() for name, tensor in sam.state_dict().items()}


@pytest.fixture(scope="module")
def nano() -> State:
    return seeded_state("nano")


@pytest.fixture(scope="module")
def slim() -> State:
    """SlimSAM-77: SAM's ViT at a tenth of the size."""
    return seeded_state("slimsam_77")


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def found_in(tree: dict[Any, Any], label: str = "weights.pth", adapter: Any = None) -> Recognized:
    return recognize(normalized(Contents((), tree, adapter), label))


def assert_equal(found: State, state: State) -> None:
    assert set(found) == set(state)
    for name, tensor in state.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


# ---- wrappings ------------------------------------------------------------------------------------------------------

WRAPPINGS: dict[str, tuple[Any, str, tuple[str, ...]]] = {
    "plain": (lambda s: s, "", ()),
    "medsam training": (
        lambda s: {
            "model": s,
            "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [1]},
            "epoch": 12,
        },
        "model.",
        ("optimizer", "epoch"),
    ),
    "data parallel": (lambda s: under("module.", s), "module.", ()),
    "image encoder in data parallel": (
        lambda s: {name.replace("image_encoder.", "image_encoder.module."): tensor for name, tensor in s.items()},
        "",
        (),
    ),
    "lightning": (
        lambda s: {
            "state_dict": {**under("model.", s), "criterion.class_weight": torch.ones(1)},
            "optimizer_states": [{}],
        },
        "state_dict.model.",
        ("state_dict.criterion", "optimizer_states"),
    ),
    "compiled": (lambda s: under("_orig_mod.", s), "_orig_mod.", ()),
    "micro-sam training": (
        lambda s: {
            "model_state": under("sam.", s),
            "decoder_state": {"base.0.weight": torch.ones(2), "out_conv.bias": torch.ones(1)},
            "optimizer_state": {},
        },
        "model_state.sam.",
        ("decoder_state (micro-sam's decoder of instances, 2 tensors)", "optimizer_state"),
    ),
    "averaged beside raw": (
        lambda s: {"ema": s, "model": {name: tensor + 1 for name, tensor in s.items()}},
        "ema.",
        ("model (254 tensors)",),
    ),
    "deep": (lambda s: {"checkpoint": {"net": {"student": under("sam.", s)}}}, "checkpoint.net.student.sam.", ()),
    "mean and deviation": (
        lambda s: {**s, "pixel_mean": torch.ones(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)},
        "",
        ("pixel_mean (SAM's own is used)", "pixel_std (SAM's own is used)"),
    ),
    "an optimizer keyed by names": (
        lambda s: {"model": s, "optimizer": {"state": {name: {"exp_avg": t} for name, t in s.items()}}},
        "model.",
        ("optimizer (254 tensors)",),
    ),
}


@pytest.mark.parametrize("wrapping", list(WRAPPINGS))
def test_a_model_is_found_in_every_wrapping_and_the_rest_is_named(nano, wrapping):
    wrap, prefix, left_out = WRAPPINGS[wrapping]
    found = found_in(wrap(nano))
    assert (found.variant, found.checkpoint.prefix, found.checkpoint.left_out) == ("nano", prefix, left_out)
    assert_equal(found.checkpoint.state, nano)
    assert all(each in found.described for each in left_out)


def test_arguments_paths_and_numpy_numbers_beside_the_weights_are_no_code(nano, tmp_path):
    path = tmp_path / "run.pth"
    beside = {"args": argparse.Namespace(lr=1e-4, out=Path("run")), "best": np.float64(0.5), "step": np.int64(3)}
    torch.save({"model": nano, **beside}, path)
    found = recognize(read_checkpoint(CheckpointSource(path=path)))
    assert found.checkpoint.left_out == ("args", "best", "step")
    assert_equal(found.checkpoint.state, nano)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_named_and_becomes_float32_in_the_model(nano, tmp_path, kind):
    path = tmp_path / "half.pth"
    half = {name: tensor.to(kind) for name, tensor in nano.items()}
    torch.save(half, path)
    loaded = load_sam("auto", CheckpointSource(path=path))
    assert loaded.variant == "nano"
    assert_equal(dict(loaded.sam.state_dict()), {name: tensor.float() for name, tensor in half.items()})
    assert str(kind).removeprefix("torch.") in recognize(read_checkpoint(CheckpointSource(path=path))).described


def test_tensors_saved_on_a_gpu_load_on_the_cpu(nano, tmp_path):
    """torch.save records the device of each storage as text; here it is changed to the first GPU."""
    on_cpu, on_gpu = tmp_path / "cpu.pth", tmp_path / "gpu.pth"
    torch.save(nano, on_cpu)
    with zipfile.ZipFile(on_cpu) as source, zipfile.ZipFile(on_gpu, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("/data.pkl"):
                device = b"X\x03\x00\x00\x00cpu"
                assert device in content
                content = content.replace(device, b"X\x06\x00\x00\x00cuda:0")
            target.writestr(entry, content)
    assert_equal(recognize(read_checkpoint(CheckpointSource(path=on_gpu))).checkpoint.state, nano)


def test_the_content_decides_the_format_not_the_name(nano, tmp_path):
    save_file(nano, tmp_path / "a.bin")
    torch.save(nano, tmp_path / "b.safetensors")
    for name in ("a.bin", "b.safetensors"):
        assert_equal(read_checkpoint(CheckpointSource(path=tmp_path / name)).state, nano)


# ---- models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_variant_is_recognized_by_names_and_shapes(variant):
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes_of_variant(variant).items()}
    found = found_in(state)
    assert found.variant == variant
    assert found.checkpoint.left_out == ()


def test_the_names_of_other_families_stand_before_those_that_they_add_to():
    titles = [family.title for family in FAMILIES]
    assert titles.index("SAM-HQ (ViT)") < titles.index("SAM (ViT)")
    assert titles.index("Light-HQ (TinyViT)") < titles.index("SAM-HQ (ViT)")
    assert titles.index("Light-HQ (TinyViT)") < titles.index("MobileSAM (TinyViT)")
    assert titles.index("EfficientSAM (ViT)") < titles.index("SAM (ViT)")


def test_tinysam_loads_as_mobilesams_modules_and_says_whose_it_is():
    state = seeded_state("tiny_vit")
    spare = [name for name in state if "norm_head" in name or ".head." in name]
    assert len(spare) == 4
    theirs = {name: tensor for name, tensor in state.items() if name not in spare}
    theirs |= {f"image_encoder.layers.1.blocks.{block}.attn.ab": torch.ones(4, 49, 49) for block in range(2)}
    found = found_in(theirs, "tinysam.pth")
    assert found.variant == "tiny_vit"
    assert "not MobileSAM's own file: TinySAM's and fine-tuned weights have the same modules" in found.described
    assert found.checkpoint.left_out == ("image_encoder...ab (2 tensors)",)
    assert_equal(found.checkpoint.state, {**state, **{name: torch.zeros_like(state[name]) for name in spare}})


def test_the_official_file_is_named_as_such(nano, tmp_path, monkeypatch):
    path = tmp_path / "mobile_sam.pt"
    torch.save(nano, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = replace(RELEASES["tiny_vit"], sha256=digest, size=path.stat().st_size)
    monkeypatch.setitem(RELEASES, "tiny_vit", known)
    found = recognize(read_checkpoint(CheckpointSource(path=path)))
    assert found.release == known
    assert "the official weights" in found.described


# ---- pruned widths --------------------------------------------------------------------------------------------------

UNEVEN = ViTConfig(dim=48, depth=3, heads=4, global_blocks=(1,), attention_widths=(24, 48, 8), mlp_widths=(30, 192, 7))


def test_widths_of_each_block_are_read_off_the_file_and_split_projections_joined(tmp_path):
    plain = Sam(ImageEncoderViT(UNEVEN)).eval()
    seed_module(plain, 5)
    split: State = {}
    for name, tensor in plain.state_dict().items():
        if ".attn.qkv." in name:
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                split[name.replace(".qkv.", f".{part}.")] = rows.clone()
        else:
            split[name] = tensor
    path = tmp_path / "pruned.pth"
    torch.save(split, path)
    loaded = load_sam("auto", CheckpointSource(path=path), 256)
    plain.set_input_side(256)
    x = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(loaded.sam.image_encoder(x), plain.image_encoder(x), rtol=0, atol=0)
    assert loaded.variant == "slimsam"
    assert load_sam("slimsam", CheckpointSource(path=path), 256).parameters == loaded.parameters


def test_seeded_weights_cannot_have_the_widths_of_a_file():
    with pytest.raises(UsageError, match=r"read off its file.*slimsam_50 or slimsam_77"):
        load_sam("slimsam", parse_source("random:0"))
    with pytest.raises(CheckpointError, match=r"slimsam_77 has no weights to download.*hf:OWNER/NAME.*random:0"):
        find_source("slimsam_77", None)


# ---- adapters -------------------------------------------------------------------------------------------------------


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_adapters_of_micro_sam_compute_the_same_after_merging(slim):
    """The adapted layer as micro-sam runs it (its `peft_sam.py`): low-rank terms added to queries, values and MLP."""
    state = {name: tensor for name, tensor in slim.items() if not name.startswith((QKV, MLP))}
    state |= {name.replace(QKV, f"{QKV}.qkv_proj"): t for name, t in slim.items() if name.startswith(QKV)}
    state |= {name.replace(MLP, f"{MLP}.mlp_layer"): t for name, t in slim.items() if name.startswith(MLP)}
    dim, hidden = 168, 696
    low = {part: (drawn(4, dim, seed=1), drawn(dim, 4, seed=2)) for part in "qv"}
    for part, (down, up) in low.items():
        state[f"{QKV}.w_a_linear_{part}.weight"], state[f"{QKV}.w_b_linear_{part}.weight"] = down, up
    mlp = {
        "1": (drawn(4, dim, seed=3), drawn(hidden, 4, seed=4)),
        "2": (drawn(4, hidden, seed=5), drawn(dim, 4, seed=6)),
    }
    for part, (down, up) in mlp.items():
        state[f"{MLP}.w_a_linear_{part}.weight"], state[f"{MLP}.w_b_linear_{part}.weight"] = down, up
    found = found_in({"model_state": under("sam.", state)})
    assert found.variant == "slimsam_77"
    assert "merged LoRA of rank 4 in 3 layers" in found.described

    linear = torch.nn.functional.linear
    x = drawn(5, dim, seed=7)
    qkv = linear(x, slim[f"{QKV}.weight"], slim[f"{QKV}.bias"])
    qkv[:, :dim] += linear(linear(x, low["q"][0]), low["q"][1])
    qkv[:, -dim:] += linear(linear(x, low["v"][0]), low["v"][1])
    hid = linear(x, slim[f"{MLP}.lin1.weight"], slim[f"{MLP}.lin1.bias"]) + linear(linear(x, mlp["1"][0]), mlp["1"][1])
    out = linear(hid, slim[f"{MLP}.lin2.weight"], slim[f"{MLP}.lin2.bias"]) + linear(
        linear(hid, mlp["2"][0]), mlp["2"][1]
    )
    merged = found.checkpoint.state
    torch.testing.assert_close(linear(x, merged[f"{QKV}.weight"], merged[f"{QKV}.bias"]), qkv, rtol=1e-5, atol=1e-5)
    ours = linear(x, merged[f"{MLP}.lin1.weight"], merged[f"{MLP}.lin1.bias"])
    ours = linear(ours, merged[f"{MLP}.lin2.weight"], merged[f"{MLP}.lin2.bias"])
    torch.testing.assert_close(ours, out, rtol=1e-5, atol=1e-5)
    assert not torch.equal(merged[f"{QKV}.weight"], slim[f"{QKV}.weight"])


def test_adapters_of_sam_lora_merge_into_their_third_of_the_rows(slim):
    state = {name: tensor for name, tensor in slim.items() if not name.startswith(QKV)}
    state |= {name.replace(QKV, f"{QKV}.qkv"): t for name, t in slim.items() if name.startswith(QKV)}
    down, up = drawn(2, 168, seed=1), drawn(168, 2, seed=2)
    state[f"{QKV}.linear_a_v.weight"], state[f"{QKV}.linear_b_v.weight"] = down, up
    merged = found_in(under("sam.", state)).checkpoint.state[f"{QKV}.weight"]
    expected = slim[f"{QKV}.weight"].clone()
    expected[-168:] += up @ down
    torch.testing.assert_close(merged, expected)


def peft_folder(folder: Path, slim: State, **config: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """An adapter as peft saves it for SamModel, and its base model beside it."""
    folder.mkdir()
    base = folder.parent / "base"
    base.mkdir()
    theirs = {name: tensor.clone() for name, tensor in from_official(slim, HUGGING_FACE).items()}
    save_file(theirs, base / "model.safetensors", {"format": "pt"})
    down, up = drawn(4, 168, seed=1), drawn(504, 4, seed=2)
    at = "base_model.model.vision_encoder.layers.0.attn.qkv"
    save_file(
        {
            f"{at}.lora_A.weight": down,
            f"{at}.lora_B.weight": up,
            "base_model.model.mask_decoder.iou_token.weight": slim["mask_decoder.iou_token.weight"] + 1,
        },
        folder / "adapter_model.safetensors",
    )
    written = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": str(base), **config}
    (folder / "adapter_config.json").write_text(json.dumps(written))
    return down, up


@pytest.mark.parametrize(("config", "scale"), [({}, 2.0), ({"use_rslora": True}, 4.0)])
def test_a_peft_adapter_is_merged_into_the_base_that_it_names(slim, tmp_path, config, scale):
    down, up = peft_folder(tmp_path / "adapter", slim, **config)
    found = recognize(read_checkpoint(CheckpointSource(path=tmp_path / "adapter")))
    expected = dict(slim)
    expected[f"{QKV}.weight"] = slim[f"{QKV}.weight"] + scale * up @ down
    expected["mask_decoder.iou_token.weight"] = slim["mask_decoder.iou_token.weight"] + 1
    assert set(found.checkpoint.state) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found.checkpoint.state[name], tensor)
    assert "Hugging Face names" in found.described
    assert "merged LoRA of rank 4 in 1 layers" in found.described
    assert [path.name for path in found.checkpoint.contents.files] == ["adapter_model.safetensors"]


def test_a_whole_peft_model_needs_the_configuration_beside_it(slim, tmp_path):
    at = "vision_encoder.layers.0.attn.qkv"
    theirs = from_official(slim, HUGGING_FACE)
    state = {name.replace(f"{at}.", f"{at}.base_layer."): tensor for name, tensor in theirs.items()}
    down, up = drawn(4, 168, seed=1), drawn(504, 4, seed=2)
    state |= {f"{at}.lora_A.default.weight": down, f"{at}.lora_B.default.weight": up}
    token = state.pop("mask_decoder.iou_token.weight")
    state["mask_decoder.iou_token.original_module.weight"] = token
    state["mask_decoder.iou_token.modules_to_save.default.weight"] = token + 1
    path = tmp_path / "peft.pth"
    torch.save(under("base_model.model.", state), path)
    with pytest.raises(CheckpointError, match=r"scale .* adapter_config.json: put that beside it, or merge"):
        read_checkpoint(CheckpointSource(path=path))
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "lora_alpha": 2, "r": 4}')
    merged = recognize(read_checkpoint(CheckpointSource(path=path))).checkpoint.state
    torch.testing.assert_close(merged[f"{QKV}.weight"], slim[f"{QKV}.weight"] + 0.5 * up @ down)
    torch.testing.assert_close(merged["mask_decoder.iou_token.weight"], token + 1)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"peft_type": "IA3"}, r"is of a IA3 adapter, and only LORA is merged"),
        ({"use_dora": True}, r"cannot be merged \(it sets use_dora\)"),
        ({"lora_alpha": "8"}, r"lora_alpha is no number"),
        ({"base_model_name_or_path": None}, r"LoRA without its base model \(adapter_config.json names none\)"),
        ({"base_model_name_or_path": "../nowhere/at/all"}, r"LoRA without its base model \(../nowhere/at/all\)"),
    ],
)
def test_adapters_that_cannot_be_merged_are_refused(slim, tmp_path, config, words):
    peft_folder(tmp_path / "adapter", slim, **config)
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(CheckpointSource(path=tmp_path / "adapter"))


# ---- what is refused ------------------------------------------------------------------------------------------------


def renamed(state: State, old: str, new: str) -> State:
    return {name.replace(old, new): tensor for name, tensor in state.items()}


REFUSED: dict[str, tuple[Any, str]] = {
    "memory of a video model": (
        lambda s: {"model": {"memory_encoder.out_proj.weight": torch.ones(2), "no_mem_embed": torch.ones(1)}},
        r"only the memory parts of a SAM 2 video model and no image encoder",
    ),
    "memory under Hugging Face names": (
        lambda s: {"memory_encoder.projection.weight": torch.ones(2), "no_memory_embedding": torch.ones(1)},
        r"only the memory parts of a SAM 2 video model and no image encoder",
    ),
    "two layouts of sam 2": (
        lambda s: {"image_encoder.trunk.pos_embed": torch.ones(1), "vision_encoder.backbone.pos_embed": torch.ones(1)},
        r"mixes two layouts: official names \(image_encoder.trunk.pos_embed\) and Hugging Face names \(vision_encoder",
    ),
    "half of sam-hq": (
        lambda s: {**s, "mask_decoder.hf_token.weight": torch.ones(1, 256)},
        r"nearest is slimsam_77: unexpected mask_decoder.hf_token.weight$",
    ),
    "lora alone": (
        lambda s: {"w_a_000": torch.ones(4, 168), "w_b_000": torch.ones(168, 4)},
        r"holds a LoRA without its base model \(w_a_000\)",
    ),
    "lora of peft alone": (
        lambda s: {"base_model.model.vision_encoder.layers.0.attn.qkv.lora_A.weight": torch.ones(4, 168)},
        r"holds a LoRA without its base model \(image_encoder.blocks.0.attn.qkv.lora_A.weight\)",
    ),
    "nameless adapters beside the model": (lambda s: {**s, "w_a_000": torch.ones(4, 168)}, r"LoRA without its base"),
    "half an adapter": (
        lambda s: {**renamed(s, f"{QKV}.", f"{QKV}.qkv_proj."), f"{QKV}.w_a_linear_q.weight": torch.ones(4, 168)},
        r"w_a_linear_q.weight without .*w_b_linear_q.weight",
    ),
    "an adapter of another width": (
        lambda s: {
            **renamed(s, f"{QKV}.", f"{QKV}.qkv_proj."),
            f"{QKV}.w_a_linear_q.weight": torch.ones(4, 768),
            f"{QKV}.w_b_linear_q.weight": torch.ones(768, 4),
        },
        r"\(4, 768\) and \(768, 4\) does not fit .*qkv_proj.weight \(504, 168\)",
    ),
    "another kind of adapter": (
        lambda s: {**s, "image_encoder.blocks.0.mlp.lora_magnitude_vector": torch.ones(4)},
        r"holds an adapter that cannot be merged \(.*lora_magnitude_vector\)",
    ),
    "two layouts": (
        lambda s: {**s, "vision_encoder.pos_embed": torch.ones(1)},
        r"mixes two layouts: official names \(image_encoder.\S+\) and Hugging Face names \(vision_encoder.pos_e",
    ),
    "tied tensors that differ": (
        lambda s: {
            **from_official(s, HUGGING_FACE),
            "prompt_encoder.shared_embedding.positional_embedding": torch.zeros(2, 128),
        },
        r"two different tensors for prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    ),
    "twice": (
        lambda s: {**s, "image_encoder.module.pos_embed": torch.ones(1)},
        r"holds image_encoder.pos_embed twice, with and without a wrapper",
    ),
    "two models": (
        lambda s: {"student": s, "teacher": s},
        r"under both student and teacher: save the right ones alone",
    ),
    "a decoder of another width": (
        lambda s: {**s, "mask_decoder.iou_token.weight": torch.ones(1, 128)},
        r"nearest is slimsam_77: shapes: mask_decoder.iou_token.weight is \(1, 128\) where the model has \(1, 256\)$",
    ),
    "an encoder alone": (
        lambda s: (
            {name: tensor for name, tensor in s.items() if name.startswith("image_encoder.")}
            | {"decoder.up.weight": torch.ones(2)}
        ),
        r"only the image_encoder of slimsam_77, without prompt_encoder and mask_decoder: save the state_dict",
    ),
    "names of no family": (
        lambda s: {
            "image_encoder.conv1.weight": torch.ones(2),
            **{name: tensor for name, tensor in s.items() if not name.startswith("image_encoder.")},
        },
        r"fits no model, and the nearest is tiny_vit: missing image_encoder.\S+, image_encoder.\S+, image_encoder.\S+ "
        r"and \d+ more; unexpected image_encoder.conv1.weight$",
    ),
    "split projections of different widths": (
        lambda s: {
            **{name: tensor for name, tensor in s.items() if not name.startswith(QKV)},
            **{f"{QKV[:-3]}{part}.weight": torch.ones(12, 168) for part in "qk"},
            f"{QKV[:-3]}v.weight": torch.ones(24, 168),
        },
        r"has no three projections q, k and v of one width",
    ),
    "endless repetition": (lambda s: repeated(), r"more than 100,000 entries"),
}


def repeated() -> dict[Any, Any]:
    tree: dict[Any, Any] = {str(index): torch.ones(1) for index in range(20)}
    for _ in range(6):
        tree = {str(index): tree for index in range(20)}
    return tree


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_fits_nothing_is_refused_in_one_line(slim, case):
    make, words = REFUSED[case]
    with pytest.raises(CheckpointError, match=words) as error:
        found_in(make(slim))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("weights.pth")


def test_a_model_of_another_variant_is_named(nano, tmp_path):
    path = tmp_path / "nano.pth"
    torch.save(nano, path)
    with pytest.raises(CheckpointError, match=r"weights of nano, not of vit_b: use --model nano, or leave out --model"):
        load_sam("vit_b", CheckpointSource(path=path))
    torch.save({name: tensor for name, tensor in nano.items() if "unpack" not in name}, path)
    with pytest.raises(CheckpointError, match=r"nano.pth: it is not for nano: missing mask_decoder.unpack.weight"):
        load_sam("nano", CheckpointSource(path=path))


# ---- folders and shards ---------------------------------------------------------------------------------------------


def sharded(folder: Path, state: State) -> dict[str, Any]:
    """Three shards and their index, as `save_pretrained` writes them."""
    folder.mkdir()
    shards = {f"model-0000{index + 1}-of-00003.safetensors": list(state)[index::3] for index in range(3)}
    for shard, names in shards.items():
        save_file({name: state[name].contiguous() for name in names}, folder / shard)
    index = {"metadata": {}, "weight_map": {name: shard for shard, names in shards.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return index


def test_shards_load_through_their_folder_or_index(nano, tmp_path):
    sharded(tmp_path / "model", nano)
    for name in ("model", "model/model.safetensors.index.json"):
        loaded = load_sam("auto", CheckpointSource(path=tmp_path / name))
        assert_equal(dict(loaded.sam.state_dict()), nano)
        lines = "".join(
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
            for path in sorted((tmp_path / "model").glob("*.safetensors"))
        )
        assert loaded.checkpoint.sha256 == hashlib.sha256(lines.encode()).hexdigest()


SHARDS: dict[str, tuple[Any, str]] = {
    "missing": (lambda f, i: next(f.glob("*2-of*")).unlink(), r"has no shard model-00002-of-00003.safetensors"),
    "outside": (
        lambda f, i: i["weight_map"].update({"stem": "../../secret.safetensors"}),
        r"names a shard outside its folder \(../../secret.safetensors\)",
    ),
    "absolute": (lambda f, i: i["weight_map"].update(stem="/etc/passwd"), r"shard outside its folder \(/etc/passwd\)"),
    "tensor missing": (
        lambda f, i: i["weight_map"].update({"image_encoder.x": "model-00001-of-00003.safetensors"}),
        r"model-00001-of-00003.safetensors has no image_encoder.x",
    ),
    "no map": (lambda f, i: i.pop("weight_map"), r"is no index of shards"),
    "wrong header": (
        lambda f, i: next(f.glob("*1-of*")).write_bytes(b"\xff" * 8 + b"{" + b"x" * 100),
        r"is truncated, corrupt or no file of weights",
    ),
}


@pytest.mark.parametrize("case", list(SHARDS))
def test_broken_shards_are_refused(nano, tmp_path, case):
    change, words = SHARDS[case]
    index = sharded(tmp_path / "model", nano)
    change(tmp_path / "model", index)
    (tmp_path / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=words) as error:
        read_checkpoint(CheckpointSource(path=tmp_path / "model"))
    assert "\n" not in str(error.value)


def test_a_folder_with_one_file_of_weights_is_that_file(nano, tmp_path):
    torch.save(nano, tmp_path / "sam.pth")
    assert_equal(read_checkpoint(CheckpointSource(path=tmp_path)).state, nano)
    torch.save(nano, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"is a folder without one model .*: name the file of weights in it"):
        read_checkpoint(CheckpointSource(path=tmp_path))


# ---- layouts and choice ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_layouts_rename_without_loss(variant):
    shapes = shapes_of_variant(variant)
    state = {name: torch.tensor(number).expand(shape) for number, (name, shape) in enumerate(shapes.items())}
    family = family_of(shapes)
    assert family is not None
    for layout in family.layouts:
        theirs = from_official(state, layout)
        assert layout_of(theirs, "x") == layout
        back = to_official(theirs, layout, "x")
        assert {name: (tuple(each.shape), each[(0,) * each.ndim].item()) for name, each in back.items()} == {
            name: (shape, number) for number, (name, shape) in enumerate(shapes.items())
        }


def test_auto_takes_the_model_of_the_file_and_nano_without_one(nano, tmp_path):
    path = tmp_path / "run.pth"
    torch.save({"model": nano}, path)
    variant, found = choose_model("auto", str(path))
    assert variant == "nano"
    assert found is not None
    assert found.described == "run.pth: nano, nano; official names, float32; found under model"
    assert choose_model("auto", None) == ("nano", None)
    assert choose_model("auto", "random:0") == ("nano", None)
    assert choose_model("vit_b", "random:0") == ("vit_b", None)
    with pytest.raises(UsageError, match=r"no model called 'vit_x'"):
        choose_model("vit_x", str(path))
