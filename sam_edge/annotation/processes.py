"""Work in several processes that tell what they have done, and do not outlive their parent for long.

Each process has its own pipe, so that a killed one leaves no lock that others would wait for. A process whose parent
was killed ends when it next tells something.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from sam_edge.training.interrupt import leave_to_parent
from sam_edge_runtime.errors import DataError, SamEdgeError

Share = TypeVar("Share")
Send = Callable[[str, Any], None]  # tells an event: its kind, and what belongs to it
_END, _ERROR, _LOST = "end of the process", "error of the process", "process lost"


def events_of(
    work: Callable[[Share, Send], None], shares: Sequence[Share], *, remedy: str
) -> Iterator[tuple[str, Any]]:
    """Start a process for each share of some work, and yield the events that they tell.

    When the caller stops listening, the processes are ended.

    Args:
        work: function of a module, called with a share and with what tells events.
        shares: one for each process; they and the events are pickled.
        remedy: what the user can do when a process is killed, for the error.

    Raises:
        DataError: a process was killed, or its work raised a `SamEdgeError`.
    """
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, BaseProcess] = {}
    try:
        for share in shares:
            ours, theirs = context.Pipe(duplex=False)
            workers[ours] = context.Process(target=_run, args=(work, share, theirs))
            workers[ours].start()
            theirs.close()
        yield from _until_all_ended(workers, remedy)
    finally:
        for worker in workers.values():
            if worker.pid is not None:
                worker.terminate()
                worker.join()


def _until_all_ended(workers: Mapping[Connection, BaseProcess], remedy: str) -> Iterator[tuple[str, Any]]:
    waiting, lost = set(workers), []
    while waiting:
        ready = wait(list(waiting))
        for pipe in [each for each in waiting if each in ready]:
            try:
                kind, what = pipe.recv()
            except (EOFError, OSError):
                kind, what = _LOST, ""
            if kind == _ERROR:
                raise DataError(what)
            if kind in (_END, _LOST):
                waiting.remove(pipe)
                lost += [workers[pipe]] if kind == _LOST else []
            else:
                yield kind, what
    if lost:
        lost[0].join()
        raise DataError(f"{len(lost)} of {len(workers)} processes were killed (exit code {lost[0].exitcode}): {remedy}")


def _run(work: Callable[[Share, Send], None], share: Share, events: Connection) -> None:
    leave_to_parent(0)
    try:
        try:
            work(share, lambda kind, what: events.send((kind, what)))
            events.send((_END, ""))
        except SamEdgeError as error:
            events.send((_ERROR, str(error)))
    except BrokenPipeError:  # the parent has ended, and may have been started again
        return
