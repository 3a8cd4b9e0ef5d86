"""A time limit on code that runs in this process."""

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TypeVar, no_type_check

T = TypeVar("T")

# One exception may be swallowed by the very code that it should stop, so it is raised again.
_AGAIN = 0.1
PATIENCE = 6.0


class OutOfTime(BaseException):
    """Raised inside code that ran too long; not an ``Exception``, which that code may catch."""


class Stopwatch:
    """Seconds since it was made, of this process's own work.

    On a busy machine the clock runs on while others have the processor. What only waits is counted
    too, at one second in ``patience``; with a patience of 1 the clock alone counts.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._clock, self._work = time.monotonic(), time.process_time()

    def seconds(self) -> float:
        clock, work = time.monotonic() - self._clock, time.process_time() - self._work
        return max(min(clock, work), clock / self._patience)


def call_within(seconds: float, function: Callable[[], T], patience: float = PATIENCE) -> T:
    """``function()``, interrupted by ``OutOfTime`` once a ``Stopwatch`` shows ``seconds``.

    In the main thread a timer signal interrupts sleeping and waiting too, and a loop that catches
    every exception. In other threads, and on Windows, only Python code that lets the exception
    through is interrupted. Neither stops a single long call into a library.

    Raises:
        OutOfTime: the time was up.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and hasattr(signal, "setitimer"):
        return _by_signal(seconds, function, patience)
    return _by_thread(seconds, function, patience)


# In both, nothing stands between the call and `active = False` where the interpreter would deliver
# a late exception: from there on none is raised. The tests' type checks would stand there.


@no_type_check
def _by_signal(seconds: float, function: Callable[[], T], patience: float) -> T:
    active = True
    swallowed = False
    old_tracer = sys.gettrace()
    base = sys._getframe()
    watch = Stopwatch(patience)

    def handle(_: int, frame: FrameType | None) -> None:
        nonlocal swallowed
        if not active or watch.seconds() < seconds:
            return
        if swallowed:
            _raise_in_handlers_too(frame, base)
        swallowed = True
        raise OutOfTime

    old_handler = signal.signal(signal.SIGALRM, handle)
    old_delay, old_interval = signal.getitimer(signal.ITIMER_REAL)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), _AGAIN)
        return function()
    finally:
        active = False
        signal.setitimer(signal.ITIMER_REAL, old_delay, old_interval)
        signal.signal(signal.SIGALRM, old_handler or signal.SIG_DFL)
        sys.settrace(old_tracer)


@no_type_check
def _raise_in_handlers_too(frame: FrameType | None, base: FrameType) -> None:
    """Raise once more on the next line that runs: that of the ``except`` which swallows it all."""

    def tracer(_: FrameType, event: str, __: object) -> Callable[..., object] | None:
        if event == "line":
            raise OutOfTime
        return None if event == "call" else tracer  # not in what is called from here on

    while frame is not None and frame is not base:
        frame.f_trace = tracer
        frame = frame.f_back
    sys.settrace(tracer)


@no_type_check
def _by_thread(seconds: float, function: Callable[[], T], patience: float) -> T:
    active = True
    thread_id = ctypes.c_ulong(threading.get_ident())
    ended = threading.Event()
    lock = threading.Lock()
    stopwatch = Stopwatch(patience)

    def watch() -> None:
        delay = seconds
        while not ended.wait(delay):
            delay = _AGAIN
            with lock:
                if active and stopwatch.seconds() >= seconds:
                    error = ctypes.py_object(OutOfTime)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread_id, error)

    watcher = threading.Thread(target=watch, name="time limit", daemon=True)
    try:
        watcher.start()
        return function()
    finally:
        active = False
        for _ in range(2):
            try:
                with lock:  # one that is still on its way must not arrive after this
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(thread_id, None)
            except OutOfTime:  # it has just arrived
                pass
        ended.set()
