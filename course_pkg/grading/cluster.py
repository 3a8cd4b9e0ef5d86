"""Orders carried out by the workers of an existing Dask cluster, in the same sandbox there.

The journal and every verdict stay on the machine that grades: a worker gets an order as bytes and
gives a reply back as bytes. Needs the extra ``cluster``.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from course_pkg.grading import sandbox
from course_pkg.grading.grader import Runner, run_surely
from course_pkg.grading.sandbox import Kind, Limits, Reply, Sandbox

_CONNECT_LIMIT = 30  # seconds


@contextlib.contextmanager
def connect(address: str, limits: Limits) -> Iterator[tuple[Kind, list[Runner]]]:
    """A kind that every worker has, and a runner for each of the cluster's threads.

    Args:
        address: the scheduler's, such as ``tcp://10.0.0.5:8786``.
        limits: of each order.

    Raises:
        ValueError: Dask is not installed, nobody answers at the address, the cluster has no
            worker, or a worker has no sandbox that works.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ValueError(
            "--executor=dask needs Dask: pip install 'gpt-piece-by-piece[cluster]'."
        ) from None
    try:
        client = Client(address, timeout=_CONNECT_LIMIT, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ValueError(f"--scheduler={address} does not answer: {error}.") from error
    with client:
        workers: Mapping[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            raise ValueError(f"--scheduler={address}: the cluster has no worker.")
        found = client.run(_kind_here, on_error="return")
        for worker, kind in found.items():
            if not isinstance(kind, Kind):
                raise ValueError(f"the worker {worker} cannot grade: {kind}")
        # The least of them is what can be said of the whole run.
        least = min(found.values(), key=lambda kind: (kind.warm, kind.uids, kind.filtered))
        threads = sum(worker["nthreads"] for worker in workers.values())

        def run(order: bytes) -> Reply:
            # The same order may have another reply: it is not to be taken from the last time.
            return client.submit(carry_out, order, limits, pure=False).result()

        yield least, [run] * threads


def carry_out(order: bytes, limits: Limits) -> Reply:
    """Carry out an order on the worker that this runs on; each of its threads has a sandbox."""
    box = getattr(_local, "box", None)
    if box is None or box.limits != limits:
        if box is not None:
            box.close()
        _local.box = box = Sandbox(_kind_here(), limits)
    return run_surely(box, order)


def _kind_here() -> Kind:
    with _lock:
        if not _kinds:
            _kinds.append(sandbox.find())
        return _kinds[0]


_local = threading.local()
_lock = threading.Lock()
_kinds: list[Kind] = []
