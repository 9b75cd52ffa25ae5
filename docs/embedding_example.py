"""The numbers in docs/embedding.md: two pictures that any language can draw, and the outputs of nano for three prompts.

`python docs/embedding_example.py` prints the table for the document, from fp32 torch. With the paths of bundles of nano
it prints how far they are from it. The pictures are made by integer arithmetic, so that an app can draw them without a
file. The first is as wide as the frame and separates the models from the resizing, which the second checks.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sam_edge_runtime import Bundle
from sam_edge_runtime.arrays import Photo
from sam_edge_runtime.backends import Backend, load_backend
from sam_edge_runtime.bundle.contract import FrameSize
from sam_edge_runtime.bundle.conventions import SAM, Conventions
from sam_edge_runtime.decoding import Capacity, decode_prompts
from sam_edge_runtime.photo.frame import Frame
from sam_edge_runtime.photo.masks import upscale_binary
from sam_edge_runtime.prompts import Prompts, build_prompts

SIDE, SLOTS = 512, 10
CLICK, BOX = (200, 180), (110, 90, 290, 270)  # on the picture of 512 x 384
CAMERA_CLICK = (500, 300)

PIXELS = ((0, 0, 40, 300), (0, 1, 40, 300), (0, 2, 40, 300), (0, 0, 180, 200), (0, 1, 180, 200), (0, 2, 180, 200))
PADDING = ((0, 0, 384, 0), (0, 1, 511, 511), (0, 2, 511, 511))
CELLS = ((0, 0, 0, 0), (0, 7, 12, 16), (0, 100, 5, 20), (0, 40, 31, 31), (0, 175, 23, 17), (0, 186, 14, 16))
LOGITS = ((0, 0, 45, 50), (0, 1, 45, 50), (0, 2, 45, 50), (0, 3, 45, 50), (0, 0, 10, 100), (0, 3, 90, 20))
RESIZED = ((0, 0, 50, 60), (0, 1, 50, 60), (0, 2, 50, 60), (0, 2, 51, 60), (0, 0, 120, 256), (0, 0, 120, 280))

AREA, CENTRE = "pixels inside", "centre of output 1"
KINDS = (AREA, CENTRE, "iou_predictions", "low_res_masks", "image_embeddings", "image")


@dataclass(frozen=True)
class Phone:
    """The capacity of a decoder of fixed shape: what `decode_prompts` fills up with empty slots."""

    frames: tuple[FrameSize, ...] = (FrameSize.square(SIDE),)
    conventions: Conventions = SAM
    call_sizes: tuple[int, ...] = (1,)
    points: int | None = SLOTS


def picture() -> Photo:
    """(384, 512, 3): a gradient in each channel, and a bright disc."""
    y, x = np.mgrid[:384, :512]
    drawn = np.stack([x * 255 // 511, y * 255 // 383, (x + y) * 255 // 894], axis=-1)
    drawn[(x - 200) ** 2 + (y - 180) ** 2 < 90**2] = (250, 240, 230)
    return drawn.astype(np.uint8)


def camera_picture() -> Photo:
    """(720, 1280, 3): gradients, a checkerboard of single pixels in blue, and a bright disc."""
    y, x = np.mgrid[:720, :1280]
    drawn = np.stack([x * 255 // 1279, y * 255 // 719, ((x ^ y) & 1) * 255], axis=-1)
    drawn[(x - 500) ** 2 + (y - 300) ** 2 < 200**2] = (250, 240, 230)
    return drawn.astype(np.uint8)


def prompts(frame: Frame) -> dict[str, Prompts]:
    """A click and a box on the first picture."""
    return {
        "click": build_prompts(frame, [[CLICK]], [[1]], None, None),
        "box": build_prompts(frame, None, None, [BOX], None),
    }


def measure(backend: Backend, capacity: Capacity | None = None) -> dict[str, float]:
    """Every number of the document by the name that it has there."""
    numbers: dict[str, float] = {}

    def note(name: str, array: npt.NDArray[np.float32], places: tuple[tuple[int, ...], ...]) -> None:
        numbers.update({f"{name}[{', '.join(map(str, place))}]": float(array[place]) for place in places})

    def note_masks(name: str, masks: npt.NDArray[np.bool_]) -> None:
        for output, mask in enumerate(masks):
            numbers[f"{name}: {AREA}, output {output}"] = int(mask.sum())
        rows, columns = np.nonzero(masks[1])
        numbers[f"{name}: {CENTRE}, x"], numbers[f"{name}: {CENTRE}, y"] = float(columns.mean()), float(rows.mean())

    capacity = capacity or Phone()
    frame = Frame(FrameSize.square(SIDE), (384, 512))
    image = frame.image(picture())
    note("image", image, PIXELS + PADDING)
    features = backend.encode(image)
    (embeddings,) = features
    note("image_embeddings", embeddings, CELLS)
    numbers["image_embeddings, mean square"] = float(np.mean(np.square(embeddings, dtype=np.float64)))
    for name, each in prompts(frame).items():
        low_res, iou, _ = decode_prompts(backend, capacity, features, each)
        note(f"{name}: low_res_masks", low_res, LOGITS)
        note(f"{name}: iou_predictions", iou, tuple((0, output) for output in range(4)))
        note_masks(name, upscale_binary(low_res[0], frame))

    frame = Frame(FrameSize.square(SIDE), (720, 1280))
    image = frame.image(camera_picture())
    note("camera: image", image, RESIZED)
    asked = build_prompts(frame, [[CAMERA_CLICK]], [[1]], None, None)
    low_res, *_ = decode_prompts(backend, capacity, backend.encode(image), asked)
    note_masks("camera", upscale_binary(low_res[0], frame))
    return numbers


def reference() -> Backend:
    """The shipped weights in fp32 torch."""
    from sam_edge.model.torch_backend import TorchBackend  # noqa: PLC0415
    from sam_edge.weights.load import find_source, load_sam  # noqa: PLC0415 - not needed to compare a bundle

    return TorchBackend(load_sam("nano", find_source("nano", None), SIDE).sam)


def kind(name: str) -> str:
    """What a number belongs to in the document's table of tolerances."""
    return next(kind for kind in KINDS if kind in name)


def difference(name: str, found: float, expected: float) -> float:
    """How far a number is off; areas in parts of the expected one, or of a pixel where none is expected."""
    error = abs(found - expected)
    return error / max(expected, 1) if kind(name) == AREA else error


def largest_differences(found: dict[str, float], expected: dict[str, float]) -> dict[str, float]:
    """The largest difference of each kind."""
    errors = dict.fromkeys(KINDS, 0.0)
    for name, value in expected.items():
        errors[kind(name)] = max(errors[kind(name)], difference(name, found[name], value))
    return errors


def table(numbers: dict[str, float]) -> str:
    """The numbers as a table in Markdown."""
    lines = ["| value | channels last | expected |", "|---|---|---|"]
    for name, value in numbers.items():
        tensor, _, place = name.rstrip("]").partition("[")
        turned = ""
        if place and tensor.endswith(("image", "image_embeddings")):
            batch, channel, row, column = place.split(", ")
            turned = f"`[{batch}, {row}, {column}, {channel}]`"
        shown = f"{value:d}" if isinstance(value, int) else f"{value:.{2 if kind(name) in ('image', CENTRE) else 4}f}"
        lines.append(f"| `{name}` | {turned} | {shown} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print the table, or how far bundles are from it."""
    expected = measure(reference())
    if not arguments:
        print(table(expected))
    for path in arguments:
        bundle = Bundle.open(path)
        found = measure(load_backend(bundle), bundle.manifest)
        print(path, {kind: f"{error:.1e}" for kind, error in largest_differences(found, expected).items()})


if __name__ == "__main__":
    main(sys.argv[1:])
