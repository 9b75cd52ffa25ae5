"""ViTs whose widths are read off their tensors: SlimSAM prunes each block of ViT-B to widths of its own.

Source: SlimSAM (https://arxiv.org/abs/2312.05284), https://github.com/czg1225/SlimSAM: every block keeps its 12 heads;
what differs is the number of channels between the blocks, of each block's queries, keys and values, and of each MLP.
Scores are divided by the square root of a block's own head width, as in SAM (`get_pos_init` in its `prune_funcs.py`).
The models that it prunes globally hold three projections `q`, `k` and `v` instead of one `qkv`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from sam_edge.model.image_encoder import NATIVE_SIDE, WINDOW, ViTConfig
from sam_edge_runtime.bundle.contract import EMBEDDING_STRIDE
from sam_edge_runtime.errors import CheckpointError, short_name

State = dict[str, torch.Tensor]
Shapes = Mapping[str, tuple[int, ...]]

BLOCK = re.compile(r"image_encoder\.blocks\.(\d{1,3})\.attn\.qkv\.weight")
SPLIT = re.compile(r"(?P<at>image_encoder\.blocks\.\d{1,3}\.attn)\.q\.weight")


def read_widths(shapes: Shapes) -> ViTConfig | None:
    """The configuration that `shapes`, under official names, belong to; None if they are those of no ViT of SAM."""
    blocks = sorted(int(found[1]) for name in shapes if (found := BLOCK.fullmatch(name)))
    position = shapes.get("image_encoder.pos_embed", ())
    if not blocks or blocks != list(range(len(blocks))) or len(position) != 4:
        return None
    attention, mlp, heads, global_blocks = [], [], set(), []
    for index in blocks:
        at = f"image_encoder.blocks.{index}"
        qkv, hidden = shapes[f"{at}.attn.qkv.weight"], shapes.get(f"{at}.mlp.lin1.weight", ())
        rows = shapes.get(f"{at}.attn.rel_pos_h", ())
        if len(qkv) != 2 or len(hidden) != 2 or len(rows) != 2 or 0 in (*qkv, *hidden, *rows) or qkv[0] % 3:
            return None
        width = qkv[0] // 3
        attention.append(width)
        mlp.append(hidden[0])
        heads.add(width / rows[1])
        if rows[0] == 2 * NATIVE_SIDE // EMBEDDING_STRIDE - 1:
            global_blocks.append(index)
        elif rows[0] != 2 * WINDOW - 1:
            return None
    if len(heads) != 1 or not (count := heads.pop()).is_integer():
        return None
    return ViTConfig(position[3], len(blocks), int(count), tuple(global_blocks), tuple(attention), tuple(mlp))


def join_split_projections(state: State, label: str) -> State:
    """`state` with `qkv` in place of SlimSAM's separate `q`, `k` and `v`; unchanged if there are none.

    Raises:
        CheckpointError: the three do not fit each other.
    """
    result = dict(state)
    for at in {found["at"] for name in state if (found := SPLIT.fullmatch(name))}:
        for kind in ("weight", "bias"):
            parts = [each for part in "qkv" if (each := result.pop(f"{at}.{part}.{kind}", None)) is not None]
            if len(parts) != 3 or len({(each.shape, each.dtype, each.layout, each.device) for each in parts}) != 1:
                raise CheckpointError(
                    f"{label}: {short_name(at)} has no three projections q, k and v of one width: copy the file again"
                )
            if parts[0].layout is not torch.strided or parts[0].ndim == 0:
                raise CheckpointError(f"{label}: {short_name(at)}.q.{kind} is no dense matrix: copy the file again")
            result[f"{at}.qkv.{kind}"] = torch.cat(parts)
    return result
