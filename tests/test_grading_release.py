"""What students get: nbgrader's cells, nothing that tells, a folder that is whole or untouched."""

import ast
import base64
import dataclasses
import hashlib
import html
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("jupytext")
pytest.importorskip("nbgrader")

from course_pkg.authoring import exercises, formats
from course_pkg.checks import engine
from course_pkg.grading import exports, recorded, release, results, shipped

ROOT = Path(__file__).parent.parent
PAGES = {
    int(path.name[:2]): exercises.read_solutions(path)
    for path in sorted((ROOT / "solutions").glob("[0-9][0-9]_*.md"))
}
ALL = [exercise for page in PAGES.values() for exercise in page.exercises]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    to = tmp_path_factory.mktemp("release") / "students"
    release.release(ROOT, to)
    return to


@pytest.fixture(scope="module")
def with_checks(tmp_path_factory):
    to = tmp_path_factory.mktemp("checks") / "students"
    release.release(ROOT, to, chapters=[3], with_checks=True)
    return to


def notebook(folder, page):
    return nbformat.read(folder / f"{page.stem}.ipynb", as_version=4)


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_gradebook_has_the_cells_that_were_handed_out(whole, tmp_path):
    from nbgrader.api import Gradebook

    infos = tuple(results.ExerciseInfo(e.id, e.heading, e.kind, e.points, "") for e in ALL)
    exports.nbgrader(results.Run(0, "bubblewrap", infos, (), ()), tmp_path / "gradebook.db")
    with Gradebook(f"sqlite:///{tmp_path / 'gradebook.db'}") as book:
        for number, page in PAGES.items():
            name = f"chapter-{number:02}"
            cells = [c.metadata.get("nbgrader", {}) for c in notebook(whole, page).cells]
            points = {c["grade_id"]: c["points"] for c in cells if c.get("grade")}
            answers = {c["grade_id"] for c in cells if c.get("solution")}
            kept = book.find_notebook(name, name)
            assert {c.name: c.max_score for c in kept.grade_cells} == points
            assert {c.name for c in kept.solution_cells} == answers


# A repository of one chapter, quick to release and free to spoil


SECRET = "head_dim = width // num_heads + 0 * batch"
PAGE = '''---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# Solutions: heads

Run this first.

```{code-cell} ipython3
import torch

from course_pkg import check
```

+++ {"tags": ["solution"]}

For instructors: grade this generously in the first year.

+++

## Split the heads

PROMPT

```{code-cell} ipython3
GIVEN
```

```{code-cell} ipython3
---
tags: [exercise]
exercise: {id: "03.split_heads", points: 2, kind: implement}
---
def split_heads(x, num_heads):
    """(B, T, D) -> (B, H, T, Dh)"""
    ### BEGIN SOLUTION
    batch, tokens, width = x.shape
    head_dim = width // num_heads + 0 * batch
    return x.view(batch, tokens, num_heads, head_dim).transpose(1, 2)
    ### END SOLUTION
```

```{code-cell} ipython3
:tags: [check]

check("03.split_heads", split_heads)
### BEGIN HIDDEN TESTS
assert split_heads(torch.ones(1, 2, 6), 3).shape == (1, 3, 2, 2)
### END HIDDEN TESTS
```

+++ {"tags": ["solution"]}

The transpose moves the heads in front of the tokens.

+++

## Look around

Which head looks back?

```{code-cell} ipython3
---
tags: [exercise]
exercise: {id: "03.heads", points: 3, kind: explore}
---
### BEGIN SOLUTION
back = sum(range(3)) + 0
### END SOLUTION
```

```{code-cell} ipython3
:tags: [check]

check("03.heads", back)
```

```{code-cell} ipython3
:tags: [check]

check("03.heads", back, hint=True)
```
'''


def repository(folder, prompt="Write it.", given="x = 1", page=PAGE):
    text = page.replace("PROMPT", prompt).replace("GIVEN", given)
    (folder / "solutions").mkdir(parents=True, exist_ok=True)
    (folder / "solutions" / "03_heads.md").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def small(tmp_path):
    return repository(tmp_path / "repository")


def small_notebook(folder):
    return nbformat.read(folder / "03_heads.ipynb", as_version=4)


# Names


def test_the_ids_of_nbgrader_and_of_the_course_are_each_others_inverse():
    names = [exercise.id for exercise in ALL]
    assert [release.exercise_id(release.grade_id(name)) for name in names] == names
    everything = [f(name) for f in (release.grade_id, release.check_grade_id) for name in names]
    assert len(set(everything)) == 2 * len(names)
    assert not any(release.exercise_id(release.check_grade_id(name)) for name in names)


@given(st.one_of(st.text(), st.none(), st.integers(), st.lists(st.text())))
def test_any_other_id_is_no_exercise(value):
    found = release.exercise_id(value)
    assert found is None or release.grade_id(found) == value


@pytest.mark.parametrize("name", ["03-split_heads", "3.x", "03.Split", "03.x\n", "٠٣.x", ""])
def test_what_is_no_exercises_id_has_no_grade_id(name):
    with pytest.raises(ValueError, match=r"exercise_id=.* must look like '03\.split_heads'"):
        release.grade_id(name)


# The notebooks


def test_a_release_holds_both_forms_of_each_chapter_and_says_what_it_made(whole):
    files = contents(whole)
    stems = [page.stem for page in PAGES.values()]
    expected = {f"{stem}{suffix}" for stem in stems for suffix in (".ipynb", ".md")}
    assert set(files) == expected | {"README.md", release.MANIFEST}
    manifest = json.loads(files.pop(release.MANIFEST))
    assert manifest["chapters"] == list(PAGES)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert manifest["files"] == digests


def test_the_markdown_has_the_same_cells(whole):
    for page in PAGES.values():
        one = notebook(whole, page).cells
        other = formats.read(whole / f"{page.stem}.md").cells
        assert [(c.cell_type, c.source) for c in one] == [(c.cell_type, c.source) for c in other]
        for a, b in zip(one, other, strict=True):
            assert {k: v for k, v in a.metadata.items() if k in formats.CELL_METADATA} == b.metadata


def test_students_get_the_learners_cells_and_a_place_for_their_findings(whole):
    for page in PAGES.values():
        given = [cell.source for cell in exercises.student_notebook(page).cells[1:]]
        found = [cell.source for cell in notebook(whole, page).cells[1:]]
        explores = sum(exercise.kind == "explore" for exercise in page.exercises)
        assert found.count(release._FINDINGS) == explores
        assert [source for source in found if source != release._FINDINGS] == given
        assert not any(formats.has_tag(cell, "solution") for cell in notebook(whole, page).cells)


def test_no_link_leads_out_of_the_release(whole):
    for name, content in contents(whole).items():
        assert b"](../" not in content, name


def test_every_stub_is_python_that_says_it_is_one(whole):
    for page in PAGES.values():
        cells = {
            cell.metadata["exercise"]["id"]: cell.source
            for cell in notebook(whole, page).cells
            if "exercise" in cell.metadata
        }
        assert list(cells) == [exercise.id for exercise in page.exercises]
        for name, source in cells.items():
            nodes = list(ast.walk(ast.parse(source)))
            raises = any(
                isinstance(node, ast.Raise) and ast.unparse(node).startswith("raise NotImpl")
                for node in nodes
            )
            assert raises or any(getattr(node, "value", 0) is ... for node in nodes), name


def nbgrader_cells(folder, page):
    cells = notebook(folder, page).cells
    return {c.metadata.nbgrader.grade_id: c for c in cells if "nbgrader" in c.metadata}


def test_nbgraders_validator_accepts_every_notebook(whole):
    from nbgrader.nbgraderformat import MetadataValidator

    for page in PAGES.values():
        nbformat.validate(notebook(whole, page))
        MetadataValidator().validate_nb(notebook(whole, page))


def test_each_exercise_has_its_points_in_one_cell(whole):
    from nbgrader import utils

    for page in PAGES.values():
        cells = nbgrader_cells(whole, page)
        graded = {
            name: c.metadata.nbgrader.points for name, c in cells.items() if utils.is_grade(c)
        }
        assert graded == {release.graded_id(e.id, e.kind): e.points for e in page.exercises}
        solved = [name for name, cell in cells.items() if utils.is_solution(cell)]
        assert solved == [release.grade_id(exercise.id) for exercise in page.exercises]


def test_only_answers_and_findings_can_be_edited(whole):
    for page in PAGES.values():
        for cell in notebook(whole, page).cells:
            is_answer = "exercise" in cell.metadata
            assert cell.metadata.get("editable", True) == (
                is_answer or cell.source == release._FINDINGS
            )
            assert cell.metadata.get("deletable", True) == (cell.source == release._FINDINGS)


def test_nbgraders_gradebook_takes_the_notebook_and_mends_what_a_student_changed(
    whole, tmp_path, monkeypatch
):
    # nbgrader makes a new gradebook with `alembic`, which lies beside this Python.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    from nbgrader.api import Gradebook
    from nbgrader.preprocessors import OverwriteCells, SaveCells

    page = PAGES[3]
    url = f"sqlite:///{tmp_path / 'gradebook.db'}"
    where = {"notebook": page.stem, "assignment": "week3", "db_url": url}
    with Gradebook(url) as book:
        book.add_assignment("week3")
    SaveCells().preprocess(notebook(whole, page), {"nbgrader": where})
    with Gradebook(url) as book:
        saved = book.find_notebook(page.stem, "week3")
        assert saved.max_score == sum(exercise.points for exercise in page.exercises)
        assert len(saved.solution_cells) == len(page.exercises)
    submitted = notebook(whole, page)
    for cell in submitted.cells:
        cell.source += "\n# mine"
    mended, _ = OverwriteCells().preprocess(submitted, {"nbgrader": where})
    for cell, released in zip(mended.cells, notebook(whole, page).cells, strict=True):
        locked = cell.metadata.get("nbgrader", {}).get("locked")
        assert (cell.source == released.source) == bool(locked)


@pytest.mark.parametrize("suffix", [".ipynb", ".md"])
def test_what_was_filled_in_is_what_the_grader_reads(whole, tmp_path, suffix):
    submissions = pytest.importorskip("course_pkg.grading.submissions")
    solved = {
        exercise.id: next(c.source for c in exercise.cells if "exercise" in c.metadata)
        for exercise in ALL
    }
    (tmp_path / "ada").mkdir()
    for page in PAGES.values():
        filled = (
            notebook(whole, page) if suffix == ".ipynb" else formats.read(whole / f"{page.stem}.md")
        )
        for cell in filled.cells:
            if "exercise" in cell.metadata:
                cell.source = solved[cell.metadata["exercise"]["id"]]
        filled = formats.new_notebook(filled.cells)
        write = formats.to_ipynb if suffix == ".ipynb" else formats.to_markdown
        (tmp_path / "ada" / f"{page.stem}{suffix}").write_text(write(filled), encoding="utf-8")
    chapters = {n: [exercise.id for exercise in page.exercises] for n, page in PAGES.items()}
    collected = submissions.collect(tmp_path, chapters)
    assert collected.oddities == ()
    assert [s.chapter for s in collected.submissions] == list(PAGES)
    assert {(s.refused, s.oddities) for s in collected.submissions} == {(None, ())}
    answers = {k: v for s in collected.submissions for k, v in s.answers.items()}
    assert {name: answer.source.strip() for name, answer in answers.items()} == solved


# What is for instructors


def test_an_explore_exercise_is_read_by_a_person(small, tmp_path):
    release.release(small, tmp_path / "to")
    cells = {
        c.metadata.nbgrader.grade_id: dict(c.metadata.nbgrader)
        for c in small_notebook(tmp_path / "to").cells
        if "nbgrader" in c.metadata
    }
    kinds = {k: (v["grade"], v["solution"], v["locked"], v.get("points")) for k, v in cells.items()}
    assert {k: v for k, v in kinds.items() if "given" not in k} == {
        "03-split_heads": (False, True, False, None),
        "03-split_heads-check": (True, False, True, 2),
        "03-heads": (True, True, False, 3),
        "03-heads-check": (False, False, True, None),
        "03-heads-check-2": (False, False, True, None),
    }
    assert small_notebook(tmp_path / "to").cells[-1].source == release._FINDINGS


def test_hidden_tests_and_what_is_for_instructors_stay_here(small, tmp_path):
    release.release(small, tmp_path / "to")
    for name, content in contents(tmp_path / "to").items():
        for hidden in (b"HIDDEN", b"torch.ones", b"For instructors", b"moves the heads", b"0 * ba"):
            assert hidden not in content, name
    sources = [cell.source for cell in small_notebook(tmp_path / "to").cells]
    assert 'check("03.split_heads", split_heads)' in sources


# Leaks. Each is planted, and each time nothing may be written.


def refused(root, to, exercise="03.split_heads", line=SECRET, file="", **options):
    with pytest.raises(ValueError, match="is not for students") as caught:
        release.release(root, to, **options)
    said = str(caught.value)
    assert exercise in said and repr(line) in said and said.startswith(file)
    assert not to.exists() and list(to.parent.glob(".to*")) == []


SPOILED = {
    "as it is": SECRET,
    "indented": f"```\n            {SECRET}\n```",
    "other spaces": "Here `head_dim=width//num_heads +  0*batch` helps.",
    "wrapped": "Take head_dim = width\n// num_heads + 0 *\nbatch then.",
    "inside a line": f"if True: {SECRET}; pass",
    "HTML": html.escape("assert split_heads(torch.ones(1, 2, 6), 3).shape == (1, 3, 2, 2) <"),
    "base64": base64.b64encode(f"    {SECRET}\n".encode()).decode(),
    "base64 that begins in a word": "x" + base64.b64encode(f"a{SECRET}".encode()).decode(),
    "base64 in lines": base64.encodebytes(f"{SECRET}\n{'#' * 80}".encode()).decode().strip(),
    "base64 twice": base64.b64encode(base64.b64encode(f"  {SECRET}".encode())).decode(),
    "base64 for addresses": base64.urlsafe_b64encode(f"??>{SECRET}?>>".encode()).decode(),
    "JSON": json.dumps({"cells": [{"source": [f"    {SECRET}\n"]}]}),
    "JSON in JSON": json.dumps(json.dumps({"a": f'x = "é" {SECRET}'})),
}


@pytest.mark.parametrize("how", SPOILED)
def test_a_prompt_that_tells_is_refused(tmp_path, how):
    root = repository(tmp_path / "repository", prompt=SPOILED[how])
    if how == "HTML":
        hidden = "assert split_heads(torch.ones(1, 2, 6), 3).shape == (1, 3, 2, 2)"
        refused(root, tmp_path / "to", line=hidden)
    else:
        refused(root, tmp_path / "to")


def test_a_given_cell_that_tells_is_refused(tmp_path):
    refused(
        repository(tmp_path / "repository", given=f"if True:\n        {SECRET}"), tmp_path / "to"
    )


def test_a_picture_whose_text_tells_is_refused(tmp_path):
    cell = (
        f"```{{code-cell}} ipython3\n---\nmystnb: {{image: {{alt: '{SECRET}'}}}}\n---\nGIVEN\n```"
    )
    page = PAGE.replace("```{code-cell} ipython3\nGIVEN\n```", cell)
    refused(repository(tmp_path / "repository", page=page), tmp_path / "to")


@pytest.mark.parametrize(
    ("exercise", "line"),
    [
        ("03.split_heads", "The transpose moves the heads in front of the tokens."),
        ("03_heads", "For instructors: grade this generously in the first year."),
        ("03.split_heads", "assert split_heads(torch.ones(1, 2, 6), 3).shape == (1, 3, 2, 2)"),
    ],
    ids=["explanation", "note", "hidden test"],
)
def test_other_parts_for_instructors_are_not_told_either(tmp_path, exercise, line):
    root = repository(tmp_path / "repository", prompt=f"Note: {line}")
    refused(root, tmp_path / "to", exercise, line)


def _in_output(cell):
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"a\n  {SECRET}\n")]


def _in_html_output(cell):
    text = html.escape(f"'{SECRET}'")
    cell.outputs = [nbformat.v4.new_output("display_data", data={"text/html": f"<b>{text}</b>"})]


def _in_image(cell):
    image = base64.b64encode(b"\x89PNG\r\n" + SECRET.encode() + b"\0\1").decode()
    cell.outputs = [nbformat.v4.new_output("display_data", data={"image/png": image})]


def _in_metadata(cell):
    cell.metadata["editor"] = {"history": [{"before": ["import x\n", f"\t{SECRET}\n"]}]}


def _in_key(cell):
    cell.metadata[SECRET] = True


PLANTED = (_in_output, _in_html_output, _in_image, _in_metadata, _in_key)


@pytest.mark.parametrize("plant", PLANTED)
def test_outputs_and_metadata_that_tell_are_refused(small, tmp_path, monkeypatch, plant):
    through_nbgrader = release._through_nbgrader

    def spoiled(made, stem):
        made = through_nbgrader(made, stem)
        plant(next(cell for cell in made.cells if cell.cell_type == "code"))
        return made

    monkeypatch.setattr(release, "_through_nbgrader", spoiled)
    refused(small, tmp_path / "to", file="03_heads.ipynb")


def test_an_attachment_that_tells_is_refused(small, tmp_path, monkeypatch):
    through_nbgrader = release._through_nbgrader

    def spoiled(made, stem):
        made = through_nbgrader(made, stem)
        text = base64.b64encode(f"def f():\n    {SECRET}".encode()).decode()
        made.cells[0].attachments = {"notes.txt": {"text/plain": text}}
        return made

    monkeypatch.setattr(release, "_through_nbgrader", spoiled)
    refused(small, tmp_path / "to", file="03_heads.ipynb")


def test_markdown_and_readme_are_searched_too(small, tmp_path, monkeypatch):
    to_markdown, readme = formats.to_markdown, release._readme
    with monkeypatch.context() as patch:
        patch.setattr(formats, "to_markdown", lambda made: f"{to_markdown(made)}\n{SECRET}\n")
        refused(small, tmp_path / "to", file="03_heads.md")
    monkeypatch.setattr(release, "_readme", lambda *a: readme(*a) + f"\n> {SECRET}\n")
    refused(small, tmp_path / "to", file="README.md")


def package_repository(tmp_path):
    """A repository whose one exercise has a value as its answer, so that nothing is recorded."""
    root = tmp_path / "repository"
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors", "stories.txt")
    shutil.copytree(ROOT / "course_pkg", root / "course_pkg", ignore=ignored)
    for name in ("LICENSE", "LICENSE-TEXT", "pyproject.toml"):
        shutil.copy(ROOT / name, root / name)
    (root / "solutions").mkdir()
    source = (ROOT / "solutions" / "03_multi_head_attention.md").read_text(encoding="utf-8")
    first, second, *_ = source.split("\n## ")
    (root / "solutions" / "03_multi_head_attention.md").write_text(f"{first}\n## {second}")
    return root


SHAPE = '"W_query.weight": (24, 16),'


def test_the_package_is_searched_too(tmp_path):
    root = package_repository(tmp_path)
    release.release(root, tmp_path / "clean", with_checks=True)
    for file in ("attention.py", "models/story-1m/record.json", "checks/probes.py"):
        path = root / "course_pkg" / file
        content = path.read_text(encoding="utf-8")
        in_json = json.dumps({"a": SHAPE, "b": content})
        spoiled = in_json if file.endswith("json") else f"{content}#{SHAPE}"
        path.write_text(spoiled, encoding="utf-8")
        refused(root, tmp_path / "to", "03.shapes", SHAPE, f"course_pkg/{file}", with_checks=True)
        path.write_text(content, encoding="utf-8")


def test_a_line_that_the_book_prints_is_told_only_by_its_own_chapter(small, tmp_path):
    other = PAGE.replace("03.split_heads", "04.split_heads").replace("03.heads", "04.heads")
    other = other.replace("PROMPT", f"`{SECRET}`").replace("GIVEN", "x = 1")
    for line in (
        "head_dim = width // num_heads + 0 * batch",
        "return x.view(batch, tokens, num_heads, head_dim).transpose(1, 2)",
    ):
        other = other.replace(f"    {line}", "    return reshape_all_of_them(x, num_heads)")
    (small / "solutions" / "04_other.md").write_text(other, encoding="utf-8")
    refused(small, tmp_path / "to", file="04_other")
    (small / "book").mkdir()
    (small / "book" / "03_heads.md").write_text(f"```python\n{SECRET}\n```\n", encoding="utf-8")
    release.release(small, tmp_path / "to")
    assert SECRET.encode() in contents(tmp_path / "to")["04_other.md"]


# The folder


def test_chapters_are_chosen_and_the_same_again_gives_the_same_bytes(tmp_path):
    made = release.release(ROOT, tmp_path / "one", chapters=[5, 2, 5])
    assert [path.name for path in made if path.suffix == ".ipynb"] == [
        "02_causal_attention.ipynb",
        "05_gpt.ipynb",
    ]
    assert set(made) == set((tmp_path / "one").iterdir())
    release.release(ROOT, tmp_path / "two", chapters=(2, 5))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    before = contents(tmp_path / "one")
    release.release(ROOT, tmp_path / "one", chapters=(2, 5))
    assert contents(tmp_path / "one") == before


@pytest.mark.parametrize("chapter", [0, 7, -1])
def test_an_unknown_chapter_is_refused(small, tmp_path, chapter):
    with pytest.raises(ValueError, match=rf"chapter={chapter!r} has no exercises. Allowed: 3\."):
        release.release(small, tmp_path / "to", chapters=[chapter])
    assert not (tmp_path / "to").exists()


def test_a_folder_without_solutions_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no solutions/NN_name\.md"):
        release.release(tmp_path, tmp_path / "to")


@pytest.mark.parametrize("inside", [".", "..", "solutions", "exercises/new", "course_pkg"])
def test_the_repositorys_own_folders_are_refused_even_by_force(small, inside):
    before = contents(small)
    with pytest.raises(ValueError, match="belongs to the repository"):
        release.release(small, small / inside, force=True)
    assert contents(small) == before


def test_a_file_in_the_folders_place_is_refused(small, tmp_path):
    (tmp_path / "to").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        release.release(small, tmp_path / "to", force=True)


def test_other_files_are_refused_and_by_force_kept(small, tmp_path):
    to = tmp_path / "to"
    (to / "grades").mkdir(parents=True)
    (to / "grades" / "ada.txt").write_text("17")
    (to / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"grades/ada\.txt and 1 more, which no release"):
        release.release(small, to)
    assert set(contents(to)) == {"grades/ada.txt"}
    release.release(small, to, force=True)
    assert (to / "grades" / "ada.txt").read_text() == "17"
    assert (to / "link").readlink() == tmp_path
    assert (to / "03_heads.ipynb").is_file()
    with pytest.raises(ValueError, match="which no release made"):
        release.release(small, to)


def test_a_changed_file_is_refused_and_by_force_made_anew(small, tmp_path):
    to = tmp_path / "to"
    release.release(small, to)
    before = contents(to)
    (to / "README.md").write_text("Hand in on Friday.")
    with pytest.raises(ValueError, match=r"holds README\.md, which"):
        release.release(small, to)
    assert (to / "README.md").read_text() == "Hand in on Friday."
    release.release(small, to, force=True)
    assert contents(to) == before


def test_files_of_the_last_release_go_and_work_in_them_stays(small, tmp_path):
    to = tmp_path / "to"
    release.release(small, to)
    (small / "solutions" / "03_heads.md").rename(small / "solutions" / "03_minds.md")
    release.release(small, to)
    assert set(contents(to)) == {"03_minds.ipynb", "03_minds.md", "README.md", release.MANIFEST}
    (to / "03_minds.md").write_text("work")
    (small / "solutions" / "03_minds.md").rename(small / "solutions" / "03_heads.md")
    release.release(small, to, force=True)
    assert (to / "03_minds.md").read_text() == "work"
    assert not (to / "03_minds.ipynb").exists()


def test_a_damaged_manifest_vouches_for_nothing(small, tmp_path):
    to = tmp_path / "to"
    release.release(small, to)
    for text in ("", "[]", '{"format": 1, "files": 3}', '{"format": 99, "files": {}}'):
        (to / release.MANIFEST).write_text(text)
        with pytest.raises(ValueError, match="which no release made"):
            release.release(small, to)


def test_when_a_release_fails_the_folder_is_what_it_was(small, tmp_path, monkeypatch):
    to = tmp_path / "to"
    release.release(small, to)
    before = contents(to)
    repository(small, prompt=f"Spoiled: {SECRET}")
    with pytest.raises(ValueError, match="is not for students"):
        release.release(small, to)
    assert contents(to) == before

    repository(small, prompt="Another prompt.")
    with monkeypatch.context() as patch:
        patch.setattr(release, "_exchanged", lambda *_: False)
        rename = Path.rename

        def fails_for_the_new(path, target):
            if path.name == "new":
                raise OSError("no space")
            return rename(path, target)

        patch.setattr(Path, "rename", fails_for_the_new)
        with pytest.raises(OSError, match="no space"):
            release.release(small, to)
    assert contents(to) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repository", "to"]


@pytest.mark.parametrize("in_one_step", [True, False])
def test_the_folder_is_replaced_with_and_without_an_exchange(
    small, tmp_path, monkeypatch, in_one_step
):
    if not in_one_step:
        monkeypatch.setattr(release, "_exchanged", lambda *_: False)
    to = tmp_path / "to"
    release.release(small, to)
    to.chmod(0o750)
    repository(small, prompt="Another prompt.")
    release.release(small, to)
    assert b"Another prompt." in contents(to)["03_heads.md"]
    assert to.stat().st_mode & 0o777 == 0o750
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repository", "to"]


@pytest.mark.skipif(sys.platform != "linux", reason="the system call is Linux's")
def test_linux_exchanges_folders_in_one_step(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert release._exchanged(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists() and (tmp_path / "b" / "a").exists()


def test_a_link_to_a_folder_is_followed(small, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "to").symlink_to(tmp_path / "real")
    release.release(small, tmp_path / "to")
    assert (tmp_path / "to").is_symlink() and (tmp_path / "real" / "README.md").exists()


def test_without_nbgrader_one_line_says_what_to_install(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nbgrader.preprocessors", None)
    with pytest.raises(ValueError, match=r'^nbgrader.* pip install "gpt-.*\[book,instructor\]"$'):
        release.release(small, tmp_path / "to")


def test_importing_the_module_loads_nothing_heavy():
    heavy = "('nbgrader', 'jupytext', 'torch', 'nbformat')"
    code = (
        "import sys, course_pkg.grading.release as r; r.exercise_id('03-x');"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_readme_tells_what_matters(whole, with_checks):
    text = (whole / "README.md").read_text(encoding="utf-8")
    for page in PAGES.values():
        points = sum(exercise.points for exercise in page.exercises)
        row = f"| `{page.stem}.ipynb` | {page.topic} | {len(page.exercises)} | {points} |"
        assert row in text
    assert "handed in" not in text and "pip install . jupyterlab" not in text
    text = (with_checks / "README.md").read_text(encoding="utf-8")
    assert "pip install . jupyterlab" in text
    assert "`03.shapes`, `03.cost`" in text


# The package without solutions


def chapter_3(folder, monkeypatch):
    """The exercises of the released checks, read by the recorder of this package."""
    place = folder / "course_pkg" / "checks"
    monkeypatch.setattr(recorded, "FOLDER", place / "recordings")
    # There it is a part of the package, whose lines are not taken for the learner's.
    library = (*engine._library_folders(), str(place))
    monkeypatch.setattr(engine, "_library_folders", lambda: library)
    spec = importlib.util.spec_from_file_location("released_ch03", place / "ch03.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EXERCISES


def declared(exercise):
    """The same exercise with its reference, and with the properties that were released."""
    whole = engine.find_exercise(exercise.id)
    names = [prop.name for prop in exercise.properties]
    kept = tuple(prop for prop in whole.properties if prop.name in names)
    assert [prop.name for prop in kept] == names
    return dataclasses.replace(whole, properties=kept)


def _nothing(*args, **kwargs):
    return None


def test_recordings_say_of_every_answer_what_the_solutions_say(with_checks, monkeypatch):
    released = chapter_3(with_checks, monkeypatch)
    expected = [e.id for e in engine.load_chapter("ch03") if not e.answer_is_value]
    assert [exercise.id for exercise in released] == expected
    for exercise in released:
        own = declared(exercise)
        known = engine.Known(own, engine.SEED)
        answers = [own.reference, *(m.answer for m in own.misconceptions), _nothing, 3, dict]
        for answer in answers:
            seen = engine.run(own, answer)
            said = engine.judge(own, seen, known=known)
            if said.status == "failed" and said.problem is None:
                found = engine.recognise(seen, known)
                told = tuple(engine.tell(own, misconception) for misconception in found)
                said = dataclasses.replace(said, diagnoses=told)
            assert recorded.evaluate(exercise, answer) == said, (exercise.id, answer)
        assert recorded.evaluate(exercise, own.reference).status == "passed"


def test_released_checks_hold_no_reference_and_no_misconception(with_checks):
    source = (with_checks / "course_pkg" / "checks" / "ch03.py").read_text(encoding="utf-8")
    withheld = {name.rpartition(".")[2] for name in shipped.withheld("ch03")}
    own = {e.reference.__name__ for e in engine.load_chapter("ch03") if callable(e.reference)}
    assert own - {"MultiHeadAttention"} <= withheld
    tree = ast.parse(source)
    bound = {name for statement in tree.body for name in shipped.bound_by(statement)}
    assert bound & withheld == set()
    assert not {"mine.py", "notebooks.py", "ch01.py"} & {
        path.name for path in (with_checks / "course_pkg" / "checks").iterdir()
    }
    assert not (with_checks / "course_pkg" / "cli.py").exists()


def test_what_is_not_checked_is_listed(with_checks):
    place = with_checks / "course_pkg" / "checks" / "recordings" / recorded.UNCHECKED
    told = json.loads(place.read_text(encoding="utf-8"))
    values = [e.id for e in engine.load_chapter("ch03") if e.answer_is_value]
    assert list(told["exercises"]) == values
    assert "there and back" in told["properties"]["03.merge_heads"]


def run_released(folder, code):
    """Run code with the released package alone, away from the repository."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONPATH": str(folder)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_student_can_check_without_the_repository(with_checks, tmp_path):
    page = PAGES[3]
    cells = [(c.source, "") for c in page.preamble if c.cell_type == "code"]
    for exercise in page.exercises:
        cells += [
            (c.source, exercise.id if formats.has_tag(c, "check") else "")
            for c in exercise.cells
            if c.cell_type == "code" and not formats.has_tag(c, "solution")
        ]
    (tmp_path / "cells.json").write_text(json.dumps(cells))
    out = run_released(
        with_checks,
        f"""
        import json, pathlib, course_pkg
        assert pathlib.Path(course_pkg.__file__).parent == pathlib.Path("course_pkg").resolve()
        names = {{}}
        for source, checked in json.load(open({str(tmp_path / "cells.json")!r})):
            print("#", checked)
            exec(source, names)
        """,
    )
    for exercise in page.exercises:
        said = out.partition(f"# {exercise.id}\n")[2].partition("\n#")[0]
        if engine.find_exercise(exercise.id).answer_is_value:
            assert said.startswith(f"{exercise.id}: not checked here.")
        else:
            assert "properties hold" in said and "✗" not in said
    assert "Looked at only when you hand in: there and back." in out


def test_a_wrong_answer_is_told_apart_without_the_repository(with_checks):
    out = run_released(
        with_checks,
        """
        from course_pkg.checks import CheckFailed, check

        def view_alone(x, num_heads):
            B, T, D = x.shape
            return x.reshape(B, num_heads, T, D // num_heads)

        def stub(x, num_heads):
            raise NotImplementedError

        for answer in (view_alone, stub):
            try:
                check("03.split_heads", answer, hint=True)
            except CheckFailed as failed:
                print(failed)
        try:
            check("03.split_hads", view_alone)
        except ValueError as error:
            print(error)
        """,
    )
    assert "A view without a transpose" in out and "✗ values" in out and "Hint 1 of 2" in out
    assert "03.split_heads: not started" in out or "NotImplementedError" in out
    assert "Did you mean '03.split_heads'" in out


def test_other_random_numbers_are_told_and_not_judged(with_checks, monkeypatch):
    exercise = next(e for e in chapter_3(with_checks, monkeypatch) if e.id == "03.split_heads")
    cases = exercise.properties[0].cases
    moved = dataclasses.replace(
        exercise.properties[0],
        cases=lambda generator: [(x + 1, heads) for x, heads in cases(generator)],
    )
    exercise = dataclasses.replace(exercise, properties=(moved, *exercise.properties[1:]))
    with pytest.raises(ValueError, match="draws other random numbers"):
        recorded.evaluate(exercise, _nothing)


def test_the_released_project_can_be_installed(with_checks):
    import tomllib

    project = tomllib.loads((with_checks / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"].endswith("+students")
    names = " ".join(project["project"]["dependencies"])
    assert "torch" in names and "matplotlib" in names
    for name in project["project"]["license-files"]:
        assert (with_checks / name).is_file()
