"""The wall itself: what code inside can see, do and use up."""

import dataclasses
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import sandboxes
import torch
from sandboxes import SHORT, ask

from course_pkg.grading import sandbox, seccomp
from course_pkg.grading.sandbox import Broken, Kind, Limits, Sandbox

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="not run: needs Linux")
pytestmark = linux_only


@pytest.fixture(scope="module")
def box():
    with Sandbox(sandboxes.kind(), SHORT) as made:
        yield made


@pytest.fixture(scope="module")
def cold():
    """A process for each order, as where bubblewrap cannot make namespaces inside."""
    kind = sandboxes.kind()
    if kind.name != "bubblewrap":
        pytest.skip("not run: no bubblewrap")
    plain = dataclasses.replace(kind, warm=False, uids=False)
    with Sandbox(plain, SHORT) as made:
        yield made


@pytest.fixture(params=["box", "cold"])
def any_box(request):
    return request.getfixturevalue(request.param)


def test_it_computes_what_this_process_computes(any_box):
    x = torch.randn(3, 4, dtype=torch.float64)
    got = ask(any_box, "import torch\ndef answer(x): return torch.softmax(x, -1), x.sum()", x)
    # The processor's widest instructions may be used on one side only.
    assert torch.allclose(got[0], torch.softmax(x, -1), rtol=1e-12)
    assert torch.allclose(got[1], x.sum(), rtol=1e-12)


def test_gradients_and_optimizers_work_in_a_fork(any_box):
    cell = """
import torch
def answer(x):
    layer = torch.nn.Linear(4, 1)
    torch.nn.init.ones_(layer.weight)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    layer(x).sum().backward()
    optimizer.step()
    return layer.weight.grad
"""
    x = torch.randn(3, 4)
    assert torch.allclose(ask(any_box, cell, x), x.sum(0, keepdim=True))


def test_there_is_no_environment_but_a_home(any_box):
    seen = ask(any_box, "import os\ndef answer(): return dict(os.environ), os.getcwd()")
    assert set(seen[0]) <= {"HOME"}
    assert seen[1] == "/home/student"


def test_the_system_is_read_only_and_shows_nothing_of_this_machine(any_box):
    cell = """
import os
def answer():
    found, writable = [], []
    for folder, folders, files in os.walk("/"):
        if folder.count("/") > 3 or folder.startswith(("/proc", "/dev", "/sys")):
            folders.clear()
        found += [os.path.join(folder, name) for name in (*folders, *files)][:50]
        if folder not in ("/tmp", "/home/student", "/home") and os.access(folder, os.W_OK):
            try:
                open(os.path.join(folder, "x"), "w")
                writable.append(folder)
            except OSError:
                pass
    return found[:2000], writable
"""
    found, writable = ask(any_box, cell)
    assert writable == []
    tops = {path.split("/")[1] for path in found}
    assert tops <= {"usr", "lib", "lib64", "lib32", "opt", "proc", "dev", "tmp", "home"}
    text = "\n".join(found)
    assert "course_pkg/checks" not in text
    assert "solutions" not in text
    assert str(Path(__file__).parents[1]) not in text


def test_secrets_of_this_machine_cannot_be_read(any_box, tmp_path):
    canary = tmp_path / "canary"
    canary.write_text("SECRET")
    cell = f"""
def answer():
    got = []
    for path in ({str(canary)!r}, "/etc/shadow", "/etc/passwd", "/proc/1/environ", "/root"):
        try:
            got.append(open(path).read())
        except OSError as error:
            got.append(type(error).__name__)
    return got
"""
    got = ask(any_box, cell)
    assert all(name.endswith("Error") for name in got), got


def test_nothing_of_the_package_is_there_but_what_an_order_brings(any_box):
    cell = """
import importlib
def answer():
    got = {}
    for name in ("course_pkg.checks.ch03", "course_pkg.gpt", "course_pkg.grading.grader",
                 "llms_from_scratch", "transformers", "tokenizers", "nbgrader", "pyseccomp"):
        try:
            importlib.import_module(name)
            got[name] = True
        except ImportError:
            got[name] = False
    return got
"""
    assert not any(ask(any_box, cell).values())


def test_no_network_of_any_kind(any_box):
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen()
    server.settimeout(0.1)
    port = server.getsockname()[1]
    cell = f"""
import socket
def answer():
    got = []
    for family, kind, address in (
        (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", {port})),
        (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", {port})),
        (socket.AF_INET6, socket.SOCK_STREAM, ("::1", {port})),
        (socket.AF_UNIX, socket.SOCK_STREAM, "\\0abstract"),
    ):
        try:
            socket.socket(family, kind).connect(address)
            got.append("connected")
        except OSError as error:
            got.append(type(error).__name__)
    return got
"""
    got = ask(any_box, cell)
    with pytest.raises(TimeoutError):
        server.accept()
    server.close()
    # A datagram socket "connects" without sending; with a filter there is no socket at all.
    assert got[0] != "connected"
    assert got[2:] == ["PermissionError"] * 2 or "connected" not in got[2:]


def test_it_has_no_rights(any_box):
    cell = """
import ctypes, os, struct
def answer():
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = struct.pack("<II", 0x20080522, 0), ctypes.create_string_buffer(24)
    libc.capget(header, data)
    return os.getuid(), os.getgroups(), data.raw, libc.prctl(39, 0, 0, 0, 0)
"""
    uid, groups, rights, no_new_privileges = ask(any_box, cell)
    assert rights == bytes(24)
    assert no_new_privileges == 1
    if any_box.kind.uids:
        assert uid >= 900_000
        assert groups == []


@pytest.mark.skipif(seccomp.program() is None, reason="not run: no libseccomp")
def test_the_filter_stops_processes_and_rare_calls(any_box):
    cell = """
import ctypes, os, threading
def answer():
    got = {}
    def attempt(name, run):
        try:
            got[name] = run()
        except OSError as error:
            got[name] = type(error).__name__
    attempt("fork", os.fork)
    attempt("exec", lambda: os.execv("/opt/python/bin/python3", ["python3"]))
    attempt("spawn", lambda: os.posix_spawn("/opt/python/bin/python3", ["python3"], {}))
    libc = ctypes.CDLL(None, use_errno=True)
    for name, number in (("unshare", 272), ("ptrace", 101), ("bpf", 321), ("io_uring", 425),
                         ("keyctl", 250), ("userfaultfd", 323), ("mount", 165)):
        libc.syscall(number, 0, 0, 0, 0, 0)
        got[name] = ctypes.get_errno()
    thread = threading.Thread(target=got.setdefault, args=("thread", "ran"))
    thread.start()
    thread.join()
    return got
"""
    got = ask(any_box, cell)
    assert got.pop("thread") == "ran"
    assert got.pop("fork") == got.pop("exec") == got.pop("spawn") == "PermissionError"
    if os.uname().machine == "x86_64":
        assert set(got.values()) == {1}, got


def test_the_processes_of_one_order_are_alone(box):
    if not box.kind.warm:
        pytest.skip("not run: needs a warm sandbox")
    cell = "import os\ndef answer(): return os.getpid(), os.getppid(), os.path.exists('/proc/self')"
    pid, parent, has_proc = ask(box, cell)
    assert (pid, parent, has_proc) == (2, 1, False)


def test_nothing_stays_for_the_next_order(any_box):
    leave = """
import os
def answer():
    for folder in ("/tmp", "/home/student", "/dev/shm"):
        with open(folder + "/MALLORY", "w") as file:
            file.write("here")
    import torch
    torch.softmax = None
    return os.listdir("/tmp")
"""
    look = """
import os, torch
def answer():
    found = [f for d in ("/tmp", "/home/student", "/dev/shm") for f in os.listdir(d)]
    return found, torch.softmax is None
"""
    assert "MALLORY" in ask(any_box, leave)
    assert ask(any_box, look) == ([], False)


@pytest.mark.parametrize(
    ("name", "cell", "said"),
    [
        ("loop", "def answer():\n    while True: pass", "OutOfTime"),
        (
            "loop that catches everything",
            "def answer():\n  while True:\n    try:\n      while True: pass\n"
            "    except BaseException: pass",
            "OutOfTime",
        ),
        ("exit", "import os\ndef answer(): os._exit(0)", "exit code 0"),
        ("crash", "import ctypes\ndef answer(): ctypes.string_at(0)", "SIGSEGV"),
        ("abort", "import os\ndef answer(): os.abort()", "SIGABRT"),
        ("memory", "def answer(): return len(bytearray(1 << 40))", "MemoryError"),
        (
            "much memory",
            "import torch\ndef answer(): return torch.ones(1 << 33).sum()",
            "RuntimeError",
        ),
        (
            "disk",
            "def answer():\n  with open('/tmp/x', 'wb') as f:\n    f.write(bytes(1 << 30))",
            "SIGXFSZ|OSError",
        ),
        (
            "files",
            "def answer():\n  for i in range(10000): open(f'/tmp/{i}', 'w').close()",
            "OSError",
        ),
        (
            "descriptors",
            "def answer():\n  return [open('/dev/null') for _ in range(999)]",
            "OSError",
        ),
        (
            "threads",
            "import threading, time\ndef answer():\n  for _ in range(999):\n"
            "    threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
            "RuntimeError",
        ),
        ("flood", "def answer(): return bytes(1 << 27)", "^bytes$"),  # told, and not sent
    ],
)
def test_what_uses_up_the_machine_is_stopped(box, name, cell, said):
    got = ask(box, cell, time_limit=1.0, cell_limit=1.0)
    assert re.search(said, str(got)), got
    assert ask(box, "def answer(): return 1") == 1  # the next order does not notice


def test_what_cannot_be_interrupted_is_stopped_by_the_clock():
    limits = dataclasses.replace(SHORT, wall=4.0)
    cell = "import ctypes\ndef answer(): ctypes.CDLL(None).pause(); ctypes.CDLL(None).sleep(99)"
    blocked = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n" + cell
    with Sandbox(sandboxes.kind(), limits) as box:
        got = ask(box, blocked)
        assert "its time was over" in got or "SIGXCPU" in got, got
        assert ask(box, "def answer(): return 1") == 1


def test_a_killed_sandbox_starts_again(box):
    if not box.kind.warm:
        pytest.skip("not run: needs a warm sandbox")
    assert ask(box, "def answer(): return 1") == 1
    box._process.kill()
    assert ask(box, "def answer(): return 2") == 2


def test_closing_leaves_no_process(box):
    with Sandbox(sandboxes.kind(), SHORT) as other:
        ask(other, "def answer(): return 1")
        started = other._process
    if started is not None:
        assert started.poll() is not None


def test_the_code_does_not_outlive_the_one_who_waits(tmp_path):
    """bubblewrap dies with its parent, and takes what it holds along."""
    marker = tmp_path / "pid"
    program = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}]
import pathlib, sandboxes
from course_pkg.grading.sandbox import Sandbox
with Sandbox(sandboxes.kind(), sandboxes.SHORT) as box:
    box.start()
    pid = box._process.pid if box._process else 0
    marker = pathlib.Path({str(marker)!r})
    marker.with_suffix(".new").write_text(str(pid))
    marker.with_suffix(".new").rename(marker)
    box.run(sandboxes.order("import time\\ndef answer(): time.sleep(60)", time_limit=60.0))
"""
    if not sandboxes.kind().warm:
        pytest.skip("not run: needs a warm sandbox")
    process = subprocess.Popen([sys.executable, "-c", program])
    try:
        while not marker.exists() and process.poll() is None:
            time.sleep(0.05)
        inside = psutil.Process(int(marker.read_text()))
    finally:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs([inside], timeout=20)
    # Where a process of ours adopts orphans, it stays as a zombie until that one looks.
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


# Which sandbox


def test_without_any_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ValueError, match=r"Install bubblewrap .*--unsafe grades without"):
        sandbox.find()


def test_one_that_is_there_and_does_not_work_is_not_taken(monkeypatch, tmp_path):
    for name in ("bwrap", "docker", "podman"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'setting up uid map: Permission denied' >&2\nexit 1\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ValueError, match="setting up uid map: Permission denied"):
        sandbox.find()


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_unsafe_is_refused_in_ci(value):
    with pytest.raises(ValueError, match="--unsafe is not allowed in CI"):
        sandbox.find(unsafe=True, environment={"CI": value})


def test_unsafe_must_be_asked_for_and_says_what_it_is():
    kind = sandbox.find(unsafe=True, environment={})
    assert kind.name == "unsandboxed"
    assert "nothing is stopped" in kind.not_covered[0]


def test_unsafe_runs_an_answer_all_the_same():
    with Sandbox(Kind("unsandboxed"), SHORT) as box:
        assert ask(box, "def answer(x): return x + 1", 41) == 42


@pytest.mark.parametrize("name", ["docker", "podman"])
def test_a_container_gets_the_same_wall(name, monkeypatch, tmp_path):
    """The command is carried out by a stand-in, which keeps to the mounts that it is given."""
    if shutil.which("bwrap") is None:
        pytest.skip("not run: no bubblewrap")
    stand_in = tmp_path / name
    stand_in.write_text(_STAND_IN)
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "log"))
    kind = Kind(name, filtered=seccomp.program() is not None)
    with Sandbox(kind, SHORT) as box:
        assert ask(box, "def answer(x): return x + 1", 41) == 42
    said = (tmp_path / "log").read_text()
    for option in (
        "--network none",
        "--read-only",
        "--cap-drop ALL",
        "--security-opt no-new-privileges",
        "--user 65534:65534",
        "--pids-limit",
        "--memory",
    ):
        assert option in said


_STAND_IN = f"""#!{sys.executable}
import os, sys
arguments = sys.argv[1:]
if arguments[0] == "run":
    open(os.environ["STAND_IN_LOG"], "w").write(" ".join(arguments))
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--clearenv", "--proc", "/proc",
               "--dev", "/dev", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib",
               "--symlink", "usr/lib64", "/lib64"]
    rest = iter(arguments[1:])
    for word in rest:
        if word == "--volume":
            here, there, _ = next(rest).rsplit(":", 2)
            command += ["--ro-bind", here, there]
        elif word == "--tmpfs":
            command += ["--tmpfs", next(rest).partition(":")[0]]
        elif word == "--env":
            command += ["--setenv", *next(rest).split("=", 1)]
        elif word == "--workdir":
            command += ["--chdir", next(rest)]
        elif not word.startswith("--") and word.startswith("/"):
            os.execvp("bwrap", [*command, "--", word, *rest])
"""


def test_a_sandbox_that_never_starts_is_nobody_elses_fault(monkeypatch):
    kind = dataclasses.replace(sandboxes.kind(), warm=True)
    monkeypatch.setattr(sandbox, "_bubblewrap", lambda kind, control: ["false"])
    with Sandbox(kind, SHORT) as box, pytest.raises(Broken, match="did not start"):
        box.run(sandboxes.order("def answer(): return 1"))


def test_the_limits_leave_room_for_the_guest():
    limits = Limits.around(cell_limit=60.0, time_limit=10.0)
    assert limits.cpu > 70
    assert limits.wall > 2 * limits.cpu


def test_who_closes_the_way_back_and_goes_on_is_stopped_soon(monkeypatch):
    monkeypatch.setattr(sandbox, "_LINGER", 0.5)
    cell = "import os, time\ndef answer():\n    os.close(3)\n    time.sleep(99)"
    with Sandbox(sandboxes.kind(), SHORT) as box:
        if not box.kind.warm:
            pytest.skip("not run: needs a warm sandbox")
        reply = box.run(sandboxes.order(cell, time_limit=100.0))
        assert (reply.content, reply.ended, reply.killed) == (b"", "it was stopped", False)
        assert ask(box, "def answer(): return 1") == 1
