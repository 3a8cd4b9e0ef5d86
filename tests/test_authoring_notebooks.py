"""md -> executed ipynb: the same bytes each time, and outputs that may not be committed."""

import shutil
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner

pytest.importorskip("jupytext")

from course_pkg.authoring import formats, notebooks
from course_pkg.authoring.__main__ import main

HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# A page

"""
# Prints in pieces, returns values, fails on purpose and shows an image: all kinds of output.
PAGE = """```{code-cell} ipython3
import sys
for word in ("one", "two", "three"):
    print(word)
    sys.stdout.flush()
```

Text with ümlauts and ∑.

```{code-cell} ipython3
{word: len(word) for word in ("a", "bb")}
```

```{code-cell} ipython3
:tags: [raises-exception]

def inner():
    raise ValueError("no")
inner()
```

```{code-cell} ipython3
---
mystnb:
  image:
    alt: an empty image
---
from IPython.display import display
display({"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg'/>"}, raw=True)
```
"""


@pytest.fixture
def page(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "course_pkg").mkdir()
    (tmp_path / "course_pkg" / "gpt.py").write_text("SIZE = 1\n", encoding="utf-8")

    def write(body, name="01_page.md"):
        path = tmp_path / "book" / name
        path.write_text(HEADER + body, encoding="utf-8")
        return path

    return write


def cell(source):
    return f"```{{code-cell}} ipython3\n{source}\n```\n"


def test_two_runs_give_the_same_bytes_and_a_sound_notebook(page):
    path = page(PAGE)
    assert notebooks.make(path)
    target = path.with_suffix(".ipynb")
    first = target.read_bytes()
    assert not notebooks.make(path)
    assert target.read_bytes() == first
    assert first.endswith(b"}\n")
    assert b"\r" not in first

    notebook = nbformat.read(target, as_version=4)
    nbformat.validate(notebook)
    assert notebooks.problems(notebook) == []
    assert notebooks.difference(notebooks.build(path), notebook) is None
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == [1, 2, 3, 4]
    assert [o.text for o in code[0].outputs] == ["one\ntwo\nthree\n"]
    assert code[2].outputs[0].traceback == ["ValueError: no"]
    assert "version" not in notebook.metadata.language_info


def test_it_runs_in_the_pages_folder_with_this_python(page):
    path = page(
        cell("import pathlib, sys\nassert pathlib.Path.cwd().name == 'book'")
        + cell("import os\nassert os.environ['OMP_NUM_THREADS'] == '1'")
    )
    assert notebooks.make(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import sys\nprint('careful', file=sys.stderr)", "writes to stderr"),
        ("import warnings\nwarnings.warn('old')", "writes to stderr"),
        ("import os\nprint(os.getcwd())", "shows a folder of this machine"),
        ("import os\nprint('in', os.path.expanduser('~') + ':')", "shows a folder of this machine"),
        ("import tempfile\nprint(tempfile.gettempdir() + '/x')", "shows a folder of"),
        ("object()", "shows an object's address"),
        (
            "from IPython.display import display\ndisplay({'image/png': ''}, raw=True)",
            "no mystnb.image.alt",
        ),
        (
            "from IPython.display import HTML\n"
            "HTML('<script src=\"https://example.org/a.js\"></script>')",
            "loads from a network",
        ),
        (
            "from IPython.display import display\n"
            "display({'application/vnd.jupyter.widget-view+json': {}}, raw=True)",
            "shows a widget",
        ),
    ],
)
def test_an_output_that_may_not_be_committed_is_not_written(page, source, message):
    path = page(cell(source))
    path.with_suffix(".ipynb").write_text("what was there", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        notebooks.make(path)
    assert path.with_suffix(".ipynb").read_text(encoding="utf-8") == "what was there"
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_a_failing_cell_writes_nothing_and_the_command_line_says_which_page(page, tmp_path):
    path = page(cell("1 / 0"))
    result = CliRunner().invoke(main, ["--root", str(tmp_path), "notebooks"])
    assert result.exit_code == 1
    assert "01_page.md" in result.output
    assert "ZeroDivisionError" in result.output
    assert not path.with_suffix(".ipynb").exists()


def test_a_page_runs_again_only_when_something_it_depends_on_changed(page, tmp_path):
    path = page(cell("print(1)"))
    notebooks.make(path)
    assert notebooks.is_current(path)

    (tmp_path / "course_pkg" / "cli.py").write_text("X = 1\n", encoding="utf-8")
    assert notebooks.is_current(path)
    for change in (
        lambda: (tmp_path / "course_pkg" / "gpt.py").write_text("SIZE = 2\n", encoding="utf-8"),
        lambda: (tmp_path / "requirements.txt").write_text("torch==1\n", encoding="utf-8"),
        lambda: page(cell("print(1)  # more")),
    ):
        change()
        assert not notebooks.is_current(path)
        notebooks.make(path)
        assert notebooks.is_current(path)


@pytest.mark.parametrize(
    ("source", "counts"),
    [
        ("from course_pkg import SIZE", set()),
        ("from course_pkg import check", {"checks"}),
        ("from course_pkg import (\n    SIZE,\n    diagnose,\n)", {"checks"}),
        ("from course_pkg.checks.curves import show", {"checks"}),
        ("open('data/losses.json')", {"losses"}),
    ],
)
def test_checks_and_data_count_for_the_pages_that_use_them(page, tmp_path, source, counts):
    path = page(cell(source))
    files = {
        "checks": tmp_path / "course_pkg" / "checks" / "ch01.py",
        "losses": tmp_path / "book" / "data" / "losses.json",
    }
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1\n", encoding="utf-8")
    notebook = notebooks.build(path)
    before = notebooks.inputs_digest(path, notebook)
    for name, file in files.items():
        file.write_text("2\n", encoding="utf-8")
        changed = notebooks.inputs_digest(path, notebook) != before
        assert changed == (name in counts), name
        file.write_text("1\n", encoding="utf-8")


def test_an_edit_on_either_side_is_a_difference(page):
    path = page(cell("print(1)") + "\nText.\n")
    expected = notebooks.build(path)
    for edit in (
        lambda n: n.cells[1].update(source="print(2)"),
        lambda n: n.cells[2].update(source="Other text."),
        lambda n: n.cells[1].metadata.update(tags=["hide-input"]),
        lambda n: n.cells.pop(),
        lambda n: n.cells.append(formats.new_cell("markdown", "more")),
    ):
        found = notebooks.build(path)
        assert notebooks.difference(expected, found) is None
        edit(found)
        assert notebooks.difference(expected, found) is not None


def test_a_notebook_that_was_never_run_or_run_out_of_order_is_a_problem(page):
    path = page(cell("print(1)") + cell("print(2)"))
    notebooks.make(path)
    notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    for counts in ((None, None), (2, 1), (1, 3)):
        code = [c for c in notebook.cells if c.cell_type == "code"]
        for one, count in zip(code, counts, strict=True):
            one.execution_count = count
        assert notebooks.problems(notebook)


def test_a_misspelt_tag_or_an_empty_cell_is_refused(page):
    with pytest.raises(ValueError, match="Did you mean 'hide-input'"):
        formats.read(page("```{code-cell} ipython3\n:tags: [hide_input]\n\n1\n```\n"))
    with pytest.raises(ValueError, match="empty code cell"):
        formats.read(page(cell("")))


def test_plain_markdown_pages_are_not_notebooks(page, tmp_path):
    plain = tmp_path / "book" / "setup.md"
    plain.write_text("# Setup\n\n`kernelspec:` is a word here.\n", encoding="utf-8")
    path = page(cell("1"))
    assert notebooks.sources(tmp_path) == [path]


def test_markdown_survives_a_round_trip(page, tmp_path):
    path = page(PAGE)
    notebook = formats.read(path)
    again = tmp_path / "again.md"
    again.write_text(formats.to_markdown(notebook), encoding="utf-8")
    assert notebooks.difference(notebook, formats.read(again)) is None


def test_check_reports_what_make_would_change(page, tmp_path):
    (tmp_path / "solutions").mkdir()
    path = page(cell("print(1)"))
    arguments = ["--root", str(tmp_path), "check"]
    assert CliRunner().invoke(main, arguments).exit_code == 1  # not made yet
    notebooks.make(path)
    assert CliRunner().invoke(main, arguments).exit_code == 0
    page(cell("print(2)"))
    assert CliRunner().invoke(main, arguments).exit_code == 1


def test_outside_a_repository_it_says_so(tmp_path):
    result = CliRunner().invoke(main, ["--root", str(tmp_path), "check"])
    assert result.exit_code == 2
    assert "no folder 'book'" in result.output


def test_serving_a_book_that_was_not_built_says_so(page, tmp_path):
    result = CliRunner().invoke(main, ["--root", str(tmp_path), "serve"])
    assert result.exit_code == 1
    assert "make book" in result.output


def test_machine_paths_are_matched_as_whole_folders():
    root = Path("/srv/course")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", execution_count=1)])

    def shown(text):
        notebook.cells[0].outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
        return bool(notebooks.problems(notebook, (str(root),)))

    assert shown("file: /srv/course/book")
    assert shown("'/srv/course'")
    assert not shown("/srv/coursework")
    assert not shown("a / b")


def test_a_readers_checkout_elsewhere_gives_the_same_file(page, tmp_path):
    path = page(PAGE)
    notebooks.make(path)
    elsewhere = tmp_path / "moved"
    elsewhere.mkdir()
    for name in ("book", "course_pkg"):
        shutil.copytree(tmp_path / name, elsewhere / name)
    copy = elsewhere / "book" / path.name
    assert notebooks.is_current(copy)
    assert not notebooks.make(copy)


def test_a_book_that_was_built_in_another_way_is_forgotten(tmp_path):
    from course_pkg.authoring import __main__ as commands

    style = tmp_path / "book" / "_static" / "course.css"
    style.parent.mkdir(parents=True)
    style.write_text("p {}", encoding="utf-8")
    page = tmp_path / "_build" / "html" / "index.html"

    def built_again():
        commands._forget_other_ways(tmp_path)
        known = page.exists()
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("", encoding="utf-8")
        return not known

    assert built_again()
    assert not built_again()
    style.write_text("p { margin: 0 }", encoding="utf-8")
    assert built_again()
    (tmp_path / "_config.yml").write_text("title: x", encoding="utf-8")
    assert built_again()
    assert not built_again()
