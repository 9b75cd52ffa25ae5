"""What to export, and where to: checked before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sam_edge.quantization.calibration.photos import COUNT
from sam_edge_quant import AUTO, recipe_named
from sam_edge_runtime.bundle.manifest import GRAPHS, NEURAL_ENGINE, PLAIN
from sam_edge_runtime.bundle.targets import TARGETS, target_named
from sam_edge_runtime.errors import UsageError

SMALLEST_POINTS = 2  # a click and the padding that SAM adds to it
BOUND, BUDGET = 0.98, 120.0  # of a search: mask mIoU, seconds
LEAST_BUDGET = 10


@dataclass(frozen=True)
class ExportJob:
    """What to export, and where to.

    Attributes:
        variant: model variant.
        out: folder of the bundle.
        checkpoint: a file, `random:SEED`, or None for the shipped or downloaded weights.
        target: artifact kind.
        precision: recipe name.
        input_side: frame side in pixels, or None for the one that the variant was trained for.
        prompts: fixed number of prompts a call, several of them for a decoder with a signature for each, or None for
            any, and one where the target has fixed shapes.
        points: fixed number of slots a prompt, or None for any, and ten where the target has fixed shapes.
        overwrite: replace an existing bundle.
        graph: `plain`, or `ane` for the rewrite that the Neural Engine likes.
        picture_input: have the encoder take an 8-bit picture instead of a tensor.
        flexible: any number of prompts and slots where nothing else is said, also where the target would fix them.
        recipe: a recipe file that says of every layer what it is kept in; it takes the place of `precision`.
        calibration: photos that show which values activations take: a folder, a tar as SA-1B's are, or None for the
            sample photos.
        photos: how many of them.
        host: `x86` or `arm`, for which processor whole numbers are arranged; None: this machine's.
        bound: smallest mask mIoU with fp32 torch that `auto` may come to.
        budget: seconds after which its search begins nothing new.
        keep: have the bundle even where the bound could not be reached.

    Raises:
        UsageError: an unknown target, a capacity that no prompt fits into, several where the target has one, or what
            the target or its converter cannot do.
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

    def __post_init__(self) -> None:
        if self.precision != AUTO:
            recipe_named(self.precision)
        if not 0 < self.bound <= 1:
            raise UsageError(f"--bound {self.bound} is no share of masks: a number above 0 and up to 1, such as 0.98")
        if self.budget < LEAST_BUDGET:
            raise UsageError(
                f"--budget of {self.budget:g} seconds is too small for a search: at least {LEAST_BUDGET}, such as 2m"
            )
        target, possible = target_named(self.target), precisions_of(self.target)
        if self.precision not in possible:
            raise UsageError(
                f"--precision {self.precision} is not possible for target {self.target}: choose one of "
                f"{', '.join(possible)}"
            )
        if self.graph not in GRAPHS:
            raise UsageError(f"no graph called {self.graph!r}: choose one of {', '.join(GRAPHS)}")
        for wanted, feature, option in (
            (self.graph == NEURAL_ENGINE, "neural_engine", f"--graph {NEURAL_ENGINE}"),
            (self.picture_input, "picture_input", "--picture-input"),
        ):
            if wanted and not getattr(target, feature):
                able = [each for each in TARGETS.values() if getattr(each, feature)]
                raise UsageError(
                    f"{option} is for {' or '.join(each.title for each in able)}: use --target "
                    f"{' or '.join(each.name for each in able)}, or leave it out for {self.target}"
                )
        if self.flexible and self.graph == NEURAL_ENGINE:
            raise UsageError("--flexible and --graph ane exclude each other: the Neural Engine wants fixed shapes")
        if self.flexible and not target.flexible:
            raise UsageError(
                f"--flexible is not possible for target {self.target}, whose shapes are fixed: name --prompts 1,8"
            )
        sizes = self.call_sizes
        if self.prompts is not None and (not sizes or sizes[0] < 1):
            shown = sizes[0] if sizes else "()"
            raise UsageError(f"--prompts {shown} leaves nothing to answer: at least 1, or leave it out")
        if len(sizes) > 1 and not target.several_signatures:
            raise UsageError(
                f"--prompts {','.join(map(str, sizes))} makes a signature for each number, which only a TFLite file "
                f"has: give one number for --target {self.target}"
            )
        if self.points is not None and self.points < SMALLEST_POINTS:
            raise UsageError(
                f"--points {self.points} is too few: a click takes two slots (itself and SAM's padding), a box two"
            )

    @property
    def searched(self) -> bool:
        """Whether the recipe has to be found first."""
        return self.precision == AUTO and self.recipe is None

    @property
    def call_sizes(self) -> tuple[int, ...]:
        """Numbers of prompts that a call may have, ascending; empty: any."""
        prompts = (self.prompts,) if isinstance(self.prompts, int) else self.prompts or ()
        return tuple(sorted(set(prompts)))


def precisions_of(target: str) -> tuple[str, ...]:
    """What `precision` of an `ExportJob` may be.

    Raises:
        UsageError: no such target.
    """
    known = target_named(target)
    return tuple(dict.fromkeys((*known.precisions, *known.schemes, AUTO)))
