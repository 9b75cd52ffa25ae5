"""Large arrays in blocks that fit a core's cache, on a thread per core: numpy's loops let go of Python's lock.

A function of a few steps over an array of 0.8 GB is bound by memory when each step walks all of it, and makes a
temporary of 0.8 GB a step. Over blocks the steps meet in the cache. What is lost is one line of clarity a caller.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sam_edge_runtime.arrays import Array
from sam_edge_runtime.system.cores import usable_cores

BLOCK = 1 << 15  # numbers, 128 kB as float32
_WORTH_THREADS = 1 << 18  # numbers below which threads cost more than they bring
_PIECES = 4  # a thread, so that none waits long for the slowest
_THREADS = usable_cores()


def in_blocks(function: Callable[[Array], Array], x: Array, kept: int = 0, out: Array | None = None) -> Array:
    """`function(x)` as float32, computed a block of leading axes at a time.

    Args:
        function: takes and gives arrays (n, *last `kept` axes); may not write into what it is given unless `out` is it.
        x: any array; a copy is made of one that is not contiguous.
        kept: how many of the last axes the function needs whole.
        out: where to write, contiguous and of x's shape; `x` itself is fine.
    """
    if x.size <= BLOCK and out is None:
        whole = (-1, *x.shape[x.ndim - kept :])
        return np.asarray(function(x.reshape(whole)), np.float32).reshape(x.shape) if x.size else x
    result = np.empty(x.shape, np.float32) if out is None else out
    inner = x.shape[x.ndim - kept :]
    source, target = x.reshape(-1, *inner), result.reshape(-1, *inner)
    step = max(BLOCK // max(int(np.prod(inner)), 1), 1)

    def work(first: int, last: int) -> None:
        with np.errstate(all="ignore"):  # a thread does not inherit the caller's
            for start in range(first, last, step):
                part = slice(start, min(start + step, last))
                target[part] = function(source[part])

    _shared(work, len(source), step, x.size)
    return result


def _shared(work: Callable[[int, int], None], count: int, step: int, size: int) -> None:
    """Calls `work` with parts of 0 to `count`, whole multiples of `step` apart; on threads where they pay."""
    if _THREADS == 1 or size < _WORTH_THREADS:
        work(0, count)
        return
    each = -(-count // (step * _THREADS * _PIECES)) * step
    starts = range(0, count, each)
    # A new pool each time: one kept for good would be dead in a forked process.
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, starts, (min(start + each, count) for start in starts)))
