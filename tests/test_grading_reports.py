"""Reports of a class that is partly hostile: nothing runs, nothing leaks, no mark is lost."""

import csv
import dataclasses
import errno
import io
import json
import re
from decimal import Decimal
from fractions import Fraction

import grading_demo
import pytest
from bs4 import BeautifulSoup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from course_pkg.grading import reports
from course_pkg.grading.results import (
    ExerciseInfo,
    ExerciseResult,
    FileResult,
    Finding,
    Run,
    StudentResult,
)
from course_pkg.grading.rules import load

RULES = """
[due]
all = 2026-03-20T23:59:00+01:00
[late]
percent_per_day = 10
at_most_percent = 50
[extra]
exercises = ["06.first_update"]
"""


@pytest.fixture(scope="module")
def run():
    return grading_demo.demo_run()


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    path = tmp_path_factory.mktemp("rules") / "rules.toml"
    path.write_text(RULES, encoding="utf-8")
    return load(path)


@pytest.fixture(scope="module")
def written(run, rules, tmp_path_factory):
    out = tmp_path_factory.mktemp("grades")
    reports.write(run, out, rules=rules)
    return out


def small_run(students=("anna", "ben"), points=1, name="Anna", **result):
    """One exercise to look at and one to implement, for each of the students."""
    infos = (
        ExerciseInfo("03.split_heads", "Split", "implement", 3, "3.4"),
        ExerciseInfo("03.heads", "Heads", "explore", 2, "3.10"),
    )
    return Run(
        seed=1,
        sandbox="bubblewrap",
        exercises=infos,
        students=tuple(
            StudentResult(
                student,
                name,
                (FileResult(3, f"{student}/03.ipynb", submitted="2026-03-21T10:00:00+01:00"),),
                {
                    info.exercise_id: ExerciseResult(
                        info.exercise_id, "failed", points, info.points, **result
                    )
                    for info in infos
                },
            )
            for student in students
        ),
    )


def table(path, delimiter=","):
    text = path.read_bytes().decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


def rows_of(path, delimiter=","):
    header, *rows = table(path, delimiter)
    return [dict(zip(header, row, strict=True)) for row in rows]


def fill(path, marks, delimiter=",", encoding="utf-8-sig", order=None):
    """Write marks into a sheet as a spreadsheet would."""
    rows = rows_of(path)
    for row in rows:
        mark = marks.get((row["student"], row["exercise"]))
        if mark:
            row["mark"], row["comment"] = mark
    columns = order or list(rows[0])
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(columns)
    writer.writerows([[row.get(column, "") for column in columns] for row in rows])
    path.write_bytes(text.getvalue().encode(encoding))


# --- text -----------------------------------------------------------------------------------------


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Mn"])))
def test_visible_text_has_no_power(text):
    seen = reports.visible(text)
    seen.encode("utf-8")
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f]", seen
    )
    assert reports.visible(seen) == seen


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_plain_text_is_left_alone(text):
    assert reports.visible(text) == text


def test_emoji_of_several_parts_and_other_scripts_stay():
    for text in ("👩🏽\u200d💻", "فاطمة الزهراء", "Ngô Bảo Châu", "ก็กำลัง", "हिन्दी"):
        assert reports.visible(text) == text


def test_marks_cannot_be_piled_up():
    assert len(reports.visible("Z" + "\u0336" * 500)) < 10


def test_what_is_cut_is_said():
    assert reports.visible("x" * 5000, 100) == "x" * 100 + " … (4900 more characters)"


@given(st.text() | st.text("'=+-@\t\r\n 1\u200b\uff1d").map(lambda text: text[:9]))
def test_guarding_is_undone_exactly(text):
    guarded = reports.guard(text)
    assert reports.unguard(guarded) == text
    assert guarded in (text, f"'{text}")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"])
@pytest.mark.parametrize("blank", ["", " ", "\u00a0", "\u3000", "\ufeff", "\u200b", "\x00", "\n"])
def test_no_cell_starts_a_formula(start, blank):
    (cell,) = next(csv.reader(io.StringIO(reports.sheet([[f"{blank}{start}1+1"]]), newline="")))
    assert cell.startswith("'")


@pytest.mark.parametrize(
    ("value", "text"), [("10", "10"), ("2.50", "2.5"), ("0.00", "0"), ("100", "100")]
)
def test_numbers_are_written_plainly(value, text):
    assert reports.number(Decimal(value)) == text


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8")), min_size=1), min_size=1))
def test_a_sheet_is_read_back_as_it_was(rows):
    read = list(csv.reader(io.StringIO(reports.sheet(rows), newline="")))
    assert [[reports.unguard(cell) for cell in row] for row in read] == rows


# --- grades.csv and grades.json -------------------------------------------------------------------


def test_grades_csv_has_every_student_and_exercise(run, rules, written):
    data = (written / "grades.csv").read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    rows = rows_of(written / "grades.csv")
    assert [row["student"] for row in rows] == [student.student for student in run.students]
    for row, student in zip(rows, run.students, strict=True):
        for exercise_id, result in student.exercises.items():
            assert Decimal(row[exercise_id]) == result.points
        assert Decimal(row["points"]) == sum(r.points for r in student.exercises.values())
        assert Decimal(row["total"]) == Decimal(row["points"]) - Decimal(row["late penalty"])
        assert row["sandbox"] == "bubblewrap"
        assert int(row["attempts"]) == sum(file.attempts for file in student.files)
    extra = next(e.points for e in run.exercises if e.exercise_id == "06.first_update")
    assert {row["maximum"] for row in rows} == {str(sum(e.points for e in run.exercises) - extra)}


def test_every_cell_is_quoted_and_none_is_a_formula(written):
    text = (written / "grades.csv").read_bytes().decode("utf-8-sig")
    assert re.fullmatch(r'(?:"(?:[^"]|"")*"(?:,|\r\n))+', text)
    for row in table(written / "grades.csv"):
        for cell in row:
            assert not re.match(r"[\s\u200b]*[=+\-@＝＋－＠\t\r]", cell)
            assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", cell)


def test_names_can_be_read_again(written):
    names = {row["student"]: row["name"] for row in rows_of(written / "grades.csv")}
    assert names["dmitri"] == "Дмитрий Соколов"
    assert names["chiara"] == "Chiara D’Angelo, Dott.ssa"
    assert names["grace"] == "👩🏽\u200d💻 Grace"
    assert names["lena"] == "'=1+1 Lena second line"
    assert len(names["kofi"]) < 200


def test_grades_json_holds_the_whole_run(run, rules, written):
    text = (written / "grades.json").read_bytes()
    assert text.isascii() and b"\x1b" not in text
    data = json.loads(text)
    assert Run.from_dict(data) == run
    for student in run.students:
        own = reports.totals(student, run, rules, {})
        assert data["totals"][student.student]["total"] == float(own.total)


def test_the_same_run_gives_the_same_bytes(run, rules, written, tmp_path):
    reports.write(run, tmp_path, rules=rules)
    for path in sorted(written.rglob("*")):
        if path.is_file():
            assert (tmp_path / path.relative_to(written)).read_bytes() == path.read_bytes(), path


def test_a_run_without_a_sandbox_is_marked_everywhere(tmp_path):
    reports.write(small_run(unsandboxed=True), tmp_path)
    assert {row["sandbox"] for row in rows_of(tmp_path / "grades.csv")} == {"UNSANDBOXED"}
    for path in [tmp_path / "summary.html", *(tmp_path / "feedback").iterdir()]:
        assert "without a sandbox" in path.read_text(encoding="utf-8")
    reports.write(small_run(), tmp_path)
    for path in [tmp_path / "summary.html", *(tmp_path / "feedback").iterdir()]:
        assert "without a sandbox" not in path.read_text(encoding="utf-8")


# --- totals ---------------------------------------------------------------------------------------


def test_totals_by_hand(rules):
    run = small_run(points=1)
    marks = {("anna", "03.heads"): reports.Mark(Decimal("1.35"))}
    own = reports.totals(run.students[0], run, rules, marks)
    # 1 + 1.35 points; half a day late is one day begun: 10 % of 2.35 is 0.235, half up 0.24
    assert (own.points, own.penalty, own.total) == tuple(map(Decimal, ("2.35", "0.24", "2.11")))
    assert own.maximum == 5
    assert own.percent == reports.rounded(Fraction("2.11") * 100 / 5)
    assert reports.totals(run.students[1], run, rules, marks).points == 2
    (line,) = own.lines
    assert "10 % off" in line


def test_extra_credit_counts_in_the_points_only(rules):
    extra = dataclasses.replace(rules, extra=frozenset({"03.heads"}), due={})
    run = small_run(points=3)
    own = reports.totals(run.students[0], run, extra, {})
    assert (own.points, own.maximum, own.percent) == (6, 3, 200)


def test_a_chapter_that_was_not_handed_in_is_not_late(rules):
    run = small_run()
    student = dataclasses.replace(run.students[0], files=(), exercises={})
    own = reports.totals(student, run, rules, {})
    assert (own.points, own.total, own.lines) == (0, 0, ())


@settings(max_examples=50)
@given(
    points=st.integers(0, 3),
    mark=st.none() | st.decimals(0, 2, places=3),
    percent=st.fractions(0, 100, max_denominator=9),
)
def test_chapters_always_add_up(rules, points, mark, percent):
    run = small_run(points=points)
    strict = dataclasses.replace(rules, percent=percent)
    own = reports.totals(run.students[0], run, strict, {("anna", "03.heads"): reports.Mark(mark)})
    assert own.total == sum(chapter.total for chapter in own.chapters)
    assert 0 <= own.penalty <= own.points
    assert own.total.as_tuple().exponent >= -2


# --- pages ----------------------------------------------------------------------------------------

ALLOWED = """
html head meta title style body main header h1 h2 h3 p b strong span bdi nav div ul ol li a section
article code pre details summary svg rect text path desc figure table thead tbody tr th td dl dt dd
"""


def assert_harmless(html):
    page = BeautifulSoup(html, "html.parser")
    assert {tag.name for tag in page.find_all()} <= set(ALLOWED.split())
    for tag in page.find_all():
        for name, value in tag.attrs.items():
            assert not name.startswith("on"), tag
            assert name not in ("src", "srcset", "style", "action", "data", "xlink:href"), tag
            if name == "href":
                assert value.startswith("#") or re.fullmatch(r"feedback/[\w.%~-]+\.html", value)
    (style,) = page.find_all("style")
    assert "url(" not in style.text and "@import" not in style.text
    policy = page.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    text = page.get_text()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)
    return page, text


def test_no_page_does_anything(run, written):
    pages = sorted((written / "feedback").iterdir())
    assert [page.stem for page in pages] == [student.student for student in run.students]
    for path in [*pages, written / "summary.html"]:
        assert_harmless(path.read_text(encoding="utf-8"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_no_text_anywhere_gets_out_of_its_place(data):
    hostile = st.sampled_from(grading_demo.HOSTILE) | st.text(max_size=60)
    texts = [data.draw(hostile) for _ in range(9)]
    run = small_run(
        name=texts[0],
        findings=(Finding(texts[1], "It holds.", False, texts[2]),),
        problem=texts[3],
        diagnoses=(texts[4],),
        misconceptions=(texts[5],),
        hints=(texts[6],),
        printed=texts[7],
        oddities=(texts[8],),
    )
    file = FileResult(3, texts[0], 1, 2, texts[1], (texts[2],))
    student = dataclasses.replace(run.students[0], files=(file,))
    marks = {("anna", "03.heads"): reports.Mark(Decimal(1), texts[3])}
    _, text = assert_harmless(reports.feedback(student, run, marks=marks))
    for shown in texts[2:5] + texts[6:]:  # a misconception's name is for the instructor
        words = reports.visible(shown, reports.TEXT_LIMIT).split()
        assert " ".join(words) in " ".join(text.split())


def test_a_feedback_page_tells_everything(rules):
    run = small_run(
        findings=(
            Finding("values", "Each head has its slice.", False, "At [0, 1]: 3, not 4."),
            Finding("shape", "The shape is right.", True),
        ),
        diagnoses=("A view without a transpose mixes tokens.",),
        misconceptions=("no transpose",),
        hints=("Write both shapes down.", "Swap two axes."),
        printed="hello",
        problem="It took 11 seconds.",
        oddities=("Two cells have this id.",),
    )
    marks = {("anna", "03.heads"): reports.Mark(Decimal("1.5"), "Nice\nplot.")}
    page, text = assert_harmless(reports.feedback(run.students[0], run, rules=rules, marks=marks))
    for said in (
        "Each head has its slice.", "At [0, 1]: 3, not 4.", "A view without a transpose",
        "Write both shapes down.", "hello", "It took 11 seconds.", "Two cells have this id.",
        "1.5 of 2", "Nice\nplot.", "2.25", "of 5 points", "10 % off", "anna/03.ipynb",
        "2026-03-21 10:00 +0100",
    ):  # fmt: skip
        assert said in text
    marks_shown = [tag["aria-label"] for tag in page.find_all(class_=["yes", "no"])]
    assert marks_shown == ["does not hold", "holds"] * 2
    assert len(page.find_all("details")) == 2
    assert {tag["id"] for tag in page.find_all("article")} == {"03.split_heads", "03.heads"}


def test_feedback_never_has_the_seed(run, written):
    for path in (written / "feedback").iterdir():
        assert str(run.seed) not in path.read_text(encoding="utf-8")


def test_every_page_suits_dark_print_and_phone(written):
    for name in ("summary.html", "feedback/anna.html"):
        html = (written / name).read_text(encoding="utf-8")
        assert "prefers-color-scheme:dark" in html
        assert "@media print" in html
        assert 'name="viewport"' in html
        assert '<html lang="en">' in html


def test_the_summary_counts_right(run, written):
    page, text = assert_harmless((written / "summary.html").read_text(encoding="utf-8"))
    counts = {}
    for student in run.students:
        for exercise_id, result in student.exercises.items():
            counts.setdefault(exercise_id, []).append(result)
    for row in page.select(".rows > li"):
        exercise_id = row.select_one(".small").text
        results = counts.pop(exercise_id)
        passed = sum(result.status == "passed" for result in results)
        assert f"{passed} of {len(run.students)} passed" in row.text
        told = row.svg["aria-label"]
        assert sum(map(int, re.findall("[0-9]+", told))) == len(run.students)
        if passed:
            assert f"{passed} passed" in told
    assert not counts
    shares = [int(row.select_one(".number").text.split()[0]) for row in page.select(".rows > li")]
    assert shares == sorted(shares)
    ranked = [row.select_one(".number").text for row in page.select(".ranked > li")]
    numbers = [int(text.split()[0]) for text in ranked]
    firsts = [
        r.misconceptions[0] for s in run.students for r in s.exercises.values() if r.misconceptions
    ]
    assert numbers == sorted(numbers, reverse=True) and sum(numbers) == len(firsts)
    described = page.select_one("svg desc").text
    assert sum(map(int, re.findall(r"%: ([0-9]+)", described))) == len(run.students)
    links = [link["href"] for link in page.select("table a")]
    assert links == [f"feedback/{student.student}.html" for student in run.students]
    assert str(run.seed) in text and run.not_covered[0] in text


def test_a_run_of_nobody_has_reports_too(tmp_path):
    empty = dataclasses.replace(small_run(), students=())
    reports.write(empty, tmp_path)
    assert_harmless((tmp_path / "summary.html").read_text(encoding="utf-8"))
    assert len(table(tmp_path / "grades.csv")) == 1


@pytest.mark.parametrize(
    "student", ["../evil", "a/b", "", ".", "..", ".hidden", "a\x00b", "a\\b", "c:x"]
)
def test_an_id_that_is_no_file_name_writes_nothing(tmp_path, student):
    with pytest.raises(ValueError, match="student="):
        reports.write(small_run((student,)), tmp_path)
    assert list(tmp_path.rglob("*")) == []


def test_pages_of_students_who_are_gone_go_if_they_are_ours(tmp_path):
    reports.write(small_run(("anna", "ben", "carl")), tmp_path)
    folder = tmp_path / "feedback"
    (folder / "notes.html").write_text("mine")
    (folder / "carl.html").write_text("changed by hand")
    notes = reports.write(small_run(("anna",)), tmp_path)
    assert {path.name for path in folder.iterdir()} == {"anna.html", "notes.html", "carl.html"}
    assert ["carl" in note for note in notes] == [True]
    assert (folder / "notes.html").read_text() == "mine"


@pytest.mark.parametrize(
    "index", ["", "[]", '{"made": {"../grades.csv": "x"}}', '{"made": 3}', "\x00"]
)
def test_a_damaged_index_removes_nothing(tmp_path, index):
    reports.write(small_run(), tmp_path)
    before = (tmp_path / "grades.csv").read_bytes()
    (tmp_path / "feedback-files.json").write_text(index)
    reports.write(small_run(), tmp_path)
    assert (tmp_path / "grades.csv").read_bytes() == before


def test_a_link_in_the_folder_is_replaced_and_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    out = tmp_path / "grades"
    (out / "feedback").mkdir(parents=True)
    for name in ("grades.csv", "feedback/anna.html"):
        (out / name).symlink_to(victim)
    reports.write(small_run(), out)
    assert victim.read_text() == "untouched"
    assert not (out / "grades.csv").is_symlink()


def test_a_full_disk_leaves_the_old_marks(tmp_path, monkeypatch):
    reports.write(small_run(), tmp_path)
    fill(tmp_path / "manual.csv", {("anna", "03.heads"): ("2", "good")})
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("course_pkg.files.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        reports.write(small_run(), tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


# --- manual.csv -----------------------------------------------------------------------------------


def test_the_sheet_lists_what_a_person_should_look_at(tmp_path):
    reports.write(small_run(points=1), tmp_path)
    assert rows_of(tmp_path / "manual.csv") == [
        {
            "student": student,
            "name": "Anna",
            "exercise": "03.heads",
            "points": "1",
            "maximum": "2",
            "mark": "",
            "comment": "",
        }
        for student in ("anna", "ben")
    ]


def test_a_mark_replaces_the_points_everywhere(tmp_path):
    run = small_run(points=1)
    reports.write(run, tmp_path)
    fill(tmp_path / "manual.csv", {("anna", "03.heads"): ("1.75", "Look at head 2.")})
    reports.write(run, tmp_path)
    anna, ben = rows_of(tmp_path / "grades.csv")
    assert (anna["03.heads"], anna["total"]) == ("1.75", "2.75")
    assert (ben["03.heads"], ben["total"]) == ("1", "2")
    data = json.loads((tmp_path / "grades.json").read_text())
    assert data["marks"] == [
        {"student": "anna", "exercise": "03.heads", "mark": 1.75, "comment": "Look at head 2."}
    ]
    page = (tmp_path / "feedback" / "anna.html").read_text(encoding="utf-8")
    assert "1.75 of 2" in page and "Look at head 2." in page
    assert rows_of(tmp_path / "manual.csv")[0]["points"] == "1"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("order", [None, ["Comment", "mark", "maximum", "exercise", "student"]])
def test_what_spreadsheets_do_is_understood(tmp_path, delimiter, encoding, order):
    run = small_run()
    reports.write(run, tmp_path)
    path = tmp_path / "manual.csv"
    fill(path, {("ben", "03.heads"): ("1,5", "größer – =1")}, delimiter, encoding)
    if order:
        rows = list(
            csv.reader(
                io.StringIO(path.read_bytes().decode(encoding), newline=""), delimiter=delimiter
            )
        )
        text = io.StringIO()
        writer = csv.writer(text, delimiter=delimiter)
        for row in rows:
            cells = dict(zip(rows[0], row, strict=True))
            writer.writerow([cells[name.lower()] if row is not rows[0] else name for name in order])
        path.write_bytes(text.getvalue().encode(encoding))
    assert reports.read_marks(path, run) == {
        ("ben", "03.heads"): reports.Mark(Decimal("1.5"), "größer – =1")
    }
    reports.write(run, tmp_path)
    ben = rows_of(path, delimiter)[1]
    assert (ben["mark"], ben["comment"]) == ("1,5", "größer – =1")


def test_the_line_that_excel_puts_first_is_skipped(tmp_path):
    path = tmp_path / "manual.csv"
    path.write_text("sep=;\nstudent;exercise;mark\nanna;03.heads;2\n;;\n")
    assert reports.read_marks(path, small_run()) == {("anna", "03.heads"): reports.Mark(Decimal(2))}


def test_zeros_that_a_spreadsheet_dropped_are_put_back(tmp_path):
    run = small_run(("0012345", "777"))
    path = tmp_path / "manual.csv"
    path.write_text("student,exercise,mark\n12345,03.heads,2\n777,03.heads,1\n99,03.heads,1\n")
    assert set(reports.read_marks(path, run)) == {
        ("0012345", "03.heads"), ("777", "03.heads"), ("99", "03.heads"),
    }  # fmt: skip


def test_rows_of_the_unknown_and_columns_of_ones_own_stay(tmp_path):
    path = tmp_path / "manual.csv"
    path.write_text(
        "student,exercise,mark,comment,seen by\n"
        "gone,03.heads,1,was here,\n"
        "anna,05.balance,0.5,,\n"
        "anna,03.heads,2,,me\n"
        "ben,03.split_heads,2.5,counted by hand,\n"
        "zoe,03.heads,,,you\n"
        "yan,03.heads,,,\n"
    )
    for run in (small_run(), small_run(("carl",)), small_run()):
        reports.write(run, tmp_path)
        rows = {(r["student"], r["exercise"]): r for r in rows_of(path)}
        assert rows["gone", "03.heads"]["comment"] == "was here"
        assert rows["anna", "05.balance"]["mark"] == "0.5"
        assert rows["anna", "03.heads"]["mark"] == "2"
        assert rows["anna", "03.heads"]["seen by"] == "me"
        assert rows["zoe", "03.heads"]["seen by"] == "you"
        assert ("yan", "03.heads") not in rows
    assert rows_of(tmp_path / "grades.csv")[1]["03.split_heads"] == "2.5"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("anna,03.heads,two,", ["row 2", "'mark'", "'two'", "not a number"]),
        ("anna,03.heads,,\nben,03.heads,nan,", ["row 3", "'mark'", "not a number"]),
        ("anna,03.heads,1e1,", ["row 2", "not a number"]),
        ("anna,03.heads,01. Mai,", ["row 2", "not a number"]),
        ("anna,03.heads,2.01,", ["row 2", "'mark'", "from 0 to 2"]),
        ("anna,03.heads,-1,", ["row 2", "'mark'", "from 0 to 2"]),
        ("gone,09.x,-1,", ["row 2", "0 or more"]),
        ("anna,03.heads,1,\nanna,03.heads,2,", ["rows 2 and 3", "'mark'"]),
        ("anna,03.heads,1,a\nanna,03.heads,1,b", ["rows 2 and 3", "'comment'"]),
        ("anna,03.heads,1,a,lost", ["row 2", "heading"]),
    ],
)
def test_a_mark_that_cannot_be_used_stops_before_anything_is_written(tmp_path, rows, told):
    path = tmp_path / "manual.csv"
    path.write_text(f"student,exercise,mark,comment\n{rows}\n")
    with pytest.raises(ValueError, match=r"manual\.csv") as error:
        reports.write(small_run(), tmp_path)
    assert all(text in str(error.value) for text in told)
    assert [p.name for p in tmp_path.iterdir()] == ["manual.csv"]


@pytest.mark.parametrize("text", ["hello", "student,mark\nanna,1", "a,b,c\n1,2,3", '"student'])
def test_a_file_that_is_no_sheet_is_not_overwritten(tmp_path, text):
    path = tmp_path / "manual.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"manual\.csv"):
        reports.write(small_run(), tmp_path)
    assert path.read_text() == text


def test_rows_twice_that_agree_are_one(tmp_path):
    path = tmp_path / "manual.csv"
    path.write_text("student,exercise,mark,comment\nanna,03.heads,1,\nanna,03.heads,,yes\n")
    assert reports.read_marks(path, small_run()) == {
        ("anna", "03.heads"): reports.Mark(Decimal(1), "yes")
    }


ids = st.sampled_from(["anna", "ben", "gone", "-x", "@y", "007", "ж"])
exercises = st.sampled_from(["03.heads", "03.split_heads", "05.other"])
comments = st.text(
    st.characters(codec="utf-8", exclude_characters="\r"), max_size=20
) | st.sampled_from(
    ["=1+1", "'=1", "''=1", "'", "a;b,c\td", 'say "no"', "line\nline", "\t@x", " - "]
)
filled = st.dictionaries(
    st.tuples(ids, exercises),
    st.tuples(st.none() | st.decimals(0, 2, places=2), comments),
    max_size=8,
)


@settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    marks=filled,
    classes=st.lists(st.lists(ids, unique=True, max_size=4), min_size=1, max_size=3),
    delimiter=st.sampled_from(",;\t"),
    comma=st.booleans(),
    column=st.permutations(["student", "exercise", "mark", "comment", "my notes"]),
)
def test_no_filled_mark_or_comment_is_ever_lost(tmp_path, marks, classes, delimiter, comma, column):
    path = tmp_path / "manual.csv"
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(column)
    for (student, exercise), (value, comment) in marks.items():
        told = "" if value is None else str(value).replace(".", "," if comma else ".")
        cells = {
            "student": student,
            "exercise": exercise,
            "mark": told,
            "comment": reports.guard(comment),
            "my notes": "n" if value else "",
        }
        writer.writerow([cells[name] for name in column])
    path.write_bytes(text.getvalue().encode())
    expected = {
        key: reports.Mark(value, comment)
        for key, (value, comment) in marks.items()
        if value is not None or comment
    }
    meaning = {k: m for k, m in expected.items() if m.value is not None or m.comment.strip()}
    for students in classes:
        run = small_run(tuple(sorted(students)))
        reports.write(run, tmp_path)
        read = reports.read_marks(path, run)
        assert {k: m for k, m in read.items() if k in meaning} == meaning
        for key, mark in meaning.items():
            if key[0] in students and key[1].startswith("03") and mark.value is not None:
                row = next(
                    r
                    for r in rows_of(tmp_path / "grades.csv")
                    if reports.unguard(r["student"]) == key[0]
                )
                assert Decimal(row[key[1]]) == mark.value
    assert sum(row["my notes"] == "n" for row in rows_of(path, delimiter)) == sum(
        bool(value) for value, _ in marks.values()
    )
    path.unlink()


# --- diff -----------------------------------------------------------------------------------------


def changed(run, student, **changes):
    """The run with something else in one student's answer to 03.split_heads."""
    return dataclasses.replace(
        run,
        students=tuple(
            dataclasses.replace(
                s,
                exercises={
                    **s.exercises,
                    "03.split_heads": dataclasses.replace(s.exercises["03.split_heads"], **changes),
                },
            )
            if s.student == student
            else s
            for s in run.students
        ),
    )


def test_the_same_run_has_no_changes(run, written):
    data = json.loads((written / "grades.json").read_text())
    assert reports.diff(written, written / "grades.json") == reports.diff(data, data) == []
    assert reports.diff_text([]) == "No grade changed."


def test_seconds_alone_are_no_change():
    run = small_run()
    assert reports.diff(run.to_dict(), changed(run, "anna", seconds=9.0).to_dict()) == []


def test_a_change_says_who_and_why():
    old = small_run(findings=(Finding("values", "v", False), Finding("shape", "s", True)))
    new = changed(
        old,
        "anna",
        status="passed",
        points=3,
        findings=(Finding("values", "v", True), Finding("shape", "s", False)),
    )
    (change,) = reports.diff(old.to_dict(), new.to_dict())
    assert (change.student, change.old_total, change.new_total) == ("anna", 2, 4)
    assert change.reasons == (
        "03.split_heads: failed -> passed",
        "03.split_heads: points 1 of 3 -> 3 of 3",
        "03.split_heads: 'values' holds now",
        "03.split_heads: 'shape' fails now",
    )
    assert reports.diff_text([change]).splitlines()[0] == "anna (Anna): 2 -> 4 (+2)"


def test_marks_files_penalties_and_people_are_reasons(tmp_path, rules):
    run = small_run(("anna", "ben"))
    reports.write(run, tmp_path / "old")
    file = dataclasses.replace(run.students[0].files[0], attempt=2, attempts=2)
    students = (dataclasses.replace(run.students[0], files=(file,)), *small_run(("carl",)).students)
    new = dataclasses.replace(run, students=students)
    reports.write(new, tmp_path / "new")
    fill(tmp_path / "new" / "manual.csv", {("anna", "03.heads"): ("2", "\x1b[31m good")})
    reports.write(new, tmp_path / "new", rules=rules)
    changes = {c.student: c for c in reports.diff(tmp_path / "old", tmp_path / "new")}
    reasons = changes["anna"].reasons
    assert "chapter 3: attempt 1 of 1 -> 2 of 2" in reasons
    assert "03.heads: manual mark none -> 2" in reasons
    assert "03.heads: another comment" in reasons
    assert any(r.startswith("chapter 3: late penalty 0 -> 0.3: Chapter 3 came") for r in reasons)
    assert changes["ben"].new_total is None and changes["carl"].old_total is None
    text = reports.diff_text(list(changes.values()))
    assert "ben (Anna): was 2" in text and "carl (Anna): now 1.8" in text


def test_a_diff_is_safe_to_print(run):
    new = changed(run, "judit", problem="\x1b]0;owned\x07" + grading_demo.BIDI, status="refused")
    text = reports.diff_text(reports.diff(run.to_dict(), new.to_dict()))
    assert "judit" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert max(map(len, text.splitlines())) < 1000


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1}'])
def test_something_else_than_grades_is_named(tmp_path, text):
    path = tmp_path / "grades.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"old=.*grades\.json"):
        reports.diff(path, path)
