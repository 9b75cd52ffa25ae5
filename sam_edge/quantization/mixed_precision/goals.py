"""What a search measures of a configuration, and which configurations it may return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sam_edge.evaluation.paired import PairedLoss


@dataclass(frozen=True)
class Measurement:
    """Accuracy and time of one configuration.

    Attributes:
        mask_miou: mean IoU of its masks with fp32 torch's.
        encoder: time of the image encoder relative to the fp32 artifact's in the same run; None: not measured.
        decoder: the same for the mask decoder.
        click: the same for both together.
        human: what it loses on human masks; None: there are none.
    """

    mask_miou: float
    encoder: float | None = None
    decoder: float | None = None
    click: float | None = None
    human: PairedLoss | None = None

    @classmethod
    def from_json(cls, figures: Mapping[str, Any]) -> Measurement:
        """The measurement that `dataclasses.asdict` made `figures` of.

        Raises:
            TypeError: it made something else of it.
        """
        human = figures.get("human")
        return cls(**{**figures, "human": None if human is None else PairedLoss(**human)})

    @property
    def graph_times(self) -> dict[str, float]:
        """Relative times by graph, where they were measured."""
        named = {"encoder": self.encoder, "decoder": self.decoder}
        return {graph: time for graph, time in named.items() if time is not None}

    def figures(self) -> dict[str, float]:
        """The figures of a report."""
        named = {
            "mask_miou": self.mask_miou,
            "encoder_time": self.encoder,
            "decoder_time": self.decoder,
            "click_time": self.click,
        }
        if self.human is not None:
            named |= {
                "human_miou": self.human.candidate,
                "human_loss": self.human.loss,
                "human_loss_low": self.human.low,
                "human_loss_high": self.human.high,
            }
        return {name: round(value, 5) for name, value in named.items() if value is not None}


class Goal(Protocol):
    """The accuracy that a search has to keep."""

    def holds(self, measurement: Measurement) -> bool:
        """Whether a configuration may be returned."""

    @property
    def allowed(self) -> float:
        """The largest `lost`."""

    def lost(self, measurement: Measurement) -> float:
        """What a configuration loses, 0 if nothing."""

    def needed_agreement(self, measurement: Measurement) -> float:
        """The mask mIoU with fp32 at which the goal is expected to hold, given a configuration that misses it."""

    def shortfall(self, measurement: Measurement) -> str:
        """Why a configuration may not be returned, and what helps, for an error."""

    def to_json(self) -> dict[str, Any]:
        """The goal, for a report."""


@dataclass(frozen=True)
class AgreementGoal:
    """Masks agree with fp32 torch's.

    Attributes:
        bound: smallest mask mIoU.
    """

    bound: float

    def holds(self, measurement: Measurement) -> bool:
        """See `Goal`."""
        return measurement.mask_miou >= self.bound

    @property
    def allowed(self) -> float:
        """See `Goal`."""
        return 1.0 - self.bound

    def lost(self, measurement: Measurement) -> float:
        """See `Goal`."""
        return 1.0 - measurement.mask_miou

    def needed_agreement(self, measurement: Measurement) -> float:
        """See `Goal`."""
        return self.bound

    def shortfall(self, measurement: Measurement) -> str:
        """See `Goal`."""
        return (
            f"has a mask mIoU of {measurement.mask_miou:.4f}, below the bound of {self.bound}: lower --bound, raise "
            "--budget, or export it with --keep"
        )

    def to_json(self) -> dict[str, Any]:
        """See `Goal`."""
        return {"bound": self.bound}


@dataclass(frozen=True)
class HumanGoal:
    """The mIoU with human masks is within `loss` of fp32 torch's.

    Attributes:
        loss: largest loss of mIoU.
        certain: whether the whole confidence interval must be within it, and not only the measured loss.
    """

    loss: float
    certain: bool = False

    def holds(self, measurement: Measurement) -> bool:
        """See `Goal`."""
        return self.lost(measurement) <= self.loss

    @property
    def allowed(self) -> float:
        """See `Goal`."""
        return self.loss

    def lost(self, measurement: Measurement) -> float:
        """See `Goal`."""
        if measurement.human is None:
            return float("inf")
        return measurement.human.high if self.certain else measurement.human.loss

    def needed_agreement(self, measurement: Measurement) -> float:
        """See `Goal`. The loss is taken to fall in proportion to the masks that differ from fp32's."""
        lost = max(self.lost(measurement), self.loss, 1e-9)
        return 1.0 - (1.0 - measurement.mask_miou) * self.loss / lost

    def shortfall(self, measurement: Measurement) -> str:
        """See `Goal`."""
        human = measurement.human
        if human is None:
            return "was not measured on human masks"
        said = (
            f"loses {human.loss:.4f} of mIoU with human masks ({human.confidence:.0%} interval {human.low:.4f} to "
            f"{human.high:.4f}, {human.photos} photos), more than the loss of {self.loss}"
        )
        needed = human.photos_needed(self.loss) if self.certain else None
        if needed is not None:
            return (
                f"{said}: about {needed} photos with masks would be needed for that confidence; give more --labelled, "
                "omit --confidence, raise --loss, or export it with --keep"
            )
        return f"{said}: raise --loss or --budget, or export it with --keep"

    def to_json(self) -> dict[str, Any]:
        """See `Goal`."""
        return {"loss": self.loss, "decided_by": "interval" if self.certain else "mean"}
