"""Rounding of a model's weights so that the quantized model answers as the fp32 one did.

Not exact in fp32: what comes out is a model whose weights already lie on the grids of a symmetric quantizer, with
biases that make up for the shift of means. A target's own quantizer finds the same grids and keeps every weight, so
the same model serves all of them. The methods are `sam_edge_quant.methods.gptq` and `bias`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor, nn

from sam_edge.model import Sam
from sam_edge.prediction.calls import Call
from sam_edge_quant.methods import bias_correction, gptq
from sam_edge_quant.methods.weight_scales import QAT_MAX, symmetric_scales
from sam_edge_runtime.arrays import Float64

from .equalization.observe import InputMoments, run
from .layers import LAYERS, Layer, array, assign, input_patches, is_rounded, rows_of, set_rows


@dataclass(frozen=True)
class Rounded:
    """How well one layer was rounded: signal over noise in dB of what it computes, with its inputs as in fp32.

    Attributes:
        nearest_db: every weight to the nearest, bias as it was.
        snr_db: as it is now.
    """

    nearest_db: float
    snr_db: float


def round_weights(
    sam: Sam, encoder_calls: Iterable[Call], decoder_calls: Iterable[Call], levels: Mapping[str, int]
) -> dict[str, Rounded]:
    """Round weights in place.

    The second moments of every layer's inputs are held at once: 0.5 GB for ViT-B, 4 GB for ViT-H.

    Args:
        sam: the model.
        encoder_calls: inputs of the image encoder by name, NCHW, from calibration; gone through once.
        decoder_calls: inputs of the mask decoder by name, NCHW.
        levels: by name of a layer, the levels of either sign that its quantizer has: 127 for int8, 64 for ONNX
            Runtime's `reduce_range`, 7 for int4. A layer that is not named, that no call reaches, or that training in
            eight bits has rounded already stays as it is.

    Raises:
        UsageError: one of the graphs gets no calls.
        ExportError: a layer meets NaN or infinity.
    """
    layers = {
        name: module
        for name, module in sam.named_modules()
        if isinstance(module, LAYERS) and name in levels and not (levels[name] >= QAT_MAX and is_rounded(module))
    }
    if not layers:
        return {}
    moments = {layer: InputMoments() for layer in layers.values()}
    run(sam, encoder_calls, decoder_calls, {layer: partial(_add, layer, each) for layer, each in moments.items()})
    return {
        name: _round(layer, moments[layer], levels[name]) for name, layer in layers.items() if moments[layer].patches
    }


def _add(layer: Layer, moments: InputMoments, values: Tensor) -> None:
    moments.add(input_patches(layer, values))


def _round(layer: Layer, moments: InputMoments, levels: int) -> Rounded:
    rows = rows_of(layer)  # (groups, rows, inputs)
    outputs = layer.out_channels if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) else layer.out_features
    steps = symmetric_scales(rows.reshape(outputs, -1), levels)
    steps = steps.repeat(rows[..., 0].size // outputs).reshape(rows.shape[:2])
    second = moments.covariance + moments.mean[:, :, None] * moments.mean[:, None, :]
    matter = second if layer.bias is None else moments.covariance  # a bias takes care of the mean
    rounded = gptq.round_compensating(rows, matter, steps, levels)
    nearest = gptq.round_to_nearest(rows, steps)
    set_rows(layer, rounded)
    if layer.bias is not None:
        shift = bias_correction.correction(rows, rounded, moments.mean).reshape(outputs, -1).mean(axis=1)
        assign(layer.bias, array(layer.bias) + shift)
    return Rounded(_snr(rows, nearest, second, second), _snr(rows, rounded, second, matter))


def _snr(rows: Float64, rounded: Float64, signal: Float64, noise: Float64) -> float:
    """Power of what `rows` compute over that of the difference, in dB, for second moments of the inputs."""
    power = _power(rows, signal)
    return 10.0 * float(np.log10(max(power, 1e-30) / max(_power(rows - rounded, noise), 1e-30)))


def _power(rows: Float64, moments: Float64) -> float:
    """Mean square of what `rows (groups, rows, inputs)` compute, summed over them."""
    return float(((rows @ moments) * rows).sum())
