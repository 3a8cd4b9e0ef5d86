"""Exports: read back as the systems read them, nbgrader by running nbgrader itself."""

import builtins
import csv
import dataclasses
import io
import os
import re
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import grading_demo
import pytest
from bs4 import BeautifulSoup

from course_pkg.grading import exports, reports
from course_pkg.grading.results import FileResult
from course_pkg.grading.rules import load

RULES = """
[due]
all = 2026-03-20T23:59:00+01:00
[late]
percent_per_day = 10
at_most_percent = 50
[extension.ben]
6 = 2026-03-25T23:59:00+01:00
[extra]
exercises = ["06.first_update"]
"""
MARKS = {
    ("anna", "03.heads"): reports.Mark(Decimal("1.5"), "Look at head 2; why back?"),
    ("igor", "06.first_update"): reports.Mark(Decimal("2")),
    ("gone", "03.heads"): reports.Mark(Decimal("1")),
}


@pytest.fixture(scope="module")
def run():
    return grading_demo.demo_run()


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "rules.toml"
    path.write_text(RULES, encoding="utf-8")
    return load(path)


def table(path):
    text = path.read_bytes().decode("utf-8")
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def rows_of(path):
    header, *rows = table(path)
    return [dict(zip(header, row, strict=True)) for row in rows]


def expected(run, student_id, rules, chapter=None):
    student = next(s for s in run.students if s.student == student_id)
    own = reports.totals(student, run, rules, MARKS)
    return next(c for c in own.chapters if c.chapter == chapter) if chapter else own


def assert_safe(path):
    for row in table(path):
        for cell in row:
            assert not re.match(r"[\s\u200b]*[=+\-@＝＋－＠]\S", cell)
            assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", cell)


# --- Canvas ---------------------------------------------------------------------------------------


def test_canvas_without_a_roster(run, rules, tmp_path):
    path = tmp_path / "canvas.csv"
    assert exports.canvas(run, path, rules=rules, marks=MARKS) == []
    header, possible, *rows = table(path)
    assert header[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    assert header[5:] == ["Chapter 3", "Chapter 6"]
    assert possible[0] == "Points Possible"
    extra = next(e.points for e in run.exercises if e.exercise_id == "06.first_update")
    assert sum(map(int, possible[5:])) == sum(e.points for e in run.exercises) - extra
    assert [row[3] for row in rows] == [student.student for student in run.students]
    for row in rows:
        for chapter, cell in zip((3, 6), row[5:], strict=True):
            assert Decimal(cell) == expected(run, row[3], rules, chapter).total
    # Ruby's CSV does not take a byte-order mark before a quote.
    assert path.read_bytes().startswith(b'"Student"')
    assert_safe(path)


ROSTER = """\
Student,ID,SIS User ID,SIS Login ID,Section,Essay (11),Chapter 3: many heads (12),\
Chapter 30 (13),Chapter 6 (14),Current Score
    Points Possible,,,,,10,22,5,99,(read only)
"Bäcker, Anna",101,S1,anna@uni.example,A,7,,,,80
"O'Neill, Ben",102,ben,bo42,A,,,,,
"Yılmaz, Elif",103,0012345,ey7,B,,,,,
"Соколов, Дмитрий",104,S4,ds1,B,,,,,
"Somebody, Else",105,S5,se5,B,,,,,
"=cmd|' /C calc'!A0",106,S6,igor,B,,,,,
Judit One,107,S7,judit@a.example,B,,,,,
Judit Two,108,S8,judit@b.example,B,,,,,
"""


def test_canvas_with_the_gradebook_that_it_exported(run, rules, tmp_path):
    roster, path = tmp_path / "roster.csv", tmp_path / "canvas.csv"
    roster.write_text(ROSTER, encoding="utf-8-sig")
    notes = exports.canvas(run, path, roster=roster, rules=rules, marks=MARKS)
    header, _, *rows = table(path)
    assert header[5:] == ["Chapter 3: many heads (12)", "Chapter 6 (14)"]
    found = {row[1]: row for row in rows}
    assert set(found) == {"101", "102", "103", "104", "106"}
    for canvas_id, student in {
        "101": "anna", "102": "ben", "103": "0012345", "104": "dmitri", "106": "igor",
    }.items():  # fmt: skip
        for chapter, cell in zip((3, 6), found[canvas_id][5:], strict=True):
            assert Decimal(cell) == expected(run, student, rules, chapter).total
    assert found["101"][:5] == ["Bäcker, Anna", "101", "S1", "anna@uni.example", "A"]
    assert found["106"][0].startswith("'=")
    told = " ".join(notes)
    assert "judit is not in the roster" in told  # two rows fit, so none is taken
    assert "lena is not in the roster" in told
    assert "Canvas has 99 points for chapter 6" in told
    assert "chapter 3" not in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "exported from Canvas"),
        ("a,b\n1,2\n", "exported from Canvas"),
        ("Student,ID,Section,Essay (1)\n", "no column for a chapter"),
        ("Student,ID,Section,Chapter 3 (1),Chapter 3 (2)\n", "no column for a chapter"),
    ],
)
def test_a_roster_that_is_none_is_named(run, tmp_path, text, told):
    roster = tmp_path / "roster.csv"
    roster.write_text(text)
    with pytest.raises(ValueError, match=told):
        exports.canvas(run, tmp_path / "canvas.csv", roster=roster)
    assert not (tmp_path / "canvas.csv").exists()


# --- Moodle ---------------------------------------------------------------------------------------


def from_moodle(run):
    """The run as if its files came from Moodle; a participant has a number per assignment."""
    students = []
    for place, student in enumerate(run.students):
        files = tuple(
            dataclasses.replace(
                file,
                file=f"ch{file.chapter}.zip!X_{7000 + 100 * file.chapter + place}"
                "_assignsubmission_file/a.ipynb",
            )
            for file in student.files
        )
        students.append(dataclasses.replace(student, files=files))
    return dataclasses.replace(run, students=tuple(students))


def test_moodle_knows_participants_by_the_number_in_that_assignment(run, rules, tmp_path):
    path = tmp_path / "moodle.csv"
    notes = exports.moodle(from_moodle(run), path, chapter=6, rules=rules, marks=MARKS)
    rows = rows_of(path)
    assert [row["Identifier"] for row in rows] == [f"Participant {7600 + n}" for n in range(12)]
    for row, student in zip(rows, run.students, strict=True):
        own = expected(run, student.student, rules, 6)
        assert Decimal(row["Grade"]) == own.total
        assert Decimal(row["Maximum Grade"]) == own.maximum
        assert row["Last modified (grade)"] == "-"
    assert any("Allow updating" in note for note in notes)
    assert path.read_bytes().startswith(b'"Identifier"')
    assert_safe(path)


def test_moodles_comments_are_harmless_html(run, rules, tmp_path):
    path = tmp_path / "moodle.csv"
    exports.moodle(from_moodle(run), path, chapter=3, rules=rules, marks=MARKS)
    assert len(rows_of(path)) == len(run.students)
    for row in rows_of(path):
        page = BeautifulSoup(row["Feedback comments"], "html.parser")
        assert {tag.name for tag in page.find_all()} <= {"p", "strong"}
        assert not any(tag.attrs for tag in page.find_all())
        assert len(page.find_all("strong")) == sum(e.chapter == 3 for e in run.exercises)
    anna = next(row for row in rows_of(path) if "Anna" in row["Full name"])
    assert "1.5 of 2" in anna["Feedback comments"]
    assert "Look at head 2; why back?" in anna["Feedback comments"]


def test_moodle_without_numbers_says_who_is_left_out(run, tmp_path):
    notes = exports.moodle(run, tmp_path / "moodle.csv", chapter=3)
    assert len(table(tmp_path / "moodle.csv")) == 1
    assert len(notes) == len(run.students)


WORKSHEET = """\
Identifier,Full name,Email address,Status,Grade,Maximum Grade,Grade can be changed,\
Last modified (submission),Last modified (grade),Feedback comments
Participant 31,Anna Bäcker,a.b@uni.example,Submitted,,22.00,Yes,"Sunday, 1 March",-,
Participant 32,B. O.,ben@uni.example,Submitted,3.00,22.00,Yes,-,"Monday, 2 March",old
Participant 33,Nobody Else,n@uni.example,No submission,,22.00,Yes,-,-,
"""


def test_moodle_with_its_worksheet(run, rules, tmp_path):
    roster, path = tmp_path / "worksheet.csv", tmp_path / "moodle.csv"
    roster.write_text(WORKSHEET, encoding="utf-8-sig")
    notes = exports.moodle(run, path, chapter=3, roster=roster, rules=rules, marks=MARKS)
    anna, ben = rows_of(path)
    assert list(anna) == WORKSHEET.splitlines()[0].split(",")
    assert (anna["Identifier"], ben["Identifier"]) == ("Participant 31", "Participant 32")
    assert ben["Last modified (grade)"] == "Monday, 2 March"
    assert Decimal(anna["Grade"]) == expected(run, "anna", rules, 3).total
    assert ben["Feedback comments"] != "old"
    assert len(notes) == len(run.students) - 2


def test_a_number_of_moodle_beats_a_name(run, tmp_path):
    roster, path = tmp_path / "worksheet.csv", tmp_path / "moodle.csv"
    roster.write_text(WORKSHEET, encoding="utf-8")
    student = dataclasses.replace(
        run.students[1], name="B. O.", student="zed",
        files=(FileResult(3, "A_33_assignsubmission_file/x.ipynb"),),
    )  # fmt: skip
    exports.moodle(dataclasses.replace(run, students=(student,)), path, chapter=3, roster=roster)
    assert [row["Identifier"] for row in rows_of(path)] == ["Participant 33"]


def test_a_grade_above_the_maximum_is_said(run, rules, tmp_path):
    student = run.students[1]
    full = {
        key: dataclasses.replace(result, points=result.max_points, status="passed")
        for key, result in student.exercises.items()
    }
    best = dataclasses.replace(
        student, exercises=full, files=(FileResult(6, "A_1_assignsubmission_f/x"),)
    )
    one = dataclasses.replace(run, students=(best,))
    notes = exports.moodle(one, tmp_path / "m.csv", chapter=6, rules=rules)
    assert any("above the assignment's maximum" in note for note in notes)


def test_a_chapter_that_is_not_there_is_named(run, tmp_path):
    with pytest.raises(ValueError, match="chapter=4 is not in this run: it has 3, 6"):
        exports.moodle(run, tmp_path / "m.csv", chapter=4)


# --- nbgrader -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def course(run, rules, tmp_path_factory):
    pytest.importorskip("nbgrader", reason="not run: nbgrader is not installed")
    folder = tmp_path_factory.mktemp("course")
    handed_in = [
        submission("ben", 3, heads=f"look = {grading_demo.SCRIPT!r}  # \x1b", other="x = 1"),
        submission("stranger", 3, heads="y = 2"),
        submission("anna", 6),
    ]
    path = folder / "gradebook.db"
    assert exports.nbgrader(run, path, submissions=handed_in, rules=rules, marks=MARKS) == []
    return folder


def nbgrader_export(folder):
    """What ``nbgrader export`` makes of a course folder, run as an instructor runs it."""
    scripts = Path(sys.executable).parent
    subprocess.run(
        [sys.executable, "-m", "nbgrader", "export", f"--to={folder / 'grades.csv'}"],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=120,
        env={
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "JUPYTER_CONFIG_DIR": str(folder / "none"),
        },
    )
    return rows_of(folder / "grades.csv")


def test_nbgrader_exports_the_same_grades(run, rules, course):
    rows = {(row["assignment"], row["student_id"]): row for row in nbgrader_export(course)}
    assert len(rows) == 2 * len(run.students)
    for student in run.students:
        for chapter in (3, 6):
            own = expected(run, student.student, rules, chapter)
            row = rows[f"chapter-{chapter:02}", student.student]
            for column, value in (
                ("raw_score", own.points),
                ("late_submission_penalty", own.penalty),
                ("score", own.total),
                ("max_score", own.maximum),
            ):
                assert float(row[column]) == float(value), (student.student, column)
    assert rows["chapter-03", "chiara"]["last_name"] == "Dott.ssa"
    assert rows["chapter-03", "igor"]["first_name"].startswith("'=")
    assert rows["chapter-06", "anna"]["duedate"] == "2026-03-20 22:59:00"


def test_formgrader_sees_assignments_submissions_and_comments(run, rules, course):
    from nbgrader.api import Gradebook
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    config = Config()
    config.CourseDirectory.root = str(course)
    config.CourseDirectory.db_url = f"sqlite:///{course / 'gradebook.db'}"
    api = NbGraderAPI(config=config)
    with api.gradebook as book:
        assert {a.name for a in book.assignments} == {"chapter-03", "chapter-06"}
        submissions = {s["student"]: s for s in book.submission_dicts("chapter-03")}
    assert set(submissions) == {student.student for student in run.students}
    assert submissions["anna"]["score"] == float(expected(run, "anna", rules, 3).points)
    assert submissions["ben"]["needs_manual_grade"]
    assert [a["max_score"] for a in api.get_assignments()] == [22, 30]
    assert [a["num_submissions"] for a in api.get_assignments()] == [0, 0]
    assert len(api.get_submissions("chapter-06")) == len(run.students)
    indices = api.get_notebook_submission_indices("chapter-03", "chapter-03")
    assert len(indices) == 1  # the one whose notebook is there to be marked
    with Gradebook(config.CourseDirectory.db_url) as book:
        place = ("03-heads", "chapter-03", "chapter-03", "anna")
        grade, comment = book.find_grade(*place), book.find_comment(*place)
        assert (grade.manual_score, grade.needs_manual_grade) == (1.5, False)
        assert comment.comment == "Look at head 2; why back?"
        ben = book.find_submission("chapter-06", "ben")
        assert ben.extension.days == 5


def test_formgrader_gets_the_answers_as_data(course):
    import nbformat

    (path,) = (course / "autograded").rglob("*.ipynb")
    assert path == course / "autograded" / "ben" / "chapter-03" / "chapter-03.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    (cell,) = notebook.cells
    assert cell.source == f"look = {grading_demo.SCRIPT!r}  # ⟨U+001B⟩"
    assert (cell.outputs, cell.metadata.nbgrader.grade_id) == ([], "03-heads")


def test_a_second_export_keeps_what_formgrader_was_told(run, rules, course, tmp_path):
    from nbgrader.api import Gradebook

    path = tmp_path / "gradebook.db"
    path.write_bytes((course / "gradebook.db").read_bytes())
    ben = ("03-heads", "chapter-03", "chapter-03", "ben")
    anna = ("03-heads", "chapter-03", "chapter-03", "anna")
    with Gradebook(f"sqlite:///{path}") as book:
        book.find_grade(*ben).manual_score = 0.25
        book.find_comment(*ben).manual_comment = "From formgrader."
        book.find_grade(*anna).manual_score = 0.75
        book.add_assignment("essay")
        book.add_student("guest")
        book.db.commit()
    again = dataclasses.replace(run, students=run.students[1:])
    notes = exports.nbgrader(again, path, rules=rules, marks=MARKS)
    with Gradebook(f"sqlite:///{path}") as book:
        assert book.find_grade(*ben).manual_score == 0.25
        assert book.find_comment(*ben).comment == "From formgrader."
        assert book.find_grade(*anna).manual_score == 1.5
        assert {"essay", "chapter-03"} <= {a.name for a in book.assignments}
        assert {"guest", run.students[0].student} <= {s.id for s in book.students}
    assert len(notes) == 2
    assert "had 0.75 as manual score; it has 1.5 now" in notes[0]
    assert "has 0.25 as manual score, the marks have none" in notes[1]


def test_a_newer_exercise_is_added_to_an_older_gradebook(run, rules, tmp_path, course):
    older = dataclasses.replace(run, exercises=run.exercises[:8])  # without 03.heads
    path = tmp_path / "gradebook.db"
    exports.nbgrader(older, path, rules=rules)
    exports.nbgrader(run, path, rules=rules, marks=MARKS)
    with sqlite3.connect(path) as book:
        (score,) = book.execute(
            "SELECT g.manual_score FROM grade g JOIN base_cell c ON c.id = g.cell_id "
            "JOIN submitted_notebook n ON n.id = g.notebook_id "
            "JOIN submitted_assignment a ON a.id = n.assignment_id "
            "WHERE c.name = '03-heads' AND a.student_id = 'anna'"
        ).fetchone()
    assert score == 1.5


def test_a_failure_leaves_the_old_gradebook(run, course, tmp_path, monkeypatch):
    path = tmp_path / "gradebook.db"
    path.write_bytes((course / "gradebook.db").read_bytes())
    before = path.read_bytes()

    def fail(*_):
        raise OSError("stopped")

    monkeypatch.setattr(exports, "_grade", fail)
    with pytest.raises(OSError, match="stopped"):
        exports.nbgrader(run, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["gradebook.db"]


def test_something_else_than_a_gradebook_is_not_touched(run, tmp_path, course):
    path = tmp_path / "gradebook.db"
    path.write_text("my notes " * 100)
    with pytest.raises(ValueError, match="not an nbgrader gradebook"):
        exports.nbgrader(run, path)
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(ValueError, match="not an nbgrader gradebook"):
        exports.nbgrader(run, path)


def test_without_nbgrader_one_line_says_what_to_install(run, tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "nbgrader":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"python -m pip install .*\[instructor\]") as error:
        exports.nbgrader(run, tmp_path / "gradebook.db")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


# --- JPlag ----------------------------------------------------------------------------------------


def submission(student, chapter, **answers):
    return SimpleNamespace(
        student=student,
        name="Anna Bäcker",
        chapter=chapter,
        file=f"Anna Bäcker/{chapter}.ipynb",
        answers={
            f"{chapter:02}.{name}": SimpleNamespace(source=source)
            for name, source in answers.items()
        },
    )


def test_jplag_gets_the_cells_and_nothing_else(tmp_path):
    handed_in = [
        submission("anna", 3, split_heads="def split_heads(x):\n    return x\n", merge="merge = 1"),
        submission("anna", 6, clip="clip = '\ud800\x1b'"),
        submission("ben", 3, merge="merge = 2"),
        submission("empty", 3),
    ]
    (line,) = exports.jplag(handed_in, tmp_path / "jplag")
    assert line.startswith("java -jar jplag.jar -l python3 ") and line.endswith(" submissions")
    root = tmp_path / "jplag" / "submissions"
    files = {str(p.relative_to(root)): p.read_text("utf-8") for p in root.rglob("*") if p.is_file()}
    assert set(files) == {"anna/chapter_03.py", "anna/chapter_06.py", "ben/chapter_03.py"}
    assert files["anna/chapter_03.py"] == (
        "# %% 03.merge\nmerge = 1\n\n# %% 03.split_heads\ndef split_heads(x):\n    return x\n"
    )
    assert not any("Anna" in text or "anna" in text for text in files.values())
    assert line in (tmp_path / "jplag" / "how-to-run-jplag.txt").read_text()


def test_jplag_again_forgets_who_is_gone(tmp_path):
    exports.jplag([submission("anna", 3, a="a = 1"), submission("ben", 3, a="a = 2")], tmp_path)
    exports.jplag([submission("ben", 3, a="a = 3")], tmp_path)
    assert [p.name for p in (tmp_path / "submissions").iterdir()] == ["ben"]


def test_jplag_removes_nothing_that_it_did_not_make(tmp_path):
    mine = tmp_path / "submissions" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(ValueError, match="not made here"):
        exports.jplag([submission("anna", 3, a="a = 1")], tmp_path)
    assert mine.read_text() == "mine"


def test_jplag_follows_no_link(tmp_path):
    exports.jplag([], tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x").write_text("x")
    (tmp_path / "submissions").symlink_to(elsewhere)
    with pytest.raises(ValueError, match="link"):
        exports.jplag([submission("anna", 3, a="a = 1")], tmp_path)
    assert (elsewhere / "x").read_text() == "x"


@pytest.mark.parametrize("student", ["../anna", "a/b", ".."])
def test_jplag_writes_in_its_folder_only(tmp_path, student):
    with pytest.raises(ValueError, match="student="):
        exports.jplag([submission(student, 3, a="a = 1")], tmp_path / "jplag")
    assert not (tmp_path / "jplag").exists()
