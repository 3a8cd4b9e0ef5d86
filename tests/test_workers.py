"""Processes that share work: order, bounds, errors, and that none outlives its parent."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import psutil
import pytest

from course_pkg.workers import ordered_map, usable_cores


def add(amount: int, item: int) -> int:
    if item < 3:  # the first take longest
        time.sleep(0.2)
    return item + amount


def refuse_seven(item: int) -> int:
    if item >= 7:
        raise ValueError(f"item {item}")
    return item


def die_at_three(item: int) -> int:
    if item == 3:
        os._exit(9)
    return item


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers: int) -> None:
    assert list(ordered_map(partial(add, 10), iter(range(20)), workers)) == list(range(10, 30))
    assert list(ordered_map(partial(add, 10), [], workers)) == []
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_is_raised_as_it_is(workers: int) -> None:
    results = ordered_map(refuse_seven, range(30), workers)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match=r"^item 7$"):
        next(results)
    assert not multiprocessing.active_children()


def test_items_are_taken_only_as_results_are_given() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(1, 101):
            taken = number
            yield number

    results = ordered_map(partial(add, 0), items(), 2)
    for number in range(1, 21):
        assert next(results) == number
        assert taken <= number + 4
    results.close()
    assert taken < 30
    assert not multiprocessing.active_children()


def test_a_worker_that_ends_is_reported() -> None:
    with pytest.raises(ChildProcessError, match="worker process ended before its work was done"):
        list(ordered_map(die_at_three, range(30), 2))
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("workers", [0, -1])
def test_a_number_of_workers_is_at_least_one(workers: int) -> None:
    with pytest.raises(ValueError, match=rf"workers={workers} is not allowed"):
        ordered_map(partial(add, 0), [], workers)


def test_there_is_a_core_to_use() -> None:
    assert 1 <= usable_cores() <= os.cpu_count()


ENDLESS = """
import itertools, multiprocessing, sys
from course_pkg import BPETokenizer

def texts():
    for number in itertools.count():
        if number == 200:
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        yield "the cat sat on the mat. " * 10_000

if __name__ == "__main__":
    BPETokenizer.train_from_iterator(texts(), 300, workers=2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize("how", ["to all, as in a terminal", "to the parent", "kill"])
def test_no_worker_outlives_its_parent(tmp_path, how: str) -> None:
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    assert len(children) == 2
    if how == "kill":
        process.kill()
    elif how == "to the parent":
        process.send_signal(signal.SIGINT)
    else:
        os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    if how != "kill":
        assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


def test_a_script_without_its_guard_is_told_so(tmp_path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "from course_pkg import BPETokenizer\n"
        "BPETokenizer.train_from_iterator(['the cat'] * 5, 258, workers=2)\n",
        encoding="utf-8",
    )
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert run.returncode == 1
    assert "ChildProcessError" in run.stderr and 'if __name__ == "__main__":' in run.stderr
