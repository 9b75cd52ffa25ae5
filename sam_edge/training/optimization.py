"""The optimizer, its learning rate, and the running average of the weights.

AdamW as in "Segment Anything" (https://arxiv.org/abs/2304.02643, appendix A, "Training recipe"), with a cosine instead
of its stepwise decay. The rate is a function of the step, so a resumed run needs no scheduler state.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sam_edge_runtime.errors import UsageError

from .checkpoint import Tensors

BETAS = (0.9, 0.999)
_FACTOR = "factor"  # key of a parameter group: factor of the learning rate
_NAMES = "names"


class Schedule(Protocol):
    """What the optimizer takes of a recipe; `TrainRecipe` describes each."""

    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def pretrained_rate(self) -> float: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102


def make_optimizer(trained: nn.Module, recipe: Schedule, pretrained: Collection[str]) -> torch.optim.AdamW:
    """AdamW over all parameters that require a gradient.

    Args:
        trained: the module.
        recipe: rates and decay.
        pretrained: names of pretrained parameters, whose rate has the factor `pretrained_rate`.
    """
    groups: dict[tuple[float, float], dict[str, list[object]]] = {}
    for name, parameter in trained.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = recipe.pretrained_rate if name in pretrained else 1.0
        decay = recipe.weight_decay if parameter.ndim > 1 and "token" not in name and "embed" not in name else 0.0
        group = groups.setdefault((factor, decay), {"params": [], _NAMES: []})
        group["params"].append(parameter)
        group[_NAMES].append(name)
    return torch.optim.AdamW(
        [{**group, _FACTOR: factor, "weight_decay": decay} for (factor, decay), group in groups.items()],
        lr=recipe.learning_rate,
        betas=BETAS,
    )


def freeze(model: nn.Module, parts: Collection[str]) -> None:
    """Let the weights of some parts get no gradient, so that they stay, and so that nothing is computed for them.

    Early convolutions of the encoder work at the highest resolution and take the longest. Those of ImageNet serve.

    Args:
        model: a model.
        parts: names of modules or parameters, such as `image_encoder.stem`.

    Raises:
        UsageError: the model has no such part, or every weight is frozen.
    """
    for part in parts:
        own = [weight for name, weight in model.named_parameters() if f"{name}.".startswith(f"{part}.")]
        if not own:
            names = ", ".join(name for name, _ in model.named_children())
            raise UsageError(f"frozen: the model has no part {part!r}: name one of {names}, or a part of these")
        for weight in own:
            weight.requires_grad = False
    if parts and not any(weight.requires_grad for weight in model.parameters()):
        raise UsageError("frozen: no weight is left to train: freeze fewer parts")


@dataclass(frozen=True)
class Cosine:
    """A learning rate that rises linearly, then falls as half a cosine.

    Attributes:
        highest: the rate at the end of the rise.
        steps: of both.
        warm_up: steps of the rise.
        final: share of the highest rate that is left at the end.
    """

    highest: float
    steps: int
    warm_up: int
    final: float

    def at(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        if step < self.warm_up:
            return self.highest * (step + 1) / self.warm_up
        progress = (step - self.warm_up) / max(self.steps - self.warm_up, 1)
        fall = 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))
        return self.highest * (self.final + (1.0 - self.final) * fall)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set each parameter group's learning rate: `rate` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[_FACTOR]


def averaged(trained: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of the weights. The decay of step n is at most (1 + n) / (10 + n).

    So the average soon contains little of the initial weights.
    """

    # All tensors in one call: on a GPU, separate calls take longer than a small model's backward pass.
    def average(running: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        steps = float(count)
        torch._foreach_lerp_(list(running), list(current), 1.0 - min(decay, (1.0 + steps) / (10.0 + steps)))

    return AveragedModel(trained, multi_avg_fn=average, use_buffers=False)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """The optimizer's moments, named `MOMENT/PARAMETER`."""
    return {
        f"{moment}/{name}": value
        for group in optimizer.param_groups
        for name, parameter in zip(group[_NAMES], group["params"], strict=True)
        for moment, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Restore the moments that `optimizer_tensors` returned, on their parameters' devices."""
    by_name: dict[str, Tensors] = {}
    for key, value in tensors.items():
        moment, _, name = key.partition("/")
        by_name.setdefault(name, {})[moment] = value
    for group in optimizer.param_groups:
        for name, parameter in zip(group[_NAMES], group["params"], strict=True):
            optimizer.state[parameter] = {
                moment: value if moment == "step" else value.to(parameter.device)
                for moment, value in by_name.get(name, {}).items()
            }
