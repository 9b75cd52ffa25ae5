"""A few photos without a download: those in scikit-image's wheel.

They are free to use (public domain, CC0, or without known restrictions, by the docstrings of `skimage.data`). They are
too few and too small to represent SA-1B: good for a demo, not for measuring accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sam_edge_runtime.errors import UsageError
from sam_edge_runtime.system.files import write_file


@dataclass(frozen=True)
class DemoPhoto:
    """A photo, and a point and a box that prompt the same object in it, in pixels.

    Attributes:
        name: file name.
        thing: the object.
        point: x, y.
        box: x0, y0, x1, y1.
    """

    name: str
    thing: str
    point: tuple[int, int]
    box: tuple[int, int, int, int]


DEMO_PHOTOS: tuple[DemoPhoto, ...] = (
    DemoPhoto("chelsea.png", "the cat", (220, 170), (40, 5, 425, 298)),
    DemoPhoto("coffee.png", "the cup", (300, 210), (165, 12, 425, 320)),
    DemoPhoto("astronaut.png", "the astronaut", (210, 390), (0, 2, 430, 510)),
)
# Calibration photos where the user names none: camera pictures of objects, two of them grey.
PHOTOS: tuple[str, ...] = (
    *(photo.name for photo in DEMO_PHOTOS),
    "camera.png",
    "coins.png",
    "rocket.jpg",
)


def sample_paths() -> list[Path]:
    """The paths of `PHOTOS`.

    Raises:
        UsageError: scikit-image is not installed.
    """
    folder = _folder()
    return [folder / name for name in PHOTOS]


def copy_samples(folder: Path) -> list[Path]:
    """Copy the photos of `DEMO_PHOTOS` to `folder`, which is created if missing. Existing files are kept.

    Raises:
        UsageError: scikit-image is not installed.
        OutputError: they cannot be written.
    """
    source = _folder()
    paths = []
    for photo in DEMO_PHOTOS:
        path = folder / photo.name
        if not path.exists():
            write_file(path, (source / photo.name).read_bytes(), overwrite=False)
        paths.append(path)
    return paths


def _folder() -> Path:
    found = find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise UsageError("the sample photos come with scikit-image: pip install 'sam-edge[demo]'")
    return Path(found.submodule_search_locations[0]) / "data"
