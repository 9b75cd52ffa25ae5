"""Rewrites the ONNX graphs of a bundle into the official SAM layout (`sam_edge_runtime.bundle.official`).

Nodes are put before the encoder and behind the decoder; what lies between stays, in whatever precision it is. The
nodes behind the decoder compute what `SamOnnxModel.select_masks` and `mask_postprocessing` do
(segment_anything/utils/onnx.py), with every size taken from `orig_im_size` at run time. The official export of version
1.0 fixed the crop to the traced photo's shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sam_edge_runtime.bundle.contract import MASK_OUTPUTS, PIXEL_MEAN, GraphContract, TensorSpec
from sam_edge_runtime.bundle.manifest import Manifest
from sam_edge_runtime.bundle.official import OFFICIAL, OFFICIAL_SINGLE_MASK

from .onnx import check

_PREFIX = "official."  # of what is added, so that no name meets one of the graph's
# `select_masks`: output 0 wins from three points on and loses below, whatever the IoU predictions are.
_FEW_POINTS, _REWEIGHT = 2.5, 1000.0


def rewrite(folder: Path, manifest: Manifest, *, single_mask: bool) -> Manifest:
    """Rewrite both graphs in `folder` in place.

    Args:
        folder: the bundle's folder.
        manifest: describes its ONNX graphs in sam-edge's own layout, one prompt a call and any number of points.
        single_mask: the decoder returns the best mask of a prompt instead of all four.

    Returns:
        The manifest of the rewritten bundle.

    Raises:
        ExportError: `onnx.checker` or ONNX Runtime rejects a result.
    """
    official = replace(manifest, interface=OFFICIAL_SINGLE_MASK if single_mask else OFFICIAL)
    for name, contract in (
        (manifest.encoder, official.encoder_file_contract),
        (manifest.decoder, official.decoder_file_contract),
    ):
        path = folder / name
        model = onnx.load(path, load_external_data=False)  # weights beside the file stay where they are
        if name == manifest.encoder:
            _put_before_encoder(model, manifest.input_side)
        else:
            _put_behind_decoder(model, manifest.input_side, single_mask=single_mask)
        _declare(model, contract)
        onnx.save(model, path)
        check(path, contract)
    return official


class _Nodes:
    """Nodes in the making; every method returns the name of an output."""

    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        self.made: list[NodeProto] = []

    def constant(self, name: str, values: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """A constant tensor."""
        name = _PREFIX + name
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def whole(self, name: str, values: Sequence[int]) -> str:
        """A constant row of int64."""
        return self.constant(name, values, np.int64)

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        """A node; outputs of the graph keep their name, others get the prefix."""
        name = f"{_PREFIX}{kind}_{len(self.made)}"
        node = helper.make_node(kind, inputs, [output], name=name)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.made.append(node)
        return output

    def inner(self, kind: str, *inputs: str, **attributes: object) -> str:
        """A node whose output stays inside."""
        return self.add(kind, inputs, f"{_PREFIX}{kind.lower()}_{len(self.made)}_out", **attributes)


def _put_before_encoder(model: ModelProto, side: int) -> None:
    """Take `input_image` (h, w, 3) to `image` (1, 3, S, S), padded with the pixel mean."""
    (image,) = (value.name for value in model.graph.input)
    nodes = _Nodes(model)
    channels_first = nodes.inner("Transpose", "input_image", perm=[2, 0, 1])
    photo = nodes.inner("Unsqueeze", channels_first, nodes.whole("first_axis", [0]))
    size = nodes.inner("Shape", "input_image", start=0, end=2)
    missing = nodes.inner("Sub", nodes.whole("frame", [side, side]), size)
    pads = nodes.inner("Concat", nodes.whole("no_padding", [0] * 6), missing, axis=0)
    padded = nodes.inner("Pad", photo, pads)
    plane = nodes.inner("Concat", nodes.whole("one_plane", [1, 1]), size, axis=0)
    one = numpy_helper.from_array(np.ones(1, np.float32))
    inside = nodes.inner("Pad", nodes.inner("ConstantOfShape", plane, value=one), pads)
    outside = nodes.inner("Sub", nodes.constant("one", 1.0, np.float32), inside)
    mean = nodes.constant("mean", np.reshape(PIXEL_MEAN, (1, 3, 1, 1)), np.float32)
    nodes.add("Add", [padded, nodes.inner("Mul", outside, mean)], image)
    old = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes.made, *old])


def _put_behind_decoder(model: ModelProto, side: int, *, single_mask: bool) -> None:
    """Take `low_res_masks` to `masks` of the photo's size; with `single_mask`, first choose one of the four."""
    nodes = _Nodes(model)
    low_res, iou = "low_res_masks", "iou_predictions"
    if single_mask:
        _rename(model, {low_res: _PREFIX + low_res, iou: _PREFIX + iou})
        points = nodes.inner("Shape", "point_labels", start=1, end=2)
        more = nodes.inner(
            "Sub", nodes.inner("Cast", points, to=TensorProto.FLOAT), nodes.constant("few", _FEW_POINTS, np.float32)
        )
        weight = nodes.constant("reweight", [[_REWEIGHT, *[0.0] * (MASK_OUTPUTS - 1)]], np.float32)
        score = nodes.inner("Add", _PREFIX + iou, nodes.inner("Mul", more, weight))
        best = nodes.inner("Reshape", nodes.inner("ArgMax", score, axis=1, keepdims=1), nodes.whole("row", [1]))
        nodes.add("Gather", [_PREFIX + low_res, best], low_res, axis=1)
        nodes.add("Gather", [_PREFIX + iou, best], iou, axis=1)
    masks = nodes.whole("masks", [1, 1 if single_mask else MASK_OUTPUTS])
    frame = nodes.whole("frame", [side, side])
    resize = {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}
    large = nodes.inner("Resize", low_res, "", "", nodes.inner("Concat", masks, frame, axis=0), **resize)
    longest = nodes.inner("ReduceMax", "orig_im_size", keepdims=1)
    scale = nodes.inner("Div", nodes.constant("side", [side], np.float32), longest)
    scaled = nodes.inner("Add", nodes.inner("Mul", scale, "orig_im_size"), nodes.constant("half", 0.5, np.float32))
    within = nodes.inner("Cast", nodes.inner("Floor", scaled), to=TensorProto.INT64)
    cropped = nodes.inner("Slice", large, nodes.whole("zeros", [0, 0]), within, nodes.whole("axes", [2, 3]))
    size = nodes.inner("Cast", "orig_im_size", to=TensorProto.INT64)
    nodes.add("Resize", [cropped, "", "", nodes.inner("Concat", masks, size, axis=0)], "masks", **resize)
    model.graph.node.extend(nodes.made)


def _rename(model: ModelProto, names: dict[str, str]) -> None:
    """Rename tensors of the main graph."""
    for node in model.graph.node:
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]


def _declare(model: ModelProto, contract: GraphContract) -> None:
    """Replace the graph's declared inputs and outputs by the contract's."""

    def value(spec: TensorSpec) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape))

    for declared, specs in ((model.graph.input, contract.inputs), (model.graph.output, contract.outputs)):
        del declared[:]
        declared.extend(map(value, specs))
