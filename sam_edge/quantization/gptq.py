"""GPTQ on a PyTorch model: weights rounded so that each layer's outputs stay close to those in fp32.

The result is not exact in fp32: all weights are multiples of the scales of a symmetric quantizer, and biases are
corrected for the shift of the outputs' means. A target's own quantizer chooses the same scales and keeps every weight,
so one model serves all targets. The methods are `sam_edge_quant.methods.gptq` and `bias_correction`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
from torch import Tensor, nn

from sam_edge.model import Sam
from sam_edge_quant.methods import bias_correction, gptq
from sam_edge_quant.methods.weight_scales import QAT_MAX, symmetric_scales
from sam_edge_runtime.arrays import Call, Float64
from sam_edge_runtime.bundle.contract import FrameSize

from .equalization.observe import InputMoments, Runs, observe_layers, sam_runs
from .layers import LAYERS, Layer, array, assign, input_patches, is_qat_trained, rows_of, set_rows

# Rounds a linear layer's weight `(outputs, inputs)`, given the moments `(inputs, inputs)` of its inputs.
Rounder = Callable[[Float64, Float64], Float64]


@dataclass(frozen=True)
class RoundingQuality:
    """SNR in dB of one layer's outputs after rounding, for inputs as in fp32.

    Attributes:
        nearest_db: with every weight rounded to nearest, a scale for each output, and the bias unchanged.
        snr_db: with GPTQ, or the method that the recipe names, and bias correction.
    """

    nearest_db: float
    snr_db: float


def round_weights(
    sam: Sam,
    encoder_calls: Iterable[Call],
    decoder_calls: Iterable[Call],
    levels: Mapping[str, int],
    rounders: Mapping[str, Rounder] = MappingProxyType({}),
    frame: FrameSize | None = None,
) -> dict[str, RoundingQuality]:
    """Round weights in place.

    Args:
        sam: the model.
        encoder_calls: inputs of the image encoder by name, NCHW, from calibration; iterated once.
        decoder_calls: inputs of the mask decoder by name, NCHW.
        levels: as for `round_graphs`.
        rounders: as for `round_graphs`.
        frame: of the calls; None: the model's square.

    Raises:
        UsageError: one of the graphs gets no calls.
        ExportError: a layer's input has NaN or infinity.
    """
    return round_graphs(sam, sam_runs(sam, encoder_calls, decoder_calls, frame), levels, rounders)


def round_graphs(
    model: nn.Module,
    runs: Runs,
    levels: Mapping[str, int],
    rounders: Mapping[str, Rounder] = MappingProxyType({}),
) -> dict[str, RoundingQuality]:
    """Round weights of a model of any kind in place.

    The second moments of every layer's inputs are in memory at once: 0.5 GB for ViT-B, 4 GB for ViT-H.

    Args:
        model: holds the layers.
        runs: its graphs, and for each its inputs by name, NCHW, from calibration; iterated once.
        levels: by layer name, the largest integer of its quantizer: 127 for int8, 64 for ONNX Runtime's
            `reduce_range`, 7 for int4. Layers that are not named, that no call reaches, or that quantization-aware
            training has rounded stay unchanged.
        rounders: by layer name, what rounds a linear layer instead of our GPTQ.

    Raises:
        UsageError: one of the graphs gets no calls.
        ExportError: a layer's input has NaN or infinity.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, LAYERS) and name in levels and not (levels[name] >= QAT_MAX and is_qat_trained(module))
    }
    if not layers:
        return {}
    moments = {layer: InputMoments() for layer in layers.values()}
    reads = {layer: partial(_add, layer, each) for layer, each in moments.items()}
    observe_layers(model, runs, reads)
    return {
        name: _round(layer, moments[layer], levels[name], rounders.get(name))
        for name, layer in layers.items()
        if moments[layer].patches
    }


def _add(layer: Layer, moments: InputMoments, values: Tensor) -> None:
    moments.add(input_patches(layer, values))


def _round(layer: Layer, moments: InputMoments, levels: int, rounder: Rounder | None) -> RoundingQuality:
    rows = rows_of(layer)  # (groups, rows, inputs)
    outputs = layer.out_channels if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) else layer.out_features
    scales = symmetric_scales(rows.reshape(outputs, -1), levels)
    scales = scales.repeat(rows[..., 0].size // outputs).reshape(rows.shape[:2])
    second_moment = moments.covariance + moments.mean[:, :, None] * moments.mean[:, None, :]
    hessian = second_moment if layer.bias is None else moments.covariance  # a bias corrects the mean
    if rounder is None:
        rounded = gptq.round_compensating(rows, hessian, scales, levels)
    else:
        rounded = rounder(rows[0], hessian[0])[None]
    nearest = gptq.round_to_nearest(rows, scales)
    set_rows(layer, rounded)
    if layer.bias is not None:
        shift = bias_correction.correction(rows, rounded, moments.mean).reshape(outputs, -1).mean(axis=1)
        assign(layer.bias, array(layer.bias) + shift)
    return RoundingQuality(
        _snr_db(rows, nearest, second_moment, second_moment), _snr_db(rows, rounded, second_moment, hessian)
    )


def _snr_db(rows: Float64, rounded: Float64, signal: Float64, noise: Float64) -> float:
    """Power of the outputs of `rows` over that of the difference, in dB; `signal` and `noise` are input moments."""
    power = _power(rows, signal)
    return 10.0 * float(np.log10(max(power, 1e-30) / max(_power(rows - rounded, noise), 1e-30)))


def _power(rows: Float64, moments: Float64) -> float:
    """Mean square of the outputs of `rows (groups, rows, inputs)`, summed over rows."""
    return float(((rows @ moments) * rows).sum())
