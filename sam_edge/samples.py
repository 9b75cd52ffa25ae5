"""A few photos that are on the machine without a download: those of scikit-image's wheel.

They are free to use (public domain or CC0; `skimage/data/README.txt` names each), and far too few and too small to
stand for SA-1B: good for a demo, not for a claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.files import write_file


@dataclass(frozen=True)
class Sample:
    """A photo and two prompts that mean the same thing in it, in pixels.

    Attributes:
        name: file name.
        thing: what the prompts are about.
        point: x, y.
        box: x0, y0, x1, y1.
    """

    name: str
    thing: str
    point: tuple[int, int]
    box: tuple[int, int, int, int]


SAMPLES: tuple[Sample, ...] = (
    Sample("chelsea.png", "the cat", (220, 170), (40, 5, 425, 298)),
    Sample("coffee.png", "the cup", (300, 210), (165, 12, 425, 320)),
    Sample("astronaut.png", "the astronaut", (210, 390), (0, 2, 430, 510)),
)


def copy_samples(folder: Path) -> list[Path]:
    """Put the sample photos into `folder`, which is made if need be; those that are there already stay.

    Raises:
        UsageError: scikit-image is not installed.
        OutputError: they cannot be written.
    """
    if find_spec("skimage") is None:
        raise UsageError("the sample photos come with scikit-image: pip install 'sam-edge[demo]'")
    source = files("skimage.data")
    paths = []
    for sample in SAMPLES:
        path = folder / sample.name
        if not path.exists():
            write_file(path, source.joinpath(sample.name).read_bytes(), overwrite=False)
        paths.append(path)
    return paths
