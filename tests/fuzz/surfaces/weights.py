"""Weights: files, names and shapes, and the states of training runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import mutations as mutate
from tests.fuzz.surfaces.inputs import Attempt


def checkpoint(folder: Path) -> Attempt:
    """Files of weights: safetensors, torch's zip and its older pickle."""
    import torch
    from safetensors.torch import save

    from sam_edge.weights.recognition import read_checkpoint
    from sam_edge.weights.source import CheckpointSource

    packed = "image_encoder.packed"
    state = {
        "image_encoder.weight": torch.zeros(4, 3, 3, 3),
        "mask_decoder.bias": torch.ones(4),
        packed: torch.ones(4, 2, dtype=torch.int8),
        f"{packed}_scale": torch.ones(4, 1),
    }
    tensors = save(state)
    header = json.loads(tensors[8 : 8 + int.from_bytes(tensors[:8], "little")])
    body = tensors[8 + int.from_bytes(tensors[:8], "little") :]

    def torch_file(content: Any, zipped: bool = True) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=zipped)
        return file.getvalue()

    nested: Any = torch.ones(2)
    for _ in range(200):
        nested = {"model": nested}
    wholes = [torch_file(state), torch_file(state, zipped=False), tensors]

    def attempt(rng: np.random.Generator) -> None:
        match rng.integers(4):
            case 0:
                text = mutate.json_text(rng, header)
                data, ending = len(text).to_bytes(8, "little") + text + body, ".safetensors"
            case 1:
                strange = [mutate.values(rng), {"a": mutate.values(rng)}, {1: torch.ones(2)}, nested, [torch.ones(1)]]
                scale = torch.ones([int(n) for n in rng.integers(0, 5, rng.integers(4))])
                strange += [
                    {**state, f"{packed}_scale": scale},
                    {**state, packed: torch.ones(3, dtype=torch.int8)},
                    {"model": state, "epoch": 1},
                ]
                try:
                    data, ending = torch_file(strange[rng.integers(len(strange))]), ".pth"
                except Exception:  # noqa: BLE001 - torch cannot write it, so nobody reads it
                    return
            case _:
                which = int(rng.integers(3))
                data, ending = mutate.content(rng, wholes[which]), ".safetensors" if which == 2 else ".pth"
        path = folder / f"weights{ending}"
        path.write_bytes(data)
        read_checkpoint(CheckpointSource(path=path))

    return attempt


def recognizer(folder: Path) -> Attempt:
    """Names and shapes of tensors, nested dicts, adapters with their configuration, and indices of shards."""
    import torch
    from safetensors.torch import save_file

    from sam_edge.model import VARIANTS
    from sam_edge.weights.adapters import PeftConfig
    from sam_edge.weights.contents import Contents, read_contents
    from sam_edge.weights.families import shapes_of_variant
    from sam_edge.weights.recognition import normalized, recognize

    for variant in VARIANTS:  # kept; else the first case takes the time for all
        shapes_of_variant(variant)
    attention = "blocks.0.attn.qkv"
    names: dict[str, Any] = {
        "image_encoder.pos_embed": (1, 4, 4, 6),
        f"image_encoder.{attention}.weight": (18, 6),
        f"image_encoder.{attention}.qkv_proj.weight": (18, 6),
        f"image_encoder.{attention}.w_a_linear_q.weight": (2, 6),
        f"image_encoder.{attention}.w_b_linear_q.weight": (6, 2),
        "image_encoder.blocks.0.attn.rel_pos_h": (27, 6),
        "image_encoder.blocks.0.mlp.lin1.weight": (24, 6),
        "image_encoder.blocks.0.attn.q.weight": (6, 6),
        "vision_encoder.layers.0.attn.qkv.base_layer.weight": (18, 6),
        "vision_encoder.layers.0.attn.qkv.lora_A.default.weight": (2, 6),
        "vision_encoder.layers.0.attn.qkv.lora_B.default.weight": (18, 2),
        "shared_image_embedding.positional_embedding": (2, 3),
        "prompt_encoder.shared_embedding.positional_embedding": (2, 3),
        "mask_decoder.iou_prediction_head.proj_in.weight": (6, 6),
        "image_encoder.patch_embed.seq.0.c.weight": (32, 3, 3, 3),
        "image_encoder.trunk.pos_embed_window": (1, 6, 8, 8),
        "memory_encoder.out_proj.weight": (6, 6),
        "w_a_000": (2, 6),
    }
    config = {"peft_type": "LORA", "lora_alpha": 4, "r": 2, "base_model_name_or_path": "base"}
    weight_map = {name: f"model-0000{index % 2}.safetensors" for index, name in enumerate(names)}
    index_of = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    model = folder / "model"
    model.mkdir()
    for shard in set(weight_map.values()):
        save_file({name: torch.ones(names[name]) for name in names if weight_map[name] == shard}, model / shard)

    def tensor(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        match rng.integers(12):
            case 0:
                return mutate.values(rng)
            case 1:
                return torch.ones([int(n) for n in rng.integers(0, 7, rng.integers(5))])
            case 2:
                return torch.ones(
                    shape, dtype=[torch.int8, torch.complex64, torch.bool, torch.bfloat16][rng.integers(4)]
                )
            case 3:
                return torch.ones(shape, device="meta")
            case 4:
                return torch.ones(shape).to_sparse()
            case _:
                return torch.ones(shape)

    def attempt(rng: np.random.Generator) -> None:
        if rng.integers(4) == 0:
            (model / "model.safetensors.index.json").write_bytes(mutate.json_text(rng, index_of))
            recognize(normalized(read_contents(model), "model"))
            return
        layout = ("image_", "vision_")[rng.integers(2)] if rng.integers(3) else ""
        tree: dict[Any, Any] = {}
        for name, shape in names.items():
            if rng.integers(2) and name.startswith((layout, "prompt", "mask")):
                prefix = ("", "module.", "sam.", "ema.model.", "optimizer.")[
                    rng.integers(5) if rng.integers(4) == 0 else 0
                ]
                tree[prefix + name] = tensor(rng, shape)
        for _ in range(rng.integers(3)):
            key = (
                mutate.values(rng)
                if rng.integers(3) == 0
                else ("model", "state_dict", "ema", "optimizer")[rng.integers(4)]
            )
            tree = {str(key) if rng.integers(2) else 0: tree, "epoch": 3, **(tree if rng.integers(3) == 0 else {})}
        adapter = mutate.document(rng, config) if rng.integers(2) else config
        recognize(normalized(Contents((), tree, PeftConfig.from_json(adapter, "adapter")), "weights.pth"))

    return attempt


def training_state(folder: Path) -> Attempt:
    """A checkpoint of a training run."""
    import torch

    from sam_edge.training.checkpoint import TrainingState, read_training_state, save_state

    tensors = {"a.weight": torch.zeros(3, 2)}
    state = TrainingState(7, {"model": "nano"}, tensors, tensors, {"exp_avg/a.weight": torch.zeros(3, 2)})
    path = save_state(folder, state)
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header, body = json.loads(whole[8 : 8 + size]), whole[8 + size :]

    def attempt(rng: np.random.Generator) -> None:
        if rng.integers(2):
            text = mutate.json_text(rng, header)
            path.write_bytes(len(text).to_bytes(8, "little") + text + body)
        else:
            meta = dict(header["__metadata__"])
            name = list(meta)[rng.integers(len(meta))]
            try:
                inner = json.loads(meta[name])
            except ValueError:
                inner = meta[name]
            meta[name] = mutate.json_text(rng, inner).decode("latin-1")
            text = json.dumps({**header, "__metadata__": meta}).encode()
            path.write_bytes(len(text).to_bytes(8, "little") + text + body)
        read_training_state(path)

    return attempt
