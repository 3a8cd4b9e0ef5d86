"""What runs in the sandbox: it runs a student's cell, looks at the answer and sends what it saw.

This file and ``wire`` are all that the sandbox gets of the package as files. What else an exercise
needs comes as text (``slices``). It is started in one of two ways:

``serve``: PyTorch is imported once, and each order is run by a fork of this process, in namespaces
of its own: processes, mounts, message queues and shared memory, host name. The fork is its pid 1's
child, with an own uid where there is one to give, without capabilities, and under limits and a
seccomp filter. When it is over, or when the one who waits says so, its pid 1 goes, and with it
everything that it started.

``once``: one order on standard input, one reply on standard output; for sandboxes that cannot make
namespaces inside.

Nothing here decides anything. A student's code shares this process and may change all of it: what
comes out is judged as data by somebody else.
"""

import contextlib
import ctypes
import importlib.abc
import importlib.machinery
import importlib.resources.abc
import json
import os
import select
import signal
import socket
import struct
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ORDER_LIMIT = 64 * 2**20  # bytes
_HOME = "/home/student"
_CLONE_NEWNS, _CLONE_NEWPID = 0x00020000, 0x20000000
_CLONE_NEWIPC, _CLONE_NEWUTS = 0x08000000, 0x04000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x4000, 1 << 18
_MS_RDONLY, _MS_REMOUNT, _MS_BIND = 1, 32, 4096
_MNT_DETACH = 2
_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 4, 22, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}


# The modules that come as text


class _FromText(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules from texts."""

    def __init__(self, texts: Mapping[str, str], folder: str) -> None:
        self._texts = dict(texts)
        self._folder = folder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self._texts:
            return None
        is_package = any(other.startswith(f"{name}.") for other in self._texts)
        spec = importlib.machinery.ModuleSpec(name, self, is_package=is_package)
        spec.origin = f"{self._folder}/{name.replace('.', '/')}.py"
        spec.has_location = True  # a module asks its own place for the files beside it
        return spec

    def create_module(self, spec: Any) -> None:
        return None

    def get_resource_reader(self, name: str) -> "_Files":
        return _Files(Path(self._folder) / name.replace(".", "/"))

    def exec_module(self, module: types.ModuleType) -> None:
        text = self._texts[module.__name__]
        exec(compile(text, str(module.__file__), "exec", dont_inherit=True), vars(module))


class _Files(importlib.resources.abc.TraversableResources):
    """The files that come with a package."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def files(self) -> Path:
        return self._folder


def load_modules(texts: Mapping[str, str], folder: str) -> None:
    """Let these modules be imported. One that is there already gets the new text's names."""
    sys.meta_path.insert(0, _FromText(texts, folder))
    for name in sorted(texts):
        if name in sys.modules:
            exec(compile(texts[name], name, "exec", dont_inherit=True), vars(sys.modules[name]))


# An order


class _Nothing:
    """Stands for what a cell may use but nobody looks at here: figures, ``display``."""

    def __getattr__(self, name: str) -> "_Nothing":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> "_Nothing":
        return self

    def __getitem__(self, key: Any) -> "_Nothing":
        return self

    def __iter__(self) -> Iterator["_Nothing"]:
        return iter(())


class _Inert(types.ModuleType):
    """A module that can be imported and does nothing."""

    __path__: Any = ()

    def __getattr__(self, name: str) -> _Nothing:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing()


# What a cell may import and nobody looks at here.
_INERT = ("IPython", "IPython.display", "matplotlib", "matplotlib.pyplot")


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """Run the cell of an order, look at the answer, and return what was seen as plain data."""
    from course_pkg.checks import engine

    load_modules(order["modules"], order["folder"])
    for inert in (*_INERT, "course_pkg.authoring", "course_pkg.authoring.figures"):
        sys.modules[inert] = _Inert(inert)
    sys.modules["course_pkg"].check = _Nothing()  # type: ignore[attr-defined]
    namespace, oddities, error = _run_cell(order)
    reply: dict[str, Any] = {"oddities": oddities, "error": error, "seen": None, "printed": ""}
    name = order["answer"]
    if name not in namespace:
        return reply
    reply["defined"] = True
    looks, by_number = {}, []
    for number, (module, target, names, calls, cases) in enumerate(order["looks"]):
        home = importlib.import_module(module)
        if calls is None:  # what cannot be sent is made here as it was made there
            calls = engine.draw(getattr(home, cases), order["seed"])
        looks[str(number)] = engine.Look(getattr(home, target), names, calls)
        by_number.append(str(number))
    recording = engine.record(
        engine.Form(*order["form"]),
        looks,
        namespace[name],
        seed=order["seed"],
        time_limit=order["time_limit"],
    )
    reply["problem"] = recording.problem
    reply["started"] = recording.started
    reply["printed"] = recording.printed
    if recording.seen:
        reply["seen"] = [[_entry(e) for e in recording.seen[number]] for number in by_number]
    return reply


def _entry(entry: Any) -> tuple[Any, ...]:
    from course_pkg.checks import engine

    if isinstance(entry, engine.Value):
        return "value", entry.data, tuple(entry.changed_inputs)
    return "raised", *_raised(entry)


def _raised(error: Any) -> tuple[Any, ...]:
    return (
        str(error.type_name),
        str(error.message),
        error.line_number,
        str(error.line)[:200],
        bool(error.in_answer),
        bool(error.out_of_time),
    )


def _run_cell(order: dict[str, Any]) -> tuple[dict[str, Any], list[str], tuple[Any, ...] | None]:
    """The names after the cell ran, what was odd, and what it raised."""
    import linecache

    from course_pkg.checks import engine, limits, notebooks
    from course_pkg.grading import slices

    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    namespace = vars(module)
    nothing = _Nothing()
    namespace.update(dict.fromkeys(order["inert"], nothing))
    namespace["get_ipython"] = lambda: None
    oddities: list[str] = []
    source, magics = order["cell"], []
    file = f"<your cell of {order['exercise']}>"
    linecache.cache[file] = (0, None, source.splitlines(keepends=True), file)

    def attempt(run: Any, *, reads: bool = False) -> tuple[Any, ...] | None:
        try:
            limits.call_within(order["cell_limit"], run)
        except SyntaxError as error:  # its own line is not where it was raised
            line = (error.text or "").strip()[:200]
            return "SyntaxError", str(error.msg), error.lineno, line, False, False
        except limits.OutOfTime as error:
            message = f"still running after {order['cell_limit']:g} seconds"
            name, _, *place = _raised(engine.raised_by(error))
            return name, message, *([None, "", False] if reads else place[:3]), True
        except (MemoryError, RecursionError, ValueError) as error:
            if reads:  # the line would be one of ours
                return type(error).__name__, "it cannot be read as Python", None, "", False, False
            return _raised(engine.raised_by(error))
        except BaseException as error:  # a cell may raise anything
            return _raised(engine.raised_by(error))
        return None

    parsed: list[Any] = []

    def parse() -> None:
        text, left_out = notebooks.without_magics(source)
        magics.extend(left_out)
        tree = notebooks.parse(text)
        parsed.extend(tree.body)
        helpers, used = needed(order, tree, slices)
        for where, statement in helpers:
            code = compile(_module([statement]), where, "exec", dont_inherit=True)
            try:
                exec(code, namespace)
            except Exception as error:  # the cell then says what it misses
                used.append(f"{where}: {type(error).__name__}: {error}"[:300])
        oddities.extend(used)

    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        error = attempt(parse, reads=True)
        if error is not None:
            return namespace, oddities, error
        oddities += [f"{magic[:40]} is for Jupyter and was left out" for magic in magics[:3]]

        def run_statements() -> None:
            for statement in parsed:
                exec(compile(_module([statement]), file, "exec", dont_inherit=True), namespace)

        error = attempt(run_statements)
    return namespace, oddities, error


def _module(statements: list[Any]) -> Any:
    import ast

    return ast.Module(statements, [])


def needed(order: Mapping[str, Any], tree: Any, slices: Any) -> tuple[list[Any], list[str]]:
    """The statements from elsewhere that a cell needs, in order, and what is odd about that.

    A name that the cell does not define itself is looked for in what the notebook gives, then
    among the answers to earlier exercises, whose references stand for them, then in other cells
    of the student's own.
    """
    places: list[tuple[str, list[Any]]] = []
    for text in order["given"]:
        places.append(("<given>", _statements(text)))
    for line in order["earlier"]:
        places.append(("<earlier>", _statements(line)))
    for number, text in enumerate(order["extras"], start=1):
        places.append((f"<another cell of yours, {number}>", _statements(text)))
    statements = [
        (number, place, name, node)
        for number, (place, body) in enumerate(places)
        for name, node in enumerate(body)
    ]
    binds = [set(slices.bound_by(node)) for *_, node in statements]
    own = {name for node in tree.body for name in slices.bound_by(node)}
    wanted = [name for name in slices.globals_of(tree) if name not in own]
    rank = {"<given>": 0, "<earlier>": 1}
    taken: set[int] = set()
    borrowed: set[str] = set()
    seen: set[str] = set(own)
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        found = [i for i, names in enumerate(binds) if name in names]
        if not found:
            continue
        best = min(rank.get(statements[i][1], 2) for i in found)
        for i in found:
            if rank.get(statements[i][1], 2) != best or i in taken:
                continue
            taken.add(i)
            if best == 2:
                borrowed.add(name)
            wanted += slices.globals_of(statements[i][3])
    used = [f"{name} comes from another cell" for name in sorted(borrowed)]
    return [(statements[i][1], statements[i][3]) for i in sorted(taken)], used


def _statements(text: str) -> list[Any]:
    """The statements of a text, each with one imported name; none where it is no Python."""
    import ast

    from course_pkg.checks import notebooks

    try:
        body = notebooks.parse(notebooks.without_magics(text)[0]).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    single: list[Any] = []
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                one = type(node)(**{**vars(node), "names": [alias]})
                single.append(one)
        else:
            single.append(node)
    return single


def answer_of(message: bytes) -> bytes:
    """The reply to an order, both as messages of ``wire``."""
    import wire

    from course_pkg.checks import compare

    try:
        reply = carry_out(wire.decode(message))
    except Exception as error:  # not of the cell nor of the answer: those are in the reply
        return wire.encode({"fault": f"{type(error).__name__}: {error}"[:1000]})
    try:
        return wire.encode(reply, opaque=compare.Opaque)
    except Exception:  # a student's object may do anything when it is looked at
        reply["seen"] = reply["seen"] and [
            [_sendable(entry, wire, compare) for entry in entries] for entries in reply["seen"]
        ]
    try:
        return wire.encode(reply, opaque=compare.Opaque)
    except Exception:  # each is small enough, and all together are not
        return wire.encode({**reply, "seen": None, "problem": "it returns more than can be sent."})


def _sendable(entry: tuple[Any, ...], wire: Any, compare: Any) -> tuple[Any, ...]:
    try:
        wire.encode(entry, opaque=compare.Opaque)
        return entry
    except Exception:
        return entry[0], compare.Opaque(type(entry[1]).__name__), *entry[2:]


# Once


def once() -> None:
    """The configuration, a line, and an order on standard input; the reply on standard output."""
    config = json.loads(sys.stdin.buffer.readline())
    message = sys.stdin.buffer.read(ORDER_LIMIT)
    reply_to = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    _warm(config, optimizers=False)
    _limit(config["limits"])
    os.environ.clear()
    if config.get("filter"):
        _filter(bytes.fromhex(config["filter"]))
    _write_all(reply_to, answer_of(message))
    os._exit(0)


# Serve


def serve(config: dict[str, Any], control: socket.socket) -> None:
    """Carry out orders until the other side goes away."""
    _prctl(_PR_SET_DUMPABLE, 0)
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    _warm(config, optimizers=True)
    control.send(b'{"ready": true}')
    number = 0
    while True:
        text, descriptors, _, _ = socket.recv_fds(control, 65536, 2)
        if not text:
            return
        if json.loads(text).get("run") is not True:
            continue  # to stop an order that is over already
        order, reply = descriptors
        number += 1
        try:
            told = _one(config, control, own, number, order, reply)
        except OSError as error:
            told = {"fault": f"{type(error).__name__}: {error}"}
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        control.send(json.dumps(told).encode())


def _one(
    config: dict[str, Any], control: socket.socket, own: int, number: int, order: int, reply: int
) -> dict[str, Any]:
    """Fork for an order and wait for the end, or for the word to stop."""
    theirs, ours = os.pipe()
    _unshare(_CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        try:
            control.close()
            os.close(theirs)
            os.close(own)
            _first(config, number, order, reply, ours)
        finally:
            os._exit(1)
    _setns(own, _CLONE_NEWPID)
    for descriptor in (ours, order, reply):
        os.close(descriptor)
    stopped = False
    sources: list[Any] = [theirs, control]
    while True:
        ready, _, _ = select.select(sources, [], [])
        if control in ready:
            if not control.recv(65536):
                os._exit(0)
            stopped = True
            os.kill(pid, signal.SIGKILL)
        if theirs in ready:
            told = os.read(theirs, 4096)
            os.close(theirs)
            os.waitpid(pid, 0)
            break
        if stopped:
            os.waitpid(pid, 0)
            os.close(theirs)
            told = b""
            break
    result = json.loads(told) if told else {}
    return {**result, "stopped": stopped}


def _first(config: dict[str, Any], number: int, order: int, reply: int, tell: int) -> None:
    """The first process of an order's namespaces: makes them, and waits for the student's code."""
    _unshare(_CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWUTS)
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    small = f"size={config['limits']['folder']},nr_inodes=2000"
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _mount("tmpfs", "/tmp", "tmpfs", flags, f"{small},mode=1777")
    _mount("tmpfs", "/dev/shm", "tmpfs", flags, f"{small},mode=1777")
    _mount("tmpfs", "/home", "tmpfs", flags, f"{small},mode=0755")
    uid = config["first_uid"] + number % config["uids"] if config["uids"] else None
    Path(_HOME).mkdir()
    if uid is not None:
        os.chown(_HOME, uid, uid)
    _unmount("/proc")
    os.chdir(_HOME)
    pid = os.fork()
    if pid == 0:
        try:
            _student(config, uid, order, reply)
        finally:
            os._exit(1)
    os.close(order)
    os.close(reply)
    _, status, usage = os.wait4(pid, 0)
    ended = {"exit": os.waitstatus_to_exitcode(status), "seconds": usage.ru_utime + usage.ru_stime}
    os.write(tell, json.dumps({**ended, "peak": usage.ru_maxrss}).encode())
    os._exit(0)


def _student(config: dict[str, Any], uid: int | None, order: int, reply: int) -> None:
    """The process that the student's code runs in."""
    message = _read_all(order)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    reply = os.dup2(reply, 3) if reply != 3 else 3
    os.closerange(4, 1024)
    _limit(config["limits"])
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
    for capability in range(64):
        with contextlib.suppress(OSError):
            _prctl(_PR_CAPBSET_DROP, capability)
    if uid is not None:
        os.setresuid(uid, uid, uid)
    with contextlib.suppress(OSError):
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _drop_capabilities()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    os.environ.clear()
    os.environ["HOME"] = _HOME
    if config.get("filter"):
        _filter(bytes.fromhex(config["filter"]))
    _write_all(reply, answer_of(message))
    os._exit(0)


def _warm(config: dict[str, Any], optimizers: bool) -> None:
    """Import what answers need, and let PyTorch do once what it does only the first time."""
    sys.path[:] = [path for path in sys.path if "python" in path] + [config["site"]]
    sys.path.append(str(Path(__file__).parent))
    import regex  # noqa: F401
    import safetensors.torch  # noqa: F401
    import torch
    import wire  # noqa: F401

    torch.set_num_threads(1)
    load_modules(config["modules"], config["folder"])
    from course_pkg.checks import engine, limits, notebooks, probes  # noqa: F401
    from course_pkg.grading import slices  # noqa: F401

    if optimizers:
        layer = torch.nn.Linear(2, 2)
        optimizer = torch.optim.AdamW(layer.parameters())
        torch.nn.functional.gelu(layer(torch.ones(1, 2))).sum().backward()
        optimizer.step()


def _limit(limits: Mapping[str, int]) -> None:
    import resource  # not everywhere where this module is imported

    for name, value in (
        ("RLIMIT_CORE", 0),
        ("RLIMIT_AS", limits["memory"]),
        ("RLIMIT_CPU", limits["cpu"]),
        ("RLIMIT_FSIZE", limits["folder"]),
        ("RLIMIT_NOFILE", 64),
        ("RLIMIT_NPROC", limits["threads"]),
        ("RLIMIT_MEMLOCK", 0),
        ("RLIMIT_MSGQUEUE", 0),
        ("RLIMIT_RTPRIO", 0),
        ("RLIMIT_NICE", 0),
    ):
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        capped = value if hard == resource.RLIM_INFINITY else min(value, hard)
        # A second after the first signal of too much work comes the one that cannot be caught.
        more = 1 if name == "RLIMIT_CPU" and capped == value and hard != value else 0
        resource.setrlimit(kind, (capped, capped + more))


# The system's calls that Python 3.11 has no names for

_libc: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _unshare(flags: int) -> None:
    _checked(_libc.unshare(flags), "unshare")


def _setns(descriptor: int, kind: int) -> None:
    _checked(_libc.setns(descriptor, kind), "setns")


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    given = [text.encode() for text in (source, target, kind)]
    result = _libc.mount(*given, ctypes.c_ulong(flags), data.encode() or None)
    _checked(result, f"mount {target}")


def _unmount(target: str) -> None:
    _checked(_libc.umount2(target.encode(), _MNT_DETACH), f"umount {target}")


def _prctl(option: int, one: int, two: Any = 0) -> None:
    long = ctypes.c_ulong
    _checked(_libc.prctl(option, long(one), two or long(0), long(0), long(0)), "prctl")


def _drop_capabilities() -> None:
    """Empty sets: version 3 of the header, two times 32 bits for each set."""
    header = struct.pack("<II", 0x20080522, 0)
    number = _SYS_CAPSET.get(os.uname().machine)
    if number is None:
        raise OSError(f"capset: its number on {os.uname().machine} is not known")
    _checked(_libc.syscall(number, header, bytes(24)), "capset")


def _filter(program: bytes) -> None:
    """Load a seccomp filter; it holds for this process and all that come from it."""
    buffer = ctypes.create_string_buffer(program, len(program))
    entry = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _prctl(_PR_SET_SECCOMP, 2, ctypes.create_string_buffer(entry, len(entry)))


def _read_all(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb") as file:
        return file.read(ORDER_LIMIT)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def main(arguments: Iterable[str]) -> None:
    """``serve FD`` or ``once``."""
    how, *rest = arguments
    if how == "serve":
        control = socket.socket(fileno=int(rest[0]))
        serve(json.loads(control.recv(2**20)), control)
    else:
        once()


if __name__ == "__main__":
    main(sys.argv[1:])
