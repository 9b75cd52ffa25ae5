"""neural-compressor's PT2E path as it comes, through ONNX: a contestant beside the other INT8 exports.

`export`, `prepare`, calibrate, `convert` with its default `INT8StaticQuantConfig` (uint8 activations by their smallest
and largest value, int8 weights with a scale for each output), then `torch.onnx.export`. The file has QuantizeLinear and
DequantizeLinear pairs, which ONNX Runtime fuses; weights are stored in float32, in front of such a pair. They have full
range, so on x86 without VNNI the fused kernels add two products in 16 bits and saturate.

Needs `pip install 'sam-edge[neural-compressor]'`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from sam_edge.quantization.neural_compressor.package import require_package, silenced
from sam_edge_runtime.arrays import Float32
from sam_edge_runtime.errors import UsageError

OPSET = 18
INPUT, OUTPUT = "image", "image_embeddings"


def write_pt2e(encoder: nn.Module, samples: Sequence[Float32], path: Path) -> None:
    """Quantize an image encoder with neural-compressor and write it as ONNX, input `image`, output `image_embeddings`.

    Args:
        encoder: an `EncoderGraph`, in fp32; it is not changed.
        samples: calibration inputs `(1, 3, S, S)`, all of one shape.
        path: the `.onnx` file.

    Raises:
        UsageError: neural-compressor is not installed, or there is no sample.
    """
    require_package("the contestant neural-compressor")
    if not samples:
        raise UsageError("neural-compressor needs at least one sample to calibrate with")
    with silenced():
        from neural_compressor.torch.export import export  # noqa: PLC0415  # an extra that takes seconds to import
        from neural_compressor.torch.quantization import (  # noqa: PLC0415
            INT8StaticQuantConfig,
            convert,
            prepare,
        )

    inputs = [torch.from_numpy(sample) for sample in samples]
    with silenced(), torch.no_grad():
        prepared = prepare(export(encoder, (inputs[0],)), INT8StaticQuantConfig())
        for each in inputs:
            prepared(each)
        program = torch.onnx.export(
            convert(prepared),
            (inputs[0],),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            verbose=False,
        )
    if program is None:
        raise UsageError("torch wrote no ONNX program: neural-compressor's graph cannot be exported by this version")
    program.save(path)
