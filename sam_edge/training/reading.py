"""Read examples ahead in worker processes, and report their errors in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from torch.utils.data import DataLoader

from sam_edge.data.order import Steps
from sam_edge.data.stream import Example, TrainingSet
from sam_edge_runtime.errors import DataError, SamEdgeError
from sam_edge_runtime.system.cores import usable_cores

from .batch import RawBatch, collate
from .interrupt import leave_to_parent

MOST_WORKERS = 8
_LAST_LINE = re.compile(r"^[\w.]+Error: (.*)$")


def default_workers() -> int:
    """Number of worker processes of each training process: half of its share of the cores, from 1 to 8.

    Workers decode and crop photos. The other half of the cores is for the model, or free where the model is on a GPU.
    """
    cores = usable_cores()
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")  # launchers of several processes set it
    return max(1, min(MOST_WORKERS, cores // (2 * (int(processes) if processes.isdigit() and int(processes) else 1))))


def read_steps(data: TrainingSet, steps: Steps, workers: int) -> Iterator[RawBatch]:
    """Yield this process's examples of each step; they are the same for any number of workers.

    Raises:
        DataError: a draw found no usable record, or a worker process was killed.
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
    except SamEdgeError as error:  # torch has put the worker's traceback into the message
        last_line = _LAST_LINE.match(error.original.strip().splitlines()[-1])
        if last_line is None or "Traceback" not in str(error):
            raise
        raise type(error)(last_line[1]) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            "a worker process that reads photos was killed, probably for lack of memory: resume with --resume and "
            "fewer --workers"
        ) from error
