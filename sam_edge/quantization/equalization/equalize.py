"""Equalization of a model before it is quantized: exact in fp32, so every target and every recipe profits.

If a tensor's channels have very different ranges, one scale for all of them leaves most channels few levels. So scales
are moved between the layers that write the channels and those that read them; the model's outputs stay the same up to
rounding. The methods are in `sam_edge_quant.methods`, the places where they apply in `equalization.groups`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from sam_edge.model import Sam
from sam_edge.quantization.layers import Layer, array, assign, channels_last, is_qat_trained, set_weight, weight_of
from sam_edge_quant.methods import Choice, Reader, bimodal, choose_scales, cross_layer, smoothquant
from sam_edge_runtime.arrays import Call, Float64
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.errors import UsageError

from .groups import Chain, Group, Keys, Normed, Writer, groups_of
from .observe import ChannelStatistics, Runs, TensorCallback, observe_layers, sam_runs

METHODS = ("smooth", "cross_layer", "bimodal")
_METHOD_OF: dict[type[Group], str] = {Normed: "smooth", Chain: "cross_layer", Keys: "bimodal"}

Entry = dict[str, Any]


def equalize(
    sam: Sam,
    encoder_calls: Iterable[Call],
    decoder_calls: Iterable[Call],
    methods: Collection[str] = METHODS,
    frame: FrameSize | None = None,
) -> dict[str, list[Entry]]:
    """Equalize a model in place; its outputs in fp32 stay the same, up to rounding.

    Args:
        sam: the model.
        encoder_calls: inputs of the image encoder by name, NCHW, from calibration; iterated once.
        decoder_calls: inputs of the mask decoder by name, NCHW.
        methods: which of `METHODS` to apply.
        frame: of the calls; None: the model's square.

    Returns:
        As `equalize_graphs`.

    Raises:
        UsageError: no such method, or one of the graphs gets no calls.
        ExportError: a tensor has NaN or infinity.
    """
    return equalize_graphs(sam, sam_runs(sam, encoder_calls, decoder_calls, frame), methods)


def equalize_graphs(model: nn.Module, runs: Runs, methods: Collection[str] = METHODS) -> dict[str, list[Entry]]:
    """Equalize a model of any kind in place; its outputs in fp32 stay the same, up to rounding.

    Args:
        model: holds the layers.
        runs: its graphs, and for each its inputs by name, NCHW, from calibration; iterated once.
        methods: which of `METHODS` to apply.

    Returns:
        By method, an entry for each group with the names of its layers, `writers` and `readers`. For `smooth` and
        `cross_layer`: `strength`, None if nothing was changed, and as pairs before and after, `spread`, the range of
        the widest channel over that of the median one, and `noise_db`, the expected INT8 noise relative to the signal.
        For `bimodal`: `flipped`, a number of channels, and `span`, the width of the keys' range before and after. A
        group that quantization-aware training has rounded stays unchanged and has no entry.

    Raises:
        UsageError: no such method, or one of the graphs gets no calls.
        ExportError: a tensor has NaN or infinity.
    """
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"no equalization called {method!r}: choose from {', '.join(METHODS)}")
    groups = [group for group in groups_of(model) if _METHOD_OF[type(group)] in methods and not _is_qat_trained(group)]
    if not groups:
        return {method: [] for method in methods}
    read: dict[Layer, ChannelStatistics] = {}
    written: dict[Layer, ChannelStatistics] = {}
    for group in groups:
        if isinstance(group, Keys):
            written[group.key] = ChannelStatistics()
        else:
            read.update({layer: ChannelStatistics() for layer in group.readers})
    observe_layers(model, runs, _callbacks(read), _callbacks(written))
    names = {module: name for name, module in model.named_modules()}
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


def _is_qat_trained(group: Group) -> bool:
    """Whether scaling would undo the rounding of quantization-aware training; a change of signs does not."""
    return not isinstance(group, Keys) and all(map(is_qat_trained, group.readers))


def _callbacks(statistics: Mapping[Layer, ChannelStatistics]) -> dict[Layer, TensorCallback]:
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
    """Divide a layer's outputs; if the layer also writes other channels, only those in `writer.rows`."""
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
    """The widest channel over the median of those that are not zero."""
    used = peaks[peaks > 0]
    return float(used.max() / np.median(used)) if len(used) else 1.0


def _decibels(noise: float) -> float:
    return 10.0 * float(np.log10(max(noise, 1e-20)))
