"""The instructor's commands, as they are typed."""

import csv
import json
from pathlib import Path

import class_of
import pytest
import sandboxes
from click.testing import CliRunner

from course_pkg.cli import course
from course_pkg.grading import sandbox

ROOT = Path(__file__).parents[1]
SPLIT = "03.split_heads"
RIGHT = (
    "def split_heads(x, num_heads):\n    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)"
)


def run(*arguments):
    return CliRunner().invoke(course, [str(argument) for argument in arguments])


def refused(*arguments):
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.output.count("\n") == 1, result.output
    return result.output


def hand_in(folder, student, source):
    (folder / student).mkdir(parents=True, exist_ok=True)
    path = folder / student / "03_multi_head_attention.ipynb"
    path.write_text(json.dumps(class_of.notebook_of(3, {SPLIT: source})))


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    sandboxes.kind()
    folder, out = tmp_path_factory.mktemp("submissions"), tmp_path_factory.mktemp("out") / "grades"
    hand_in(folder, "ada", RIGHT)
    hand_in(folder, "ben", "def split_heads(x, num_heads): return x")
    result = run("grade", folder, "--out", out, "--seed", 1, "--root", ROOT, "--jplag", "--canvas")
    assert result.exit_code == 0, result.output
    return folder, out, result.output


def points(out, student):
    with (out / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {row[next(iter(row))]: row for row in csv.DictReader(file)}
    found = rows[student]
    (column,) = [name for name in found if name.startswith(SPLIT)]
    return float(found[column])


def test_grading_says_what_it_did(graded):
    _, out, said = graded
    assert "sandbox: " in said
    assert "2 students, 1 of 18 exercises passed" in said
    assert f"grades in {out / 'grades.csv'}" in said
    assert (points(out, "ada"), points(out, "ben")) == (2, 0)
    for name in ("grades.json", "manual.csv", "summary.html", "canvas.csv", "feedback/ada.html"):
        assert (out / name).is_file()
    assert RIGHT in (out / "jplag/submissions/ada/chapter_03.py").read_text("utf-8")


def test_one_student_anew_leaves_the_others(graded, tmp_path):
    folder, out, _ = graded
    hand_in(folder, "ben", RIGHT)
    before = json.loads((out / "grades.json").read_text("utf-8"))
    (tmp_path / "before").mkdir()
    (tmp_path / "before/grades.json").write_text(json.dumps(before))
    result = run("grade", folder, "--out", out, "--student", "ben", "--root", ROOT, "--seed", 1)
    assert result.exit_code == 0, result.output
    assert (points(out, "ada"), points(out, "ben")) == (2, 2)
    said = run("grade", "--diff", tmp_path / "before", out).output
    assert "ben" in said
    assert SPLIT in said
    assert "ada" not in said


def test_a_mark_by_hand_counts_on_the_next_report(graded):
    _, out, _ = graded
    text = (out / "manual.csv").read_text("utf-8-sig")
    rows = list(csv.DictReader(text.splitlines()))
    row = next(r for r in rows if r["student"] == "ada" and r["exercise"] == "03.heads")
    row["mark"], row["comment"] = "1.5", "well argued"
    with (out / "manual.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows(rows)
    assert run("report", out).exit_code == 0
    assert "well argued" in (out / "feedback/ada.html").read_text("utf-8")
    again = list(csv.DictReader((out / "manual.csv").read_text("utf-8-sig").splitlines()))
    assert [(r["mark"], r["comment"]) for r in again if r["mark"]] == [("1.5", "well argued")]


def test_late_work_costs_what_the_rules_say(graded, tmp_path):
    _, out, _ = graded
    rules = tmp_path / "rules.toml"
    rules.write_text("[due]\n3 = 2001-01-01T00:00:00Z\n[late]\npercent_per_day = 100\n")
    assert run("report", out, "--late", rules).exit_code == 0
    totals = json.loads((out / "grades.json").read_text("utf-8"))["totals"]
    assert float(totals["ada"]["total"]) == 0
    assert run("report", out).exit_code == 0


def test_verify_tells_what_is_wrong(tmp_path):
    sandboxes.kind()
    text = (ROOT / "solutions/03_multi_head_attention.md").read_text("utf-8")
    wrong = text.replace("return cut.transpose(1, 2)", "return cut")
    assert wrong != text
    (tmp_path / "03_multi_head_attention.md").write_text(wrong, encoding="utf-8")
    result = run("verify", tmp_path)
    assert result.exit_code == 1
    assert f"{SPLIT}: the solution earns 0 of 2 points" in result.output
    assert "8 of 9 exercises" in result.output


def test_release_makes_what_students_get(tmp_path):
    pytest.importorskip("nbgrader")
    result = run("release", "--to", tmp_path / "out", "--root", ROOT, 3)
    assert result.exit_code == 0, result.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "03_multi_head_attention.ipynb",
        "03_multi_head_attention.md",
        "README.md",
        ".release.json",
    }


def test_what_was_typed_is_refused_in_a_line(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    assert "takes a folder of submissions and --out" in refused("grade")
    assert "go together" in refused("grade", "in", "--out", "x", "--executor", "dask")
    roster = tmp_path / "roster.csv"
    roster.touch()
    assert "goes with one of" in refused("grade", "in", "--out", "x", "--roster", roster)
    monkeypatch.setenv("CI", "true")
    unsafe = refused("grade", tmp_path / "in", "--out", tmp_path / "out", "--unsafe")
    assert "not allowed in CI" in unsafe
    assert not (tmp_path / "out").exists()
    assert "is damaged" in _damaged(tmp_path)
    assert "chapter" in refused("release", "--to", tmp_path / "r", "--root", ROOT, 9)


def _damaged(folder):
    (folder / "grades.json").write_text("{}")
    return refused("report", folder).replace("format=None is unknown", "is damaged")


def test_without_a_sandbox_nothing_is_graded(tmp_path, monkeypatch):
    hand_in(tmp_path / "in", "ada", RIGHT)
    monkeypatch.setenv("PATH", "/nonexistent")
    said = refused("grade", tmp_path / "in", "--out", tmp_path / "out", "--root", ROOT)
    assert "Install bubblewrap" in said
    assert not (tmp_path / "out").exists()


def test_ctrl_c_while_a_sandbox_is_looked_for(tmp_path, monkeypatch):
    def interrupt(**_):
        raise KeyboardInterrupt

    hand_in(tmp_path / "in", "ada", RIGHT)
    monkeypatch.setattr(sandbox, "find", interrupt)
    result = run("grade", tmp_path / "in", "--out", tmp_path / "out", "--root", ROOT)
    assert (result.exit_code, result.output.strip()) == (130, "stopped")


def test_unsafe_marks_every_row_and_page(tmp_path, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    hand_in(tmp_path / "in", "ada", RIGHT)
    out = tmp_path / "out"
    result = run("grade", tmp_path / "in", "--out", out, "--root", ROOT, "--unsafe")
    assert result.exit_code == 0, result.output
    assert "WITHOUT A SANDBOX" in result.output
    assert points(out, "ada") == 2
    grades = json.loads((out / "grades.json").read_text("utf-8"))
    assert grades["students"][0]["exercises"][SPLIT]["unsandboxed"] is True
    for page in (out / "grades.csv", out / "summary.html", out / "feedback/ada.html"):
        assert "unsandboxed" in page.read_text("utf-8").lower().replace(
            "without a sandbox", "unsandboxed"
        )
