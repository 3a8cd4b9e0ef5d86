"""What is read from a class's files: whose, which attempt, which cells, and what is refused."""

import ast
import contextlib
import io
import json
import os
import pickle
import re
import socket
import struct
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import class_of
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from course_pkg.grading import submissions
from course_pkg.grading.submissions import collect

ROOT = Path(__file__).parent.parent
IDS = {
    3: ("03.shapes", "03.split_heads", "03.merge_heads", "03.cost"),
    4: ("04.gelu", "04.layer_norm"),
}
STEM = "03_multi_head_attention"
SPLIT = "def split_heads(x, num_heads):\n    return x"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CANARY = "canary_4f1c"


def cell(source, identifier=None, kind="code", **metadata):
    if identifier is not None:
        metadata["exercise"] = {"id": identifier, "points": 2, "kind": "implement"}
    return {"cell_type": kind, "metadata": metadata, "source": source, "outputs": []}


def check(identifier):
    return cell(f'check("{identifier}", {identifier[3:]})', tags=["check"])


def stub(identifier):
    return f'def {identifier[3:]}(x):\n    raise NotImplementedError("{identifier}")'


def notebook(*cells):
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def chapter(number=3, **sources):
    """A whole notebook of a chapter; the sources are those of some exercises."""
    cells = [cell("import torch")]
    for identifier in IDS[number]:
        name = identifier[3:]
        cells += [cell(sources.get(name, f"{name} = 1"), identifier), check(identifier)]
    return notebook(*cells)


def markdown(number=3, **sources):
    lines = ["---", "kernelspec:", "  name: python3", "---", "# A heading", ""]
    for identifier in IDS[number]:
        name = identifier[3:]
        lines += ["```{code-cell} ipython3", "---", "tags: [exercise]", "exercise:"]
        lines += [f"  id: {identifier}", "  points: 2", "---", sources.get(name, f"{name} = 1")]
        lines += ["```", "", "```{code-cell} ipython3", ":tags: [check]", ""]
        lines += [f'check("{identifier}", {name})', "```", ""]
    return "\n".join(lines)


def put(path, content, time=NOON):
    """Write a file as it is handed in: a notebook, text or bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_bytes(content))
    os.utime(path, (time.timestamp(), time.timestamp()))
    return path


def as_bytes(content):
    if isinstance(content, dict):
        content = json.dumps(content)
    return content if isinstance(content, bytes) else content.encode()


def zipped(entries, time=(2026, 3, 1, 12, 0, 0), method=zipfile.ZIP_DEFLATED):
    """The bytes of a zip, from (name or ZipInfo, content) pairs or a dictionary."""
    pairs = entries.items() if isinstance(entries, dict) else entries
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in pairs:
            entry = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name, time)
            entry.compress_type = method
            archive.writestr(entry, as_bytes(content))
    return buffer.getvalue()


def read(folder, **options):
    """The submissions by student and chapter."""
    found = collect(folder, IDS, **options).submissions
    keys = [(s.student, s.chapter) for s in found]
    assert keys == sorted(set(keys))
    return dict(zip(keys, found, strict=True))


def only(folder):
    (submission,) = collect(folder, IDS).submissions
    return submission


def one_notebook(tmp_path, *cells):
    put(tmp_path / "anna" / f"{STEM}.ipynb", notebook(*cells))
    return only(tmp_path)


def all_text(submission):
    lines = [*submission.oddities, submission.refused or ""]
    return "\n".join([*lines, *(o for a in submission.answers.values() for o in a.oddities)])


# Layouts


@pytest.mark.parametrize("attempts", [False, True])
@pytest.mark.parametrize("layout", ["folders", "flat", "moodle", "canvas"])
def test_a_class_is_read_back_as_it_was_made(tmp_path, layout, attempts):
    made = class_of.make(tmp_path, 7, chapters=(2, 3), seed=3, layout=layout, attempts=attempts)
    collected = collect(tmp_path, class_of.ids_of())
    assert [(s.student, s.chapter) for s in collected.submissions] == [
        (student, number) for student in sorted(made) for number in (2, 3)
    ]
    for submission in collected.submissions:
        for exercise in class_of.page_of(submission.chapter).exercises:
            kind = made[submission.student][exercise.id]
            if kind != "broken":
                expected = class_of.variant(exercise, kind)
                assert submission.answers[exercise.id].source == expected
            assert submission.answers[exercise.id].oddities == ()
        number = int(re.search(r"\d{3}", submission.student)[0])
        assert submission.attempts == (2 if attempts and number % 3 == 0 else 1)
        assert submission.attempt == submission.attempts
        assert submission.submitted == datetime(2026, 3, submission.chapter, 12, number, tzinfo=UTC)
    again = collect(tmp_path, class_of.ids_of())
    assert again == collected


def test_the_maker_tells_what_it_made(tmp_path):
    made = class_of.make(tmp_path / "a", 12, chapters=(3,), seed=1)
    assert made == class_of.make(tmp_path / "b", 12, chapters=(3,), seed=1)
    assert made != class_of.make(tmp_path / "c", 12, chapters=(3,), seed=2)
    kinds = {kind for answers in made.values() for kind in answers.values()}
    assert kinds == {"right", "stub", "wrong", "broken"}
    for exercise in class_of.page_of(3).exercises:
        sources = {kind: class_of.variant(exercise, kind) for kind in kinds}
        assert len(set(sources.values())) == 4
        assert "SOLUTION" not in sources["right"]
        for kind in ("right", "stub", "wrong"):
            ast.parse(sources[kind])


@pytest.mark.parametrize(
    ("path", "student"),
    [
        (f"anna_{STEM}.ipynb", "anna"),
        (f"{STEM}-anna.ipynb", "anna"),
        (f"{STEM}_anna.ipynb", "anna"),
        (f"anna_{STEM} (1).ipynb", "anna"),
        (f"anna_{STEM}-2.ipynb", "anna"),
        (f"anna_{STEM}_v3.ipynb", "anna"),
        (f"Copy of anna_{STEM}.ipynb", "anna"),
        (f"anna_{STEM} - Kopie.ipynb", "anna"),
        (f"anna_{STEM}-Copy1.ipynb", "anna"),
        (f"anna_{STEM}_final.ipynb", "anna"),
        (f"anna-maria {STEM}.ipynb", "anna-maria"),
        (f"s1234567_{STEM}.ipynb", "s1234567"),
        ("anna_ch3.ipynb", "anna"),
        ("anna.ipynb", "anna"),
        (f"anna_{STEM}.ipynb.txt", "anna"),
        (f"anna_{STEM}.IPYNB", "anna"),
        (f"anna/{STEM}.ipynb", "anna"),
        (f"anna/exercises/{STEM}.ipynb", "anna"),
        (f"anna/ben/{STEM}.ipynb", "anna"),
        (f"anna/ben_{STEM}.ipynb", "anna"),
        (f"Week 3/anna_{STEM}.ipynb", "anna"),
        (f"{STEM}/anna/x.ipynb", "anna"),
        (f"submitted/anna/ch3/{STEM}.ipynb", "anna"),
        (f"submitted/final/ch3/{STEM}.ipynb", "final"),
        (f"Anna Nowak_1234567_assignsubmission_file_/{STEM}.ipynb", "Anna_Nowak"),
        (f"Anna Nowak_1234567_assignsubmission_file/{STEM}.ipynb", "Anna_Nowak"),
        (f"Anna Nowak_1234567_assignsubmission_file_{STEM}.ipynb", "Anna_Nowak"),
        (f"CS-1/Anna Nowak_123_assignsubmission_file_/{STEM}.ipynb", "Anna_Nowak"),
        (f"nowakanna_12345_6789_{STEM}-2.ipynb", "nowakanna"),
        (f"nowakanna_LATE_12345_6789_{STEM}.ipynb", "nowakanna"),
        (f"nowakanna_12345_6789_work/{STEM}.ipynb", "nowakanna"),
        (f"Week 3_anna_attempt_2026-03-01-10-20-30_{STEM}.ipynb", "anna"),
    ],
)
def test_whose_a_file_is(tmp_path, path, student):
    put(tmp_path / path, chapter(split_heads=SPLIT))
    submission = only(tmp_path)
    assert (submission.student, submission.chapter, submission.file) == (student, 3, path)
    assert submission.answers["03.split_heads"].source == SPLIT
    assert submission.refused is None


def test_a_file_that_says_no_student_is_left_out_and_named(tmp_path):
    put(tmp_path / f"{STEM}.ipynb", chapter())
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter())
    collected = collect(tmp_path, IDS)
    assert [s.student for s in collected.submissions] == ["anna"]
    assert any(line.startswith(f"{STEM}.ipynb: nothing says whose") for line in collected.oddities)


def test_layouts_may_be_mixed(tmp_path):
    put(tmp_path / f"anna_{STEM}.ipynb", chapter())
    put(tmp_path / "ben" / "deep" / "er" / f"{STEM}.md", markdown())
    put(tmp_path / "Cleo X_7_assignsubmission_file_" / f"{STEM}.ipynb", chapter())
    put(tmp_path / "dora.zip", zipped({f"work/{STEM}.ipynb": chapter()}))
    put(tmp_path / "canvas.zip", zipped({f"emre_LATE_12_34_{STEM}.ipynb": chapter()}))
    put(tmp_path / "fay" / "work.zip", zipped({"inner.zip": zipped({f"{STEM}.ipynb": chapter()})}))
    found = read(tmp_path)
    assert [student for student, _ in found] == ["Cleo_X", "anna", "ben", "dora", "emre", "fay"]
    assert all(len(s.answers) == 4 for s in found.values())
    assert found["dora", 3].file == f"dora.zip!work/{STEM}.ipynb"
    assert found["fay", 3].file == f"fay/work.zip!inner.zip!{STEM}.ipynb"
    assert found["emre", 3].oddities == ("the LMS marks it as late",)
    assert found["Cleo_X", 3].name == "Cleo X"


@pytest.mark.parametrize("export", ["CS101-Exercises 3-4003.zip", "moodle.zip"])
def test_moodles_zip_with_students_zips_within(tmp_path, export):
    mine = zipped({f"{STEM}.ipynb": chapter(), "04_transformer.ipynb": chapter(4)})
    inner = {
        "Anna Nowak_11_assignsubmission_file_/work.zip": mine,
        f"Ben Li_12_assignsubmission_file_/{STEM}.ipynb": chapter(),
        "Ben Li_12_assignsubmission_onlinetext_/onlinetext.html": "<p>hello</p>",
    }
    put(tmp_path / export, zipped(inner))
    found = read(tmp_path)
    assert list(found) == [("Anna_Nowak", 3), ("Anna_Nowak", 4), ("Ben_Li", 3)]
    assert found["Anna_Nowak", 4].file == (
        f"{export}!Anna Nowak_11_assignsubmission_file_/work.zip!04_transformer.ipynb"
    )


def test_a_students_zip_or_folder_cannot_speak_for_others(tmp_path):
    forged = {f"Anna Nowak_11_assignsubmission_file_/{STEM}.ipynb": chapter(shapes="forged = 1")}
    put(tmp_path / f"Anna Nowak_10_assignsubmission_file_/{STEM}.ipynb", chapter())
    put(tmp_path / "ben.zip", zipped({f"{STEM}.ipynb": chapter()}))
    put(tmp_path / "mallory.zip", zipped(forged, (2027, 1, 1, 0, 0, 0)))
    put(tmp_path / "ben2" / f"{STEM}.ipynb", chapter())
    path = f"mallory2/Anna Nowak_11_assignsubmission_file_/{STEM}.ipynb"
    put(tmp_path / path, chapter(shapes="forged = 1"))
    put(tmp_path / "submitted/mallory3/Anna Nowak_11_assignsubmission_file_/x.ipynb", chapter())
    outer = "Mal_66_assignsubmission_file_/z.zip"
    put(tmp_path / "moodle.zip", zipped({outer: zipped(forged)}))
    found = read(tmp_path)
    assert "forged" not in found["Anna_Nowak", 3].answers["03.shapes"].source
    assert found["Anna_Nowak", 3].attempts == 1
    assert {student for student, _ in found} == {
        "Anna_Nowak", "Mal", "ben", "ben2", "mallory", "mallory2", "mallory3",
    }  # fmt: skip
    assert sum("looks like an LMS's export" in o for o in collect(tmp_path, IDS).oddities) == 2


def test_a_notebook_with_several_chapters_counts_for_each(tmp_path):
    cells = [*chapter(3)["cells"], *chapter(4)["cells"]]
    put(tmp_path / "anna" / "everything.ipynb", notebook(*cells))
    found = read(tmp_path)
    assert list(found) == [("anna", 3), ("anna", 4)]
    assert list(found["anna", 4].answers) == list(IDS[4])
    assert "it holds the chapters 3, 4" in found["anna", 3].oddities
    assert list(read(tmp_path, only_chapters=[4])) == [("anna", 4)]


def test_a_stray_cell_of_another_chapter_is_no_attempt_at_it(tmp_path):
    put(tmp_path / "anna" / "04_transformer.ipynb", chapter(4), NOON)
    later = notebook(*chapter(4)["cells"], cell("shapes = 9", "03.shapes"))
    put(tmp_path / "anna" / "04_transformer (1).ipynb", later, NOON.replace(hour=13))
    submission = only(tmp_path)
    assert submission.chapter == 4
    assert "exercises of another chapter do not count: 03.shapes" in submission.oddities


def test_the_chapter_is_in_the_cells_where_the_name_is_wrong(tmp_path):
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter(4))
    put(tmp_path / "ben" / "notebook.ipynb", chapter(4))
    put(tmp_path / "cleo" / "notebook.ipynb", notebook(cell("print(1)")))
    collected = collect(tmp_path, IDS)
    assert [(s.student, s.chapter) for s in collected.submissions] == [("anna", 4), ("ben", 4)]
    line = "its name says chapter 3, its exercises are of chapter 4"
    assert line in collected.submissions[0].oddities
    assert "cleo/notebook.ipynb: nothing says which chapter it is of" in collected.oddities


def test_files_that_are_no_notebooks_are_counted_once_a_student(tmp_path):
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter())
    for name in ("a.pdf", "b.csv", "c.png", "d.py"):
        put(tmp_path / "anna" / name, "x")
    put(tmp_path / "grades.csv", "x")
    assert collect(tmp_path, IDS).oddities == (
        "grades.csv: is no notebook and was left out",
        "anna: 4 files that are no notebooks were left out: anna/a.pdf, anna/b.csv, anna/c.png, …",
    )


def test_what_systems_leave_behind_is_passed_over_in_silence(tmp_path):
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter())
    names = [".DS_Store", "Thumbs.db", f"__MACOSX/._{STEM}.ipynb", f"._{STEM}.ipynb"]
    names.append(f".ipynb_checkpoints/{STEM}-checkpoint.ipynb")
    for name in names:
        put(tmp_path / "anna" / name, "no notebook")
    put(tmp_path / "ben.zip", zipped([(f"{STEM}.ipynb", chapter()), *((n, "no") for n in names)]))
    for name in (".DS_Store", ".git/config", "__MACOSX/x", ".ipynb_checkpoints/x"):
        put(tmp_path / name, "of a tool")
    collected = collect(tmp_path, IDS)
    assert [s.attempts for s in collected.submissions] == [1, 1]
    assert collected.oddities == ()


def test_a_students_folder_that_nobody_sees_is_told(tmp_path):
    for student in ("anna", ".ben"):
        put(tmp_path / student / f"{STEM}.ipynb", chapter())
    collected = collect(tmp_path, IDS)
    assert [s.student for s in collected.submissions] == ["anna"]
    assert collected.oddities == (".ben: begins with a dot: give the folder another name",)


# Names


def test_ids_are_safe_and_every_students_own(tmp_path):
    names = [
        "Zoë", "Zoe\u0308 B", "Мария", "明", "a b", "a_b", "a.b", "-rf", "-.x", "A B", "anna\u202e",
        "anna", "con:1", "x" * 120, "x" * 121, "=1+2", "明" * 80, "\U00020000" * 60, "a\nb\x1b[31m",
        "O'Brien, Pat", "<script>", "💥", "~", "a  b",
    ]  # fmt: skip
    for name in names:
        put(tmp_path / name / f"{STEM}.ipynb", chapter())
    found = read(tmp_path)
    by_name = {submission.name: submission.student for submission in found.values()}
    assert len(found) == len(names)
    assert {"Zoë", "Мария", "明", "A_B", "x" * 80} <= {student for student, _ in found}
    for student, _ in found:
        assert re.fullmatch(r"[\w._@+-]{1,80}", student)
        assert student[0] not in ".-"
        assert len(student.encode()) <= 200
    folded = {student.casefold() for student, _ in found}
    assert len(folded) == len(names), "told apart on every file system"
    for name in by_name:
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", name)
    assert by_name["<script>"] == "_script_"
    assert any("another student has the id" in line for line in collect(tmp_path, IDS).oddities)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.text(min_size=1, max_size=40), min_size=1, max_size=6))
@example({"a", "A", "ａ", "a-2", "a_"})
@example({"\udc80", "?"})
def test_any_folder_names_give_as_many_ids(names):
    with tempfile.TemporaryDirectory() as where:
        made = set()
        for name in names:
            if submissions._is_skipped(name):
                continue
            with contextlib.suppress(OSError, ValueError):
                put(Path(where) / "submitted" / name.replace("/", "-") / f"{STEM}.ipynb", chapter())
                made.add(submissions._nfc(name.replace("/", "-")))
        if made:
            found = collect(Path(where), IDS).submissions
            assert len({s.student.casefold() for s in found}) == len(found) == len(made)
            json.dumps([(s.student, s.name, s.file) for s in found], ensure_ascii=False).encode()


def test_a_name_that_is_no_utf8(tmp_path):
    name = os.fsencode(tmp_path) + b"/ann\xff"
    try:
        os.mkdir(name)  # noqa: PTH102
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    put(tmp_path / os.fsdecode(b"ann\xff") / f"{STEM}.ipynb", chapter())
    submission = only(tmp_path)
    assert submission.student == "ann_"
    assert f"{submission.name}{submission.file}".encode()


def test_students_with_the_same_name_are_told_apart_by_number(tmp_path):
    for number in (11, 12):
        put(tmp_path / f"Anna Li_{number}_assignsubmission_file_" / f"{STEM}.ipynb", chapter())
    for number in (21, 22):
        put(tmp_path / f"benli_{number}_777_{STEM}.ipynb", chapter())
    students = {student for student, _ in read(tmp_path)}
    assert students == {"Anna_Li-11", "Anna_Li-12", "benli-21", "benli-22"}
    assert "Anna_Li-11: more than one student has this name; told by number" in (
        collect(tmp_path, IDS).oddities
    )


def test_moodle_numbers_the_same_student_anew_in_each_export(tmp_path):
    for number, name in ((3, STEM), (4, "04_transformer")):
        folder = f"Anna Li_{number}_assignsubmission_file_"
        entry = {f"{folder}/{name}.ipynb": chapter(number)}
        put(tmp_path / f"CS101-{number}.zip", zipped(entry))
    assert list(read(tmp_path)) == [("Anna_Li", 3), ("Anna_Li", 4)]


def test_choosing_students(tmp_path):
    for name in ("anna", "Ben Li", "cleo"):
        put(tmp_path / name / f"{STEM}.ipynb", chapter())
    assert list(read(tmp_path, students=["Ben_Li"])) == [("Ben_Li", 3)]
    assert list(read(tmp_path, students=["Ben Li", "anna"])) == [("Ben_Li", 3), ("anna", 3)]
    with pytest.raises(ValueError, match=r"student='ana' is unknown\. Did you mean 'anna'"):
        collect(tmp_path, IDS, students=["ana"])
    with pytest.raises(ValueError, match="chapter='7' is unknown"):
        collect(tmp_path, IDS, only_chapters=[7])


def test_a_folder_without_submissions_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        collect(tmp_path / "missing", IDS)
    with pytest.raises(ValueError, match="holds no notebook"):
        collect(tmp_path, IDS)
    put(tmp_path / "notes.txt", "x")
    with pytest.raises(ValueError, match="holds no notebook"):
        collect(tmp_path, IDS)


# Times and attempts


def at(hour):
    return NOON.replace(hour=hour)


def test_the_latest_attempt_counts(tmp_path):
    put(tmp_path / "anna" / f"{STEM} (2).ipynb", chapter(shapes="shapes = 'b'"), at(9))
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter(shapes="shapes = 'c'"), at(11))
    put(tmp_path / "anna" / "old" / f"{STEM}.ipynb", chapter(shapes="shapes = 'a'"), at(8))
    submission = only(tmp_path)
    assert submission.answers["03.shapes"].source == "shapes = 'c'"
    assert (submission.attempt, submission.attempts, submission.submitted) == (3, 3, at(11))
    assert submission.oddities == (
        "attempt 3 of 3 counts, the latest",
        f"anna/old/{STEM}.ipynb does not count",
        f"anna/{STEM} (2).ipynb does not count",
    )


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (f"{STEM}.ipynb", f"{STEM} (1).ipynb", "highest number"),
        (f"{STEM}_v9.ipynb", f"{STEM}_v10.ipynb", "highest number"),
        (f"{STEM}.ipynb", f"{STEM}-2.ipynb", "highest number"),
        (f"{STEM}.ipynb", f"Kopie von {STEM}.ipynb", "highest number"),
        (f"a/{STEM}.ipynb", f"b/{STEM}.ipynb", "last by name"),
        (f"{STEM}.md", f"{STEM}.ipynb", "the .ipynb, since the .md"),
    ],
)
def test_of_attempts_at_the_same_time(tmp_path, first, second, why):
    content = markdown() if first.endswith(".md") else chapter()
    put(tmp_path / "anna" / first, content)
    put(tmp_path / "anna" / second, chapter(shapes="shapes = 2"))
    submission = only(tmp_path)
    assert submission.file == f"anna/{second}"
    assert why in submission.oddities[0]


def test_a_pair_saved_together_counts_as_its_ipynb(tmp_path):
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter())
    put(tmp_path / "anna" / f"{STEM}.md", markdown(), NOON.replace(second=3))
    assert only(tmp_path).file.endswith(".ipynb")
    put(tmp_path / "anna" / f"{STEM}.md", markdown(), NOON.replace(minute=5))
    assert only(tmp_path).file.endswith(".md")


def test_an_attempt_that_cannot_be_graded_does_not_hide_one_that_can(tmp_path):
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter(), at(8))
    put(tmp_path / "anna" / f"{STEM} (1).ipynb", "{", at(9))
    put(tmp_path / "anna" / "03_multi_head_attention_scratch.ipynb", notebook(cell("1")), at(10))
    submission = only(tmp_path)
    assert submission.file == f"anna/{STEM}.ipynb"
    assert (submission.attempt, submission.attempts) == (1, 3)
    assert submission.oddities == (
        "attempt 1 of 3 counts, the only one that can be graded",
        f"anna/{STEM} (1).ipynb does not count: it is no notebook: it is no JSON (line 1)",
        f"anna/{STEM}_scratch.ipynb does not count: it has no cell of this chapter's exercises",
    )


def test_when_a_file_was_handed_in(tmp_path):
    stamp = NOON.replace(year=2020)
    name = f"W 3_anna_attempt_2026-03-01-10-20-30_{STEM}.ipynb"
    put(tmp_path / name, chapter(), stamp)
    put(tmp_path / "submitted" / "ben" / "ps3" / f"{STEM}.ipynb", chapter(), stamp)
    put(tmp_path / "submitted/ben/ps3/timestamp.txt", "2026-03-01 11:00:00.123456 Europe/Berlin")
    put(tmp_path / "submitted" / "cleo" / f"{STEM}.ipynb", chapter(), stamp)
    put(tmp_path / "dora" / "ps3" / f"{STEM}.ipynb", chapter(), stamp)
    put(tmp_path / "dora" / "ps3" / "timestamp.txt", "1999-01-01 00:00:00 UTC")
    local = datetime(2026, 3, 1, 9, 0, 2).astimezone(UTC)
    export = zipped({f"emre_1_2_{STEM}.ipynb": chapter()}, (2026, 3, 1, 9, 0, 2))
    put(tmp_path / "canvas.zip", export, stamp)
    own = zipped({f"{STEM}.ipynb": chapter()}, (1999, 3, 1, 9, 0, 2))
    put(tmp_path / "fay.zip", own, stamp)
    put(tmp_path / "gus" / "work.zip", own, stamp)
    extended = zipfile.ZipInfo(f"hal_3_4_{STEM}.ipynb", (2020, 1, 1, 0, 0, 0))
    extended.extra = struct.pack("<HHBi", 0x5455, 5, 1, int(NOON.timestamp()))
    put(tmp_path / "submissions.zip", zipped([(extended, chapter())]), stamp)
    times = {student: s.submitted for (student, _), s in read(tmp_path).items()}
    assert times == {
        "anna": datetime(2026, 3, 1, 10, 20, 30, tzinfo=UTC),
        "ben": datetime(2026, 3, 1, 10, 0, 0, tzinfo=UTC),
        "cleo": stamp,
        "dora": stamp,
        "emre": local,
        "fay": stamp,
        "gus": stamp,
        "hal": NOON,
    }


# Cells


def test_what_is_taken_from_a_notebook_and_what_is_not(tmp_path):
    given = chapter(split_heads=SPLIT)
    given["cells"].insert(1, cell("# Notes\nignored = 1", kind="markdown"))
    given["cells"].insert(2, cell("%matplotlib inline\ndef helper(x):\n    return x"))
    given["cells"].append(cell("my_check = 1\nrecheck('03.cost', 1)"))
    put(tmp_path / "anna" / f"{STEM}.ipynb", given)
    submission = only(tmp_path)
    assert list(submission.answers) == list(IDS[3])
    assert submission.answers["03.split_heads"].source == SPLIT
    assert submission.extras == (
        "import torch",
        "%matplotlib inline\ndef helper(x):\n    return x",
        "my_check = 1\nrecheck('03.cost', 1)",
    )
    assert submission.oddities == ()


def test_markdown_gives_what_the_notebook_gives(tmp_path):
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter(split_heads=SPLIT))
    put(tmp_path / "ben" / f"{STEM}.md", markdown(split_heads=SPLIT))
    found = read(tmp_path)
    assert found["anna", 3].answers == found["ben", 3].answers


@pytest.mark.parametrize("number", class_of.CHAPTERS)
@pytest.mark.parametrize("suffix", ["ipynb", "md"])
def test_the_courses_own_notebooks_have_all_their_cells_and_nothing_odd(tmp_path, number, suffix):
    name = f"{class_of.page_of(number).stem}.{suffix}"
    put(tmp_path / "anna" / name, (ROOT / "exercises" / name).read_bytes())
    (submission,) = collect(tmp_path, class_of.ids_of()).submissions
    assert submission.chapter == number
    assert submission.oddities == ()
    stubs = {e.id: e.stub for e in class_of.page_of(number).exercises}
    assert {i: a.source for i, a in submission.answers.items()} == stubs
    given = [c for c in class_of.notebook_of(number)["cells"] if c["cell_type"] == "code"]
    others = [c for c in given if not c["metadata"].get("tags")]
    assert len(submission.extras) == len(others)


def test_the_names_of_the_notebooks_are_the_courses():
    stems = {int(p.name[:2]): p.stem[3:] for p in (ROOT / "solutions").glob("[0-9][0-9]_*.md")}
    assert stems == submissions.NOTEBOOKS


def test_markdown_that_is_not_closed_nested_or_full_of_fences(tmp_path):
    text = (
        "````{code-cell}\n---\nexercise: {id: '03.shapes'}\n---\nshapes = '''\n```\n'''\n````\n"
        "`````\n```{code-cell}\n:tags: [x]\nnot_taken = 1\n```\n`````\n"
        "``` inline ``` text\n"
        '~~~{code-cell} ipython3\n---\nexercise: {"id": "03.cost"}\n---\ncost = 2\n~~~~~\n'
        "```{code-cell}\n---\nnbgrader: {grade_id: 03.split_heads}\n---\nunclosed = 3"
    )
    put(tmp_path / "anna" / f"{STEM}.md", text)
    submission = only(tmp_path)
    assert {i: a.source for i, a in submission.answers.items()} == {
        "03.shapes": "shapes = '''\n```\n'''",
        "03.split_heads": "unclosed = 3",
        "03.cost": "cost = 2",
    }
    assert "its last fence is not closed" in submission.oddities


def test_nbgraders_id_counts_and_ours_before_it(tmp_path):
    submission = one_notebook(
        tmp_path,
        cell("a = 1", nbgrader={"grade_id": "03.shapes", "points": 99, "locked": False}),
        cell("b = 1", "03.split_heads", nbgrader={"grade_id": "03.cost"}),
        cell("c = 1", nbgrader={"grade_id": "something"}),
        cell("d = 1", nbgrader={"grade_id": "03-merge_heads"}),  # as nbgrader wants ids to be
    )
    assert {i: a.source for i, a in submission.answers.items()} == {
        "03.merge_heads": "d = 1",
        "03.shapes": "a = 1",
        "03.split_heads": "b = 1",
    }
    assert submission.extras == ("c = 1",)


def test_edited_points_are_ignored(tmp_path):
    marked = cell("shapes = 1", "03.shapes")
    marked["metadata"]["exercise"] |= {"points": 10**6, "kind": ["?"], "passed": True}
    assert one_notebook(tmp_path, marked).answers["03.shapes"].oddities == ()


def test_where_the_mark_was_lost_the_cell_before_the_check_is_taken(tmp_path):
    submission = one_notebook(
        tmp_path,
        cell("faulty = 0"),
        cell("shapes = 1"),
        cell("prose", kind="markdown"),
        cell("%time"),
        cell('check("03.shapes", shapes)'),
        cell("def split_heads(x):\n    return x\ncheck('03.split_heads', split_heads)"),
        cell("from course_pkg import check\ncourse.check( '03.merge_heads', merge_heads)"),
        cell('cost = 2\ncheck("03.cost", cost)', "03.cost"),
    )
    assert {i: a.source for i, a in submission.answers.items()} == {
        "03.shapes": "shapes = 1",
        "03.split_heads": "def split_heads(x):\n    return x\ncheck('03.split_heads', split_heads)",
        "03.cost": 'cost = 2\ncheck("03.cost", cost)',
    }
    assert "lost its mark" in submission.answers["03.shapes"].oddities[0]
    assert submission.answers["03.cost"].oddities == ()
    assert submission.oddities == ("no cell answers 03.merge_heads",)
    assert submission.extras == ("faulty = 0", "%time")


def test_exercises_merged_into_one_cell(tmp_path):
    both = 'shapes = 1\ncheck("03.shapes", shapes)\ncost = 2\ncheck("03.cost", cost)'
    submission = one_notebook(tmp_path, cell(both, "03.shapes"))
    assert submission.answers["03.cost"].source == both
    assert "from the cell of 03.shapes" in submission.answers["03.cost"].oddities[0]


@pytest.mark.parametrize(
    ("sources", "taken", "said"),
    [
        ([SPLIT, stub("03.split_heads")], 0, "filled in"),
        ([stub("03.split_heads"), SPLIT], 1, "filled in"),
        ([SPLIT, stub("03.split_heads"), SPLIT], 0, "filled in"),
        ([SPLIT, SPLIT], 0, "all alike"),
        ([SPLIT, SPLIT + " * 2"], 1, "the last"),
        ([SPLIT + " * 2", stub("03.split_heads"), SPLIT], 2, "the last"),
    ],
)
def test_copies_of_a_cell(tmp_path, sources, taken, said):
    cells = [cell(source, "03.split_heads") for source in sources]
    for between in ([], [check("03.split_heads")]):
        folder = tmp_path / str(len(between))
        spread = [c for one in cells for c in (one, *between)]
        put(folder / "anna" / f"{STEM}.ipynb", notebook(*spread, check("03.split_heads")))
        answer = only(folder).answers["03.split_heads"]
        assert answer.source == sources[taken]
        assert len(answer.oddities) == 1
        assert said in answer.oddities[0]


def test_a_value_that_was_filled_in_is_preferred_to_the_blank(tmp_path):
    for name, order in (("a", (0, 1)), ("b", (1, 0))):
        cells = [cell("shapes = 3", "03.shapes"), cell("shapes = ...  # your answer", "03.shapes")]
        put(tmp_path / name / f"{STEM}.ipynb", notebook(*(cells[i] for i in order)))
    assert {s.answers["03.shapes"].source for s in read(tmp_path).values()} == {"shapes = 3"}


def test_both_halves_of_a_cell_that_jupyter_split(tmp_path):
    submission = one_notebook(
        tmp_path,
        cell("def helper(x):\n    return x", "03.split_heads"),
        cell("a look at it", kind="markdown"),
        cell("def split_heads(x, num_heads):\n    y = helper(x)", "03.split_heads"),
        cell("    return y", "03.split_heads"),
        check("03.split_heads"),
    )
    assert submission.answers["03.split_heads"].source == (
        "def helper(x):\n    return x\n\n"
        "def split_heads(x, num_heads):\n    y = helper(x)\n\n    return y"
    )
    assert "its cell was split: 3 cells were joined" in all_text(submission)


def test_unmarked_cells_before_the_check_belong_to_the_answer(tmp_path):
    submission = one_notebook(
        tmp_path,
        cell("def helper(x):\n    return x", "03.split_heads"),
        cell("%timeit helper(1)\n# nothing"),
        cell(SPLIT),
        check("03.split_heads"),
        cell("after = 1"),
    )
    answer = submission.answers["03.split_heads"]
    assert answer.source == "def helper(x):\n    return x\n\n" + SPLIT
    assert answer.oddities == ("1 unmarked cell between its cell and its check was taken with it",)
    assert submission.extras == ("%timeit helper(1)\n# nothing", "after = 1")


def test_cells_are_not_appended_across_another_exercise(tmp_path):
    submission = one_notebook(
        tmp_path,
        cell("shapes = 1", "03.shapes"),
        cell("loose = 1"),
        cell("cost = 1", "03.cost"),
        check("03.cost"),
        check("03.shapes"),
    )
    assert submission.answers["03.shapes"].source == "shapes = 1"
    assert submission.extras == ("loose = 1",)


def test_deleted_reordered_unknown_and_no_longer_code(tmp_path):
    submission = one_notebook(
        tmp_path,
        cell("cost = 1", "03.cost"),
        check("03.cost"),
        cell("shapes = 1", "03.shapes"),
        cell(SPLIT, "03.split_heads", kind="raw"),
        cell("x = 1", "03.no_such"),
        cell("x = 1", exercise={"id": ["?"]}),
        cell("x = 1", exercise="?"),
    )
    assert list(submission.answers) == ["03.shapes", "03.cost"]
    for line in (
        "no cell answers 03.split_heads, 03.merge_heads",
        "the check was deleted of 03.shapes",
        "the exercises stand in another order: 03.cost, 03.shapes",
        "03.split_heads: a cell marked with this id is no code cell",
        "it has exercises that the course does not have: 03.no_such",
        "a cell is marked as an exercise without a proper id (2 times)",
    ):
        assert line in submission.oddities


def test_a_single_cell_of_another_chapter_is_named(tmp_path):
    ids = {3: IDS[3], 4: ("04.a", "04.b", "04.gelu")}
    put(tmp_path / "anna" / f"{STEM}.ipynb", notebook(*chapter()["cells"], cell("x", "04.gelu")))
    (submission,) = collect(tmp_path, ids).submissions
    assert "exercises of another chapter do not count: 04.gelu" in submission.oddities


def test_a_notebook_without_the_chapters_cells(tmp_path):
    submission = one_notebook(tmp_path, cell("x = 1"))
    assert (submission.answers, submission.refused) == ({}, None)
    assert submission.oddities == ("it has no cell of this chapter's exercises",)


def test_what_editors_do_to_text(tmp_path):
    given = chapter(split_heads=SPLIT.replace("\n", "\r\n"), shapes="s = '\ud83d\ude00 \ud800'")
    given["cells"][-2]["source"] = ["a = 1\n", "b = 2"]
    put(tmp_path / "anna" / f"{STEM}.ipynb", b"\xef\xbb\xbf" + as_bytes(given))
    submission = only(tmp_path)
    assert submission.answers["03.split_heads"].source == SPLIT
    assert submission.answers["03.cost"].source == "a = 1\nb = 2"
    assert submission.answers["03.shapes"].source.encode() == "s = '😀 \ufffd'".encode()
    assert "a cell holds half characters, which were replaced" in submission.oddities
    put(tmp_path / "ben" / f"{STEM}.md", "\ufeff" + markdown().replace("\n", "\r\n"))
    assert len(read(tmp_path)["ben", 3].answers) == 4


def test_nbformat_3(tmp_path):
    old = {"cell_type": "code", "input": SPLIT, "language": "python", "metadata": {}}
    old["metadata"]["exercise"] = {"id": "03.split_heads"}
    sheets = [{"cells": [old, {"cell_type": "heading", "source": "x"}]}, {"cells": 3}, None]
    put(tmp_path / "anna" / f"{STEM}.ipynb", {"nbformat": 3, "worksheets": sheets})
    assert only(tmp_path).answers["03.split_heads"].source == SPLIT


def test_cells_that_are_none_are_said_and_skipped(tmp_path):
    odd = [None, 3, [], {}, cell(None), cell([1]), cell({"a": 1}), cell("x = '\0'")]
    odd += [cell("y", cell_metadata=1), {"cell_type": "code", "source": "z", "metadata": []}]
    submission = one_notebook(tmp_path, *odd, *chapter()["cells"])
    assert len(submission.answers) == 4
    assert "a cell that is no cell was left out (3 times)" in submission.oddities
    assert "a cell whose source is no text was left out (3 times)" in submission.oddities
    assert "a cell holds NUL characters, which Python cannot read" in submission.oddities


def test_limits_of_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MAX_EXTRAS", 1_000)
    large = "x = 1\n" * 40_000
    given = chapter(shapes=large, split_heads="é" * 150_000)
    given["cells"] += [cell(large), cell("y" * 900), cell("z" * 900)]
    put(tmp_path / "anna" / f"{STEM}.ipynb", given)
    submission = only(tmp_path)
    assert list(submission.answers) == ["03.merge_heads", "03.cost"]
    assert "03.shapes: a cell of more than 200 kB was left out" in submission.oddities
    assert "a cell with more than 200 kB was left out" in submission.oddities
    assert submission.extras == ("import torch", "y" * 900)
    many = notebook(*[cell("1")] * 2001)
    put(tmp_path / "anna" / f"{STEM}.ipynb", many)
    assert only(tmp_path).refused == "has 2001 cells, more than 2000"


# Refusals


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", r"is no notebook: it is no JSON \(line 1\)"),
        (b"[" * 200_000, "nested too deeply|is no notebook"),
        (b'{"cells":' + b"[" * 300_000 + b"]" * 300_000 + b"}", "nested too deeply"),
        (b'{"cells":' + b'{"a":' * 300_000 + b"1" + b"}" * 300_001, "nested too deeply"),
        (b"[" + b"[]," * 1_000_001 + b"1]", "more than 1000000 lists"),
        (b'{"cells": 1' + b"1" * 5000 + b"}", "is no"),
        (b"[]", "has no list of cells"),
        (b'{"cells": {}}', "has no list of cells"),
        (b"null", "has no list of cells"),
        (as_bytes(chapter()) + b"\0", "NUL bytes"),
        (as_bytes(chapter()).replace(b"shapes", b"sh\xffpes"), r"no UTF-8 text \(byte"),
        (json.dumps(chapter()).encode("utf-16"), "no UTF-8"),
        (b"x" * 20_000_001, "is larger than 20 MB"),
    ],
    ids=range(15),
)
def test_a_file_that_is_no_notebook_is_refused_with_a_reason(tmp_path, content, reason):
    put(tmp_path / "anna" / f"{STEM}.ipynb", content)
    put(tmp_path / "ben" / f"{STEM}.ipynb", chapter())
    found = read(tmp_path)
    assert re.search(reason, found["anna", 3].refused)
    assert (found["anna", 3].answers, found["anna", 3].extras) == ({}, ())
    assert len(found["ben", 3].answers) == 4


def test_a_large_output_is_read_up_to_the_limit(tmp_path):
    given = chapter()
    given["cells"][1]["outputs"] = [{"output_type": "stream", "text": "y" * 15_000_000}]
    put(tmp_path / "anna" / f"{STEM}.ipynb", given)
    assert len(only(tmp_path).answers) == 4


def test_prose_in_markdown_is_no_notebook(tmp_path):
    put(tmp_path / "anna" / f"{STEM}.md", "# Notes\n\n```python\nx = 1\n```\n")
    put(tmp_path / "ben" / "README.md", "# Notes")
    collected = collect(tmp_path, IDS)
    assert [s.refused for s in collected.submissions] == ["is no notebook: it has no code cell"]
    assert "ben/README.md: is no notebook: it has no code cell" in collected.oddities


def test_markdown_that_makes_other_readers_slow_is_read_in_one_pass(tmp_path):
    put(tmp_path / "anna" / f"{STEM}.md", "```{code-cell}\n" * 400_000)
    assert "kB was left out" in all_text(only(tmp_path))
    put(tmp_path / "anna" / f"{STEM}.md", ("`" * 60 + "\n" + "~" * 60 + "\n") * 50_000)
    assert only(tmp_path).refused == "is no notebook: it has no code cell"
    hostile = "check" * 5 + " " * 150_000 + "check(" + " " * 20_000
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter(shapes=hostile), NOON.replace(hour=15))
    assert len(only(tmp_path).answers) == 4


@pytest.fixture
def opened(monkeypatch):
    """The names that were given to ``os.open``."""
    names = []
    real = os.open

    def recording(path, *args, **options):
        names.append(os.fspath(path))
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", recording)
    return names


def canary(folder):
    """A file and a folder that must never be read."""
    put(folder / "outside" / f"{STEM}.ipynb", chapter(shapes=CANARY))
    put(folder / "outside.zip", zipped({f"{STEM}.ipynb": chapter(shapes=CANARY)}))
    return folder / "outside"


def test_links_are_refused_and_never_opened(tmp_path, opened):
    outside = canary(tmp_path)
    folder = tmp_path / "in"
    put(folder / "ben" / f"{STEM}.ipynb", chapter())
    (folder / "anna").mkdir()
    (folder / "anna" / f"{STEM}.ipynb").symlink_to(outside / f"{STEM}.ipynb")
    (folder / "anna" / "deep").symlink_to(outside)
    (folder / "anna" / "work.zip").symlink_to(tmp_path / "outside.zip")
    (folder / "cleo").symlink_to(outside)
    (folder / f"dora_{STEM}.ipynb").symlink_to("/dev/zero")
    (folder / f"emre_{STEM}.ipynb").symlink_to("nowhere")
    collected = collect(folder, IDS)
    found = {s.student: s for s in collected.submissions}
    assert sorted(found) == ["anna", "ben", "dora", "emre"]
    for student in ("anna", "dora", "emre"):
        assert found[student].refused == "is a symbolic link, which is not followed"
    assert "cleo: is a symbolic link, which is not followed" in collected.oddities
    assert "anna/deep: is a symbolic link, which is not followed" in collected.oddities
    assert CANARY not in repr(collected)
    linked = {"deep", "work.zip", "cleo", f"dora_{STEM}.ipynb", f"emre_{STEM}.ipynb"}
    assert not linked & set(opened)
    assert opened.count(f"{STEM}.ipynb") == 1


def test_a_link_that_takes_a_files_place_is_not_followed(tmp_path, monkeypatch):
    outside = canary(tmp_path)
    folder = tmp_path / "in"
    put(folder / "anna" / f"{STEM}.ipynb", chapter())
    put(folder / "ben" / f"{STEM}.ipynb", chapter())
    walk = submissions._Disk.walk

    def swapping(disk):
        items = walk(disk)
        (folder / "anna" / f"{STEM}.ipynb").unlink()
        (folder / "anna" / f"{STEM}.ipynb").symlink_to(outside / f"{STEM}.ipynb")
        (folder / "ben").rename(tmp_path / "gone")
        (folder / "ben").symlink_to(outside)
        return items

    monkeypatch.setattr(submissions._Disk, "walk", swapping)
    collected = collect(folder, IDS)
    assert all("cannot be read" in s.refused for s in collected.submissions)
    assert len(collected.submissions) == 2
    assert CANARY not in repr(collected)


def test_pipes_sockets_and_devices_are_refused_and_never_opened(tmp_path, opened):
    put(tmp_path / "ben" / f"{STEM}.ipynb", chapter())
    (tmp_path / "anna").mkdir()
    os.mkfifo(tmp_path / "anna" / f"{STEM}.ipynb")
    os.mkfifo(tmp_path / "anna" / "work.zip")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.chdir(tmp_path):
        (tmp_path / "cleo").mkdir()
        listener.bind(f"cleo/{STEM}.md")
        found = read(tmp_path)
    assert found["anna", 3].refused == "is a device, pipe or socket and no file"
    assert found["cleo", 3].refused == "is a device, pipe or socket and no file"
    assert opened.count(f"{STEM}.ipynb") == 1
    assert "work.zip" not in opened


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter()).chmod(0)
    assert only(tmp_path).refused == "cannot be read: Permission denied"


def test_folders_are_entered_to_a_bounded_depth(tmp_path):
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter())
    put(tmp_path.joinpath("anna", *["d"] * 20, f"{STEM}.ipynb"), chapter(shapes="deep"))
    collected = collect(tmp_path, IDS)
    assert collected.submissions[0].attempts == 1
    assert any("lies more than 12 folders deep" in line for line in collected.oddities)


def in_a_zip(tmp_path, data, name="anna.zip"):
    put(tmp_path / "ben" / f"{STEM}.ipynb", chapter())
    put(tmp_path / name, data)
    collected = collect(tmp_path, IDS)
    assert len({s.student: s for s in collected.submissions}["ben"].answers) == 4
    anna = [s for s in collected.submissions if s.student == "anna"]
    return anna, "\n".join([*collected.oddities, *(s.refused or "" for s in anna)])


@pytest.mark.parametrize(
    "name",
    [
        f"../{STEM}.ipynb",
        f"a/../../ben/{STEM}.ipynb",
        f"/tmp/{STEM}.ipynb",
        f"..\\{STEM}.ipynb",
        f"C:\\{STEM}.ipynb",
        f"c:/{STEM}.ipynb",
    ],
)
@pytest.mark.parametrize("archive", ["anna.zip", "class.zip"])
def test_a_name_that_leads_out_of_its_zip_is_refused(tmp_path, name, archive):
    before = sorted(tmp_path.rglob("*"))
    anna, text = in_a_zip(tmp_path, zipped({name: chapter(shapes=CANARY)}), archive)
    assert "has a name that leads out of its zip" in text
    assert all(not s.answers for s in anna)
    assert len(sorted(tmp_path.rglob("*"))) == len(before) + 3, "nothing was unpacked"


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    _, text = in_a_zip(tmp_path, zipped({f"{STEM}.ipynb": b"0" * 15_000_000}))
    assert "as a zip bomb is" in text
    _, text = in_a_zip(tmp_path, zipped({f"{STEM}.ipynb": b"0" * 25_000_000}))
    assert "is larger than 20 MB" in text


def test_a_size_that_lies_is_found_out(tmp_path):
    data = bytearray(zipped({f"{STEM}.ipynb": b"0" * 15_000_000}))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 100_000)
    anna, text = in_a_zip(tmp_path, bytes(data))
    assert "is damaged" in text
    assert anna[0].answers == {}


def test_what_a_students_zips_may_unpack_to_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MAX_UNZIPPED", 100_000)
    names = [f"{STEM} ({n}).ipynb" for n in range(5)]
    padded = [as_bytes(chapter()) + b" " * 30_000 for _ in names]
    put(tmp_path / "anna.zip", zipped(dict(zip(names, padded, strict=True))))
    put(tmp_path / "ben.zip", zipped({names[0]: padded[0]}))
    found = read(tmp_path)
    assert len(found["ben", 3].answers) == 4
    assert found["anna", 3].attempts == 5
    assert sum("the zips of one student" in line for line in found["anna", 3].oddities) == 2


def test_a_zip_with_too_many_entries(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MAX_ZIP_ENTRIES", 50)
    _, text = in_a_zip(tmp_path, zipped({f"{n}.txt": "" for n in range(51)}))
    assert "anna.zip: holds more than 50 files" in text
    inner = zipped({f"{n}.txt": "" for n in range(40)} | {f"{STEM}.ipynb": chapter()})
    anna, _ = in_a_zip(tmp_path, inner)
    assert len(anna[0].answers) == 4


def test_the_number_of_a_students_files_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MAX_FILES", 5)
    put(tmp_path / "anna.zip", zipped({f"{STEM} ({n}).ipynb": chapter() for n in range(9)}))
    put(tmp_path / "ben" / "x.zip", zipped({"y.zip": zipped({f"{n}": "" for n in range(6)})}))
    anna, text = in_a_zip(tmp_path, (tmp_path / "anna.zip").read_bytes())
    assert anna[0].attempts == 5
    assert "anna: only 5 notebooks and zips were read" in text
    assert "ben/x.zip!y.zip: holds more than 5 files" in text


def test_names_that_make_patterns_slow_are_read_at_once(tmp_path):
    long = (" ", "_", "3 ", "_1", "(", "copy ", "a_attempt_", "03_")
    names = [f"{n}{part * 900}"[:900] for part in long for n in range(40)]
    in_a_zip(tmp_path, zipped({f"{name}x.ipynb": b"" for name in names}), "class.zip")


def test_encrypted_entries_links_and_other_methods_are_refused(tmp_path):
    data = bytearray(zipped({f"{STEM}.ipynb": chapter()}))
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    anna, _ = in_a_zip(tmp_path, bytes(data))
    assert anna[0].refused == "is encrypted"
    link = zipfile.ZipInfo(f"{STEM}.ipynb")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    anna, _ = in_a_zip(tmp_path, zipped([(link, "/etc/passwd")]))
    assert anna[0].refused == "is a link or device in its zip and no file"
    anna, _ = in_a_zip(tmp_path, zipped({f"{STEM}.ipynb": chapter()}, method=zipfile.ZIP_BZIP2))
    assert anna[0].refused == "is packed in a way other than deflate"


def test_zips_within_zips_go_one_level_deep(tmp_path):
    level = zipped({f"{STEM}.ipynb": chapter()})
    anna, _ = in_a_zip(tmp_path, zipped({"a.zip": level}))
    assert len(anna[0].answers) == 4
    anna, text = in_a_zip(tmp_path, zipped({"a.zip": zipped({"b.zip": level})}))
    assert anna == []
    assert "anna.zip!a.zip!b.zip: is a zip in a zip in a zip" in text


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"no zip", b"PK\x03\x04" + b"\xff" * 100])
def test_a_damaged_zip_is_an_oddity(tmp_path, data):
    anna, text = in_a_zip(tmp_path, data)
    assert anna == []
    assert "anna.zip: is damaged, or no zip at all" in text
    anna, _ = in_a_zip(tmp_path, data, f"anna_{STEM}.zip")
    assert anna[0].refused == "is damaged, or no zip at all"


def test_entries_named_alike_and_as_file_and_folder(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = zipped([(f"{STEM}.ipynb", chapter())] * 2 + [("x", "y"), ("x/z.ipynb", chapter(4))])
    for name in ("anna.zip", "class.zip", "anna_3_4_x.zip"):
        put(tmp_path / name, data)
    found = read(tmp_path)
    assert found["anna", 3].attempts == 4
    assert len(found["anna", 4].answers) == 2


def test_names_that_macos_writes(tmp_path):
    data = zipped({"Zoe\u0308_1_assignsubmission_file_/03_multi_head_attention.ipynb": chapter()})
    at = data.rindex(b"PK\x01\x02")
    plain = bytearray(data)
    plain[6:8] = plain[at + 8 : at + 10] = b"\0\0"  # it does not say that the name is UTF-8
    put(tmp_path / "export.zip", bytes(plain))
    assert only(tmp_path).student == "Zoë"


def test_a_flood_of_oddities_is_cut(tmp_path):
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter())
    for number in range(100):
        (tmp_path / "anna" / f"x{number:03d}").symlink_to("y")
    lines = collect(tmp_path, IDS).oddities
    assert len(lines) == 21
    assert lines[-1] == "anna: and 80 more lines like these"


def test_nothing_is_parsed_as_python_or_unpickled(tmp_path, monkeypatch):
    hostile = "(" * 90_000 + "x" + ")" * 90_000
    put(tmp_path / "anna" / f"{STEM}.ipynb", chapter(shapes=hostile))
    put(tmp_path / "ben.zip", zipped({f"{STEM}.ipynb": chapter(shapes="-" * 100_000 + "1")}))

    def refuse(*args, **options):
        raise AssertionError("a submission is data")

    with monkeypatch.context() as patch:
        for module, name in ((ast, "parse"), (pickle, "loads"), (pickle, "load")):
            patch.setattr(module, name, refuse)
        for name in ("extract", "extractall"):
            patch.setattr(zipfile.ZipFile, name, refuse)
        found = read(tmp_path)
    assert found["anna", 3].answers["03.shapes"].source == hostile


# Anything at all

NAMES = st.sampled_from(
    [
        f"anna/{STEM}.ipynb",
        f"anna/{STEM}.md",
        "anna/work.zip",
        f"anna_{STEM} (1).ipynb",
        "class.zip",
        f"Anna_1_assignsubmission_file_/{STEM}.ipynb",
        f"nowak_12_34_{STEM}-2.ipynb",
        "submitted/anna/ps/timestamp.txt",
        "anna/x.ipynb.txt",
    ]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["code", "03.shapes", "03.cost", 'check("03.shapes", x)', "markdown"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["cells", "source", "input", "cell_type", "metadata", "exercise", "id", "nbgrader",
             "grade_id", "worksheets"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=25,
)  # fmt: skip
WHOLE = {
    "ipynb": as_bytes(chapter(split_heads=SPLIT)),
    "md": as_bytes(markdown(split_heads=SPLIT)),
    "zip": zipped({f"{STEM}.ipynb": chapter(), f"../outside/{STEM}.ipynb": "x"}),
}


def survives(files):
    """Whatever the files hold, the other student is read, and nothing outside the folder is."""
    with tempfile.TemporaryDirectory() as where:
        outside = canary(Path(where))
        folder = Path(where) / "in"
        put(folder / "zoe" / f"{STEM}.ipynb", chapter())
        (folder / "link").symlink_to(outside)
        (folder / f"link_{STEM}.ipynb").symlink_to(outside / f"{STEM}.ipynb")
        for name, content in files.items():
            put(folder / name, content)
        collected = collect(folder, IDS)
        assert CANARY not in repr(collected)
        for s in collected.submissions:
            assert s.chapter in IDS
            assert set(s.answers) <= set(IDS[s.chapter])
            assert 1 <= s.attempt <= s.attempts
            assert s.refused is None or not s.answers
            sources = [a.source for a in s.answers.values()]
            assert "".join([s.name, s.file, *s.oddities, *s.extras, *sources]).encode() is not None
        zoe = {s.student: s for s in collected.submissions}["zoe"]
        assert len(zoe.answers) == 4
        return collected


@settings(max_examples=50)
@given(st.dictionaries(NAMES, st.binary(max_size=300), max_size=4))
@example({"anna/work.zip": b"PK\x05\x06" + b"\0" * 18})
@example({f"anna/{STEM}.ipynb": b'{"cells": [' * 2000})
def test_files_of_any_bytes(files):
    survives(files)


@settings(max_examples=50)
@given(st.dictionaries(NAMES, JSON, max_size=3))
def test_files_of_any_json(files):
    survives({name: json.dumps(value) for name, value in files.items()})


@settings(max_examples=50)
@given(st.lists(JSON, max_size=6), st.integers(0, 9))
def test_notebooks_with_cells_of_any_json(cells, place):
    given = chapter()
    given["cells"][place:place] = cells
    survives({f"anna/{STEM}.ipynb": given})


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(WHOLE)),
    st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=3), st.integers(0, 3)), max_size=6),
    st.none() | st.integers(0, 5000),
)
def test_files_that_were_damaged(kind, edits, cut):
    data = WHOLE[kind]
    for at, new, dropped in edits:
        at %= len(data) + 1
        data = data[:at] + new + data[at + dropped :]
    survives({f"anna/{STEM}.{kind}": data[:cut]})


CELLS = st.builds(
    cell,
    st.sampled_from(
        ["", "shapes = 1", "shapes = ...", SPLIT, "    return 1", "%time", 'check("03.shapes", 1)',
         'check("03.cost", 1)\ncost = 1', "x = 1\n\n", stub("03.split_heads")]
    ),
    st.sampled_from([None, *IDS[3], "04.gelu", "99.none"]),
    st.sampled_from(["code", "code", "code", "markdown", "raw"]),
)  # fmt: skip


@settings(max_examples=100)
@given(st.lists(CELLS, max_size=12))
def test_cells_in_any_order_number_and_marking(cells):
    collected = survives({f"anna/{STEM}.ipynb": notebook(*cells)})
    for submission in (s for s in collected.submissions if s.student == "anna"):
        taken = [part for a in submission.answers.values() for part in a.source.split("\n\n")]
        given_lines = {line for c in cells for line in c["source"].split("\n")}
        assert {line for part in taken for line in part.split("\n")} <= given_lines
        for identifier, answer in submission.answers.items():
            marked = [c for c in cells if c["metadata"].get("exercise", {}).get("id") == identifier]
            code = [c for c in marked if c["cell_type"] == "code"]
            checked = [c for c in cells if f'check("{identifier}"' in c["source"]]
            assert code or checked
            if len(code) == 1 and code[0]["source"].strip():
                assert code[0]["source"].strip("\n") in answer.source
