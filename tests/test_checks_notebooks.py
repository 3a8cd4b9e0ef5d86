"""Learners' notebooks: right, wrong, damaged and hostile ones."""

import os
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
import torch

from course_pkg.checks import notebooks
from course_pkg.checks.engine import evaluate, find_exercise
from course_pkg.checks.notebooks import Cell, answers, check_notebook, read, run

ROOT = Path(__file__).parent.parent
SET_UP = "import os\nimport time\n\nimport torch\n\nfrom course_pkg import check"
SPLIT = """\
def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.view(B, T, num_heads, D // num_heads).transpose(1, 2)"""
MERGE = "def merge_heads(x):\n    return x.transpose(1, 2).flatten(2)"
STUB = 'def merge_heads(x):\n    raise NotImplementedError("03.merge_heads")'


def write(path, *cells):
    """A notebook of code cells: a source, or an exercise's id and its source."""
    pairs = [cell if isinstance(cell, tuple) else (None, cell) for cell in cells]
    path.write_text(
        nbformat.writes(
            nbformat.v4.new_notebook(
                cells=[
                    nbformat.v4.new_code_cell(
                        source, metadata={"exercise": {"id": exercise_id}} if exercise_id else {}
                    )
                    for exercise_id, source in pairs
                ]
            )
        ),
        encoding="utf-8",
    )
    return path


def split(source=SPLIT):
    return (("03.split_heads", source), 'check("03.split_heads", split_heads)')


def merge(source=MERGE):
    return (("03.merge_heads", source), 'check("03.merge_heads", merge_heads)')


# Reading


def pages():
    return sorted([*(ROOT / "exercises").glob("*.md"), *(ROOT / "solutions").glob("*.md")])


@pytest.mark.parametrize("page", pages(), ids=lambda page: f"{page.parent.name}-{page.stem}")
def test_a_markdown_page_has_the_cells_that_jupytext_finds(page):
    expected = jupytext.reads(page.read_text(encoding="utf-8"), fmt="md:myst").cells
    found = [(cell.source, cell.exercise_id) for cell in read(page).cells]
    assert found == [
        (cell.source, cell.metadata.get("exercise", {}).get("id"))
        for cell in expected
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("page", sorted((ROOT / "exercises").glob("*.md")), ids=lambda p: p.stem)
def test_both_forms_of_a_page_are_the_same_to_a_learner(page):
    notebook = read(page.with_suffix(".ipynb"))
    assert notebook.cells == read(page).cells
    assert notebook.exercise_ids and len(set(notebook.exercise_ids)) == len(notebook.exercise_ids)
    for exercise_id in notebook.exercise_ids:
        assert any(
            "NotImplementedError" in c.source or "= ..." in c.source
            for c in notebook.cells_of(exercise_id)
        )


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"null", b"not JSON", b"\xff\xfe\x00\x01", b'{"cells": 3, "nbformat": 4}'],
)
def test_what_is_no_notebook_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "x.ipynb"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.ipynb is not a notebook") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("x = 1")
    with pytest.raises(ValueError, match=r"must end in \.ipynb or \.md"):
        read(path)


def test_an_old_notebook_with_a_byte_order_mark_can_be_read(tmp_path):
    old = nbformat.v3.new_notebook(
        worksheets=[nbformat.v3.new_worksheet(cells=[nbformat.v3.new_code_cell("x = 1")])]
    )
    path = tmp_path / "x.ipynb"
    path.write_text(nbformat.v3.writes_json(old), encoding="utf-8-sig")
    assert read(path).cells == (Cell(1, "x = 1"),)


@pytest.mark.parametrize("marked", [None, 3, "03.x", {"id": 7}, {"id": "../../x"}, {}])
def test_damaged_metadata_is_no_metadata(tmp_path, marked):
    cell = nbformat.v4.new_code_cell("x = 1", metadata={"exercise": marked})
    path = tmp_path / "x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), path)
    assert read(path).exercise_ids == ()


def test_without_metadata_the_checks_say_where_an_exercise_is(tmp_path):
    path = write(tmp_path / "x.ipynb", SET_UP, SPLIT, *split()[1:], MERGE, *merge()[1:])
    notebook = read(path)
    assert notebook.exercise_ids == ("03.split_heads", "03.merge_heads")
    assert notebook.cells_of("03.merge_heads")[0].source == MERGE
    assert notebook.cells_of("03.shapes") == []
    assert set(answers(path)) == {"03.split_heads", "03.merge_heads"}


# Magics


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("%matplotlib inline\nx = 1", ["pass", "x = 1"]),
        ("!pip install x\nx = 1", ["pass", "x = 1"]),
        ("if True:\n    !ls\nx = 1", ["if True:", "    pass", "x = 1"]),
        ("files = !ls\nx = 1", ["files = None", "x = 1"]),
        ("torch.relu?\nx = 1", ["pass", "x = 1"]),
        ("?torch\nx = 1", ["pass", "x = 1"]),
        ("%%time\nx = 1", ["", "x = 1"]),
        ("\n%%capture out\n%cd ..\nx = 1", ["", "", "pass", "x = 1"]),
        ("%%bash\nrm x", [""]),
        ("x = (7\n% 4)", ["x = (7", "% 4)"]),
        ('x = """\n%matplotlib\n!ls\nwhy?\n"""', ['x = """', "%matplotlib", "!ls", "why?", '"""']),
        ("x = (7\n% 4)\n%time x", ["x = (7", "% 4)", "pass"]),
    ],
)
def test_a_magic_is_left_out_and_nothing_else(source, lines):
    plain, left_out = notebooks.without_magics(source)
    assert plain.split("\n") == lines
    assert bool(left_out) == (plain != source)


def test_what_is_no_python_and_no_magic_stays(tmp_path):
    source = "def f(:\n%matplotlib"
    assert notebooks.without_magics(source)[0].split("\n")[0] == "def f(:"


# Running in this process


def test_answers_are_what_the_notebook_checks(tmp_path):
    path = write(tmp_path / "x.ipynb", SET_UP, *split(), *merge(STUB))
    found = answers(path)
    assert set(found) == {"03.split_heads", "03.merge_heads"}
    assert evaluate(find_exercise("03.split_heads"), found["03.split_heads"]).status == "passed"
    stub = evaluate(find_exercise("03.merge_heads"), found["03.merge_heads"])
    assert stub.status == "not started"


def test_the_solutions_answer_every_exercise_of_their_page():
    path = ROOT / "solutions" / "02_causal_attention.md"
    found = answers(path)
    assert list(found) == list(read(path).exercise_ids)
    for exercise_id, answer in found.items():
        assert evaluate(find_exercise(exercise_id), answer).status == "passed"


def test_an_answer_may_be_any_expression_and_the_last_check_counts(tmp_path):
    path = write(
        tmp_path / "x.ipynb",
        "import course_pkg\nfrom course_pkg import check",
        'for shift in (1, 2):\n    course_pkg.check("03.shapes", [n + shift for n in (1, 2)])',
        'check("03.heads", lambda weights: 5, hint=True); check("03.split_heads", None)',
    )
    found = answers(path)
    assert found["03.shapes"] == [3, 4]
    assert found["03.heads"](None) == 5
    assert "03.split_heads" in found and found["03.split_heads"] is None


@pytest.mark.parametrize(
    "cell",
    [
        "raise ValueError('no')",
        "1 / 0",
        "import a_module_that_nobody_has",
        "def f(:",
        "x = '\0'",
        "exit()",
        "raise SystemExit",
        "raise BaseException",
        "class Odd(Exception):\n    def __str__(self):\n        raise self\nraise Odd",
        "def f():\n    f()\nf()",
        "while True: pass",
        "import time\ntime.sleep(1000)",
        "import sys\nsys.stdout = None\nsys.stdin.read()",
        "(" * 500 + ")" * 500,
        "await something()",
        "del check",
    ],
)
def test_a_cell_that_fails_stops_no_other(tmp_path, cell):
    path = write(tmp_path / "x.ipynb", SET_UP, cell, *split())
    ran = run(read(path), limit=0.5)
    assert "03.split_heads" in ran.answers
    assert set(ran.errors) <= {2}
    assert (2 in ran.errors) == (cell != "del check")


def test_a_missing_module_takes_no_other_with_it(tmp_path):
    source = "import nobody_has_this as n\nfrom nor_this import x\nimport math\nn.go()\ny = 1"
    path = write(
        tmp_path / "x.ipynb", source, 'check("03.shapes", (math.pi > 3, "y" in globals()))'
    )
    ran = run(read(path))
    assert ran.answers == {"03.shapes": (True, False)}
    assert "nobody_has_this" in ran.errors[1].message


def test_an_error_shows_the_learners_own_line(tmp_path):
    path = write(tmp_path / "x.ipynb", "x = 1", "y = 2\nz = y / 0\nw = 3")
    error = run(read(path)).errors[2]
    assert (error.type_name, error.line_number, error.line) == ("ZeroDivisionError", 2, "z = y / 0")


def test_nothing_of_this_process_changes(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "svg")
    before = (
        *(Path.cwd(), list(sys.path), sys.modules["__main__"], torch.get_num_threads()),
        *(torch.get_default_dtype(), os.environ["MPLBACKEND"], sys.stdout),
    )
    path = write(
        tmp_path / "x.ipynb",
        "import os, sys, torch\nprint('x' * 10**6)\nprint('y', file=sys.stderr)",
        "torch.set_num_threads(torch.get_num_threads() + 1)\n"
        "torch.set_default_dtype(torch.float64)",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()\ndisplay(plt)",
        "here = (os.getcwd(), __name__, sys.modules['__main__'].here is None)"
        " if 'here' in globals() else os.getcwd()\nos.chdir('..')",
        'check("03.shapes", (here, plt.get_backend(), __name__))',
    )
    here, backend, name = answers(path)["03.shapes"]
    assert Path(here) == tmp_path.resolve() and backend.lower() == "agg" and name == "__main__"
    after = (
        *(Path.cwd(), list(sys.path), sys.modules["__main__"], torch.get_num_threads()),
        *(torch.get_default_dtype(), os.environ["MPLBACKEND"], sys.stdout),
    )
    assert before == after
    assert capsys.readouterr() == ("", "")


def test_a_notebook_finds_the_modules_beside_it(tmp_path):
    (tmp_path / "my_own_helper.py").write_text("value = 7\n")
    path = write(tmp_path / "x.ipynb", 'import my_own_helper as m\ncheck("03.shapes", m.value)')
    assert answers(path) == {"03.shapes": 7}
    sys.modules.pop("my_own_helper")


def test_a_class_can_be_a_dataclass_and_a_pickle(tmp_path):
    source = """\
import dataclasses, pickle

@dataclasses.dataclass
class Pair:
    a: "int"

copy = pickle.loads(pickle.dumps(Pair(3)))
check("03.shapes", copy.a)"""
    assert answers(write(tmp_path / "x.ipynb", source)) == {"03.shapes": 3}


def test_a_definition_from_before_is_not_taken_for_one_that_failed(tmp_path):
    # In a notebook of one's own, two exercises may use the same name.
    path = write(
        tmp_path / "x.ipynb",
        SPLIT,
        *split("@no_such_decorator\n" + SPLIT),
        *split("def split_heads(x, num_heads:\n    return x"),
    )
    ran = run(read(path))
    assert ran.answers == {}
    assert set(ran.errors) == {2, 4}


def test_what_a_cell_defined_before_it_failed_is_taken(tmp_path):
    path = write(tmp_path / "x.ipynb", *split(SPLIT + "\n\nassert False"))
    ran = run(read(path))
    assert set(ran.answers) == {"03.split_heads"}
    assert ran.errors[1].type_name == "AssertionError"


def test_cells_after_the_last_check_of_what_is_asked_for_are_not_run(tmp_path):
    path = write(tmp_path / "x.ipynb", SET_UP, *split(), "(0)[0]", *merge())
    assert set(run(read(path), until=["03.split_heads"]).answers) == {"03.split_heads"}
    assert 4 in run(read(path), until=["03.merge_heads"]).errors


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def f(x):\n    y = 1\n    return y", ["f"]),
        ("class A:\n    b = 1\nc: int = 2\nd=3", ["A", "c", "d"]),
        ("print(1)\nx == 2\nx.y = 3\nif x: pass\nelse: z = 1", []),
        ("def broken(:", ["broken"]),
    ],
)
def test_the_names_that_a_cell_defines(source, names):
    assert notebooks._assigned(source) == names


# Judging in a process of its own


HOSTILE = (
    f"%matplotlib inline\n{SET_UP}",
    *split("def split_heads(x, num_heads):\n    os._exit(3)"),
    *merge(MERGE + "\n\ntime.sleep(1000)"),
    ("03.shapes", "import ctypes\n\nctypes.string_at(0)\nshapes = 1"),
    'check("03.shapes", shapes)',
    ("03.heads", "def weight_on_previous(weights): return (weights"),
    'check("03.heads", weight_on_previous)',
    ("03.from_torch", "def from_torch(state_dict):\n    return {}"),
    "undefined_name",
    ("03.wrong_view", "def repaired_heads(*arguments):\n    return None"),
    'check("03.wrong_view", repaired_heads)',
    'check("03.wrong_veiw", repaired_heads)',
    (
        "03.one_projection",
        "def project_heads(x, weight, num_heads):\n    raise NotImplementedError",
    ),
    'project_heads(1, 2, 3)\ncheck("03.one_projection", project_heads)',
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    path = write(tmp_path_factory.mktemp("hostile") / "03_mine.ipynb", *HOSTILE)
    seen = []
    checked = check_notebook(path, hints=1, limit=1.0, on_result=lambda *r: seen.append(r))
    assert checked.problem is None
    return checked, {result.exercise_id: result for result in checked.results}, seen


def test_each_exercise_of_a_hostile_notebook_gets_its_own_verdict(hostile):
    checked, results, seen = hostile
    assert {result.exercise_id: result.status for result in checked.results} == {
        "03.split_heads": "failed",
        "03.merge_heads": "passed",
        "03.shapes": "raises",
        "03.heads": "raises",
        "03.from_torch": "missing",
        "03.wrong_view": "failed",
        "03.wrong_veiw": "raises",
        "03.one_projection": "not started",
    } | {e: "missing" for e in results if find_in(checked.path, e) is False}
    assert results["03.merge_heads"].points == results["03.merge_heads"].max_points > 0
    assert sum(result.points for result in checked.results) == results["03.merge_heads"].points
    assert {total for _, total in seen} == {len(results)}


def find_in(path, exercise_id):
    return exercise_id in read(path).exercise_ids


def test_what_stopped_the_process_is_told(hostile):
    _, results, _ = hostile
    assert "exit code 3" in results["03.split_heads"].problem
    assert "SyntaxError" in results["03.heads"].problem
    assert "was stopped: still running after 1 seconds" in results["03.merge_heads"].problem
    assert "time.sleep(1000)" in results["03.merge_heads"].problem
    assert "was stopped: it " in results["03.shapes"].problem
    if os.name == "posix":
        assert "crashed Python (SIGSEGV" in results["03.shapes"].problem


def test_what_else_is_amiss_is_told(hostile):
    checked, results, _ = hostile
    assert 'check("03.from_torch", from_torch)' in results["03.from_torch"].problem
    assert "Did you mean '03.wrong_view'" in results["03.wrong_veiw"].problem
    assert results["03.wrong_view"].report.status == "failed"
    assert len(results["03.wrong_view"].hints) == 1 and not results["03.merge_heads"].hints
    assert any("%matplotlib inline" in note for note in checked.notes)
    assert any("undefined_name" in note and "NameError" in note for note in checked.notes)


def test_a_cell_that_ends_the_process_after_its_check_leaves_the_verdict(tmp_path):
    cells = [SET_UP, merge()[0], merge()[1] + "\nos._exit(4)", *split("split_heads = 3")]
    checked = check_notebook(write(tmp_path / "x.ipynb", *cells))
    assert [result.status for result in checked.results] == ["passed", "failed"]
    assert all(result.report is not None for result in checked.results)


def test_code_that_cannot_be_interrupted_is_stopped_with_its_process(tmp_path, monkeypatch):
    # Without the alarm, only the other process can end this one.
    deaf = "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass"
    if os.name != "posix":
        pytest.skip("there a thread interrupts Python code, and cannot be kept from it")
    monkeypatch.setattr(notebooks, "_GRACE", 0.5)
    path = write(tmp_path / "x.ipynb", SET_UP, deaf, *split())
    checked = check_notebook(path, only=["03.split_heads"], limit=0.5)
    assert [result.status for result in checked.results] == ["passed"]
    assert "still running after 0.5 seconds" in checked.notes[0]


def test_a_thread_that_never_ends_keeps_nobody_waiting(tmp_path):
    thread = "import threading\nthreading.Thread(target=lambda: time.sleep(10**6)).start()"
    path = write(tmp_path / "x.ipynb", SET_UP, thread, *split())
    assert [r.status for r in check_notebook(path, only=["03.split_heads"]).results] == ["passed"]


def test_the_file_is_read_before_a_process_is_started(tmp_path):
    with pytest.raises(FileNotFoundError):
        check_notebook(tmp_path / "none.ipynb")
