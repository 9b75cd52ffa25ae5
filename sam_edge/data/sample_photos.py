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
class DemoPrompt:
    """Prompts for one thing in a photo, in pixels.

    Attributes:
        name: of the folder of its results.
        photo: file name.
        says: the prompts and the thing, in a few words.
        points: x, y and label of each click: 1 inside, 0 outside.
        box: x0, y0, x1, y1; None for clicks alone.
        shortcoming: what nano gets wrong here; empty where its mask is right.
    """

    name: str
    photo: str
    says: str
    points: tuple[tuple[int, int, int], ...] = ()
    box: tuple[int, int, int, int] | None = None
    shortcoming: str = ""


# nano's masks were looked at: what it does well, and one of what it does not.
DEMO_PROMPTS: tuple[DemoPrompt, ...] = (
    DemoPrompt("cat", "chelsea.png", "one click on the cat", points=((220, 170, 1),)),
    DemoPrompt("cup", "coffee.png", "a box around the cup", box=(165, 8, 425, 250)),
    DemoPrompt("head", "astronaut.png", "a box around the head", box=(165, 5, 305, 200)),
    DemoPrompt("helmet", "astronaut.png", "a box around the helmet", box=(275, 345, 511, 511)),
    DemoPrompt(
        "astronaut",
        "astronaut.png",
        "a box around the whole astronaut",
        box=(0, 2, 430, 510),
        shortcoming="the mask takes parts of the wall, the flag and the rocket along",
    ),
)
DEMO_PHOTOS: tuple[str, ...] = tuple(dict.fromkeys(prompt.photo for prompt in DEMO_PROMPTS))
# Calibration photos where the user names none: camera pictures of objects, two of them grey.
PHOTOS: tuple[str, ...] = (*DEMO_PHOTOS, "camera.png", "coins.png", "rocket.jpg")


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
    for name in DEMO_PHOTOS:
        path = folder / name
        if not path.exists():
            write_file(path, (source / name).read_bytes(), overwrite=False)
        paths.append(path)
    return paths


def _folder() -> Path:
    found = find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise UsageError("the sample photos come with scikit-image: pip install 'sam-edge[demo]'")
    return Path(found.submodule_search_locations[0]) / "data"
