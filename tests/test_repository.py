"""Rules that hold for the whole repository: layers, lazy imports, commands, pins."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import course_pkg

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "course_pkg"

# A module imports only from floors below its own (design.md); checks, grading and authoring are
# folders whose modules may import each other.
FLOORS = {
    "errors": 0,
    "files": 0,
    "words": 0,
    "workers": 0,
    "loss": 0,
    "devices": 1,
    "tokenizer": 1,
    "config": 1,
    "attention": 2,
    "textfiles": 2,
    "data": 3,
    "transformer": 3,
    "gpt": 4,
    "cache": 5,
    "optimizers": 5,
    "training": 6,
    "generation": 6,
    "weights": 6,
    "distributed": 7,
    "checks": 7,
    "doctor": 7,
    "authoring": 8,
    "learning": 8,
    "grading": 9,
    "teaching": 10,
    "cli": 11,
    "train": 12,
}
# `GPT.from_pretrained` is where people look for it, so gpt calls up, inside that one method.
UPWARD = {("gpt", "weights")}


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def modules():
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def part(path):
    """The name on FLOORS under which a module stands."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(tree, home):
    """The parts of course_pkg that a module imports anywhere, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                head, *rest = alias.name.split(".")
                if head == "course_pkg":
                    yield rest[0] if rest else "course_pkg"
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "import by the full name"
            head, *rest = (node.module or "").split(".")
            if head == "course_pkg" and rest:
                yield rest[0]
            elif head == "course_pkg":
                for alias in node.names:
                    if alias.name in FLOORS:
                        yield alias.name
                    elif not alias.name.startswith("__"):
                        yield home[alias.name]


def test_a_module_imports_only_from_the_floors_below_its_own():
    upward = set()
    for path in modules():
        own = part(path)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for other in imported(tree, course_pkg._HOME):
            if other == own and path.parent != PACKAGE:
                continue
            if FLOORS[other] >= FLOORS[own]:
                upward.add((own, other))
    assert upward <= UPWARD


def test_the_upward_import_waits_until_it_is_called():
    for own, other in UPWARD:
        tree = ast.parse((PACKAGE / f"{own}.py").read_text(encoding="utf-8"))
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert other not in set(imported(tree, course_pkg._HOME))


def test_importing_the_package_loads_no_heavy_library():
    code = (
        "import sys; import course_pkg;"
        "print([m for m in ('torch', 'numpy', 'matplotlib', 'tiktoken') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", course_pkg.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(course_pkg, name)
    if isinstance(value, type) or callable(value):
        assert value.__doc__


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Transformer'"):
        _ = course_pkg.Transformer


def test_the_package_checks_its_input_with_errors_and_not_with_assert():
    # `python -O` removes asserts, and an AssertionError tells a learner nothing.
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assert)
    ]
    assert found == []


def targets():
    return set(re.findall(r"^([a-z][a-z-]*):", text("Makefile"), flags=re.MULTILINE))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_make_commands_of_a_page_exist(page):
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text(page), flags=re.MULTILINE))
    assert named
    assert named <= targets()


def test_every_target_is_documented():
    documented = set(re.findall(r"^([a-z-]+):.*## \S", text("Makefile"), flags=re.MULTILINE))
    assert documented == targets()


def test_the_course_commands_of_the_readme_exist():
    from course_pkg.cli import course

    named = re.findall(r"^(?:\$ )?course ([a-z]+)(.*)$", text("README.md"), flags=re.MULTILINE)
    assert {name for name, _ in named} >= {"train", "generate", "tokenize", "info"}
    for name, rest in named:
        options = {option for p in course.commands[name].params for option in p.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options


def test_ci_runs_the_readmes_commands():
    assert "\nmake test\n" in text(".ci/run")
    assert "\nmake book\n" in text(".ci/run")
    workflow = yaml.safe_load(text(".github/workflows/ci.yml"))
    commands = [step["run"] for step in workflow["jobs"]["windows"]["steps"] if "run" in step]
    windows = text("README.md").replace("\\", "/")
    for command in commands:
        assert command in windows


def pins(path):
    lines = [line.split("#")[0].strip() for line in text(path).splitlines()]
    return [line for line in lines if line]


LOCKS = ["requirements.txt", "tests/requirements.txt", "tests/requirements-no-deps.txt"]


@pytest.mark.parametrize("path", LOCKS)
def test_every_requirement_is_pinned_exactly_and_names_no_place(path):
    for line in pins(path):
        assert re.fullmatch(r"[\w.-]+==[\w.]+(?: ; sys_platform [!=]= \"\w+\")?", line), line


def test_no_package_is_pinned_twice():
    names = [re.split("==", line)[0].lower().replace("_", "-") for p in LOCKS for line in pins(p)]
    assert sorted(names) == sorted(set(names))


def test_the_locks_cover_what_the_package_asks_for():
    project = tomllib.loads(text("pyproject.toml"))["project"]
    locked = {re.split("==", line)[0].lower().replace("_", "-") for p in LOCKS for line in pins(p)}
    extras = project["optional-dependencies"]
    for wanted in [*project["dependencies"], *extras["book"], *extras["test"]]:
        assert re.match(r"[\w-]+", wanted)[0].lower() in locked


def test_every_page_of_the_table_of_contents_exists():
    toc = yaml.safe_load(text("_toc.yml"))
    pages = [toc["root"], *(c["file"] for p in toc["parts"] for c in p["chapters"])]
    missing = [
        page
        for page in pages
        if not any((ROOT / f"{page}{suffix}").exists() for suffix in (".md", ".ipynb"))
    ]
    assert missing == []


def test_every_page_is_in_the_table_of_contents():
    listed = text("_toc.yml")
    for folder in ("book", "exercises", "solutions"):
        for path in (ROOT / folder).glob("*.md"):
            assert f"file: {folder}/{path.stem}\n" in listed or f"root: {folder}/{path.stem}\n" in (
                listed
            )


def test_jupytext_pairs_nothing_by_itself():
    # With `formats`, saving a notebook would overwrite its source, and a solution could come back.
    settings = tomllib.loads(text("jupytext.toml"))
    assert "formats" not in settings
    for path in (ROOT / "exercises").glob("*.ipynb"):
        assert "jupytext" not in json.loads(path.read_text(encoding="utf-8"))["metadata"]


def test_text_files_have_unix_line_ends():
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, cwd=ROOT, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if not name or not path.is_file() or path.suffix in {".safetensors", ".webp", ".gz", ".xz"}:
            continue
        content = path.read_bytes()
        assert b"\0" in content or b"\r\n" not in content, name
