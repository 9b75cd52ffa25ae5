"""Examples read ahead by other processes, and what goes wrong in them said in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from torch.utils.data import DataLoader

from sam_edge.data.order import Steps
from sam_edge.data.stream import Example, TrainingSet
from sam_edge_runtime.errors import DataError, SamEdgeError
from sam_edge_runtime.system.cores import usable_cores

from .batch import Reading, collate
from .interrupt import leave_to_parent

MOST_WORKERS = 8
_LAST_LINE = re.compile(r"^[\w.]+Error: (.*)$")


def default_workers() -> int:
    """Reading processes beside each training process: half of its share of the cores, from 1 to 8.

    They only decode and crop; the other half is for the model, or for the machine's other work where that is on a GPU.
    """
    cores = usable_cores()
    beside = os.environ.get("LOCAL_WORLD_SIZE", "")  # launchers of several processes set it
    return max(1, min(MOST_WORKERS, cores // (2 * (int(beside) if beside.isdigit() and int(beside) else 1))))


def read_steps(data: TrainingSet, steps: Steps, workers: int) -> Iterator[Reading]:
    """This process's examples of each step, the same for any number of workers.

    Raises:
        DataError: a draw found no usable record, or a reading process was ended.
    """
    loader: DataLoader[Example] = DataLoader(
        data,
        batch_sampler=steps,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=leave_to_parent,
        persistent_workers=False,
        prefetch_factor=2 if workers else None,
    )
    try:
        yield from loader
    except SamEdgeError as error:  # torch has put the reading process's traceback into its text
        found = _LAST_LINE.match(str(error).strip().splitlines()[-1])
        if found is None or "Traceback" not in str(error):
            raise
        raise type(error)(found[1]) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            "a process that reads photos was ended, most likely for want of memory: go on with --resume and fewer "
            "--workers"
        ) from error
