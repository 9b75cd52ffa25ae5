"""SmoothQuant: "Accurate and Efficient Post-Training Quantization for Large Language Models".

Xiao et al., arXiv 2211.10438, section 4. A few channels of a layer normalization's output are far wider than the
others, and one scale for all leaves the others few levels. So each channel is divided by
`s_j = max|X_j|^a / max|W_j|^(1-a)` (equation 4) in the normalization's own weight and bias, and multiplied by it in the
columns of the linear layers that read it. Exact where nothing else reads it.

The paper takes one migration strength `a` for a network; here each normalization has the one with the least expected
noise (`channel_scales`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sam_edge_runtime.arrays import Float64

from .channel_scales import Choice, Reader, choose_scales
from .cross_layer import divided_outputs, multiplied_inputs


@dataclass(frozen=True)
class Smoothed:
    """Parameters after the migration.

    Attributes:
        weight: `(channels)` of the normalization.
        bias: `(channels)` of the normalization.
        readers: weights `(outputs, channels, taps)` of the layers that read it.
        choice: the scales.
    """

    weight: Float64
    bias: Float64
    readers: tuple[Float64, ...]
    choice: Choice


def smooth(weight: Float64, bias: Float64, readers: Sequence[Reader]) -> Smoothed:
    """Move outliers from a normalization's output into its readers, as far as that lowers the expected noise.

    Args:
        weight: `(channels)` of the normalization.
        bias: `(channels)` of the normalization.
        readers: every layer that reads it.
    """
    choice = choose_scales(readers)
    return Smoothed(
        divided_outputs(weight, choice.scales),
        divided_outputs(bias, choice.scales),
        tuple(multiplied_inputs(reader.weight, choice.scales) for reader in readers),
        choice,
    )
