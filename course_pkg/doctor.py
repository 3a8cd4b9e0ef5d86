"""Is this machine ready for the course? Facts are gathered, then judged.

``gather`` looks at the machine and changes nothing; ``examine`` decides from the facts alone.
Nothing here imports PyTorch: it is tried in a process of its own, so that one that cannot even be
imported is reported as such.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from course_pkg.files import MODELS

PACKAGE = "gpt-piece-by-piece"
# Where the course downloads from, if it is asked to: Shakespeare's text and GPT-2's weights.
HOSTS = ("raw.githubusercontent.com", "huggingface.co")

# Each says which files it is about, and their SHA-256 hashes.
RECORDS = ("corpora/stories.json", "models/story-1m/record.json")

State = Literal["ok", "warn", "bad"]

_DATA = MODELS.parent
_ROOT = _DATA.parent
_GB = 10**9
_TORCH_PROBE = """
import json, torch
if (torch.ones(64, 64) @ torch.ones(64, 64)).unique().tolist() != [64.0]:
    raise SystemExit("it multiplies matrices wrongly")
print(json.dumps({
    "version": torch.__version__,
    "capability": torch.backends.cpu.get_cpu_capability(),
    "threads": torch.get_num_threads(),
    "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
    "mps": torch.backends.mps.is_available(),
}))
"""
_SANDBOX_PROBES = {
    "bwrap": ("bwrap", "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", "true"),
    "docker": ("docker", "info", "--format", "{{.ServerVersion}}"),
    "podman": ("podman", "info", "--format", "{{.Version.Version}}"),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the report; ``mend`` is the command, or the words, that put it right."""

    name: str
    state: State
    text: str
    mend: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What was seen of the machine. Sizes are in bytes; ``None`` means that it cannot be told.

    Attributes:
        system: ``Linux``, ``Darwin`` or ``Windows``.
        installers: which of the package managers that we know are there.
        torch: what the probe printed, or the last line of its error.
        kernels: name of each kernel that Jupyter would start, and the Python that it runs.
        requirements: the packages that the course needs at all, without versions.
        installed: version by name, lower case, of every installed package.
        pins: version by name in ``requirements.txt``; ``None`` outside a checkout.
        sandboxes: what running each tool said; an empty text is success. Those not installed lack.
        data: by file, whether its content has the recorded hash; ``None`` for a missing file.
        reached: by host, whether it answered; ``None`` if no network was to be tried.
    """

    system: str
    machine: str
    installers: tuple[str, ...]
    python: tuple[int, int, int]
    bits: int
    executable: str
    virtual: bool
    torch: Mapping[str, Any] | str
    cores: int
    omp_threads: str | None
    memory: int | None
    stdout_encoding: str
    file_encoding: str
    utf8_mode: bool
    disk_free: int | None
    folder: str
    has_ipykernel: bool
    frontends: tuple[str, ...]
    kernels: Mapping[str, str]
    requirements: tuple[str, ...]
    installed: Mapping[str, str]
    pins: Mapping[str, str] | None
    sandboxes: Mapping[str, str]
    data: Mapping[str, bool | None]
    reached: Mapping[str, bool] | None


# Judging


def examine(facts: Facts) -> list[Finding]:
    """Every finding, in a fixed order. ``bad`` means that the course cannot run."""
    checks: tuple[Callable[[Facts], Finding], ...] = (
        _python,
        _torch,
        _packages,
        _data,
        _threads,
        _memory,
        _disk,
        _encodings,
        _jupyter,
        _sandbox,
        _network,
    )
    return [check(facts) for check in checks]


def _python(facts: Facts) -> Finding:
    version = ".".join(map(str, facts.python))
    where = "in a virtual environment" if facts.virtual else "not in a virtual environment"
    text = f"{version}, {facts.bits} bits, {where}: {facts.executable}"
    newer = {"Darwin": "brew install python@3.13", "Windows": "winget install Python.Python.3.13"}
    mend = newer.get(facts.system) or _install(facts, "python3.13")
    if facts.python < (3, 11) or facts.bits < 64:
        return Finding("Python", "bad", f"{text}; 3.11 or later with 64 bits is needed", mend)
    if facts.python >= (3, 14):
        return Finding("Python", "warn", f"{text}; the course was tried on 3.11 to 3.13", mend)
    return Finding("Python", "ok", text)


def _torch(facts: Facts) -> Finding:
    mend = f"{_pip(facts)} install {_pinned(facts, 'torch')}"
    if isinstance(facts.torch, str):
        if facts.system == "Darwin" and facts.machine == "x86_64":
            mend = "PyTorch is no longer made for Intel Macs: use another machine"
        return Finding("PyTorch", "bad", f"cannot be imported: {facts.torch}", mend)
    seen = facts.torch
    devices = [f"CUDA ({seen['cuda']})"] if seen["cuda"] else []
    devices += ["MPS"] if seen["mps"] else []
    gpu = " and ".join(devices) or "no GPU (none is needed)"
    text = f"{seen['version']}, CPU capability {seen['capability']}, {gpu}"
    if _numbers(seen["version"]) < (2, 4):
        return Finding("PyTorch", "bad", f"{text}; 2.4 or later is needed", mend)
    return Finding("PyTorch", "ok", text)


def _packages(facts: Facts) -> Finding:
    missing = [name for name in facts.requirements if name not in facts.installed]
    if missing:
        mend = f"{_pip(facts)} install {' '.join(missing)}"
        return Finding("packages", "bad", f"not installed: {', '.join(missing)}", mend)
    if facts.pins is None:
        return Finding("packages", "ok", f"all {len(facts.requirements)} that are needed")
    other = [
        f"{name} {facts.installed.get(name, 'missing')} ({pin})"
        for name, pin in facts.pins.items()
        if facts.installed.get(name, "").partition("+")[0] != pin
    ]
    if not other:
        return Finding("packages", "ok", f"all {len(facts.pins)} as pinned in requirements.txt")
    shown = ", ".join(other[:5]) + (", ..." if len(other) > 5 else "")
    text = f"{len(other)} of {len(facts.pins)} differ from requirements.txt: {shown}"
    mend = f"{_pip(facts)} install -r requirements.txt"
    return Finding("packages", "warn", text, mend)


def _data(facts: Facts) -> Finding:
    damaged = [
        f"{name} is {'missing' if intact is None else 'changed'}"
        for name, intact in facts.data.items()
        if not intact
    ]
    if not damaged:
        return Finding("data", "ok", f"{len(facts.data)} files of the package are intact")
    mend = "git checkout -- course_pkg"
    if facts.pins is None:
        mend = f"{_pip(facts)} install --force-reinstall --no-deps {PACKAGE}"
    return Finding("data", "bad", "; ".join(damaged), mend)


def _threads(facts: Facts) -> Finding:
    omp = facts.omp_threads
    text = f"{_count(facts.cores, 'core')}, OMP_NUM_THREADS {omp if omp else 'is not set'}"
    if isinstance(facts.torch, Mapping):
        text = f"PyTorch uses {_count(facts.torch['threads'], 'thread')}, {text}"
    unset = "set OMP_NUM_THREADS=" if facts.system == "Windows" else "unset OMP_NUM_THREADS"
    if omp and not re.fullmatch(r"[1-9]\d*", omp):
        return Finding("threads", "warn", f"{text}, which is no number of threads", unset)
    used = facts.torch["threads"] if isinstance(facts.torch, Mapping) else int(omp or 1)
    if used > facts.cores:
        return Finding("threads", "warn", f"{text}: more threads than cores slow it down", unset)
    return Finding("threads", "ok", text)


def _memory(facts: Facts) -> Finding:
    if facts.memory is None:
        return Finding("memory", "ok", "cannot be told; 4 GB are enough")
    text = f"{facts.memory / _GB:.1f} GB"
    if facts.memory < 3.5 * _GB:  # machines sold with 4 GB show somewhat less
        mend = "close other programs while a model trains; --batch-size 1 needs the least"
        return Finding("memory", "warn", f"{text}; 4 GB are needed", mend)
    return Finding("memory", "ok", text)


def _disk(facts: Facts) -> Finding:
    if facts.disk_free is None:
        return Finding("disk", "ok", "cannot be told; 1 GB is enough for some runs")
    text = f"{facts.disk_free / _GB:.1f} GB free in {facts.folder}"
    if facts.disk_free < _GB:
        mend = "remove old folders of runs/, or work on another disk"
        return Finding("disk", "warn", f"{text}; runs need about 1 GB", mend)
    return Finding("disk", "ok", text)


def _encodings(facts: Facts) -> Finding:
    text = f"output {facts.stdout_encoding}, file names {facts.file_encoding}"
    if facts.system == "Windows":
        text += f", UTF-8 mode {'on' if facts.utf8_mode else 'off'}"
    encodings = (facts.stdout_encoding, facts.file_encoding)
    all_utf8 = all(e.lower().replace("-", "").replace("_", "") == "utf8" for e in encodings)
    if all_utf8 and (facts.utf8_mode or facts.system != "Windows"):
        return Finding("encodings", "ok", text)
    windows = facts.system == "Windows"
    mend = "setx PYTHONUTF8 1, then open a new terminal" if windows else "export PYTHONUTF8=1"
    return Finding("encodings", "warn", f"{text}; UTF-8 is safer", mend)


def _jupyter(facts: Facts) -> Finding:
    if not facts.has_ipykernel:
        text = "this Python has no Jupyter kernel (`course check` needs none)"
        return Finding("Jupyter", "warn", text, f"{_pip(facts)} install jupyterlab")
    other = facts.kernels.get("python3")
    own = [name for name, python in facts.kernels.items() if python == facts.executable]
    if not own:
        seen = f"the kernel python3 runs {other}" if other else "Jupyter knows no kernel of it"
        mend = f"{_quoted(facts.executable)} -m ipykernel install --sys-prefix"
        return Finding("Jupyter", "warn", f"not with this Python: {seen}", mend)
    text = f"kernel {' and '.join(own)} runs this Python"
    if not facts.frontends:
        mend = f"{_pip(facts)} install jupyterlab"
        return Finding("Jupyter", "warn", f"{text}; no Jupyter here to open notebooks with", mend)
    return Finding("Jupyter", "ok", f"{text}, {' and '.join(facts.frontends)} to open notebooks")


def _sandbox(facts: Facts) -> Finding:
    working = [name for name, problem in facts.sandboxes.items() if not problem]
    if working:
        return Finding("sandbox", "ok", f"{' and '.join(working)} can shut code in")
    broken = [f"{name} does not work: {problem}" for name, problem in facts.sandboxes.items()]
    text = "; ".join(broken) or "there is none"
    mends = {
        "Darwin": "brew install podman, then: podman machine init --now",
        "Windows": "winget install RedHat.Podman, then: podman machine init --now",
    }
    mend = mends.get(facts.system) or _install(facts, "bubblewrap")
    if "bwrap" in facts.sandboxes and facts.system == "Linux":
        mend = "sudo sysctl -w kernel.unprivileged_userns_clone=1"
        if "apt-get" in facts.installers:  # Ubuntu shuts user namespaces by AppArmor
            mend = "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    need = "only who grades other people's code needs one"
    return Finding("sandbox", "warn", f"{text} ({need})", mend)


def _network(facts: Facts) -> Finding:
    if facts.reached is None:
        text = "not tried; `course doctor --network` connects to two hosts (the course needs none)"
        return Finding("network", "ok", text)
    lost = [host for host, answered in facts.reached.items() if not answered]
    if not lost:
        return Finding("network", "ok", f"{' and '.join(facts.reached)} answer")
    text = f"no answer from {' and '.join(lost)}; only Shakespeare and GPT-2's weights need it"
    variable = "set" if facts.system == "Windows" else "export"
    mend = f"behind a proxy: {variable} HTTPS_PROXY=http://its-name:its-port"
    return Finding("network", "warn", text, mend)


def _install(facts: Facts, package: str) -> str:
    """The command of this system's package manager."""
    commands = {
        "apt-get": f"sudo apt-get install {package}",
        "dnf": f"sudo dnf install {package}",
        "pacman": f"sudo pacman -S {package}",
        "zypper": f"sudo zypper install {package}",
        "brew": f"brew install {package}",
        "winget": f"winget install {package}",
    }
    for name in facts.installers:
        if name in commands:
            return commands[name]
    return f"install {package} with your system's package manager"


def _pip(facts: Facts) -> str:
    return f"{_quoted(facts.executable)} -m pip"


def _quoted(path: str) -> str:
    return f'"{path}"' if " " in path else path


def _pinned(facts: Facts, name: str) -> str:
    return f"{name}=={facts.pins[name]}" if facts.pins and name in facts.pins else name


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:2])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# Looking


def gather(network: bool = False) -> Facts:
    """Look at this machine. No request leaves it, unless ``network`` asks for two connections."""
    return Facts(
        system=platform.system(),
        machine=platform.machine(),
        installers=_installers(),
        python=sys.version_info[:3],
        bits=64 if sys.maxsize > 2**32 else 32,
        executable=sys.executable,
        virtual=sys.prefix != sys.base_prefix,
        torch=_probe_torch(),
        cores=_cores(),
        omp_threads=os.environ.get("OMP_NUM_THREADS"),
        memory=_memory_size(),
        stdout_encoding=getattr(sys.stdout, "encoding", None) or "unknown",
        file_encoding=sys.getfilesystemencoding(),
        utf8_mode=bool(sys.flags.utf8_mode),
        disk_free=_disk_free(Path.cwd()),
        folder=str(Path.cwd()),
        has_ipykernel=importlib.util.find_spec("ipykernel") is not None,
        frontends=tuple(n for n in ("jupyterlab", "notebook") if importlib.util.find_spec(n)),
        kernels=_kernels(),
        requirements=_requirements(),
        installed=_installed(),
        pins=read_pins(_ROOT / "requirements.txt"),
        sandboxes=_sandboxes(),
        data=check_data(),
        reached=_reached() if network else None,
    )


def _installers() -> tuple[str, ...]:
    names = ("apt-get", "dnf", "pacman", "zypper", "brew", "winget")
    return tuple(name for name in names if shutil.which(name))


def _run(command: tuple[str, ...], seconds: float) -> tuple[bool, str]:
    """Whether a command succeeded, and the last line that it wrote."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"no end after {seconds:g} seconds"
    except OSError as error:
        return False, error.strerror or str(error)
    ok = done.returncode == 0
    lines = ((done.stdout if ok else done.stderr) or "").strip().splitlines()
    return ok, lines[-1].strip() if lines else f"exit code {done.returncode}"


def _probe_torch() -> Mapping[str, Any] | str:
    ok, line = _run((sys.executable, "-c", _TORCH_PROBE), 300.0)
    with contextlib.suppress(ValueError):
        if ok:
            return json.loads(line)
    return line


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # a container or a scheduler may give fewer
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_size() -> int | None:
    """Of the machine, or what a container may use of it."""
    sizes = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with contextlib.suppress(OSError, ValueError):
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    if sys.platform == "win32":
        sizes += _windows_memory()
    return min(sizes, default=None)


def _windows_memory() -> list[int]:
    import ctypes

    class Status(ctypes.Structure):  # MEMORYSTATUSEX, as Microsoft documents it
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
            (name, ctypes.c_ulonglong)
            for name in ("total", "free", "pages", "pages_free", "virtual", "virtual_free", "more")
        ]

    status = Status(length=ctypes.sizeof(Status))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 -- elsewhere there is no such name
    return [status.total] if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else []


def _disk_free(folder: Path) -> int | None:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free
    return None


def _kernels() -> dict[str, str]:
    """The Python that each of Jupyter's kernels runs; a bare ``python`` is Jupyter's own."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager

        specs = KernelSpecManager().get_all_specs()
    except Exception:  # not installed, or its folders cannot be read
        return {}
    kernels = {}
    for name, spec in specs.items():
        command = spec.get("spec", {}).get("argv") or [""]
        kernels[name] = sys.executable if _is_this_python(command[0]) else command[0]
    return kernels


def _is_this_python(command: str) -> bool:
    path, own = Path(command), Path(sys.executable)
    # Not by resolving links: environments share the program that theirs lead to.
    here = path.parent in (Path(), own.parent)
    return here and re.fullmatch(r"python[\d.]*(\.exe)?", path.name) is not None


def _requirements() -> tuple[str, ...]:
    """The package's own requirements, without those of its extras."""
    try:
        wanted = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:  # it runs from a folder
        wanted = []
    names = (re.match(r"[\w.-]+", line) for line in wanted if "extra ==" not in line)
    return tuple(_normal(match[0]) for match in names if match)


def _installed() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in importlib.metadata.distributions():
        with contextlib.suppress(Exception):  # the remains of a broken installation
            found.setdefault(_normal(package.metadata["Name"]), package.version)
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(path: Path) -> dict[str, str] | None:
    """The pins of a lock file that hold on this platform; ``None`` if there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    pins = {}
    for line in lines:
        match = re.match(r'([\w.-]+)==([\w.]+)(?: ; sys_platform (==|!=) "(\w+)")?', line)
        if match is None:
            continue
        name, version, relation, wanted = match.groups()
        if relation is None or (sys.platform == wanted) == (relation == "=="):
            pins[_normal(name)] = version
    return pins


def _sandboxes() -> dict[str, str]:
    said = {}
    for name, command in _SANDBOX_PROBES.items():
        if shutil.which(name):
            ok, line = _run(command, 20.0)
            said[name] = "" if ok else line
    return said


def check_data() -> dict[str, bool | None]:
    """Whether each of the package's data files has the hash that was recorded of it."""
    found: dict[str, bool | None] = {}
    recorded: dict[str, str] = {}
    for record in RECORDS:
        try:
            content = json.loads((_DATA / record).read_text(encoding="utf-8"))
            files = content.get("files") or {content["file"]: content["sha256"]}
            folder = record.rpartition("/")[0]
            recorded |= {f"{folder}/{file}": sha256 for file, sha256 in files.items()}
        except FileNotFoundError:
            found[record] = None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            found[record] = False
    for file, sha256 in recorded.items():
        try:
            found[file] = hashlib.sha256((_DATA / file).read_bytes()).hexdigest() == sha256
        except OSError:
            found[file] = None
    return found


def _reached() -> dict[str, bool]:
    """Whether the hosts answer; where everything goes through a proxy, whether that does."""
    proxy = urllib.parse.urlsplit(urllib.request.getproxies().get("https", ""))
    try:
        places = [(proxy.hostname, proxy.port or 80)] if proxy.hostname else []
    except ValueError:  # a port that is no number
        places = []
    reached = {}
    for host, port in places or [(host, 443) for host in HOSTS]:
        try:
            socket.create_connection((host, port), timeout=3).close()
            reached[host] = True
        except OSError:
            reached[host] = False
    return reached
