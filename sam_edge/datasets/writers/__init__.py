"""Data sets in the formats of others. `WRITERS` is the table of what is written.

| file | what |
|---|---|
| `format` | what a writer is, and what several share |
| `sa1b` | shards as SA-1B's |
| `coco` | COCO and LVIS |
| `labelme` | LabelMe |
| `label_pictures` | Pascal VOC and Cityscapes |
"""

from __future__ import annotations

from .coco import CocoWriter, LvisWriter
from .format import Writer
from .label_pictures import CityscapesWriter, VocWriter
from .labelme import LabelMeWriter
from .sa1b import Sa1bWriter

WRITERS: dict[str, type[Writer]] = {
    "sa1b": Sa1bWriter,
    "coco": CocoWriter,
    "lvis": LvisWriter,
    "labelme": LabelMeWriter,
    "voc": VocWriter,
    "cityscapes": CityscapesWriter,
}
