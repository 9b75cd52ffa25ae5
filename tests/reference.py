"""PyPI's segment-anything 1.0, importable without torchvision.

The reference imports four names of torchvision, which has no CPU build beside the CPU torch: `resize` and
`to_pil_image` to resize the photo, `batched_nms` and `box_area` in the automatic mask generator. The stand-ins below
are what those functions do for the arguments that the reference passes: Pillow's own bilinear resize (torchvision hands
PIL pictures to `Image.resize`) and a greedy suppression in torch. They sit in `sys.modules` only while the package is
being imported, so that nothing else believes torchvision to be installed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image


def reference_bbox(mask: npt.NDArray[np.bool_]) -> list[float]:
    """The `bbox` that segment_anything writes for a mask `(H, W)`: x, y, width, height."""
    import_segment_anything()
    amg = importlib.import_module("segment_anything.utils.amg")
    bbox: list[float] = amg.box_xyxy_to_xywh(amg.batched_mask_to_box(torch.from_numpy(mask))).tolist()
    return bbox


def resize(picture: Image.Image, size: Sequence[int]) -> Image.Image:
    """`picture` as height, width `size`, by Pillow's antialiased bilinear filter."""
    height, width = size
    return picture.resize((width, height), Image.Resampling.BILINEAR)


def to_pil_image(pixels: npt.NDArray[np.uint8]) -> Image.Image:
    """An (H, W, 3) uint8 array as an RGB picture."""
    return Image.fromarray(np.ascontiguousarray(pixels))


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """Areas (N) of boxes (N, 4) as x0, y0, x1, y1."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def batched_nms(boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Indices of the boxes kept, best score first; a box falls to a better one of its group by IoU above the bound."""
    order = torch.sort(scores, descending=True, stable=True).indices
    kept: list[int] = []
    while order.numel():
        best, rest = order[0], order[1:]
        kept.append(int(best))
        top_left = torch.maximum(boxes[best, :2], boxes[rest, :2])
        bottom_right = torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        overlap = (bottom_right - top_left).clamp(min=0).prod(dim=1)
        union = box_area(boxes[best][None]) + box_area(boxes[rest]) - overlap
        falls = (overlap / union > iou_threshold) & (idxs[rest] == idxs[best])
        order = rest[~falls]
    return torch.tensor(kept, dtype=torch.int64)


def _stand_ins() -> dict[str, ModuleType]:
    """The modules of torchvision that the reference imports from, with the four functions in place."""
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    names += ("torchvision.ops", "torchvision.ops.boxes")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    for function in (resize, to_pil_image):
        setattr(modules["torchvision.transforms.functional"], function.__name__, function)
    for function in (batched_nms, box_area):
        setattr(modules["torchvision.ops.boxes"], function.__name__, function)
    return modules


def import_segment_anything() -> ModuleType:
    """The reference package, with `modeling`, `utils.transforms`, `predictor` and `automatic_mask_generator` loaded."""
    loaded = sys.modules.get("segment_anything")
    if loaded is not None:
        return loaded
    stand_ins = _stand_ins()
    before = {name: sys.modules[name] for name in stand_ins if name in sys.modules}
    sys.modules.update(stand_ins)
    try:
        return importlib.import_module("segment_anything")
    finally:
        for name in stand_ins:
            del sys.modules[name]
        sys.modules.update(before)
