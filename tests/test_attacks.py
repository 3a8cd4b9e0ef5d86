"""Every hostile submission of ``tests/attacks`` against the real sandbox, all in one class.

Each attacker is a student, with an honest one behind. The class is graded as root and as a normal
user; then each attack must have earned what its honest part is worth, every honest student all
points, and nothing may be left behind, changed, read or called. Where no sandbox works, nothing is
run, and the tests say so. ``ATTACK_TABLE=file.json`` keeps what each one earned.
"""

import contextlib
import csv
import ctypes
import dataclasses
import hashlib
import importlib.util
import json
import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
import sandboxes

from course_pkg.checks.engine import find_exercise
from course_pkg.files import atomic_write
from course_pkg.grading import results

ROOT = Path(__file__).parents[1]
FOLDER = Path(__file__).with_name("attacks")
KINDS = (
    "forging", "protocol", "resources", "theft", "persistence", "files", "reports", "honest",
)  # fmt: skip
NOBODY = 65534
# What is the course's own; other tests may be at work beside it.
OURS = [ROOT / name for name in ("book", "course_pkg", "exercises", "solutions", "tests")]
PR_SET_CHILD_SUBREAPER = 36
MEMORY = 3 * 2**20  # kilobytes that the trusted process may hold: PyTorch, and no bomb
NOTEBOOKS = {path.name[:2]: path.name for path in sorted((ROOT / "exercises").glob("*.ipynb"))}
RIGHT = (
    "def split_heads(x, num_heads):\n"
    "    B, T, D = x.shape\n"
    "    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)\n"
)
WRONG = "def split_heads(x, num_heads):\n    return x\n"
EXERCISE = "03.split_heads"


@dataclasses.dataclass(frozen=True)
class Attack:
    """A hostile submission, as data; ``student`` is the name of its folder."""

    name: str
    tries: str
    kind: str
    exercise: str
    earns: int
    cell: str | None
    build: Callable[[Path, "Context"], None] | None
    student: str


@dataclasses.dataclass(frozen=True)
class Context:
    """What an attack may be told: the places that it would like to reach."""

    canary: Path
    secret: str
    port: int
    unix: Path
    grades: Path
    repo: Path
    other: Path  # the notebook of the honest student behind
    parent: int
    exercise: str = EXERCISE
    right: str = RIGHT
    wrong: str = WRONG

    @property
    def notebook(self) -> str:
        return NOTEBOOKS[self.exercise[:2]]

    def fill(self, text: str) -> str:
        texts = module_at(FOLDER / "_texts.py")
        for name in ("RIGHT", "LOOT", "SEND"):
            text = text.replace(f"@{name}@", getattr(texts, name).strip("\n"))
        places = {
            "CANARY": self.canary, "SECRET": self.secret, "PORT": self.port, "UNIX": self.unix,
            "GRADES": self.grades, "REPO": self.repo, "OTHER": self.other, "PARENT": self.parent,
        }  # fmt: skip
        for name, place in places.items():
            text = text.replace(f"@{name}@", str(place))
        return text

    def cell(self, source: str, exercise_id: str | None) -> dict[str, Any]:
        marked = {"tags": ["exercise"], "exercise": {"id": exercise_id, "points": 2}}
        return {
            "cell_type": "code",
            "execution_count": None,
            "id": secrets.token_hex(4),
            "metadata": {} if exercise_id is None else marked,
            "outputs": [],
            "source": source,
        }

    def book(self, source: str) -> dict[str, Any]:
        """A notebook with this code as the exercise's cell, and its check."""
        answer = self.exercise.partition(".")[2]
        check = self.cell(f'check("{self.exercise}", {answer})', None)
        check["metadata"] = {"tags": ["check"]}
        return {
            "cells": [self.cell(source, self.exercise), check],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }

    def text(self, source: str) -> str:
        return json.dumps(self.book(source))


def module_at(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"attack_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def attacks() -> list[Attack]:
    found = []
    for path in sorted(FOLDER.glob("[!_]*.py")):
        module = module_at(path)
        found.append(
            Attack(
                name=path.stem,
                tries=(module.__doc__ or "").strip(),
                kind=module.KIND,
                exercise=module.EXERCISE,
                earns=module.EARNS,
                cell=getattr(module, "CELL", None),
                build=getattr(module, "build", None),
                student=getattr(module, "STUDENT", path.stem),
            )
        )
    return found


ATTACKS = attacks()
BY_NAME = {attack.name: attack for attack in ATTACKS}


class Listener:
    """Servers that nobody in a sandbox may reach: TCP, UDP, and sockets by path and by name."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "service"
        self.heard: list[str] = []
        tcp = socket.create_server(("127.0.0.1", 0))
        self.port = tcp.getsockname()[1]
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("0.0.0.0", self.port))
        self._sockets = [tcp, udp]
        for address in (str(self.path), f"\0{self.path}"):
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            server.bind(address)
            server.listen()
            self._sockets.append(server)
        self.path.chmod(0o777)
        for one in self._sockets:
            threading.Thread(target=self._listen, args=(one,), daemon=True).start()

    def _listen(self, one: socket.socket) -> None:
        while True:
            try:
                if one.type == socket.SOCK_DGRAM:
                    one.recvfrom(1000)
                else:
                    one.accept()[0].close()
            except OSError:
                return
            self.heard.append(f"{one.family.name} {one.type.name}")

    def close(self) -> None:
        for one in self._sockets:
            one.close()


@dataclasses.dataclass(frozen=True)
class Graded:
    """A class that was graded, and what there was to see before and after."""

    run: results.Run
    out: Path
    secret: str
    heard: list[str]
    changed: list[str]
    left: list[str]
    processes: list[str]
    peak: int  # kilobytes that the trusted process held


# What the graded process is asked to do, so that a normal user can be asked too.
GRADE = """
import json, resource, sys
from pathlib import Path
from course_pkg.grading import exports, reports
from course_pkg.grading.grader import grade

submissions, out, told = map(Path, sys.argv[1:])


def report(run, collected):
    reports.write(run, out)
    exports.canvas(run, out / "canvas.csv")
    exports.moodle(run, out / "moodle.csv")
    exports.jplag(collected.submissions, out / "jplag")


limits = {"time_limit": 2.0, "cell_limit": 2.0}
run = grade(submissions, out, jobs=6, seed=20260101, report=report, **limits)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told.write_text(json.dumps({"run": run.to_dict(), "peak": peak}))
"""

AS_USER = ["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]
# Another user may not enter the folder where root keeps Python. In mounts of its own the way there
# is open, and nothing else of that folder is there.
AS_NOBODY = """
set -e
kept=$(mktemp -d)
mount --make-rprivate /
mount --bind "$1" "$kept"
mount -t tmpfs -o mode=0755 none "$2"
mkdir -p "$1"
mount --move "$kept" "$1"
rmdir "$kept" || true
shift 2
exec setpriv "$@"
"""


def command_as_nobody() -> list[str]:
    """The beginning of a command that runs as a user without any rights."""
    for program in ("unshare", "setpriv"):
        if shutil.which(program) is None:
            pytest.skip(f"not run: there is no {program} to become another user with")
    prefix = Path(sys.base_prefix)
    closed = [folder for folder in prefix.parents if not folder.stat().st_mode & stat.S_IXOTH]
    if not closed:
        return ["setpriv", *AS_USER]
    way = [str(prefix), str(closed[-1]), *AS_USER]
    return ["unshare", "--mount", "sh", "-c", AS_NOBODY, "sh", *way]


@pytest.fixture(scope="session", params=["root", "user"])
def graded(request: pytest.FixtureRequest) -> Iterator[Graded]:
    sandboxes.kind()
    command: list[str] = []
    is_root = os.geteuid() == 0
    if request.param == "root" and not is_root:
        pytest.skip("not run: only root can grade as root")
    if request.param == "user" and is_root:
        command = command_as_nobody()
    with tempfile.TemporaryDirectory(prefix="class-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield grade_class(folder, command, request.param)


def grade_class(folder: Path, command: list[str], user: str) -> Graded:
    listener = Listener(folder)
    secret = f"canary-{secrets.token_hex(16)}"
    submissions, out = folder / "submissions", folder / "grades"
    context = Context(
        canary=folder / "canary",
        secret=secret,
        port=listener.port,
        unix=listener.path,
        grades=out,
        repo=ROOT,
        other=Path(),
        parent=os.getpid(),
    )
    context.canary.write_text(secret)
    write_class(submissions, context)
    told = folder / "told.json"
    out.mkdir()
    if command:
        hand_over(folder)
    before = snapshot(submissions), *map(snapshot, OURS)
    alive = set(running())
    environment = {**os.environ, "COURSE_SECRET": secret, "HOME": str(folder)}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    asked = [*command, sys.executable, "-c", GRADE, str(submissions), str(out), str(told)]
    with adopted_orphans():
        try:
            done = subprocess.run(
                asked, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
            )
        finally:
            listener.close()
        processes = still_running(alive)
    assert told.exists(), f"the grader ended with {done.returncode}: {done.stderr[-3000:]}"
    facts = json.loads(told.read_text())
    run = results.Run.from_dict(facts["run"])
    after = snapshot(submissions), *map(snapshot, OURS)
    changed = sorted(
        path
        for old, new in zip(before, after, strict=True)
        for path in old.keys() | new.keys()
        if old.get(path) != new.get(path)
    )
    keep_table(run, user)
    return Graded(
        run=run,
        out=out,
        secret=secret,
        heard=listener.heard,
        changed=changed,
        left=leftovers(folder, out),
        processes=processes,
        peak=facts["peak"],
    )


def write_class(submissions: Path, context: Context) -> None:
    """A folder for each attack, and one for the honest student behind it."""
    submissions.mkdir()
    for attack in ATTACKS:
        own = dataclasses.replace(context, exercise=attack.exercise)
        behind = submissions / bystander(attack)
        behind.mkdir()
        other = behind / NOTEBOOKS["03"]
        other.write_text(context.text(RIGHT))
        own = dataclasses.replace(own, other=other)
        folder = submissions / attack.name
        if attack.build is not None:
            attack.build(folder, own)
        else:
            assert attack.cell is not None
            folder.mkdir()
            (folder / own.notebook).write_text(own.text(own.fill(attack.cell).lstrip("\n")))


def bystander(attack: Attack) -> str:
    return f"{attack.name}-honest"


def hand_over(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.name.startswith("canary"):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def snapshot(folder: Path) -> dict[str, str]:
    """What a folder holds: a digest of each file; caches left out."""
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in [*names, *folders]:
            path = Path(place, name)
            status = path.lstat()
            digest = f"{status.st_mode:o}"
            if stat.S_ISREG(status.st_mode):
                with path.open("rb") as file:
                    digest += hashlib.file_digest(file, "sha256").hexdigest()
            elif stat.S_ISLNK(status.st_mode):
                digest += str(path.readlink())
            found[str(path)] = digest
    return found


@contextlib.contextmanager
def adopted_orphans() -> Iterator[None]:
    """Let whatever outlives its parents below this process become its child."""
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def running() -> dict[int, str]:
    """Processes below this one, and any that an attack has marked, by their numbers."""
    parents, told = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            command = (status.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError):
            continue
        number = int(status.parent.name)
        if fields["State"].strip()[0] == "Z":
            continue
        parents[number] = int(fields["PPid"])
        told[number] = f"{fields['Name'].strip()} of {fields['Uid'].split()[0]}: {command[:200]}"
    found = {}
    for number, text in told.items():
        above = number
        while above not in (0, os.getpid()):
            above = parents.get(above, 0)
        below_us = above == os.getpid() and number != above
        if below_us or "MALLORY" in text or "98765" in text:
            found[number] = text
    return found


def still_running(before: Collection[int]) -> list[str]:
    """What runs that did not before; what is about to end gets the time to."""
    for _ in range(100):
        left = [text for number, text in running().items() if number not in before]
        if not left:
            return []
        time.sleep(0.1)
    return left


def leftovers(folder: Path, out: Path) -> list[str]:
    """Files and shared memory that an attack left where it had no business."""
    found = [str(path) for path in out.rglob("MALLORY*")]
    for top in {tempfile.gettempdir(), "/tmp", "/dev/shm", "/var/tmp", "/run"}:
        for place, folders, names in os.walk(top):
            if place == str(folder):
                folders.clear()
            found += [f"{place}/{name}" for name in names if "MALLORY" in name]
    for kind in ("shm", "sem", "msg"):
        table = Path(f"/proc/sysvipc/{kind}")
        if table.exists() and str(0x4D414C4C) in table.read_text():
            found.append(f"{kind} of System V")
    return sorted(found)


def letters(name: str) -> str:
    return "".join(filter(str.isalnum, name))


def earned(run: results.Run, student: str, exercise: str) -> int:
    """The points of the student whose files lie in this folder; nothing where there are none."""
    found = [
        one
        for one in run.students
        if any(letters(file.file.partition("/")[0]) == letters(student) for file in one.files)
    ]
    assert len(found) <= 1, [one.student for one in found]
    return sum(one.exercises[exercise].points for one in found if exercise in one.exercises)


def folder_of(attack: Attack) -> str:
    if attack.name == "files_name_of_another":
        return bystander(attack)[:-1] + bystander(attack)[-1].upper()
    return attack.student


def keep_table(run: results.Run, user: str) -> None:
    """Put what was earned into the file that the book reads, and leave the rest of it."""
    place = os.environ.get("ATTACK_TABLE")
    if not place:
        return
    path = Path(place)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rows = [row for row in kept.get("attacks", []) if row["mode"] != user]
    rows += [
        {
            "name": attack.name,
            "kind": attack.kind,
            "tries": attack.tries,
            "worth": attack.earns,
            "earned": earned(run, folder_of(attack), attack.exercise),
            "mode": user,
        }
        for attack in ATTACKS
    ]
    kept["attacks"] = sorted(rows, key=lambda row: (row["name"], row["mode"]))
    with atomic_write(path) as file:
        file.write(json.dumps(kept, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


# What holds of the files themselves, sandbox or not


def test_there_are_enough_of_every_kind() -> None:
    assert len(ATTACKS) >= 75
    assert {attack.kind for attack in ATTACKS} == set(KINDS)
    assert len({letters(folder_of(attack)) for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("name", BY_NAME)
def test_an_attack_is_declared(name: str) -> None:
    attack = BY_NAME[name]
    points = find_exercise(attack.exercise).points
    assert attack.earns in (0, points)
    assert (attack.cell is None) != (attack.build is None)
    assert attack.tries and "\n" not in attack.tries
    assert attack.kind != "honest" or attack.earns == points


# What the sandbox made of them


@pytest.mark.parametrize("name", BY_NAME)
def test_an_attack_earns_what_its_honest_part_is_worth(graded: Graded, name: str) -> None:
    attack = BY_NAME[name]
    assert earned(graded.run, folder_of(attack), attack.exercise) == attack.earns


def test_honest_students_keep_their_points(graded: Graded) -> None:
    points = {attack.name: earned(graded.run, bystander(attack), EXERCISE) for attack in ATTACKS}
    assert {name: got for name, got in points.items() if got != 2} == {}


def test_the_code_was_in_a_sandbox(graded: Graded) -> None:
    assert graded.run.sandbox != "unsandboxed"
    assert not any(r.unsandboxed for s in graded.run.students for r in s.exercises.values())


def test_no_process_is_left(graded: Graded) -> None:
    assert graded.processes == []


def test_no_file_is_left(graded: Graded) -> None:
    assert graded.left == []


def test_nothing_was_changed(graded: Graded) -> None:
    assert graded.changed == []


def test_nobody_called_out(graded: Graded) -> None:
    assert graded.heard == []


def test_no_secret_is_in_the_grades(graded: Graded) -> None:
    told = json.dumps(graded.run.to_dict())
    assert graded.secret not in told
    for path in graded.out.rglob("*"):
        assert not path.is_file() or graded.secret.encode() not in path.read_bytes(), path


def test_nothing_hostile_is_in_the_reports(graded: Graded) -> None:
    for path in (path for path in graded.out.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert b"\x1b" not in content, path
        if path.suffix == ".html":
            assert b"<script>alert" not in content and b"<img src=x" not in content, path
        if path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                fields = [field for row in csv.reader(file) for field in row]
            assert not [field for field in fields if field[:1] in ("=", "@", "\t", "\r")], path


def test_what_attacks_send_fills_no_memory(graded: Graded) -> None:
    assert graded.peak < MEMORY, f"{graded.peak / 2**20:.1f} GB"
