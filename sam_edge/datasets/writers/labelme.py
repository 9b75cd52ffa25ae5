"""LabelMe's layout: a JSON file for each photo. Masks are shapes of type `mask`, or polygons of one group."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from sam_edge.data.foreign.labelme import CROWD
from sam_edge.data.sa1b import Annotation
from sam_edge.datasets.entries import Entry
from sam_edge_runtime.automatic import rle as runs
from sam_edge_runtime.photo.write import png_bytes

from .coco import segmentation
from .format import POLYGONS, RLE, UNNAMED, Writer

_VERSION = "5.5.0"  # of LabelMe, the first whose shapes of type `mask` are read as they are here


class LabelMeWriter(Writer):
    """Writes `KEY.json`, and photos beside it."""

    masks = (RLE, POLYGONS)

    def add(self, entry: Entry) -> None:
        """Write an entry."""
        file_name = self.write_photo(entry, "")
        shapes = [shape for index, each in enumerate(entry.masks) for shape in self._shapes(each, index)]
        height, width = entry.size
        document: dict[str, Any] = {
            "version": _VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": file_name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        self.write(f"{entry.stem}.json", json.dumps(document, indent=1).encode())

    def finish(self) -> None:
        """Nothing is left to do."""

    def _shapes(self, annotation: Annotation, index: int) -> list[dict[str, Any]]:
        common = {
            "label": annotation.name or UNNAMED,
            "description": "",
            "flags": {CROWD: True} if annotation.crowd else {},
        }
        if self.form == POLYGONS and not annotation.crowd:
            polygons = segmentation(annotation, POLYGONS, self.loss)
            group = index if len(polygons) > 1 else None
            return [
                {
                    **common,
                    "points": [list(point) for point in zip(flat[::2], flat[1::2], strict=True)],
                    "group_id": group,
                    "shape_type": "polygon",
                    "mask": None,
                }
                for flat in polygons
            ]
        self.loss.add(1.0)
        mask = runs.decode(annotation.rle)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
        part = png_bytes(np.ascontiguousarray(mask[top : bottom + 1, left : right + 1]))
        return [
            {
                **common,
                "points": [[float(left), float(top)], [float(right), float(bottom)]],
                "group_id": None,
                "shape_type": "mask",
                "mask": base64.b64encode(part).decode(),
            }
        ]
