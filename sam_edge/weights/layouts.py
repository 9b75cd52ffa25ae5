"""The names that checkpoints give to SAM's tensors, as data: each layout's names beside those of the models here.

A layout is a list of pairs. `*` stands for one segment of a name, mostly an index. A pair renames the beginning of
every name that it fits, so what follows (`weight`, `bias`, an adapter's suffix) stays. The first pair that fits counts;
a name that none fits is the same in both. The models here have SAM's official names. SAM 2's official names are a
layout of their own, whose models have the parts of SAM here. A further layout is one more entry of `LAYOUTS`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache

import torch

from sam_edge_runtime.errors import CheckpointError, UsageError, short_name

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Layout:
    """One way to name the tensors of a model.

    Attributes:
        name: as `sam-edge convert --layout` takes it; layouts of different families may share it.
        title: for users.
        own: first segments that set this layout apart from layouts of another name.
        shared: first segments that other layouts have, too.
        pairs: beginnings of this layout's names and of the names here.
        mark: the beginning of a name that each file in this layout has; empty: one of `own` is enough.
        tables: tensors here that are the rows of one: its name in this layout, their names, with `*` for the row's
            index, and their number.
        twins: a name of this layout, and a second name under which it holds the same tensor.
    """

    name: str
    title: str
    own: tuple[str, ...]
    shared: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    mark: str = ""
    tables: tuple[tuple[str, str, int], ...] = ()
    twins: tuple[tuple[str, str], ...] = ()


OFFICIAL = Layout("official", "official names", ("image_encoder",), ("prompt_encoder", "mask_decoder"))

_MEMORY = ("memory_attention", "memory_encoder", "mask_downsample", "spatial_perceiver")  # in both layouts of SAM 2

SAM2_OFFICIAL = Layout(
    "official",
    "official names",
    (
        "sam_prompt_encoder",
        "sam_mask_decoder",
        "maskmem_tpos_enc",
        "no_mem_embed",
        "no_mem_pos_enc",
        "no_obj_ptr",
        "no_obj_embed_spatial",
        "obj_ptr_proj",
        "obj_ptr_tpos_proj",
    ),
    ("image_encoder", *_MEMORY),
    (
        ("no_mem_embed", "mask_decoder.no_memory.embed"),
        ("sam_mask_decoder.transformer.layers.*.mlp.layers.0.", "mask_decoder.transformer.layers.*.mlp.lin1."),
        ("sam_mask_decoder.transformer.layers.*.mlp.layers.1.", "mask_decoder.transformer.layers.*.mlp.lin2."),
        ("sam_mask_decoder.", "mask_decoder."),
        ("sam_prompt_encoder.", "prompt_encoder."),
    ),
)

# EfficientSAM has the same parts as SAM, and names of its own for SAM's MLPs and upscaling, and Hiera's MLPs.
EFFICIENT_SAM_OFFICIAL = Layout(
    "official",
    "official names",
    OFFICIAL.own,
    OFFICIAL.shared,
    (
        ("image_encoder.blocks.*.mlp.fc1.", "image_encoder.blocks.*.mlp.layers.0."),
        ("image_encoder.blocks.*.mlp.fc2.", "image_encoder.blocks.*.mlp.layers.1."),
        ("mask_decoder.transformer.layers.*.mlp.layers.0.0.", "mask_decoder.transformer.layers.*.mlp.lin1."),
        ("mask_decoder.transformer.layers.*.mlp.fc.", "mask_decoder.transformer.layers.*.mlp.lin2."),
        ("mask_decoder.final_output_upscaling_layers.0.0.", "mask_decoder.output_upscaling.0."),
        ("mask_decoder.final_output_upscaling_layers.0.1.", "mask_decoder.output_upscaling.1."),
        ("mask_decoder.final_output_upscaling_layers.1.0.", "mask_decoder.output_upscaling.3."),
        *(
            (f"mask_decoder.{mlp}.{theirs}.", f"mask_decoder.{mlp}.{ours}.")
            for mlp in ("output_hypernetworks_mlps.*", "iou_prediction_head")
            for theirs, ours in (("fc", "layers.2"), ("layers.*.0", "layers.*"))
        ),
    ),
    mark="mask_decoder.final_output_upscaling_layers.",
)

# RepViT-SAM numbers the layers of RepViT's blocks; those between two stages have places of their own.
_BETWEEN_STAGES = (8, 16, 52)  # indices of `image_encoder.features`
_REPVIT = "image_encoder.features"
REPVIT_SAM_OFFICIAL = Layout(
    "official",
    "official names",
    OFFICIAL.own,
    OFFICIAL.shared,
    (
        (f"{_REPVIT}.0.0.", f"{_REPVIT}.0.conv1."),
        (f"{_REPVIT}.0.2.", f"{_REPVIT}.0.conv2."),
        *(
            (f"{_REPVIT}.{index}.{theirs}.", f"{_REPVIT}.{index}.{ours}.")
            for index in _BETWEEN_STAGES
            for theirs, ours in (
                ("token_mixer.0", "spatial_downsample"),
                ("token_mixer.2", "channel_downsample"),
                ("channel_mixer.m.0", "ffn.conv1"),
                ("channel_mixer.m.2", "ffn.conv2"),
            )
        ),
        (f"{_REPVIT}.*.token_mixer.0.", f"{_REPVIT}.*.token_mixer."),
        (f"{_REPVIT}.*.token_mixer.1.", f"{_REPVIT}.*.se."),
        (f"{_REPVIT}.*.channel_mixer.m.0.", f"{_REPVIT}.*.channel_mixer.conv1."),
        (f"{_REPVIT}.*.channel_mixer.m.2.", f"{_REPVIT}.*.channel_mixer.conv2."),
    ),
    mark=f"{_REPVIT}.0.0.",
)

# EfficientViT-SAM nests blocks in lists of operations. The longest names stand first.
_EFFICIENTVIT = "image_encoder.backbone.stages"
_EFFICIENTVIT_CONVS = (
    (f"{_EFFICIENTVIT}.*.op_list.*.context_module.main.*", "image_encoder.stages.*.*.context.*"),
    (f"{_EFFICIENTVIT}.*.op_list.*.local_module.main.*", "image_encoder.stages.*.*.local.*"),
    (f"{_EFFICIENTVIT}.*.op_list.*.main.*", "image_encoder.stages.*.*.*"),
    ("image_encoder.neck.input_ops.*.op_list.0", "image_encoder.laterals.*.conv"),
    ("image_encoder.neck.middle.op_list.*.main.*", "image_encoder.neck.*.*"),
)
EFFICIENTVIT_SAM_OFFICIAL = Layout(
    "official",
    "official names",
    OFFICIAL.own,
    OFFICIAL.shared,
    (
        (f"{_EFFICIENTVIT}.0.op_list.0.conv.", "image_encoder.stages.0.0.c."),
        (f"{_EFFICIENTVIT}.0.op_list.0.norm.", "image_encoder.stages.0.0.bn."),
        (f"{_EFFICIENTVIT}.*.op_list.*.context_module.main.qkv.conv.", "image_encoder.stages.*.*.context.qkv."),
        (f"{_EFFICIENTVIT}.*.op_list.*.context_module.main.aggreg.0.", "image_encoder.stages.*.*.context.aggregate."),
        *(
            (f"{theirs}.{their_part}.", f"{ours}.{part}.")
            for theirs, ours in _EFFICIENTVIT_CONVS
            for their_part, part in (("conv", "c"), ("norm", "bn"))
        ),
        ("image_encoder.neck.output_ops.0.op_list.0.conv.", "image_encoder.head."),
    ),
    mark=f"{_EFFICIENTVIT}.",
)

# transformers' models (models/{sam,sam_hq,sam2}/modeling_*.py of transformers 5.24): first what all have in common.
_POSITIONS = "shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding"
_MLPS = (
    ("mask_decoder.output_hypernetworks_mlps.*", "mask_decoder.output_hypernetworks_mlps.*"),
    ("mask_decoder.iou_prediction_head", "mask_decoder.iou_prediction_head"),
    ("mask_decoder.pred_obj_score_head", "mask_decoder.pred_obj_score_head"),
    ("mask_decoder.hq_mask_mlp", "mask_decoder.hf_mlp"),
)
_HF_PAIRS = (
    *((name, "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix") for name in _POSITIONS),
    ("prompt_encoder.mask_embed.conv1.", "prompt_encoder.mask_downscaling.0."),
    ("prompt_encoder.mask_embed.layer_norm1.", "prompt_encoder.mask_downscaling.1."),
    ("prompt_encoder.mask_embed.conv2.", "prompt_encoder.mask_downscaling.3."),
    ("prompt_encoder.mask_embed.layer_norm2.", "prompt_encoder.mask_downscaling.4."),
    ("prompt_encoder.mask_embed.conv3.", "prompt_encoder.mask_downscaling.6."),
    *(
        (f"mask_decoder.transformer.layers.*.layer_norm{n}.", f"mask_decoder.transformer.layers.*.norm{n}.")
        for n in (1, 2, 3, 4)
    ),
    ("mask_decoder.transformer.layer_norm_final_attn.", "mask_decoder.transformer.norm_final_attn."),
    ("mask_decoder.upscale_conv1.", "mask_decoder.output_upscaling.0."),
    ("mask_decoder.upscale_layer_norm.", "mask_decoder.output_upscaling.1."),
    ("mask_decoder.upscale_conv2.", "mask_decoder.output_upscaling.3."),
    *(
        (f"{their_mlp}.{theirs}.", f"{mlp}.{ours}.")
        for their_mlp, mlp in _MLPS
        for theirs, ours in (("proj_in", "layers.0"), ("layers.0", "layers.1"), ("proj_out", "layers.2"))
    ),
)

# SamModel and SamHQModel. The second has the names of the first and a few more. Files hold one or both of `_POSITIONS`.
HUGGING_FACE = Layout(
    "hf",
    "Hugging Face names",
    ("vision_encoder", "shared_image_embedding"),
    ("prompt_encoder", "mask_decoder"),
    (
        ("vision_encoder.patch_embed.projection.", "image_encoder.patch_embed.proj."),
        ("vision_encoder.layers.*.layer_norm1.", "image_encoder.blocks.*.norm1."),
        ("vision_encoder.layers.*.layer_norm2.", "image_encoder.blocks.*.norm2."),
        ("vision_encoder.layers.*.", "image_encoder.blocks.*."),
        ("vision_encoder.neck.conv1.", "image_encoder.neck.0."),
        ("vision_encoder.neck.layer_norm1.", "image_encoder.neck.1."),
        ("vision_encoder.neck.conv2.", "image_encoder.neck.2."),
        ("vision_encoder.neck.layer_norm2.", "image_encoder.neck.3."),
        ("vision_encoder.", "image_encoder."),
        ("prompt_encoder.point_embed.*.", "prompt_encoder.point_embeddings.*."),
        *_HF_PAIRS,
        ("mask_decoder.hq_token.", "mask_decoder.hf_token."),
        *(
            (f"mask_decoder.{theirs}_{layer}.", f"mask_decoder.{ours}.{index}.")
            for theirs, ours in (
                ("compress_vit", "compress_vit_feat"),
                ("encoder", "embedding_encoder"),
                ("mask", "embedding_maskfeature"),
            )
            for layer, index in (("conv1", 0), ("norm", 1), ("conv2", 3))
        ),
    ),
)

# Sam2Model, EdgeTamModel, and the image part of their video models. Files hold both of `_POSITIONS`, which are not
# tied.
SAM2_HUGGING_FACE = Layout(
    "hf",
    "Hugging Face names",
    (
        "vision_encoder",
        "shared_image_embedding",
        "no_memory_embedding",
        "no_memory_positional_encoding",
        "memory_temporal_positional_encoding",
        "no_object_pointer",
        "object_pointer_proj",
        "occlusion_spatial_embedding_parameter",
        "temporal_positional_encoding_projection_layer",
    ),
    ("prompt_encoder", "mask_decoder", *_MEMORY),
    (
        ("no_memory_embedding", "mask_decoder.no_memory.embed"),
        ("vision_encoder.backbone.patch_embed.projection.", "image_encoder.trunk.patch_embed.proj."),
        ("vision_encoder.backbone.blocks.*.layer_norm1.", "image_encoder.trunk.blocks.*.norm1."),
        ("vision_encoder.backbone.blocks.*.layer_norm2.", "image_encoder.trunk.blocks.*.norm2."),
        ("vision_encoder.backbone.blocks.*.mlp.proj_in.", "image_encoder.trunk.blocks.*.mlp.layers.0."),
        ("vision_encoder.backbone.blocks.*.mlp.proj_out.", "image_encoder.trunk.blocks.*.mlp.layers.1."),
        ("vision_encoder.backbone.timm_model.", "image_encoder.trunk.body."),  # EdgeTamModel's
        ("vision_encoder.backbone.", "image_encoder.trunk."),
        ("vision_encoder.neck.convs.*.", "image_encoder.neck.convs.*.conv."),
        ("mask_decoder.transformer.layers.*.mlp.proj_in.", "mask_decoder.transformer.layers.*.mlp.lin1."),
        ("mask_decoder.transformer.layers.*.mlp.proj_out.", "mask_decoder.transformer.layers.*.mlp.lin2."),
        ("mask_decoder.transformer.layers.*.*.o_proj.", "mask_decoder.transformer.layers.*.*.out_proj."),
        ("mask_decoder.transformer.*.o_proj.", "mask_decoder.transformer.*.out_proj."),
        *_HF_PAIRS,
    ),
    mark="vision_encoder.backbone.",
    tables=(("prompt_encoder.point_embed.weight", "prompt_encoder.point_embeddings.*.weight", 4),),
    twins=(_POSITIONS,),
)

LAYOUTS = (
    SAM2_OFFICIAL,
    EFFICIENT_SAM_OFFICIAL,
    REPVIT_SAM_OFFICIAL,
    EFFICIENTVIT_SAM_OFFICIAL,
    OFFICIAL,
    SAM2_HUGGING_FACE,
    HUGGING_FACE,
)  # of two that a file fits, the first counts
NAMES = tuple(dict.fromkeys(layout.name for layout in LAYOUTS))

ENCODERS = ("image_encoder.", "vision_encoder.")  # what the names of an image encoder begin with
ROOTS = frozenset(root for layout in LAYOUTS for root in (*layout.own, *layout.shared))  # all first segments


def check_layout(name: str) -> None:
    """Refuse a name that no layout has.

    Raises:
        UsageError: no layout has that name.
    """
    if name not in NAMES:
        raise UsageError(f"no layout called {name!r:.60}: choose one of {', '.join(NAMES)}")


def layout_of(names: Collection[str], label: str) -> Layout:
    """The layout that `names` follow; the official one if they are common to all.

    Raises:
        CheckpointError: some follow one layout and some another.
    """
    roots: dict[str, str] = {}  # each with its first name
    for name in names:
        roots.setdefault(name.partition(".")[0], name)
    fitting = [
        layout
        for layout in LAYOUTS
        if not roots.keys().isdisjoint(layout.own) and any(name.startswith(layout.mark) for name in names)
    ]
    if not fitting:
        return OFFICIAL
    owned = roots.keys() & {root for layout in fitting for root in layout.own}
    for layout in fitting:
        if owned <= {*layout.own, *layout.shared}:
            return layout
    firsts = {layout.title: next(roots[root] for root in roots if root in layout.own) for layout in fitting}
    shown = " and ".join(f"{title} ({short_name(name)})" for title, name in firsts.items())
    raise CheckpointError(f"{label} mixes two layouts: {shown}: save the weights of one model alone")


def to_official(state: Mapping[str, torch.Tensor], layout: Layout, label: str) -> State:
    """The tensors under the names of the models here.

    Raises:
        CheckpointError: two different tensors get one name, or a table has another number of rows.
    """
    result: State = {}
    for name, tensor in _without_tables(state, layout, label).items():
        official = _renamed(name, _compiled(layout.pairs))
        before = result.setdefault(official, tensor)
        if before is not tensor and not _same(before, tensor):
            raise CheckpointError(
                f"{label} holds two different tensors for {short_name(official)}, one of them {short_name(name)}: "
                "save the model again"
            )
    return result


def from_official(state: Mapping[str, torch.Tensor], layout: Layout) -> State:
    """The tensors under the layout's names; where it has two for one tensor, under the first, unless it holds both."""
    backwards = _compiled(tuple((official, theirs) for theirs, official in layout.pairs))
    result = {_renamed(name, backwards): tensor for name, tensor in state.items()}
    for table, rows, count in layout.tables:
        names = [rows.replace("*", str(index)) for index in range(count)]
        result[table] = torch.cat([result.pop(name) for name in names])
    return result | {second: result[first] for first, second in layout.twins}


def _without_tables(state: Mapping[str, torch.Tensor], layout: Layout, label: str) -> State:
    """`state` with the rows of each of the layout's tables in its place."""
    result: State = {}
    counts = {table: (rows, count) for table, rows, count in layout.tables}
    for name, tensor in state.items():
        rows, count = counts.get(name, ("", 0))
        if not rows:
            result[name] = tensor
        elif tensor.ndim != 2 or tensor.shape[0] != count or tensor.layout is not torch.strided:
            shape = tuple(tensor.shape)
            raise CheckpointError(f"{label}: {name} is {shape} where {count} rows are due: save the model again")
        else:
            result |= {rows.replace("*", str(row)): tensor[row : row + 1] for row in range(count)}
    return result


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    alike = one.shape == other.shape and one.dtype == other.dtype
    dense = all(each.layout is torch.strided and each.device.type == "cpu" for each in (one, other))
    return alike and dense and torch.equal(one, other)


@cache
def _compiled(pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """A pattern of each pair's left side, and what takes its place, with a group for each `*`."""
    compiled = []
    for left, right in pairs:
        pattern = re.compile(re.escape(left).replace(r"\*", r"([^.]+)"))
        pieces = right.split("*")
        places = "".join(f"\\{index}{piece}" for index, piece in enumerate(pieces[1:], 1))
        compiled.append((pattern, pieces[0] + places))
    return tuple(compiled)


def _renamed(name: str, pairs: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for pattern, replacement in pairs:
        if found := pattern.match(name):
            return found.expand(replacement) + name[found.end() :]
    return name
