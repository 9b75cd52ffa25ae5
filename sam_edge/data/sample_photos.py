"""A few photos that are on the machine without a download: those of scikit-image's wheel.

They are free to use (public domain, CC0, or without known restrictions; the docstrings of `skimage.data` say so of
each), and far too few and too small to stand for SA-1B: good for a demo, not for a claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.system.files import write_file


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
# Photos of things as cameras see them, two of them grey: what quantizers see where nobody names other photos.
PHOTOS: tuple[str, ...] = (
    *(sample.name for sample in SAMPLES),
    "camera.png",
    "coins.png",
    "rocket.jpg",
)


def sample_paths() -> list[Path]:
    """Where `PHOTOS` lie.

    Raises:
        UsageError: scikit-image is not installed.
    """
    folder = _folder()
    return [folder / name for name in PHOTOS]


def copy_samples(folder: Path) -> list[Path]:
    """Put the photos of `SAMPLES` into `folder`, which is made if need be; those that are there already stay.

    Raises:
        UsageError: scikit-image is not installed.
        OutputError: they cannot be written.
    """
    source = _folder()
    paths = []
    for sample in SAMPLES:
        path = folder / sample.name
        if not path.exists():
            write_file(path, (source / sample.name).read_bytes(), overwrite=False)
        paths.append(path)
    return paths


def _folder() -> Path:
    found = find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise UsageError("the sample photos come with scikit-image: pip install 'sam-edge[demo]'")
    return Path(found.submodule_search_locations[0]) / "data"
