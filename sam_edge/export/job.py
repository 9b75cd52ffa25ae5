"""What to export, and where to; checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam_edge.evaluation.paired import least_photos
from sam_edge.quantization.calibration.photos import COUNT
from sam_edge.quantization.mixed_precision.labelled import PHOTOS
from sam_edge_quant import AUTO, NPU, recipe_named
from sam_edge_runtime.bundle.manifest import GRAPHS, NEURAL_ENGINE, PLAIN
from sam_edge_runtime.bundle.official import OFFICIAL, SAM_EDGE
from sam_edge_runtime.bundle.targets import TARGETS, target_named
from sam_edge_runtime.errors import UsageError

from .frames import SQUARE, check_names

SMALLEST_POINTS = 2  # a click and SAM's padding
BOUND, BUDGET = 0.98, 120.0  # of a search: mask mIoU, seconds
CONFIDENCE = 0.95  # of the interval of a loss
OWN_TUNER, NEURAL_COMPRESSOR = TUNERS = ("sam-edge", "neural-compressor")
LAYOUTS = (SAM_EDGE, OFFICIAL)
LEAST_BUDGET = 10


@dataclass(frozen=True)
class LossGoal:
    """What a search may lose on masks that people drew.

    Attributes:
        data: photos with such masks: a tar like SA-1B's shards, or what else `open_source` takes.
        loss: largest loss of mIoU against fp32 torch, above 0 and below 1.
        confidence: the whole confidence interval has to be within `loss`, above 0.5 and below 1; None: the measured
            loss has to be, and the interval at 0.95 is reported.
        photos: how many are used.

    Raises:
        UsageError: a number out of range, or too few photos for the confidence.
    """

    data: str
    loss: float
    confidence: float | None = None
    photos: int = PHOTOS

    def __post_init__(self) -> None:
        if not 0 < self.loss < 1:
            raise UsageError(
                f"--loss {self.loss} is out of range: use a loss of mIoU above 0 and below 1, such as 0.005"
            )
        if self.confidence is not None and not 0.5 < self.confidence < 1:
            raise UsageError(f"--confidence {self.confidence} is out of range: use more than 0.5 and less than 1")
        least = least_photos(self.interval)
        if self.photos < least:
            raise UsageError(
                f"--labelled-photos {self.photos} is too few for a confidence of {self.interval}: use {least} or more"
            )

    @property
    def interval(self) -> float:
        """The confidence of the interval that is reported."""
        return CONFIDENCE if self.confidence is None else self.confidence


@dataclass(frozen=True)
class ExportJob:
    """What to export, and where to.

    Attributes:
        variant: model variant.
        out: folder of the bundle.
        checkpoint: a file, `random:SEED`, or None for the shipped or downloaded weights.
        target: artifact kind.
        precision: recipe name, or `auto` for a search.
        input_side: frame side in pixels; None: the one that the variant was trained for.
        frames: shapes width:height such as `4:3`, sizes in pixels such as `1024x576`, or `square`; the runtime takes
            each photo in the one that it fills best.
        prompts: fixed number of prompts per call, or several for a decoder with one signature for each; None: any, or 1
            where the target has fixed shapes.
        points: fixed number of slots per prompt; None: any, or 10 where the target has fixed shapes.
        overwrite: replace an existing bundle.
        graph: `plain`, or `ane` for the form that Apple's Neural Engine computes fastest.
        picture_input: whether the encoder takes an 8-bit picture instead of a tensor.
        flexible: whether `prompts` and `points` of None mean any number also where the target has fixed shapes.
        recipe: a recipe file with a scheme for each layer; it replaces `precision`.
        calibration: photos that ranges of activations are measured on: a folder, a tar like SA-1B's shards, or None for
            the sample photos.
        photos: how many of them.
        host: `x86` or `arm`, the processor that INT8 graphs are made for; None: this machine's.
        bound: smallest mask mIoU with fp32 torch that a search may return, above 0 and at most 1.
        budget: seconds after which a search starts no further trial, at least 10.
        layout: `sam-edge` for the tensors of the contract, or `official` for those of the official SAM ONNX model.
        return_single_mask: whether an official decoder returns the best mask of a prompt instead of all four.
        hq_token_only: whether SAM-HQ's decoder returns the HQ mask alone.
        keep: whether to export the best configuration of a search that does not reach its goal.
        loss: a loss on human masks that a search may not exceed; it decides instead of `bound`.
        tuner: what proposes a search's configurations, one of `TUNERS`.
        words: `shipped`, a file of words or `random:SEED`, for a bundle that takes text; None for one that does not.
        text_encoder: folder of `sam-edge export-clip` whose text encoder comes into the bundle, for a model that stage
            `text` trained with its embeddings; None for none.

    Raises:
        UsageError: an unknown target, a capacity that no prompt fits into, several capacities where the target has one,
            or a choice that the target or its converter does not support.
    """

    variant: str
    out: Path
    checkpoint: str | None = None
    target: str = "onnx"
    precision: str = "fp32"
    input_side: int | None = None
    prompts: int | tuple[int, ...] | None = None
    points: int | None = None
    overwrite: bool = False
    graph: str = PLAIN
    picture_input: bool = False
    flexible: bool = False
    recipe: Path | None = None
    calibration: str | None = None
    photos: int = COUNT
    host: str | None = None
    bound: float = BOUND
    budget: float = BUDGET
    keep: bool = False
    layout: str = SAM_EDGE
    return_single_mask: bool = False
    loss: LossGoal | None = None
    tuner: str = OWN_TUNER
    frames: tuple[str, ...] = (SQUARE,)
    hq_token_only: bool = False
    words: str | None = None
    text_encoder: Path | None = None

    def __post_init__(self) -> None:
        if self.precision != AUTO:
            recipe_named(self.precision)
        self._check_search()
        target, possible = target_named(self.target), precisions_of(self.target)
        if self.precision not in possible:
            raise UsageError(self._refused_precision(possible))
        if self.graph not in GRAPHS:
            raise UsageError(f"no graph called {self.graph!r}: choose one of {', '.join(GRAPHS)}")
        self._check_layout()
        self._check_words()
        check_names(self.frames)
        for chosen, feature, option in (
            (self.layout == OFFICIAL, "official_layout", f"--layout {OFFICIAL}"),
            (self.graph == NEURAL_ENGINE, "neural_engine", f"--graph {NEURAL_ENGINE}"),
            (self.picture_input, "picture_input", "--picture-input"),
        ):
            if chosen and not getattr(target, feature):
                supporting = [each for each in TARGETS.values() if getattr(each, feature)]
                raise UsageError(
                    f"{option} is for {' or '.join(each.title for each in supporting)} only: use --target "
                    f"{' or '.join(each.name for each in supporting)}, or omit it for {self.target}"
                )
        if self.flexible and self.graph == NEURAL_ENGINE:
            raise UsageError(
                "--flexible and --graph ane exclude each other, because the Neural Engine needs fixed shapes: omit one"
            )
        if self.flexible and not target.flexible:
            raise UsageError(
                f"--flexible is not possible for target {self.target}, whose shapes are fixed: use --prompts 1,8"
            )
        sizes = self.call_sizes
        if self.prompts is not None and (not sizes or sizes[0] < 1):
            shown = sizes[0] if sizes else "()"
            raise UsageError(f"--prompts {shown} is out of range: use at least 1, or omit it")
        if len(sizes) > 1 and not target.several_signatures:
            raise UsageError(
                f"--prompts {','.join(map(str, sizes))} needs a signature for each number, which only TFLite files "
                f"have: use one number for --target {self.target}"
            )
        if self.points is not None and self.points < SMALLEST_POINTS:
            raise UsageError(
                f"--points {self.points} is too few: use {SMALLEST_POINTS} or more; a click takes two slots with SAM's "
                "padding, a box two"
            )

    def _check_search(self) -> None:
        if not 0 < self.bound <= 1:
            raise UsageError(f"--bound {self.bound} is out of range: use a mask mIoU above 0 and up to 1, such as 0.98")
        if self.budget < LEAST_BUDGET:
            raise UsageError(
                f"--budget of {self.budget:g} seconds is too short for a search: use {LEAST_BUDGET} or more, such as 2m"
            )
        if self.loss is not None and not self.searched:
            raise UsageError(f"--labelled is for --precision {AUTO} only: use that, or omit it")
        if self.tuner not in TUNERS:
            raise UsageError(f"no tuner called {self.tuner!r:.60}: choose one of {', '.join(TUNERS)}")
        if self.tuner != OWN_TUNER and not self.searched:
            raise UsageError(f"--tuner {self.tuner} is for --precision {AUTO} only: use that, or omit it")

    def _refused_precision(self, possible: tuple[str, ...]) -> str:
        instead = f"choose one of {', '.join(possible)}"
        if self.precision == NPU:
            instead = "Apple's Neural Engine takes --graph ane with --precision w8a8"
        return f"--precision {self.precision} is not possible for target {self.target}: {instead}"

    def _check_words(self) -> None:
        if self.words is not None and self.text_encoder is not None:
            raise UsageError("--words and --text-encoder exclude each other: a decoder takes one kind of vectors")
        if self.words is not None or self.text_encoder is not None:
            self.check_text("omit --words" if self.text_encoder is None else "omit --text-encoder")

    def check_text(self, remedy: str) -> None:
        """Refuse layouts and graphs that have no text.

        Args:
            remedy: what to do instead.

        Raises:
            UsageError: the job has one.
        """
        if self.layout == OFFICIAL:
            raise UsageError(f"--layout {OFFICIAL} has no text, as the official model does not: {remedy}")
        if self.graph == NEURAL_ENGINE:
            raise UsageError(f"--graph {NEURAL_ENGINE} has no form of a decoder that takes text: {remedy}")

    def _check_layout(self) -> None:
        if self.layout not in LAYOUTS:
            raise UsageError(f"no layout called {self.layout!r:.60}: choose one of {', '.join(LAYOUTS)}")
        if self.layout == OFFICIAL and (self.prompts is not None or self.points is not None):
            raise UsageError(
                f"--layout {OFFICIAL} takes one prompt of any number of points, as the official model does: omit "
                "--prompts and --points"
            )
        if self.layout == OFFICIAL and self.frames != (SQUARE,):
            raise UsageError(f"--layout {OFFICIAL} has the square frame, as the official model does: omit --frame")
        if self.return_single_mask and self.layout != OFFICIAL:
            raise UsageError(f"--return-single-mask is for --layout {OFFICIAL} only: add that, or omit it")

    @property
    def searched(self) -> bool:
        """Whether a search has to find the recipe."""
        return self.precision == AUTO and self.recipe is None

    @property
    def call_sizes(self) -> tuple[int, ...]:
        """Numbers of prompts that a call may have, ascending; empty: any number."""
        if self.layout == OFFICIAL:
            return (1,)
        prompts = (self.prompts,) if isinstance(self.prompts, int) else self.prompts or ()
        return tuple(sorted(set(prompts)))


def precisions_of(target: str) -> tuple[str, ...]:
    """The values that `precision` of an `ExportJob` may have.

    Raises:
        UsageError: no such target.
    """
    supported = target_named(target)
    return tuple(dict.fromkeys((*supported.precisions, *supported.schemes, AUTO)))
