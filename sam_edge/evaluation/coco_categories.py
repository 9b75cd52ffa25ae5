"""COCO's 80 categories and the numbers that its detectors write (cocodataset.org, instances_val2017.json)."""

from __future__ import annotations

from collections.abc import Iterable

# The numbers end at 90: ten were dropped before the release.
_UNUSED = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})
_NAMES = (
    "person",
    *("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench"),
    *("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
    *("backpack", "umbrella", "handbag", "tie", "suitcase"),
    *("frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove"),
    *("skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl"),
    *("banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake"),
    *("chair", "couch", "potted plant", "bed", "dining table", "toilet"),
    *("tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator"),
    *("book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)
COCO_NUMBERS = dict(zip(_NAMES, (number for number in range(1, 91) if number not in _UNUSED), strict=True))


def category_numbers(names: Iterable[str]) -> dict[str, int]:
    """Numbers of categories: COCO's own if all names are COCO's, else 1, 2, .. in alphabetical order."""
    wanted = sorted(set(names))
    if all(name in COCO_NUMBERS for name in wanted):
        return {name: number for name, number in COCO_NUMBERS.items() if name in wanted}
    return {name: number for number, name in enumerate(wanted, 1)}
