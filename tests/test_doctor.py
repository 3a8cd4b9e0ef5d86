"""course doctor: what it makes of given facts, and the facts of this machine."""

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from course_pkg import doctor
from course_pkg.cli import course
from course_pkg.doctor import Facts, check_data, examine, gather, read_pins
from course_pkg.files import MODELS, packaged_models

PYTHON = "/home/me/venv/bin/python"
TORCH = {"version": "2.13.0+cpu", "capability": "AVX2", "threads": 4, "cuda": None, "mps": False}
HEALTHY = Facts(
    system="Linux",
    machine="x86_64",
    installers=("apt-get",),
    python=(3, 12, 1),
    bits=64,
    executable=PYTHON,
    virtual=True,
    torch=TORCH,
    cores=4,
    omp_threads=None,
    memory=8 * 10**9,
    stdout_encoding="utf-8",
    file_encoding="utf-8",
    utf8_mode=False,
    disk_free=50 * 10**9,
    folder="/home/me/course",
    has_ipykernel=True,
    frontends=("jupyterlab",),
    kernels={"python3": PYTHON},
    requirements=("torch", "numpy"),
    installed={"torch": "2.13.0+cpu", "numpy": "2.4.6"},
    pins={"torch": "2.13.0", "numpy": "2.4.6"},
    sandboxes={"bwrap": ""},
    data={"corpora/stories.txt": True},
    reached=None,
)
NAMES = [finding.name for finding in examine(HEALTHY)]
FATAL = {"Python", "PyTorch", "packages", "data"}  # without these nothing runs


def amiss(**changes):
    """The findings that are not ok once the facts are changed."""
    findings = examine(dataclasses.replace(HEALTHY, **changes))
    assert [finding.name for finding in findings] == NAMES
    return {finding.name: finding for finding in findings if finding.state != "ok"}


def test_a_healthy_machine_needs_nothing():
    assert amiss() == {}
    assert all(finding.mend is None for finding in examine(HEALTHY))
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("changes", "name", "state", "text", "mend"),
    [
        ({"python": (3, 10, 9)}, "Python", "bad", "3.11 or later", "apt-get install python3"),
        ({"bits": 32}, "Python", "bad", "64 bits", "install python3"),
        ({"python": (3, 14, 0)}, "Python", "warn", "3.11 to 3.13", "python3.13"),
        ({"torch": "No module named 'torch'"}, "PyTorch", "bad", "No module", "torch==2.13.0"),
        ({"torch": TORCH | {"version": "2.3.1"}}, "PyTorch", "bad", "2.4 or later", "install"),
        ({"torch": TORCH | {"threads": 9}}, "threads", "warn", "more threads than", "unset OMP"),
        ({"omp_threads": "many"}, "threads", "warn", "no number", "unset OMP_NUM_THREADS"),
        ({"omp_threads": "0"}, "threads", "warn", "no number", "unset OMP_NUM_THREADS"),
        ({"memory": 2 * 10**9}, "memory", "warn", "2.0 GB", "--batch-size"),
        ({"disk_free": 10**8}, "disk", "warn", "0.1 GB free in /home/me", "runs/"),
        ({"stdout_encoding": "cp1252"}, "encodings", "warn", "cp1252", "export PYTHONUTF8=1"),
        ({"file_encoding": "ascii"}, "encodings", "warn", "ascii", "export PYTHONUTF8=1"),
        ({"installed": {"torch": "2.13.0"}}, "packages", "bad", "numpy", "pip install numpy"),
        (
            {"installed": {"torch": "2.12.0+cu126", "numpy": "2.4.6"}},
            *("packages", "warn", "torch 2.12.0+cu126 (2.13.0)", "install -r requirements.txt"),
        ),
        ({"data": {"a": True, "b": False}}, "data", "bad", "b is changed", "git checkout"),
        ({"data": {"a": True, "b": None}}, "data", "bad", "b is missing", "git checkout"),
        ({"has_ipykernel": False}, "Jupyter", "warn", "no Jupyter kernel", "install jupyterlab"),
        ({"frontends": ()}, "Jupyter", "warn", "no Jupyter here", "install jupyterlab"),
        (
            {"kernels": {"python3": "/usr/bin/python3"}},
            *("Jupyter", "warn", "python3 runs /usr/bin/python3", "-m ipykernel install"),
        ),
        ({"kernels": {}}, "Jupyter", "warn", "no kernel of it", f"{PYTHON} -m ipykernel"),
        ({"sandboxes": {}}, "sandbox", "warn", "there is none", "apt-get install bubblewrap"),
        (
            {"sandboxes": {"bwrap": "No permissions", "docker": "no daemon"}},
            *("sandbox", "warn", "bwrap does not work: No permissions; docker", "apparmor"),
        ),
        (
            {"reached": {"a.example": True, "b.example": False}},
            *("network", "warn", "no answer from b.example", "HTTPS_PROXY"),
        ),
    ],
)
def test_each_fault_is_found_alone_and_mended(changes, name, state, text, mend):
    found = amiss(**changes)
    assert list(found) == [name]
    assert found[name].state == state and (state != "bad" or name in FATAL)
    assert text in found[name].text and mend in found[name].mend


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": None, "disk_free": None},
        {"omp_threads": "1", "torch": TORCH | {"threads": 1}},
        {"torch": TORCH | {"cuda": "NVIDIA T4", "mps": True}},
        {"pins": None},
        {"stdout_encoding": "UTF8", "file_encoding": "utf_8"},
        {"sandboxes": {"bwrap": "No permissions", "podman": ""}},
        {"kernels": {"python3": "/usr/bin/python3", "course": PYTHON}},
        {"reached": {"a.example": True}},
        {"memory": 4 * 10**9 - 2 * 10**8},
    ],
)
def test_what_is_as_good_is_ok(changes):
    assert amiss(**changes) == {}


@pytest.mark.parametrize(
    ("system", "installers", "python", "sandbox"),
    [
        ("Darwin", ("brew",), "brew install python", "brew install podman"),
        ("Windows", ("winget",), "winget install Python", "winget install RedHat.Podman"),
        ("Linux", ("dnf",), "dnf install python", "dnf install bubblewrap"),
        ("Linux", ("pacman",), "pacman -S python", "pacman -S bubblewrap"),
        ("Linux", ("zypper",), "zypper install python", "zypper install bubblewrap"),
        ("Linux", (), "your system's package manager", "your system's package manager"),
    ],
)
def test_the_command_is_the_platforms_own(system, installers, python, sandbox):
    found = amiss(
        system=system, installers=installers, python=(3, 9, 0), sandboxes={}, utf8_mode=True
    )
    assert python in found["Python"].mend
    assert sandbox in found["sandbox"].mend


def test_windows_is_told_of_utf8_mode():
    assert set(amiss(system="Windows")) == {"encodings"}
    assert "setx PYTHONUTF8 1" in amiss(system="Windows")["encodings"].mend
    assert amiss(system="Windows", utf8_mode=True) == {}


def test_an_intel_mac_is_told_that_there_is_no_pytorch_for_it():
    found = amiss(system="Darwin", machine="x86_64", torch="No module named 'torch'")
    assert "Intel" in found["PyTorch"].mend


def test_a_path_with_spaces_is_quoted():
    own = "C:\\My Files\\python.exe"
    found = amiss(executable=own, kernels={"python3": own}, frontends=())
    assert found["Jupyter"].mend.startswith(f'"{own}" -m pip')


def test_a_long_list_of_packages_is_cut():
    pins = {f"package-{i}": "1" for i in range(100)} | HEALTHY.pins
    text = amiss(pins=pins)["packages"].text
    assert "100 of 102" in text and len(text) < 300


# The facts of this machine


@pytest.fixture(scope="module")
def facts():
    return gather()


def test_the_facts_are_this_processs(facts):
    assert facts.python == sys.version_info[:3] and facts.executable == sys.executable
    assert facts.torch["version"] == torch.__version__
    assert facts.torch["capability"] == torch.backends.cpu.get_cpu_capability()
    assert 1 <= facts.cores <= os.cpu_count()
    assert 0 < facts.disk_free <= shutil.disk_usage(Path.cwd()).total
    assert facts.memory is None or facts.memory > 10**8
    assert facts.reached is None
    assert facts.installed["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert set(facts.requirements) <= set(facts.installed)


def test_the_course_can_run_where_its_tests_run(facts):
    assert [finding for finding in examine(facts) if finding.state == "bad"] == []


def test_no_request_leaves_the_machine_unasked(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(doctor, "_probe_torch", lambda: TORCH)
    monkeypatch.setattr(doctor, "_sandboxes", dict)  # a client may talk to its daemon
    assert gather().reached is None
    with pytest.raises(AssertionError, match="connection"):
        gather(network=True)


def test_asked_for_two_hosts_are_tried(monkeypatch):
    tried = []

    def connect(place, timeout):
        tried.append(place)
        if len(tried) == 2:
            raise TimeoutError
        return socket.socket()

    monkeypatch.setattr(doctor.urllib.request, "getproxies", dict)
    monkeypatch.setattr(doctor.socket, "create_connection", connect)
    assert doctor._reached() == {doctor.HOSTS[0]: True, doctor.HOSTS[1]: False}
    assert tried == [(host, 443) for host in doctor.HOSTS]
    monkeypatch.setattr(
        doctor.urllib.request, "getproxies", lambda: {"https": "http://me:word@proxy.example:81"}
    )
    assert doctor._reached() == {"proxy.example": True}
    assert tried[-1] == ("proxy.example", 81)


@pytest.mark.parametrize(
    ("probe", "words"),
    [
        ("raise ImportError('libtorch.so is missing')", "ImportError: libtorch.so is missing"),
        ("import os; os._exit(5)", "exit code 5"),
        ("print('not JSON')", "not JSON"),
    ],
)
def test_a_pytorch_that_cannot_be_imported_is_told(monkeypatch, probe, words):
    monkeypatch.setattr(doctor, "_TORCH_PROBE", probe)
    assert doctor._probe_torch() == words


def test_a_command_that_never_ends_is_left():
    command = (sys.executable, "-c", "import time; time.sleep(1000)")
    assert doctor._run(command, 0.5) == (False, "no end after 0.5 seconds")
    assert doctor._run(("a-command-that-nobody-has",), 1.0)[0] is False


@pytest.mark.skipif(os.name != "posix", reason="scripts")
def test_a_sandbox_counts_only_if_it_runs(tmp_path, monkeypatch):
    scripts = {"bwrap": "echo 'No permissions' >&2; exit 1", "podman": "echo 5.0"}
    for name, script in scripts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor._sandboxes() == {"bwrap": "No permissions", "podman": ""}


def test_kernels_are_told_apart_by_environment_and_not_by_the_program_behind(tmp_path):
    own = Path(sys.executable)
    assert doctor._is_this_python(sys.executable) and doctor._is_this_python("python3")
    assert doctor._is_this_python(str(own.with_name("python3.12")))
    assert not doctor._is_this_python(str(tmp_path / "bin" / own.name))
    assert not doctor._is_this_python(str(own.with_name("R"))) and not doctor._is_this_python("")


def test_pins_are_read_for_this_platform(tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text(
        "# a comment\n\ntorch==2.13.0\nIPython_x==1.0  # why\n"
        f'here==1 ; sys_platform == "{sys.platform}"\n'
        f'not-here==1 ; sys_platform != "{sys.platform}"\nother==1 ; sys_platform == "none"\n',
        encoding="utf-8",
    )
    assert read_pins(path) == {"torch": "2.13.0", "ipython-x": "1.0", "here": "1"}
    assert read_pins(tmp_path / "none.txt") is None


# Data


@pytest.fixture
def data(tmp_path, monkeypatch):
    for record in doctor.RECORDS:
        folder = MODELS.parent / record.rpartition("/")[0]
        shutil.copytree(folder, tmp_path / record.rpartition("/")[0])
    monkeypatch.setattr(doctor, "_DATA", tmp_path)
    return tmp_path


def test_the_records_cover_what_the_package_carries(data):
    found = check_data()
    assert found and all(found.values())
    for name in packaged_models():
        files = {path.name for path in (MODELS / name).iterdir()} - {"record.json"}
        assert {f"models/{name}/{file}" for file in files} <= set(found)
    texts = {f"corpora/{path.name}" for path in (MODELS.parent / "corpora").glob("*.txt")}
    assert texts <= set(found)


def test_each_damaged_or_missing_file_is_named(data):
    for name in list(check_data()):
        content = (data / name).read_bytes()
        (data / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert [n for n, intact in check_data().items() if not intact] == [name]
        (data / name).unlink()
        assert check_data()[name] is None
        (data / name).write_bytes(content)
    assert all(check_data().values())


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"files": 3}', b"\xff"])
def test_a_damaged_record_is_named(data, content):
    for record in doctor.RECORDS:
        whole = (data / record).read_bytes()
        (data / record).unlink()
        if content is not None:
            (data / record).write_bytes(content)
        assert check_data()[record] is (None if content is None else False)
        (data / record).write_bytes(whole)


# The command


def invoke(monkeypatch, facts, *arguments):
    monkeypatch.setattr(doctor, "gather", lambda network=False: facts)
    return CliRunner().invoke(course, ["doctor", *arguments])


def test_the_command_prints_a_line_each_and_what_mends(monkeypatch):
    result = invoke(monkeypatch, dataclasses.replace(HEALTHY, sandboxes={}))
    assert result.exit_code == 0
    starts = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split()[1] for line in starts] == NAMES
    assert "mend: sudo apt-get install bubblewrap" in result.stdout
    assert "\x1b" not in result.stdout


def test_the_exit_code_says_whether_the_course_can_run(monkeypatch):
    assert invoke(monkeypatch, HEALTHY).exit_code == 0
    assert invoke(monkeypatch, dataclasses.replace(HEALTHY, torch="no")).exit_code == 1
    result = invoke(monkeypatch, dataclasses.replace(HEALTHY, torch="no"), "--json")
    assert result.exit_code == 1
    findings = json.loads(result.stdout)
    assert [f["name"] for f in findings if f["state"] == "bad"] == ["PyTorch"]
    assert [f["name"] for f in findings] == NAMES


def test_the_doctor_comes_where_pytorch_is_missing(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('there is no torch here')\n")
    root = Path(doctor.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "course_pkg.cli", "doctor", "--json"],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(root)])},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert "there is no torch here" in found["PyTorch"]["text"]
