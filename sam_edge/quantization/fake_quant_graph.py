"""Fake quantization of whole graphs: every tensor is rounded that an INT8 graph stores in 8 bits.

`FakeQuant` rounds what layers read. A deployed graph rounds more: the output of each convolution, also where no layer
but an addition reads it, and the sums of a residual stream. In nano most of the noise comes from these tensors. So here
the rules of `sam_edge_quant.onnx.graph` hold:

- The output of a convolution is INT8, unless only a ReLU or ReLU6 reads it: then that function's output is.
- A sum or a concatenation of INT8 tensors is INT8, and so is a padded or upsampled one.
- The inputs of layers are INT8. Outputs of linear layers are float.

The scale of a tensor follows from its extremes. Its gradient is that of LSQ (arXiv 1902.08153, equation 3), which grows
with the noise that the scale causes, and with the harm that this noise does. It passes on to the extremes of each
channel, so training pulls in those values that make a range wide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .fake_quant import CHANNEL_AXES, INPUT_LEVELS
from .weight_grids import WeightGrids

_BOUNDS = frozenset({F.relu, F.relu6, torch.relu, Tensor.relu})
_SUMS = frozenset({torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__})
_COPIES = frozenset({F.pad, F.interpolate})  # their outputs hold values of their input and zeros
_SHARPNESS = 16.0  # of the softmax by which the gradient of a range reaches several channels' extremes
Watch = Callable[[Tensor], None]


@dataclass
class _Stored:
    """A tensor of the graph and, once something has read it, its rounded values."""

    tensor: Tensor  # keeps the tensor, and so its `id`, in use
    rounded: Tensor | None = None


class FakeQuantGraph(TorchFunctionMode):
    """While entered, layers and the operations between them compute as a graph in INT8 does.

    Enter it around one graph: tensors that leave it are float, as the outputs of deployed graphs are.
    """

    def __init__(self, grids: WeightGrids, watch: Watch = lambda tensor: None) -> None:
        """Round weights to `grids`, and pass every activation to `watch` before it is rounded."""
        super().__init__()
        self._grids, self._watch = grids, watch
        self._stored: dict[int, _Stored] = {}

    def __exit__(self, *details: object) -> None:
        """Leave the graph, and forget its tensors."""
        self._stored.clear()
        super().__exit__(*details)  # type: ignore[no-untyped-call]  # torch has no types for it

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Compute `func` on rounded tensors, and note whether its result is one of the graph's INT8 tensors."""
        more = kwargs or {}
        if func in CHANNEL_AXES:
            inputs, weight, *rest = args
            output = func(self._integers(inputs), self._grids.rounded(weight), *rest, **more)
            return output if func is F.linear else self._store(output)
        if func in _BOUNDS:
            output = func(*args, **more)
            return self._store(output) if self._is_stored(args[0]) else output
        if func in _COPIES and self._is_stored(args[0]):
            output = func(self._integers(args[0]), *args[1:], **more)
            self._stored[id(output)] = _Stored(output, output)
            return output
        if getattr(func, "__name__", "") == "__get__":  # an attribute such as `shape`
            return func(*args, **more)
        output = func(*self._read(args), **more)
        summed = args[0] if func is torch.cat else args if func in _SUMS else ()
        return self._store(output) if summed and all(map(self._is_stored, summed)) else output

    def _store(self, output: Tensor) -> Tensor:
        self._stored[id(output)] = _Stored(output)
        return output

    def _is_stored(self, value: object) -> bool:
        return isinstance(value, Tensor) and id(value) in self._stored

    def _read(self, args: Any) -> Any:
        """The arguments, with rounded values for the INT8 tensors among them."""
        if type(args) in (tuple, list):
            return type(args)(self._read(each) for each in args)
        return self._integers(args) if self._is_stored(args) else args

    def _integers(self, tensor: Tensor) -> Tensor:
        """The rounded values of a tensor; computed once, whoever reads them."""
        entry = self._stored.setdefault(id(tensor), _Stored(tensor))
        if entry.rounded is None:
            self._watch(tensor)
            entry.rounded = rounded_activation(tensor)
        return entry.rounded


def rounded_activation(values: Tensor) -> Tensor:
    """A tensor of any shape, rounded to at most 256 evenly spaced values, 0 among them; its scale has a gradient."""
    low, high = extremes(values)
    scale = (high - low) / INPUT_LEVELS
    rounded: Tensor = _LearnedScaleRounding.apply(values, scale.clamp(min=1e-12))  # type: ignore[no-untyped-call]  # torch has no types for it
    return rounded


def extremes(values: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest value and zero; the gradient is shared among the channels `(B, C, ...)` near them."""
    places = tuple(range(2, values.ndim)) if values.ndim == 4 else (-2,) if values.ndim > 2 else (0,)
    lows, highs = values.amin(places), values.amax(places)
    return -_shared_maximum(-lows), _shared_maximum(highs)


def _shared_maximum(values: Tensor) -> Tensor:
    """The largest value or zero, exactly; the gradient reaches all values near it, by softmax."""
    largest = values.detach().max().clamp(min=0.0)
    shares = torch.softmax(values.detach().flatten() * (_SHARPNESS / largest.clamp(min=1e-12)), dim=0)
    mean = (shares * values.flatten()).sum()
    return largest + torch.where(largest > 0, mean - mean.detach(), 0.0)


class _LearnedScaleRounding(torch.autograd.Function):
    """Rounds to the nearest multiple of a scale; the gradient of values is unchanged, that of the scale is LSQ's."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, scale: Tensor) -> Tensor:
        """Round; the rounding error in scales is kept for the gradient."""
        multiples = values / scale
        rounded = multiples.round()
        ctx.save_for_backward(rounded - multiples if ctx.needs_input_grad[1] else None)
        return rounded.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None]:
        """The gradients of values and scale."""
        (error,) = ctx.saved_tensors
        return gradients[0], None if error is None else (gradients[0] * error).sum()
