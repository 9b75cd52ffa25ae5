"""Equalization of a model before it is quantized: exact in fp32, so that every target and every recipe profits.

Where a layer's channels have very different ranges, one grid for all of them leaves most of them few steps. Scales move
between what writes the channels and what reads them; what the model computes stays the same up to rounding. The methods
are in `sam_edge_quant.methods`, the places where they apply in `equalization.groups`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from sam_edge.model import Sam
from sam_edge.prediction.calls import Call
from sam_edge.quantization.layers import Layer, array, assign, channels_last, is_rounded, set_weight, weight_of
from sam_edge_quant.methods import Choice, Reader, bimodal, choose_scales, cross_layer, smoothquant
from sam_edge_runtime.arrays import Float64
from sam_edge_runtime.errors import UsageError

from .groups import Chain, Group, Keys, Normed, Writer, groups_of
from .observe import ChannelStatistics, Watch, run

METHODS = ("smooth", "cross_layer", "bimodal")
_METHOD_OF: dict[type[Group], str] = {Normed: "smooth", Chain: "cross_layer", Keys: "bimodal"}

Entry = dict[str, Any]


def equalize(
    sam: Sam, encoder_calls: Iterable[Call], decoder_calls: Iterable[Call], methods: Collection[str] = METHODS
) -> dict[str, list[Entry]]:
    """Equalize a model in place; its answers in fp32 stay as they were, up to rounding.

    Args:
        sam: the model.
        encoder_calls: inputs of the image encoder by name, NCHW, from calibration; gone through once.
        decoder_calls: inputs of the mask decoder by name, NCHW.
        methods: which of `METHODS` to apply.

    Returns:
        By method, an entry for each place with the names of the layers, `writers` and `readers`. For `smooth` and
        `cross_layer`, `strength`, None where nothing was changed, and before and after: `spread`, the widest channel
        over the median one, and `noise_db`, the noise to expect of eight bits relative to the signal. For `bimodal`,
        `flipped`, the number of channels, and `span`, the width of the keys' range before and after. A place whose
        layers were trained in eight bits has none and is left alone.

    Raises:
        UsageError: no such method, or one of the graphs gets no calls.
        ExportError: a layer meets NaN or infinity.
    """
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"no equalization called {method!r}: choose of {', '.join(METHODS)}")
    groups = [group for group in groups_of(sam) if _METHOD_OF[type(group)] in methods and not _stays(group)]
    if not groups:
        return {method: [] for method in methods}
    read: dict[Layer, ChannelStatistics] = {}
    written: dict[Layer, ChannelStatistics] = {}
    for group in groups:
        if isinstance(group, Keys):
            written[group.key] = ChannelStatistics()
        else:
            read.update({layer: ChannelStatistics() for layer in group.readers})
    run(sam, encoder_calls, decoder_calls, _watches(read), _watches(written))
    names = {module: name for name, module in sam.named_modules()}
    report: dict[str, list[Entry]] = {method: [] for method in methods}
    for group in groups:
        match group:
            case Normed():
                entry = _smooth(group, read, names)
            case Chain():
                entry = _balance(group, read, names)
            case Keys():
                entry = _fold_signs(group, written[group.key], names)
        report[_METHOD_OF[type(group)]].append(entry)
    return report


def _stays(group: Group) -> bool:
    """Whether scales would only take weights off the grids that training in eight bits put them on; signs do not."""
    return not isinstance(group, Keys) and all(map(is_rounded, group.readers))


def _watches(statistics: Mapping[Layer, ChannelStatistics]) -> dict[Layer, Watch]:
    return {layer: partial(_add, layer, each) for layer, each in statistics.items()}


def _add(layer: Layer, statistics: ChannelStatistics, values: Tensor) -> None:
    statistics.add(channels_last(layer, values))


def _readers(layers: Sequence[Layer], read: Mapping[Layer, ChannelStatistics]) -> list[Reader]:
    return [Reader(weight_of(layer), seen.low, seen.high, seen.power) for layer in layers for seen in (read[layer],)]


def _smooth(group: Normed, read: Mapping[Layer, ChannelStatistics], names: Mapping[nn.Module, str]) -> Entry:
    readers = _readers(group.readers, read)
    smoothed = smoothquant.smooth(array(group.norm.weight), array(group.norm.bias), readers)
    assign(group.norm.weight, smoothed.weight)
    assign(group.norm.bias, smoothed.bias)
    for layer, weight in zip(group.readers, smoothed.readers, strict=True):
        set_weight(layer, weight)
    return _entry([group.norm], group.readers, readers, smoothed.choice, names)


def _balance(group: Chain, read: Mapping[Layer, ChannelStatistics], names: Mapping[nn.Module, str]) -> Entry:
    readers = _readers(group.readers, read)
    choice = choose_scales(readers)
    if choice.strength is not None:
        for layer in group.readers:
            set_weight(layer, cross_layer.multiplied_inputs(weight_of(layer), choice.scales))
        for writer in group.writers:
            _divide_outputs(writer, choice.scales)
        for partner in group.partners:
            _divide_outputs(Writer(partner), 1.0 / choice.scales)
    return _entry([writer.layer for writer in group.writers], group.readers, readers, choice, names)


def _divide_outputs(writer: Writer, scales: Float64) -> None:
    """Also where the layer writes other channels beside these."""
    layer = writer.layer
    weight = weight_of(layer)
    every = np.ones(len(weight))
    every[slice(None) if writer.rows is None else writer.rows] = scales
    set_weight(layer, cross_layer.divided_outputs(weight, every))
    if layer.bias is not None:
        assign(layer.bias, cross_layer.divided_outputs(array(layer.bias), every))


def _fold_signs(group: Keys, seen: ChannelStatistics, names: Mapping[nn.Module, str]) -> Entry:
    signs = bimodal.choose_signs(seen.low, seen.high, seen.mean)
    for layer in (group.query, group.key):
        for parameter in (layer.weight, layer.bias):
            assign(parameter, bimodal.signed_outputs(array(parameter), signs))
    spans = [bimodal.span(seen.low, seen.high, each) for each in (np.ones_like(signs), signs)]
    return {
        "writers": [names[group.query], names[group.key]],
        "readers": [],
        "flipped": int((signs < 0).sum()),
        "span": spans,
    }


def _entry(
    writers: Sequence[nn.Module],
    layers: Sequence[Layer],
    readers: Sequence[Reader],
    choice: Choice,
    names: Mapping[nn.Module, str],
) -> Entry:
    peaks = np.max([reader.peaks for reader in readers], axis=0)
    return {
        "writers": [names[layer] for layer in writers],
        "readers": [names[layer] for layer in layers],
        "strength": choice.strength,
        "spread": [_spread(peaks), _spread(peaks / choice.scales)],
        "noise_db": [_decibels(choice.before), _decibels(choice.after)],
    }


def _spread(peaks: Float64) -> float:
    """The widest channel over the median of those that are used."""
    used = peaks[peaks > 0]
    return float(used.max() / np.median(used)) if len(used) else 1.0


def _decibels(noise: float) -> float:
    return 10.0 * float(np.log10(max(noise, 1e-20)))
