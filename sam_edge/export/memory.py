"""Memory of an export, estimated before weights are read.

The peak has three parts: the process with torch and the converter, the activations of a photo, and several copies of
the weights: the model's, the converter's constants, the artifact, the engine's. `COSTS` holds what was measured for
fp32 bundles (docs/accuracy.md). Calibration of INT8 recipes takes more, by the number of photos.
"""

from __future__ import annotations

from dataclasses import dataclass

from sam_edge.model import Sam
from sam_edge.model.hiera import HieraBlock
from sam_edge.model.image_encoder import ImageEncoderViT
from sam_edge_runtime.bundle.contract import LARGEST_SIDE
from sam_edge_runtime.bundle.targets import TARGETS
from sam_edge_runtime.errors import ExportError
from sam_edge_runtime.system.memory import memory_limit

BYTES = 4  # of a parameter in fp32
TOLD_FROM = 4e9  # bytes; every machine with torch has that much


@dataclass(frozen=True)
class Cost:
    """What an export to one target takes at its peak.

    Attributes:
        process: bytes without a model.
        transformer: bytes of activations at 1024 x 1024 pixels, in a ViT or Hiera.
        other: the same, in other encoders.
        copies: of the fp32 weights.
    """

    process: float
    transformer: float
    other: float
    copies: float


COSTS: dict[str, Cost] = {
    "onnx": Cost(0.6e9, 3.3e9, 0.7e9, 2.7),
    "coreml": Cost(0.6e9, 1.7e9, 0.4e9, 2.4),
    "tflite": Cost(0.9e9, 1.9e9, 0.3e9, 7.2),
}


def export_bytes(sam: Sam, side: int, target: str) -> int:
    """Bytes of an export's process at its peak, about.

    Args:
        sam: the model, on the meta device if need be.
        side: of the frame in pixels.
        target: a key of `TARGETS`.
    """
    cost = COSTS[target]
    is_transformer = any(isinstance(module, ImageEncoderViT | HieraBlock) for module in sam.image_encoder.modules())
    photo = (cost.transformer if is_transformer else cost.other) * (side / LARGEST_SIDE) ** 2
    return int(cost.process + photo + cost.copies * BYTES * sum(each.numel() for each in sam.parameters()))


def check_memory(variant: str, sam: Sam, side: int, target: str) -> int:
    """The estimate for an export, which this machine must have memory for.

    Args:
        variant: name of the model, for the message.
        sam: the model, on the meta device if need be.
        side: of the frame in pixels.
        target: a key of `TARGETS`.

    Returns:
        `export_bytes`.

    Raises:
        ExportError: the estimate is above the machine's memory and swap, or its container's limit.
    """
    needed, limit = export_bytes(sam, side, target), memory_limit()
    if limit is None or needed <= limit:
        return needed
    others = {other: export_bytes(sam, side, other) for other in TARGETS if other != target}
    fitting = [f"--target {other} ({size / 1e9:.0f} GB)" for other, size in others.items() if size <= limit]
    raise ExportError(
        f"exporting {variant} to {target} takes about {needed / 1e9:.0f} GB of memory, and this machine has "
        f"{limit / 1e9:.0f} GB: use a larger one, {', '.join([*fitting, 'or a smaller variant'])}"
    )
