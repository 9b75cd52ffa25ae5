"""The files of a loop. What is there is done: each step writes its result whole, and a killed run goes on behind it.

OUT/loop.json                the loop; another one is refused
OUT/start.json               evaluation of the first weights
OUT/01-manual/queue/         the round's photos, and the true masks for the simulated annotator
OUT/01-manual/bundle/        the model that annotators use, for their page
OUT/01-manual/existing/      semi-automatic: the confident masks
OUT/01-manual/masks/         the masks that people or the simulated annotator saved, with the photos: a data set
OUT/01-manual/shards/        automatic: SA-1B's shards
OUT/01-manual/work.json      seconds a mask, masks a photo, masks a minute
OUT/01-manual/train/         the run of the training; its model.safetensors is the round's model
OUT/01-manual/round.json     work and evaluation: the round is complete
OUT/report.json, report.html, loop.png
OUT/.lock                    of the process that runs the loop
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_edge.training.files import WEIGHTS_FILE
from sam_edge_runtime.errors import OutputError
from sam_edge_runtime.system.documents import json_text, parse_json, read_json
from sam_edge_runtime.system.files import is_staging, write_file
from sam_edge_runtime.system.folders import is_litter

from .stages import AUTOMATIC, SEMI_AUTOMATIC

if sys.platform != "win32":
    import fcntl
if TYPE_CHECKING:
    from .loop import Loop

LOCK_FILE, LOOP_FILE, START_FILE, ROUND_FILE, WORK_FILE = ".lock", "loop.json", "start.json", "round.json", "work.json"
FORMAT, VERSION = "sam-edge-engine", 1


@dataclass(frozen=True)
class RoundFolder:
    """The files of one round.

    Attributes:
        path: its folder.
        number: from 1.
        stage: of the round.
    """

    path: Path
    number: int
    stage: str

    @property
    def queue(self) -> Path:
        """The queue: `photos/`, `given/` and `queue.json`."""
        return self.path / "queue"

    @property
    def bundle(self) -> Path:
        """The model in use."""
        return self.path / "bundle"

    @property
    def existing(self) -> Path:
        """Confident masks of the semi-automatic stage."""
        return self.path / "existing"

    @property
    def masks(self) -> Path:
        """The round's data set."""
        return self.path / ("shards" if self.stage == AUTOMATIC else "masks")

    @property
    def train(self) -> Path:
        """The run of the training."""
        return self.path / "train"

    @property
    def weights(self) -> Path:
        """The round's model."""
        return self.train / WEIGHTS_FILE

    def read(self, name: str) -> dict[str, Any] | None:
        """A document of the round; None where it is not written yet.

        Raises:
            OutputError: it is damaged.
        """
        return read_document(self.path / name)

    def steps(self) -> dict[str, bool]:
        """The round's steps in order, and whether each is done."""
        existing = {"confident masks": (self.path / "existing.json").exists()} if self.stage == SEMI_AUTOMATIC else {}
        return {
            "photos": self.queue.exists(),
            "bundle": self.bundle.exists(),
            **existing,
            "masks": (self.path / WORK_FILE).exists(),
            "training": self.weights.exists(),
            "evaluation": (self.path / ROUND_FILE).exists(),
        }


def rounds_of(stages: Iterable[str], out: Path) -> tuple[RoundFolder, ...]:
    """The folders of a loop's rounds, by their stages."""
    return tuple(
        RoundFolder(out / f"{number:02d}-{stage}", number, stage) for number, stage in enumerate(stages, start=1)
    )


def read_document(path: Path) -> dict[str, Any] | None:
    """A JSON object that a loop wrote; None where there is no file.

    Raises:
        OutputError: it is damaged.
    """
    try:
        document = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read ({error}): remove it, and run the command again") from error
    if not isinstance(document, dict):
        raise OutputError(f"{path} holds no object: remove it, and run the command again")
    return document


def write_document(path: Path, document: dict[str, Any]) -> None:
    """Write a JSON object, whole or not at all."""
    write_file(path, json_text(document).encode(), overwrite=True)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep other processes from running a loop in the same folder; the lock ends with the process, however it ends.

    Windows has no such lock.

    Raises:
        OutputError: another process runs a loop there.
    """
    if sys.platform == "win32":
        yield
        return
    with (out / LOCK_FILE).open("w") as file:
        try:
            # Unlike flock's, this lock is not inherited by processes that read photos, which may outlive a killed run.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                f"another `sam-edge engine run` works in {out}: wait for it, or choose another --out"
            ) from error
        yield


def settle(loop: Loop, out: Path) -> None:
    """Write the loop to its folder, or compare it with the one that is there.

    Raises:
        OutputError: the folder holds something else, or another loop.
    """
    wanted = {"format": FORMAT, "version": VERSION, "loop": loop.to_json()}
    there = read_document(out / LOOP_FILE)
    if there is None:
        if out.exists() and (not out.is_dir() or not all(is_staging(p) or is_litter(p.name) for p in out.iterdir())):
            raise OutputError(f"{out} exists and holds no loop of sam-edge: choose another --out")
        write_document(out / LOOP_FILE, wanted)
        return
    if there.get("format") != FORMAT or not isinstance(there.get("loop"), dict):
        raise OutputError(f"{out / LOOP_FILE} is not sam-edge's: choose another --out")
    for name, value in parse_json(json_text(wanted["loop"])).items():
        if there["loop"].get(name) != value:
            raise OutputError(
                f"{out} holds another loop, whose {name} is {there['loop'].get(name)!r:.200} and not {value!r:.200}: "
                "choose another --out, or run the loop that is there"
            )
