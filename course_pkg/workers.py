"""The same work on many items in several processes, with the results in the order of the items.

Processes are spawned on every platform: a forked copy of a process that has threads, as one that
uses PyTorch has, may hang.
"""

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_work: Any = None  # of a worker: what it does with an item


def usable_cores() -> int:
    """The number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_workers(workers: int) -> None:
    """Refuse what is no number of processes.

    Raises:
        ValueError: ``workers`` is not an integer of at least 1.
    """
    if not isinstance(workers, int) or workers < 1:
        raise ValueError(f"workers={workers!r} is not allowed: it is an integer of at least 1.")


def ordered_map(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    """``work(item)`` for each item, in the order of the items.

    At most two items for each worker are taken from ``items`` before their results are given, so
    ``items`` may be a generator over more than fits into memory. Close what this returns
    (``contextlib.closing``): on an error or Ctrl-C, the processes then end with the items in work.

    Args:
        work: a function of a module, or an object that can be called; each worker gets it once,
            pickled.
        items: what to work on; pickled too.
        workers: the number of processes. With 1 the work is done in this one.

    Raises:
        ValueError: ``workers`` is not an integer of at least 1.
        ChildProcessError: a worker ended before its work was done, as when it is killed.
        Exception: whatever ``work`` raises on the first item on which it does.
    """
    check_workers(workers)
    if workers == 1:
        return (work(item) for item in items)
    return _in_processes(work, items, workers)


def _in_processes(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result, None, None]:
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin, (work,))
    waiting: deque[Future[Result]] = deque()
    remaining = iter(items)
    try:
        while True:
            for item in itertools.islice(remaining, 2 * workers - len(waiting)):
                waiting.append(pool.submit(_do, item))
            if not waiting:
                break
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a worker process ended before its work was done. If it was killed for lack of memory,"
            " use fewer workers. A script that starts workers must do so below"
            ' `if __name__ == "__main__":`.'
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(work: Callable[[Any], Any]) -> None:
    global _work
    # Ctrl-C in a terminal reaches every process; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _work = work


def _end_with_parent() -> None:
    """A parent that was killed sends nothing any more, and its worker would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(item: Any) -> Any:
    return _work(item)
