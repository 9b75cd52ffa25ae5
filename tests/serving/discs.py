"""A bundle for tests of the page: its masks are discs, so that they follow clicks and boxes and cost nothing.

The centre is the mean of the points inside the object and of a box's corners. A mask prompt adds a tenth of its logits.
The predicted IoU of the largest disc falls with the distance from the frame's middle, so that few of a point grid stay.
A text counts as one more point inside the object: its vector is a place in the frame.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sam_edge_runtime.bundle.bundle import Bundle, record_files
from sam_edge_runtime.bundle.contract import FrameSize, decoder_contract, encoder_contract
from sam_edge_runtime.bundle.conventions import SAM, Conventions
from sam_edge_runtime.bundle.vocabulary import Vocabulary
from tests.runtime.standin import CELLS, CHANNELS, SIDE, encoder_model, manifest
from tests.web.family_bundles import text_part, write_vocabulary

RADII = (40.0, 60.0, 40.0, 24.0)  # of the single mask, whole, part and subpart, in pixels of the frame
SCORES = (0.90, 0.95, 0.85, 0.70)
_FALLING, _LEAST = (0.0, 0.002, 0.0, 0.0), (0.0, 0.86, 0.0, 0.0)
_OPSET, _IR_VERSION = 18, 9


def disc_decoder(conventions: Conventions = SAM) -> onnx.ModelProto:
    contract = decoder_contract(FrameSize.square(SIDE), CHANNELS, None, conventions.slots, conventions=conventions)
    node, centres = helper.make_node, np.arange(CELLS, dtype=np.float32) * 4 + 2
    constants = {
        "half": np.float32(0.5),
        "one": np.float32(1),
        "two": np.float32(2),
        "nothing": np.float32(0),
        "tenth": np.float32(0.1),
        "axis_slots": np.array([1], np.int64),
        "axis_xy": np.array([2], np.int64),
        "axes_planes": np.array([1, 2, 3], np.int64),
        "axes_behind": np.array([2, 3], np.int64),
        "zero": np.array([0], np.int64),
        "first": np.array([1], np.int64),
        "across": centres[None, None, None, :],
        "down": centres[None, None, :, None],
        "radii": np.array(RADII, np.float32)[None, :, None, None],
        "scores": np.array(SCORES, np.float32)[None],
        "middle": np.float32(SIDE / 2),
        "falling": np.array(_FALLING, np.float32)[None],
        "least": np.array(_LEAST, np.float32)[None],
    }
    nodes = [
        node("Greater", ["point_labels", "half"], ["inside"]),
        node("Cast", ["inside"], ["used"], to=TensorProto.FLOAT),
        node("ReduceSum", ["used", "axis_slots"], ["many_points"], keepdims=1),  # (B, 1)
        node("Unsqueeze", ["used", "axis_xy"], ["used_xy"]),
        node("Mul", ["point_coords", "used_xy"], ["counted"]),
        node("ReduceSum", ["counted", "axis_slots"], ["total_of_points"], keepdims=0),
        *_with_text(conventions),
        node("Max", ["many", "one"], ["count"]),
        node("Div", ["total", "count"], ["centre"]),  # (B, 2)
        node("Gather", ["centre", "zero"], ["x"], axis=1),
        node("Gather", ["centre", "first"], ["y"], axis=1),
        node("Unsqueeze", ["x", "axes_behind"], ["x4"]),
        node("Unsqueeze", ["y", "axes_behind"], ["y4"]),
        node("Sub", ["across", "x4"], ["dx"]),
        node("Sub", ["down", "y4"], ["dy"]),
        node("Mul", ["dx", "dx"], ["dx2"]),
        node("Mul", ["dy", "dy"], ["dy2"]),
        node("Add", ["dx2", "dy2"], ["d2"]),
        node("Sqrt", ["d2"], ["distance"]),
        node("Sub", ["radii", "distance"], ["depth"]),
        node("Mul", ["depth", "two"], ["discs"]),
        node("ReduceMean", ["image_embeddings"], ["mean"], keepdims=0),
        node("Mul", ["mean", "nothing"], ["no_mean"]),
        node("Sub", ["x", "middle"], ["from_middle_x"]),
        node("Sub", ["y", "middle"], ["from_middle_y"]),
        node("Abs", ["from_middle_x"], ["away_x"]),
        node("Abs", ["from_middle_y"], ["away_y"]),
        node("Add", ["away_x", "away_y"], ["away"]),  # (B, 1)
        node("Mul", ["away", "falling"], ["fallen"]),
        node("Sub", ["scores", "fallen"], ["lowered"]),
        node("Max", ["lowered", "least"], ["iou_predictions"]),
    ]
    if conventions.mask_prompts:
        nodes += [
            node("Unsqueeze", ["has_mask_input", "axes_planes"], ["has"]),
            node("Mul", ["mask_input", "has"], ["given"]),
            node("Mul", ["given", "tenth"], ["prompted"]),
            node("Add", ["discs", "prompted"], ["with_prompt"]),
            node("Add", ["with_prompt", "no_mean"], ["low_res_masks"]),
        ]
    else:
        nodes.append(node("Add", ["discs", "no_mean"], ["low_res_masks"]))
    values = [
        [helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape)) for spec in specs]
        for specs in (contract.inputs, contract.outputs)
    ]
    graph = helper.make_graph(
        nodes, "discs", *values, [numpy_helper.from_array(np.asarray(each), name) for name, each in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    return model


def _with_text(conventions: Conventions) -> list[onnx.NodeProto]:
    """`many` and `total` of the points, and of the text where the decoder takes it."""
    node = helper.make_node
    if conventions.text_channels is None:
        return [node("Identity", ["many_points"], ["many"]), node("Identity", ["total_of_points"], ["total"])]
    return [
        node("Unsqueeze", ["has_text", "axis_slots"], ["texts"]),  # (B, 1)
        node("Add", ["many_points", "texts"], ["many"]),
        node("Mul", ["text_embeddings", "texts"], ["places"]),
        node("Add", ["total_of_points", "places"], ["total"]),
        node("Sub", ["many", "half"], ["object_score_logits"]),
    ]


def write_disc_bundle(folder: Path, conventions: Conventions = SAM, words: Vocabulary | None = None) -> Path:
    """A complete bundle in `folder`; with `words` it takes text."""
    folder.mkdir(parents=True, exist_ok=True)
    part = None
    if words is not None:
        conventions = replace(conventions, text_channels=words.vectors.shape[1], object_score=True)
        part = text_part(conventions)
        write_vocabulary(folder, words)
    encoder = encoder_contract(FrameSize.square(SIDE), CHANNELS, conventions=conventions)
    onnx.save(encoder_model(encoder), folder / "encoder.onnx")
    onnx.save(disc_decoder(conventions), folder / "decoder.onnx")
    made = manifest(points=conventions.slots, files=record_files(folder), conventions=conventions, text=part)
    (folder / "manifest.json").write_text(made.to_json())
    return Bundle.open(folder).root
