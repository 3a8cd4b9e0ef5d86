"""solutions/ -> exercises/: what a learner gets, what is hidden, and which pages are refused."""

import json

import nbformat
import pytest
from click.testing import CliRunner

pytest.importorskip("jupytext")

from course_pkg.authoring import exercises, formats, notebooks
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

"""
IMPLEMENT = """## Split the heads

Write `split_heads`.

```python
## this comment is no heading
```

```{code-cell} ipython3
---
tags: [exercise]
exercise: {id: "03.split_heads", points: 2, kind: implement}
---
def split_heads(x, num_heads):
    \"\"\"(B, T, D) -> (B, H, T, Dh)\"\"\"
    ### BEGIN SOLUTION
    batch, tokens, width = x.shape
    return x.view(batch, tokens, num_heads, width // num_heads).transpose(1, 2)
    ### END SOLUTION
```

```{code-cell} ipython3
:tags: [check]

check("03.split_heads", split_heads)
```

+++ {"tags": ["solution"]}

The view cannot move an axis, the transpose can.

```{code-cell} ipython3
:tags: [solution]

print(split_heads(torch.zeros(1, 2, 4), 2).shape)
```

+++

"""
PREDICT = """## How many weights?

Count them.

```{code-cell} ipython3
---
tags: [exercise]
exercise: {id: "03.count", points: 1, kind: predict}
---
### BEGIN SOLUTION
per_head = 4 * 768
answer = 12 * per_head
### END SOLUTION
```

```{code-cell} ipython3
:tags: [check]

check("03.count", answer)
```

"""
TITLE = (
    "# Solutions: Multi-head attention\n\nSet-up:\n\n```{code-cell} ipython3\nimport math\n```\n\n"
)


@pytest.fixture
def solutions(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "solutions").mkdir()

    def write(text, stem="03_heads"):
        path = tmp_path / "solutions" / f"{stem}.md"
        path.write_text(HEADER + text, encoding="utf-8")
        return path

    return write


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def test_a_learner_gets_prompt_stub_and_check_and_nothing_of_the_solution(solutions):
    page = exercises.read_solutions(solutions(TITLE + IMPLEMENT + PREDICT))
    text = "\n".join(sources(exercises.student_notebook(page)))
    assert 'raise NotImplementedError("03.split_heads")' in text
    assert "answer = ...  # your answer" in text
    assert 'check("03.split_heads", split_heads)' in text
    assert "## this comment is no heading" in text
    for hidden in ("transpose", "per_head", "768", "SOLUTION", "cannot move", "print(split"):
        assert hidden not in text


def test_the_stub_keeps_signature_and_docstring_and_raises_when_called(solutions):
    page = exercises.read_solutions(solutions(TITLE + IMPLEMENT))
    scope = {}
    exec(page.exercises[0].stub, scope)
    assert scope["split_heads"].__doc__ == "(B, T, D) -> (B, H, T, Dh)"
    with pytest.raises(NotImplementedError, match=r"03\.split_heads"):
        scope["split_heads"](None, 2)


def test_several_regions_each_become_a_stub_at_their_own_indentation(solutions):
    two = IMPLEMENT.replace(
        "    ### END SOLUTION\n",
        "    ### END SOLUTION\n\n\nclass Merge:\n    def forward(self, x):\n"
        "        ### BEGIN SOLUTION\n        return x.flatten(2)\n        ### END SOLUTION\n",
        1,
    )
    stub = exercises.read_solutions(solutions(TITLE + two)).exercises[0].stub
    lines = [line for line in stub.splitlines() if "NotImplementedError" in line]
    assert [len(line) - len(line.lstrip()) for line in lines] == [4, 8]


def test_solutions_and_exercises_have_the_same_numbered_headings(solutions):
    page = exercises.read_solutions(solutions(TITLE + IMPLEMENT + PREDICT))
    wanted = [
        "## Exercise 3.1 · Split the heads (implement, 2 points)",
        "## Exercise 3.2 · How many weights? (predict, 1 point)",
    ]
    for notebook in (exercises.student_notebook(page), exercises.solution_notebook(page)):
        firsts = [source.splitlines()[0] for source in sources(notebook)]
        assert [first for first in firsts if first.startswith("## ")] == wanted


def test_the_solution_notebook_keeps_every_cell(solutions):
    path = solutions(TITLE + IMPLEMENT + PREDICT)
    given = [cell.source for cell in formats.read(path).cells if cell.cell_type == "code"]
    built = [cell.source for cell in notebooks.build(path).cells if cell.cell_type == "code"]
    assert built == given


def test_a_chapter_lists_its_exercises_where_it_says_so(solutions, tmp_path):
    solutions(TITLE + IMPLEMENT + PREDICT)
    chapter = tmp_path / "book" / "03_heads.md"
    chapter.write_text(HEADER + "# Heads\n\nText.\n\n<!-- exercises -->\n", encoding="utf-8")
    (cell,) = notebooks.build(chapter).cells
    assert cell.source.count("{admonition} Exercise 3.") == 2
    assert ":name: ex-03-split-heads" in cell.source
    assert "](../exercises/03_heads.ipynb#exercise-31--split-the-heads-implement-2-points)" in (
        cell.source
    )
    assert "<!-- exercises -->" not in cell.source
    assert "transpose" not in cell.source
    # The prompt holds a fence of three, so its box is fenced with four.
    assert "\n````{admonition}" in "\n" + cell.source


def test_generated_files_have_no_outputs_and_nothing_that_pairs_them(solutions, tmp_path):
    solutions(TITLE + IMPLEMENT)
    exercises.write(tmp_path)
    markdown = (tmp_path / "exercises" / "03_heads.md").read_text(encoding="utf-8")
    raw = (tmp_path / "exercises" / "03_heads.ipynb").read_text(encoding="utf-8")
    notebook = json.loads(raw)
    assert "formats" not in markdown.split("---")[1]
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    read_back = formats.read(tmp_path / "exercises" / "03_heads.md")
    assert notebooks.difference(read_back, nbformat.reads(raw, as_version=4)) is None


def test_writing_twice_changes_nothing_and_check_sees_every_kind_of_drift(solutions, tmp_path):
    path = solutions(TITLE + IMPLEMENT)
    assert len(exercises.write(tmp_path)) == 2
    assert exercises.write(tmp_path) == []
    made = tmp_path / "exercises" / "03_heads.md"
    made.write_text(made.read_text(encoding="utf-8") + "\nby hand\n", encoding="utf-8")
    assert exercises.outdated(tmp_path) == [made]
    exercises.write(tmp_path)
    stale = tmp_path / "exercises" / "04_gone.md"
    stale.write_text("old", encoding="utf-8")
    assert exercises.outdated(tmp_path) == [stale]
    exercises.write(tmp_path)
    assert not stale.exists()
    path.write_text(path.read_text(encoding="utf-8").replace("Write `", "Do `"), encoding="utf-8")
    assert len(exercises.outdated(tmp_path)) == 2


def test_work_in_a_notebook_is_not_overwritten_unless_forced(solutions, tmp_path):
    path = solutions(TITLE + IMPLEMENT)
    exercises.write(tmp_path)
    made = tmp_path / "exercises" / "03_heads.ipynb"
    notebook = nbformat.read(made, as_version=4)
    notebook.cells[1 + [c.cell_type for c in notebook.cells[1:]].index("code")].execution_count = 1
    nbformat.write(notebook, made)
    mine = made.read_text(encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace("Write `", "Do `"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"exercises/03_heads\.ipynb has been run"):
        exercises.write(tmp_path)
    assert made.read_text(encoding="utf-8") == mine
    exercises.write(tmp_path, force=True)
    assert exercises.outdated(tmp_path) == []


def test_a_solution_that_another_exercise_gives_away_stops_the_generation(solutions, tmp_path):
    given = PREDICT.replace(
        "Count them.\n",
        "Count them.\n\n```{code-cell} ipython3\nx = x.view(1)\n"
        "    return x.view(batch, tokens, num_heads, width // num_heads).transpose(1, 2)\n```\n",
    )
    solutions(TITLE + IMPLEMENT + given)
    with pytest.raises(ValueError, match=r"would show a solution: 03\.split_heads: return x\.view"):
        exercises.write(tmp_path)
    assert not (tmp_path / "exercises").exists()


def test_a_debug_exercise_may_share_lines_with_the_faulty_code_it_shows(solutions):
    faulty = "return x.view(batch, tokens, num_heads, width // num_heads).transpose(1, 2)"
    text = IMPLEMENT.replace("Write `split_heads`.", f"What is wrong?\n\n```\n{faulty}\n```")
    for kind, count in (("debug", 0), ("implement", 1)):
        page = exercises.read_solutions(solutions(TITLE + text.replace("implement}", f"{kind}}}")))
        learners = "\n".join(sources(exercises.student_notebook(page)))
        assert len(exercises.leaks(page, learners)) == count


def test_leaks_are_found_when_a_region_was_not_cut(solutions):
    page = exercises.read_solutions(solutions(TITLE + IMPLEMENT))
    uncut = "\n".join(sources(exercises.solution_notebook(page)))
    found = exercises.leaks(page, uncut)
    assert any("transpose(1, 2)" in line for line in found)
    assert any("cannot move an axis" in line for line in found)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("# Solutions: Multi", "# Multi", "first line must be"),
        ("03.split_heads", "04.split_heads", "must look like '03"),
        ("points: 2", "points: 0", "points=0"),
        ("points: 2", "point: 2", "Did you mean 'points'"),
        ("kind: implement", "kind: implemnt", "Did you mean 'implement'"),
        ("    ### END SOLUTION", "", "line 3 has no partner"),
        ("    ### BEGIN SOLUTION", "", "has no partner"),
        ("Write `split_heads`.", "### A heading", "holds no headings"),
        (":tags: [check]", ":tags: [hide-input]", "no cell tagged 'check'"),
        ("tags: [exercise]", "tags: [exercice]", "Did you mean 'exercise'"),
        ("tags: [exercise]", "tags: [hide-input]", "lacks the tag 'exercise'"),
        (":tags: [solution]", ":tag: [solution]", "Did you mean 'tags'"),
        ("can.\n", "can.\n\n## Next\n", "inside a solution cell"),
        ("def split_heads(x, num_heads):", "class Split:", "must lie in a function"),
    ],
)
def test_a_page_that_breaks_the_format_is_refused_with_a_reason(solutions, before, after, message):
    text = TITLE + IMPLEMENT
    assert before in text
    with pytest.raises(ValueError, match=message):
        exercises.read_solutions(solutions(text.replace(before, after)))


def test_an_id_used_twice_is_refused(solutions):
    with pytest.raises(ValueError, match=r"'03\.split_heads' is used twice"):
        exercises.read_solutions(solutions(TITLE + IMPLEMENT + IMPLEMENT))


def test_a_region_at_the_top_must_assign_a_name_that_is_checked(solutions):
    with pytest.raises(ValueError, match="must assign a name that is checked"):
        exercises.read_solutions(
            solutions(TITLE + PREDICT.replace('"03.count", answer', '"03.count", 3'))
        )


def test_the_command_line_makes_checks_and_reports(solutions, tmp_path):
    solutions(TITLE + IMPLEMENT)
    run = CliRunner().invoke
    root = ["--root", str(tmp_path)]
    assert run(main, [*root, "exercises", "--check"]).exit_code == 1
    assert run(main, [*root, "exercises"]).exit_code == 0
    assert run(main, [*root, "exercises", "--check"]).exit_code == 0
    solutions(TITLE + IMPLEMENT.replace("points: 2", "points: -1"))
    failed = run(main, [*root, "exercises"])
    assert failed.exit_code == 1
    assert "points=-1" in failed.output
    assert "Traceback" not in failed.output
