"""Code that never ends is stopped, and nothing of the stopping is left behind."""

import contextlib
import signal
import sys
import threading
import time

import pytest

from course_pkg.checks import limits
from course_pkg.checks.limits import OutOfTime, Stopwatch, call_within


def forever():
    while True:
        pass


def stubborn():
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


def asleep():
    time.sleep(600)


def in_a_thread(function):
    """What ``function`` returns or raises when it runs outside the main thread."""
    result = []

    def target():
        try:
            result.append(function())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    return result[0]


@pytest.mark.parametrize("function", [forever, stubborn, asleep])
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer signal")
def test_the_main_thread_is_interrupted(function):
    with pytest.raises(OutOfTime):
        call_within(0.05, function)


def test_another_thread_is_interrupted():
    assert isinstance(in_a_thread(lambda: call_within(0.05, forever)), OutOfTime)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer signal")
def test_tracing_is_put_back():
    before = sys.gettrace()
    with pytest.raises(OutOfTime):
        call_within(0.05, stubborn)
    assert sys.gettrace() is before


@pytest.mark.parametrize(
    ("clock", "work", "seconds"),
    [(10, 10, 10), (10, 1, 10 / 6), (12, 3, 3), (5, 20, 5), (60, 0, 10)],
)
def test_a_busy_machine_takes_no_time_from_anybody(monkeypatch, clock, work, seconds):
    now = [100.0, 7.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(limits.time, "process_time", lambda: now[1])
    watch = Stopwatch()
    now[:] = [100.0 + clock, 7.0 + work]
    assert watch.seconds() == pytest.approx(seconds)


def test_results_and_errors_come_through():
    assert call_within(60.0, lambda: 7) == 7
    assert in_a_thread(lambda: call_within(60.0, lambda: 7)) == 7
    with pytest.raises(KeyError):
        call_within(60.0, lambda: {}["key"])
    assert isinstance(in_a_thread(lambda: call_within(60.0, lambda: {}["key"])), KeyError)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer signal")
def test_timer_and_handler_are_put_back():
    def handle(*_):
        raise AssertionError("the timer of somebody else went off")

    before = signal.signal(signal.SIGALRM, handle)
    try:
        for function in (lambda: 1, forever):
            signal.setitimer(signal.ITIMER_REAL, 600)
            with contextlib.suppress(OutOfTime):
                call_within(0.02, function)
            assert signal.getsignal(signal.SIGALRM) is handle
            assert 590 < signal.getitimer(signal.ITIMER_REAL)[0] <= 600
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_nothing_is_raised_after_the_call():
    def often():
        for i in range(300):
            with contextlib.suppress(OutOfTime):
                call_within(0.0005, lambda i=i: sum(range(50 * i)))
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        return "unharmed"

    assert often() == "unharmed"
    assert in_a_thread(often) == "unharmed"
