"""Computes elementwise and row-wise functions of large arrays in chunks that fit a core's cache, one thread per core.

A function of several numpy calls on an array of 0.8 GB is bound by memory: each call reads all of it and allocates a
temporary of 0.8 GB. In chunks, the temporaries stay in the cache. Threads help because numpy's loops release the GIL.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from sam_edge_runtime.arrays import Array
from sam_edge_runtime.system.cores import usable_cores

CHUNK = 1 << 15  # values, 128 kB as float32
_LEAST_FOR_THREADS = 1 << 18  # values; of fewer, threads cost more than they save
_PARTS_PER_THREAD = 4  # so that no thread waits long for the slowest
_THREADS = usable_cores()


def in_chunks(function: Callable[[Array], Array], x: Array, kept: int = 0, out: Array | None = None) -> Array:
    """`function(x)` as float32, computed in chunks of the leading axes.

    Args:
        function: takes and returns arrays (n, *last `kept` axes); it may write to its argument only if `out` is `x`.
        x: any array; it is copied if it is not contiguous.
        kept: number of last axes that the function needs whole.
        out: array for the result, contiguous and of x's shape; `x` itself is allowed.
    """
    if x.size <= CHUNK and out is None:
        whole = (-1, *x.shape[x.ndim - kept :])
        return np.asarray(function(x.reshape(whole)), np.float32).reshape(x.shape) if x.size else x
    result = np.empty(x.shape, np.float32) if out is None else out
    inner = x.shape[x.ndim - kept :]
    source, target = x.reshape(-1, *inner), result.reshape(-1, *inner)
    step = max(CHUNK // max(int(np.prod(inner)), 1), 1)

    def work(first: int, last: int) -> None:
        with np.errstate(all="ignore"):  # a thread does not inherit the caller's
            for start in range(first, last, step):
                part = slice(start, min(start + step, last))
                target[part] = function(source[part])

    _in_threads(work, len(source), step, x.size)
    return result


def _in_threads(work: Callable[[int, int], None], count: int, step: int, size: int) -> None:
    """Call `work` with ranges that cover 0 to `count`, of multiples of `step`; on threads if `size` is large enough."""
    if _THREADS == 1 or size < _LEAST_FOR_THREADS:
        work(0, count)
        return
    each = -(-count // (step * _THREADS * _PARTS_PER_THREAD)) * step
    starts = range(0, count, each)
    # A new pool each time: the threads of a global one would not exist in a forked process.
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, starts, (min(start + each, count) for start in starts)))
