"""Small bundles with the tensors of each family and of text, for the tests of the TypeScript package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sam_edge_runtime.bundle.contract import FrameSize, decoder_contract, encoder_contract
from sam_edge_runtime.bundle.conventions import (
    EFFICIENT_SAM,
    EFFICIENTVIT_SAM,
    SAM,
    SAM_2,
    SAM_HQ,
    Conventions,
    FeatureMap,
)
from sam_edge_runtime.bundle.text import VECTORS_FILE, VOCABULARY, WORDS_FILE, TextPart
from sam_edge_runtime.bundle.vocabulary import Vocabulary


def of_three_channels(conventions: Conventions) -> Conventions:
    """A family's conventions, with features of three channels."""
    return replace(conventions, features=tuple(FeatureMap(name, 3, stride) for name, _, stride in conventions.features))


# The families whose conventions differ from SAM 1's. EdgeTAM has SAM 2's, RepViT-SAM has SAM's.
FAMILIES = {
    "sam_2": of_three_channels(SAM_2),
    "sam_hq": of_three_channels(SAM_HQ),
    "efficient_sam": EFFICIENT_SAM,
    "efficientvit_sam": EFFICIENTVIT_SAM,
    "words": replace(SAM, text_channels=2, object_score=True),
}

WORDS = Vocabulary(
    names=("cat", "dog", "dining table", "t-shirt", "traffic light", "straße"),
    also=(("cats", "kitten"), (), ("table", "Tables"), ("tee",), (), ()),
    vectors=np.array([[30, 4], [-20, 1], [9, 9], [-3, -30], [0, 0], [55, 0.5]], np.float32),
)


def text_part(conventions: Conventions) -> TextPart | None:
    """The manifest's, of a bundle that takes text."""
    if conventions.text_channels is None:
        return None
    return TextPart(
        VOCABULARY, conventions.text_channels, WORDS_FILE, VECTORS_FILE, source="random:0", licence="Apache-2.0"
    )


def write_vocabulary(path: Path, words: Vocabulary = WORDS) -> None:
    """The files of a bundle's vocabulary."""
    (path / WORDS_FILE).write_text(words.table(), encoding="utf-8")
    (path / VECTORS_FILE).write_bytes(words.array())


def write_family_bundle(path: Path, conventions: Conventions) -> None:
    """Graphs with a family's tensors: masks are the photo's brightness, moved by the prompt's slots."""
    frame = FrameSize.square(256)
    contracts = [
        encoder_contract(frame, 3, conventions=conventions),
        decoder_contract(frame, 3, None, conventions.slots, conventions=conventions),
    ]
    strides = [each // conventions.image_stride for each in (16, *(each.stride for each in conventions.features))]
    pools = [
        helper.make_node("AveragePool", ["image"], [name], kernel_shape=[stride] * 2, strides=[stride] * 2)
        for name, stride in zip(contracts[0].output_names, strides, strict=True)
    ]
    for name, nodes, contract, values in (
        ("encoder", pools, contracts[0], {}),
        ("decoder", _decoder_nodes(conventions), contracts[1], _CONSTANTS),
    ):
        inputs, outputs = (
            [helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape)) for spec in specs]
            for specs in (contract.inputs, contract.outputs)
        )
        used = {each for made in nodes for each in made.input}
        initializers = [
            numpy_helper.from_array(np.asarray(value), each) for each, value in values.items() if each in used
        ]
        graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
        onnx.save(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path / f"{name}.onnx"
        )


_CONSTANTS = {
    "last": np.array([-1], np.int64),
    "channels": np.array([1], np.int64),
    "planes": np.array([2, 3], np.int64),
    "behind": np.array([1, 2, 3], np.int64),
    "factors": np.arange(1, 5, dtype=np.float32) / np.float32(20000),
    "enlarged": np.array([1, 1, 4, 4], np.float32),
    "half": np.float32(128),
    "one": np.float32(1),
    "two": np.float32(2),
}


def _decoder_nodes(conventions: Conventions) -> list[onnx.NodeProto]:
    """A slot moves a mask by its coordinates times its label plus 2, so that one that is empty does not."""
    node = helper.make_node
    features = [each.name for each in conventions.features]
    nodes = [
        node("ReduceSum", ["point_coords", "last"], ["positions"], keepdims=0),  # (B, N)
        node("Add", ["point_labels", "two"], ["weights"]),
        node("Mul", ["positions", "weights"], ["weighted"]),
        node("ReduceSum", ["weighted", "channels"], ["column"], keepdims=1),  # (B, 1)
        node("Mul", ["column", "factors"], ["iou_predictions"]),
        node("Unsqueeze", ["iou_predictions", "planes"], ["moved"]),
        node("ReduceMean", ["image_embeddings"], ["mean"], keepdims=0),
        node("Sub", ["mean", "half"], ["shift"]),
    ]
    if features:
        nodes.append(node("ReduceMean", [features[0], "channels"], ["plane_0"], keepdims=1))
    else:
        nodes.append(node("ReduceMean", ["image_embeddings", "channels"], ["small"], keepdims=1))
        nodes.append(node("Resize", ["small", "", "enlarged"], ["plane_0"], mode="nearest"))
    added = ["shift", "moved"]
    for name in features[1:]:
        nodes.append(node("ReduceMean", [name], [f"mean_of_{name}"], keepdims=0))
        added.append(f"mean_of_{name}")
    if conventions.mask_prompts:
        nodes.append(node("Unsqueeze", ["has_mask_input", "behind"], ["with_mask"]))
        nodes.append(node("Mul", ["mask_input", "with_mask"], ["prompted"]))
        added.append("prompted")
    if conventions.text_channels is not None:
        nodes += [
            node("ReduceSum", ["text_embeddings", "channels"], ["sum_of_text"], keepdims=1),  # (B, 1)
            node("Unsqueeze", ["has_text", "channels"], ["with_text"]),
            node("Mul", ["sum_of_text", "with_text"], ["texts"]),
            node("Unsqueeze", ["texts", "planes"], ["moved_by_text"]),
        ]
        added.append("moved_by_text")
    if conventions.object_score:
        score = "texts" if conventions.text_channels is not None else "column"
        nodes.append(node("Sub", [score, "one"], ["object_score_logits"]))
    names = ["plane_0", *(f"plane_{index}" for index in range(1, len(added))), "low_res_masks"]
    return nodes + [node("Add", [names[index], each], [names[index + 1]]) for index, each in enumerate(added)]
