"""The wall: a process that runs strangers' code and can do nothing else.

bubblewrap makes it where a real trial works, as root and as a normal user; otherwise Docker or
Podman; otherwise there is none, and ``find`` says what to install. ``Kind`` says which, and what it
does not cover. A ``Sandbox`` carries out one order at a time and gives the reply back as bytes that
mean nothing yet.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from course_pkg.grading import guest, orders, seccomp, wire

KINDS = ("bubblewrap", "docker", "podman", "unsandboxed")
KindName = Literal["bubblewrap", "docker", "podman", "unsandboxed"]
# Any with a C library that is new enough, and libffi: Python itself comes from outside.
IMAGE = f"python:{sys.version_info.major}.{sys.version_info.minor}-slim"
_PYTHON, _SITE, _GRADER = "/opt/python", "/opt/site", "/opt/grader"
LATE = "it was still running when its time was over"
_START_LIMIT = 120.0  # seconds, to import PyTorch on a busy machine
_FIRST_UID, _UIDS = 900_000, 60_000
_DISTRIBUTIONS = ("torch", "numpy", "regex", "safetensors")
_TRIES = 3  # of an order that is killed
_LINGER = 5.0  # seconds from the end of a reply to the end of what sent it
_FILES = 128 * 2**20  # bytes of a folder that can be written


@dataclasses.dataclass(frozen=True)
class Limits:
    """What an order may use.

    Attributes:
        wall: seconds by the clock; then everything is stopped.
        cpu: seconds of processor time.
        memory: bytes of address space.
        threads: at once.
        folder: bytes in each of the folders that can be written, and of a file.
        reply: bytes.
    """

    wall: float = 240.0
    cpu: int = 120
    memory: int = 4 * 2**30
    threads: int = 32
    folder: int = 64 * 2**20
    reply: int = wire.MAX_BYTES

    @classmethod
    def around(cls, cell_limit: float, time_limit: float) -> "Limits":
        """Limits for a cell and the calls of its answer, with room for the guest's own work.

        The guest itself stops what exceeds its time and says where; these stop what will not be
        stopped. A busy machine gets more time by the clock.
        """
        seconds = cell_limit + time_limit
        return cls(wall=10 + 2.5 * seconds, cpu=int(seconds) + 10)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A way to keep code in, as a trial on this machine found it.

    Attributes:
        name: which.
        warm: PyTorch is imported once and not for every order.
        uids: the code gets a user of its own.
        filtered: a seccomp filter is loaded.
    """

    name: KindName
    warm: bool = False
    uids: bool = False
    filtered: bool = False
    image: str = IMAGE

    @property
    def not_covered(self) -> tuple[str, ...]:
        """What this does not stop, in words."""
        if self.name == "unsandboxed":
            return ("nothing is stopped: the code can do what you can do on this machine",)
        told = [
            "a fault of the kernel itself: all code on a machine shares it",
            "what can be told from how long something takes",
        ]
        if not self.filtered:
            told.append("rare system calls: there is no seccomp filter (libseccomp is missing)")
        if not self.uids:
            told.append("the code runs as the user who grades, in namespaces of its own")
        return tuple(told)


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came back from an order: bytes, or how it ended without any.

    ``ended`` is one line for the student: ``None`` where the reply came in time. ``killed`` says
    that something killed it, and not for a limit: nobody can tell whether that was its own doing.
    """

    content: bytes
    ended: str | None = None
    killed: bool = False
    seconds: float = 0.0


class Broken(RuntimeError):  # noqa: N818 -- it says what happened to a sandbox
    """A sandbox does not do what it should. It is not the fault of the code inside."""


class NotStarted(Broken):
    """A sandbox did not start: no order was in it."""


# What is inside


def mounts() -> list[tuple[str, str]]:
    """What can be seen inside, read only: pairs of a path here and the path there."""
    paths = sysconfig.get_paths()
    executable = Path(sys.executable).resolve()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    pairs = [
        (str(executable), f"{_PYTHON}/bin/python3"),
        (paths["stdlib"], f"{_PYTHON}/lib/{version}"),
        (guest.__file__, f"{_GRADER}/guest.py"),
        (wire.__file__, f"{_GRADER}/wire.py"),
    ]
    dynamic = Path(sysconfig.get_config_var("DESTSHARED") or "")  # on some systems in lib64
    if dynamic.is_dir() and not dynamic.is_relative_to(paths["stdlib"]):
        pairs.append((str(dynamic), f"{_PYTHON}/lib/{version}/lib-dynload"))
    shared = Path(sysconfig.get_config_var("LIBDIR") or "") / (
        sysconfig.get_config_var("INSTSONAME") or ""
    )
    if shared.is_file() and shared.suffix != ".a":
        pairs.append((str(shared), f"{_PYTHON}/lib/{shared.name}"))
    pairs += [(str(path), f"{_SITE}/{path.name}") for path in _site_files()]
    package = Path(__file__).parents[1]
    for folder in ("corpora", "models"):
        pairs.append((str(package / folder), f"{orders.FOLDER}/course_pkg/{folder}"))
    return pairs


def _hidden() -> list[str]:
    """Folders inside that may hold more than is meant to be seen; they are made empty."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    hidden = []
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    for name in ("site-packages", "dist-packages"):
        if (stdlib / name).is_dir():
            hidden.append(f"{_PYTHON}/lib/{version}/{name}")
    hidden += [str(p) for p in Path("/usr/lib").glob("python3*/*-packages") if p.is_dir()]
    return hidden


@functools.cache
def _site_files() -> tuple[Path, ...]:
    """The files and folders of PyTorch, NumPy and regex, and of all that these need."""
    wanted, names = list(_DISTRIBUTIONS), set()
    found: dict[str, Path] = {}
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in names:
            continue
        names.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # a requirement of other platforms
            continue
        for file in distribution.files or ():
            top = file.parts[0]
            path = Path(str(distribution.locate_file(top)))
            if top not in ("..", "__pycache__") and path.exists():
                found[top] = path
        for requirement in distribution.requires or ():
            if "extra ==" not in requirement:
                wanted.append(re.split(r"[\s;\[<>=!~(]", requirement, maxsplit=1)[0])
    return tuple(path for _, path in sorted(found.items()))


def _environment() -> dict[str, str]:
    return {
        "HOME": "/home/student",
        "LANG": "C.UTF-8",
        "LD_LIBRARY_PATH": f"{_PYTHON}/lib",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "TZ": "UTC",
    }


def _config(kind: Kind, limits: Limits, first_uid: int) -> dict[str, Any]:
    program = seccomp.program() if kind.filtered else None
    return {
        "site": _SITE,
        "folder": orders.FOLDER,
        "modules": orders.base_modules(),
        "limits": dataclasses.asdict(limits),
        "first_uid": first_uid,
        "uids": _UIDS if kind.uids else 0,
        "filter": None if program is None else program.hex(),
    }


def _bubblewrap(kind: Kind, *, control: int | None) -> list[str]:
    """The command that starts the guest."""
    command = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv"]
    if not kind.uids:
        # As 0, bubblewrap makes a single user namespace, whose processes' numbers are then ours.
        number = "0" if kind.warm else "65534"
        command += ["--unshare-user", "--uid", number, "--gid", number]
    if not kind.warm:
        command += ["--disable-userns"]
    command += ["--cap-drop", "ALL"]
    if kind.warm:
        # To make namespaces for each order. None of it is left to the student's code.
        wanted = ["CAP_SYS_ADMIN", "CAP_SETPCAP"]
        if kind.uids:
            wanted += ["CAP_SETUID", "CAP_SETGID", "CAP_CHOWN", "CAP_KILL"]
        for capability in wanted:
            command += ["--cap-add", capability]
    for name in ("lib", "lib64", "lib32"):
        path, target = Path("/") / name, Path("/usr") / name
        if target.is_dir():
            command += ["--ro-bind", str(target), str(target)]
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            command += ["--ro-bind", str(path), str(path)]
    for folder in ("/opt", _PYTHON, f"{_PYTHON}/bin", f"{_PYTHON}/lib", _SITE, _GRADER):
        command += ["--dir", folder]  # these a user can enter
    for folder in (orders.FOLDER, f"{orders.FOLDER}/course_pkg"):
        command += ["--dir", folder]
    for here, there in mounts():
        command += ["--ro-bind", here, there]
    for folder in _hidden():
        command += ["--tmpfs", folder, "--remount-ro", folder]
    command += ["--proc", "/proc"] if kind.warm else []  # an order itself never sees it
    command += ["--dev", "/dev"]
    for folder in ("/tmp", "/home", "/dev/shm"):
        command += ["--size", str(_FILES), "--tmpfs", folder]
    if not kind.warm:
        command += ["--dir", "/home/student", "--chdir", "/home/student"]
    command += ["--remount-ro", "/", "--remount-ro", "/dev"]
    for name, value in _environment().items():
        command += ["--setenv", name, value]
    return [*command, "--", f"{_PYTHON}/bin/python3", *_guest(control)]


def _guest(control: int | None) -> list[str]:
    how = ["once"] if control is None else ["serve", str(control)]
    return ["-I", "-S", "-B", f"{_GRADER}/guest.py", *how]


def _container(kind: Kind, limits: Limits, name: str) -> list[str]:
    """The command for one order in a container of Docker or Podman."""
    command = [kind.name, "run", "--rm", "--interactive", "--name", name, "--pull", "never"]
    command += ["--network", "none", "--read-only", "--cap-drop", "ALL", "--ipc", "private"]
    command += ["--security-opt", "no-new-privileges", "--user", "65534:65534"]
    command += ["--pids-limit", str(limits.threads + 8), "--memory", str(limits.memory)]
    command += ["--memory-swap", str(limits.memory), "--log-driver", "none"]
    command += ["--ulimit", "nofile=256:256", "--ulimit", "nproc=1024:1024"]
    command += ["--ulimit", "core=0:0"]
    for folder in ("/tmp", "/home/student"):
        command += ["--tmpfs", f"{folder}:size={limits.folder},noexec,nosuid,nodev,mode=1777"]
    command += ["--workdir", "/home/student"]
    for name_, value in _environment().items():
        command += ["--env", f"{name_}={value}"]
    for here, there in mounts():
        command += ["--volume", f"{here}:{there}:ro"]
    for folder in _hidden():
        if folder.startswith(_PYTHON):
            command += ["--tmpfs", f"{folder}:ro,size=4k"]
    return [*command, kind.image, f"{_PYTHON}/bin/python3", *_guest(None)]


# Running


class Sandbox:
    """Carries out orders, one at a time.

    Args:
        kind: from ``find``.
        limits: of each order.
    """

    def __init__(self, kind: Kind, limits: Limits | None = None) -> None:
        self.kind = kind
        self.limits = limits or Limits()
        # Limits count a user's threads on the whole machine: sandboxes do not share users.
        self._first_uid = _FIRST_UID + secrets.randbelow(10_000) * _UIDS
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def run(self, order: bytes) -> Reply:
        """Carry out an order; one that was killed is carried out again.

        Raises:
            Broken: the sandbox could not be started, or did not answer, twice.
        """
        start = time.monotonic()
        for _ in range(_TRIES):
            reply = self._serve(order) if self.kind.warm else self._once(order)
            # Who kills itself late would take as long again.
            if not reply.killed or reply.seconds > self.limits.wall / 4:
                break
        return dataclasses.replace(reply, seconds=time.monotonic() - start)

    def close(self) -> None:
        """Stop everything that runs inside."""
        process, self._process = self._process, None
        control, self._control = self._control, None
        if control is not None:
            control.close()
        if process is not None:
            _kill(process)

    # One process that forks for each order

    def start(self) -> None:
        """Start the process that forks, if it does not run; ``run`` does so by itself.

        Raises:
            NotStarted: it does not start.
        """
        if not self.kind.warm or (self._process is not None and self._process.poll() is None):
            return
        self.close()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.set_inheritable(theirs.fileno(), True)
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                _bubblewrap(self.kind, control=theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                close_fds=True,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # to end all of it
            )
            theirs.close()
            self._control = ours
            config = json.dumps(_config(self.kind, self.limits, self._first_uid)).encode()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(config) + 65536)
            ours.settimeout(_START_LIMIT)
            try:
                ours.send(config)
                ready = _is_ready(self._process, ours)
            except OSError:
                ready = False
            if not ready:
                self.close()
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines()
                told = " / ".join(said[-3:]) or "no reason"
                raise NotStarted(f"the sandbox did not start: {told}")

    def _serve(self, order: bytes) -> Reply:
        for attempt in (1, 2):
            try:
                self.start()
            except NotStarted:  # it may have been killed from outside
                if attempt == 2:
                    raise
                continue
            try:
                return self._ask(order)
            except (OSError, ValueError) as error:
                # What forks is gone or does not answer: that too may have been done from outside.
                self.close()
                if attempt == 2:
                    raise Broken(f"the sandbox does not answer: {error}") from error
        raise AssertionError  # not reached

    def _ask(self, order: bytes) -> Reply:
        control = self._control
        if control is None:
            raise OSError("it is closed")
        start = time.monotonic()
        ours, theirs = os.pipe()
        try:
            with _in_memory(order) as descriptor:
                socket.send_fds(control, [b'{"run": true}'], [descriptor, theirs])
            os.close(theirs)
            theirs = -1
            content, problem = _read(ours, self.limits, time.monotonic() + self.limits.wall)
        finally:
            os.close(ours)
            if theirs >= 0:
                os.close(theirs)
        # Whoever closes the way back and goes on is stopped; a busy machine gets a moment.
        lingers = problem is None and not select.select([control], [], [], _LINGER)[0]
        if problem is not None or lingers:
            control.send(b'{"stop": true}')
        control.settimeout(30.0)
        told = json.loads(control.recv(65536))
        if "fault" in told:
            raise OSError(told["fault"])
        code = told.get("exit")
        killed = problem is None and not lingers and code in (None, -signal.SIGKILL)
        seconds = time.monotonic() - start
        return Reply(content, problem or _ending(code, bool(content)), killed, seconds)

    # A process for each order

    def _once(self, order: bytes) -> Reply:
        if self.kind.name == "bubblewrap":
            command = _bubblewrap(self.kind, control=None)
        elif self.kind.name == "unsandboxed":
            command = [sys.executable, "-I", "-S", "-B", guest.__file__, "once"]
        else:
            name = f"course-{os.getpid()}-{time.monotonic_ns()}"
            command = _container(self.kind, self.limits, name)
        config = _config(self.kind, self.limits, self._first_uid)
        if self.kind.name == "unsandboxed":
            config["site"] = str(importlib.metadata.distribution("torch").locate_file(""))
            config["folder"] = str(Path(__file__).parents[2])
        start = time.monotonic()
        first = json.dumps(config).encode() + b"\n"
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as errors:
            given.write(first + order)
            given.seek(0)
            ours, theirs = os.pipe()
            self._process = subprocess.Popen(
                command, stdin=given, stdout=theirs, stderr=errors, start_new_session=True
            )
            os.close(theirs)
            try:
                end = time.monotonic() + self.limits.wall + _START_LIMIT / 4
                content, problem = _read(ours, self.limits, end)
            finally:
                os.close(ours)
            code = None
            if problem is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    code = self._process.wait(10)
            self.close()
            if self.kind.name in ("docker", "podman") and problem is not None:
                subprocess.run([self.kind.name, "kill", name], capture_output=True, check=False)
            if not content and problem is None:
                errors.seek(0)
                said = errors.read(4000).decode(errors="replace")
                if "bwrap:" in said or code == 125:
                    raise Broken(f"the sandbox did not start: {said.strip()[:300]}")
        killed = problem is None and code in (None, -signal.SIGKILL, 128 + signal.SIGKILL)
        seconds = time.monotonic() - start
        return Reply(content, problem or _ending(code, bool(content)), killed, seconds)


def _is_ready(process: subprocess.Popen[bytes], control: socket.socket) -> bool:
    """Whether a sandbox has started. When its first process is gone another may hold the socket."""
    end = time.monotonic() + _START_LIMIT
    while process.poll() is None and time.monotonic() < end:
        if select.select([control], [], [], 0.1)[0]:
            return control.recv(4096) == b'{"ready": true}'
    return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and those of its session.

    bubblewrap's second process waits forever for a first one that was killed as soon as it began.
    """
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """A descriptor of a file in memory that holds ``content``."""
    descriptor = os.memfd_create("order")
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, limits: Limits, end: float) -> tuple[bytes, str | None]:
    """What comes until the other side is closed; and why it was not read to its end."""
    parts: list[bytes] = []
    size = 0
    while True:
        left = end - time.monotonic()
        if left <= 0:
            return b"", LATE
        ready, _, _ = select.select([descriptor], [], [], min(left, 60.0))
        if not ready:
            continue
        part = os.read(descriptor, 1 << 20)
        if not part:
            return b"".join(parts), None
        size += len(part)
        if size > limits.reply:
            return b"", "it sent more than a reply may hold"
        parts.append(part)


def _ending(code: int | None, replied: bool) -> str | None:
    """How the student's process ended, in words; nothing where it just replied."""
    if replied:
        return None
    if code is None:
        return "it was stopped"
    if code >= 0:
        return f"it ended Python, with exit code {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        why = {
            "SIGSEGV": "an invalid access to memory",
            "SIGXCPU": "too much processor time",
            "SIGKILL": "too little memory, perhaps",
            "SIGXFSZ": "too large a file",
        }
        return f"it crashed Python ({name}{': ' + why[name] if name in why else ''})"
    return f"it crashed Python (signal {-code})"


# Which there is


def find(*, unsafe: bool = False, environment: Mapping[str, str] = os.environ) -> Kind:
    """The best sandbox that works here, found by a real trial.

    Args:
        unsafe: run without any, on this machine, as this user.
        environment: where ``CI`` is looked up.

    Raises:
        ValueError: there is none, with what to install; or ``unsafe`` in CI.
    """
    if unsafe:
        if environment.get("CI", "") not in ("", "0", "false"):
            raise ValueError("--unsafe is not allowed in CI: nobody watches what the code does.")
        return Kind("unsandboxed")
    if sys.platform != "linux":
        reasons = [f"grading needs Linux, and this is {sys.platform}"]
    else:
        reasons = []
        for kind in _candidates():
            problem = trial(kind)
            if problem is None:
                return kind
            reasons.append(f"{kind.name}: {problem}")
    raise ValueError(
        "there is no sandbox here that works. Install bubblewrap (Debian, Ubuntu: apt install "
        "bubblewrap; Fedora: dnf install bubblewrap), or Docker or Podman with the image "
        f"{IMAGE}. Tried: {'; '.join(reasons)}. On Ubuntu 23.10 and later, AppArmor may have to "
        "allow bwrap user namespaces. --unsafe grades without a sandbox: every student's code can "
        "then do what you can do."
    )


def _candidates() -> Iterator[Kind]:
    filtered = seccomp.program() is not None
    is_root = os.geteuid() == 0
    if shutil.which("bwrap"):
        yield Kind("bubblewrap", warm=True, uids=is_root, filtered=filtered)
        yield Kind("bubblewrap", warm=False, uids=False, filtered=filtered)
    for name in ("docker", "podman"):
        if shutil.which(name):
            image = os.environ.get("COURSE_SANDBOX_IMAGE", IMAGE)
            yield Kind(name, filtered=filtered, image=image)  # type: ignore[arg-type]


def trial(kind: Kind) -> str | None:
    """Why a kind does not work here, in one line; ``None`` where an order was carried out."""
    order = wire.encode(
        {
            "exercise": "trial",
            "seed": 0,
            "folder": orders.FOLDER,
            "inert": [],
            "answer": "double",
            "form": ("the function double(x)", 1, False, False),
            "looks": [("course_pkg.checks.engine", "call", ("x",), [(21,)], None)],
            "given": [],
            "earlier": [],
            "modules": {},
            "time_limit": 10.0,
            "cell_limit": 10.0,
            "cell": "def double(x):\n    return 2 * x",
            "extras": [],
        }
    )
    with Sandbox(kind, Limits.around(10.0, 10.0)) as sandbox:
        try:
            reply = sandbox.run(order)
            seen = wire.decode(reply.content)["seen"] if reply.content else reply.ended
        except (Broken, OSError, ValueError, TypeError, KeyError) as error:
            return " ".join(str(error).split())[:300]
    return None if seen == [[("value", 42, ())]] else f"a trial gave {seen!r:.200}"
