"""Plain exports for `peers.py`: unchanged modules through the converters with default options."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peer_inputs import SEED
from torch import Tensor, nn

from sam_edge.model import DecoderGraph, EncoderGraph, Sam
from sam_edge.weights.load import find_source, load_sam
from sam_edge_runtime.benchmark.photo import SIZE
from sam_edge_runtime.benchmark.steps import click_tensors
from sam_edge_runtime.bundle.contract import FrameSize, encoder_contract
from sam_edge_runtime.photo.frame import Frame

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.reference import import_segment_anything

OPSET = 17  # what segment_anything's own script exports with


def ours(variant: str) -> Sam:
    """This project's torch model: nano with its weights, others with seeded ones."""
    return load_sam(variant, find_source(variant, None if variant == "nano" else SEED), None).sam.eval()


def reference(variant: str) -> Any:
    """segment_anything's `Sam` with the same weights; its package has ViT encoders only."""
    package = import_segment_anything()
    theirs = package.sam_model_registry[variant]()
    theirs.load_state_dict(ours(variant).state_dict())
    return theirs.eval()


class Encoder(nn.Module):
    """segment_anything's normalization and image encoder."""

    def __init__(self, sam: Any) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, image: Tensor) -> Tensor:
        """`image (1, 3, S, S)`, 0..255, to embeddings."""
        embeddings: Tensor = self.sam.image_encoder((image - self.sam.pixel_mean) / self.sam.pixel_std)
        return embeddings


class DecoderToPhoto(nn.Module):
    """A decoder graph, and the single mask scaled to a photo's size, as in `SamOnnxModel`.

    A stretched photo's mask is scaled once, as in SAM 2's `postprocess_masks`.
    """

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.decoder, self.side, self.stretched = DecoderGraph(sam), sam.side, sam.conventions.stretched
        self.resized = Frame(FrameSize.square(sam.side), SIZE).resized_size

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The contract's inputs to logits `(B, 1, H, W)` and IoU predictions."""
        low_res, iou, *_ = self.decoder(*inputs)
        masks = low_res[:, :1]
        if not self.stretched:
            masks = F.interpolate(masks, (self.side, self.side), mode="bilinear", align_corners=False)
            masks = masks[..., : self.resized[0], : self.resized[1]]
        return F.interpolate(masks, SIZE, mode="bilinear", align_corners=False), iou[:, :1]


def decoder_inputs(sam: Sam) -> tuple[Tensor, ...]:
    """A decoder's inputs for one click in the middle of the photo, on features of zeros."""
    frame = FrameSize.square(sam.side)
    embedding, *features = (
        torch.zeros(*map(int, spec.shape))
        for spec in encoder_contract(frame, sam.channels, conventions=sam.conventions).outputs
    )
    prompt = click_tensors(Frame(frame, SIZE, sam.conventions), slots=2)
    return embedding, *(torch.from_numpy(array) for array in prompt), *features


def export_plain(kind: str, variant: str, out: Path) -> None:
    """Write `encoder.*` and `decoder.*` of a peer into `out`."""
    warnings.simplefilter("ignore")
    if kind == "plain tflite":
        _tflite(variant, out)
        return
    if variant.startswith("vit"):
        theirs = reference(variant)
        side = theirs.image_encoder.img_size
        encoder: nn.Module = Encoder(theirs)
        _sam_onnx_model(theirs, out / "decoder.onnx", decoder_inputs(ours(variant)))
    else:
        sam = ours(variant)
        side = sam.side
        encoder = EncoderGraph(sam)
        _dynamo_onnx(DecoderToPhoto(sam).eval(), decoder_inputs(sam), out / "decoder.onnx")
    _dynamo_onnx(encoder.eval(), (torch.zeros(1, 3, side, side),), out / "encoder.onnx")
    if kind == "samexporter's way":
        from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

        source = (out / "decoder.onnx").rename(out / "float.onnx")
        quantize_dynamic(
            source, out / "decoder.onnx", per_channel=False, reduce_range=False, weight_type=QuantType.QUInt8
        )
        source.unlink()


def _dynamo_onnx(graph: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
    """A graph through torch's exporter, as it is."""
    program = torch.onnx.export(graph, inputs, dynamo=True, verbose=False)
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    program.save(path)


def _sam_onnx_model(theirs: Any, path: Path, contract_inputs: tuple[Tensor, ...]) -> None:
    """The decoder as segment_anything's `scripts/export_onnx_model.py` exports it, with a single mask."""
    from segment_anything.utils.onnx import SamOnnxModel  # noqa: PLC0415

    model = SamOnnxModel(theirs, return_single_mask=True)
    embeddings, coords, labels, none, has = contract_inputs
    inputs = {
        "image_embeddings": embeddings,
        "point_coords": coords,
        "point_labels": labels,
        "mask_input": none,
        "has_mask_input": has,
        "orig_im_size": torch.tensor(SIZE, dtype=torch.float),
    }
    torch.onnx.export(
        model,
        tuple(inputs.values()),
        path,
        dynamo=False,
        opset_version=OPSET,
        input_names=list(inputs),
        output_names=["masks", "iou_predictions", "low_res_masks"],
        dynamic_axes={"point_coords": {1: "num_points"}, "point_labels": {1: "num_points"}},
    )


def _tflite(variant: str, out: Path) -> None:
    import litert_torch  # noqa: PLC0415

    sam = ours(variant)
    encoder = Encoder(reference(variant)) if variant.startswith("vit") else EncoderGraph(sam)
    litert_torch.convert(encoder.eval(), (torch.zeros(1, 3, sam.side, sam.side),)).export(str(out / "encoder.tflite"))
    decoder = DecoderGraph(sam).eval()
    litert_torch.convert(decoder, decoder_inputs(sam)).export(str(out / "decoder.tflite"))
