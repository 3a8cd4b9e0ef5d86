"""The table of stumbling blocks: every place that it names exists and answers the question."""

import re
from pathlib import Path

import pytest

from course_pkg.checks import all_exercises
from course_pkg.cli import course

ROOT = Path(__file__).parent.parent
TABLE = (ROOT / "book" / "stumbling.md").read_text(encoding="utf-8")
PAGES = {path: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("book/*.md"))}
LABEL = re.compile(r"^\((.+)\)=\n+(#+) ", re.MULTILINE)
LINK = re.compile(r"\{ref\}`(?:([^`<]+) <([\w-]+)>|([\w-]+))`")

# What must be answered: the questions of other projects' trackers, each by its number there.
QUESTIONS = {
    "annotated-transformer": {"#118", "#17"},
    "transformer": {"#15"},
    "LLMs-from-scratch": {
        "#60", "#280", "#431", "#1061", "#23", "#944", "PR #495", "PR #975", "PR #697", "PR #925",
        "#852", "#272", "#8", "PR #845", "#312", "PR #519",
    },
    "minbpe": {"#44", "PR #90", "#87"},
    "nanoGPT": {
        "#605", "#340", "#303", "#468", "#554", "#358", "#69", "#149", "#493", "PR #613", "#28",
    },
    "nanochat": {"#400"},
    "build-nanogpt": {"#89"},
    "tiktoken": {"#369", "#513"},
    "gpt-2": {"#30"},
    "ARENA": {"#164"},
    "d2l-en": {"#662", "#2465"},
}  # fmt: skip

# The words of each section without which it would not answer the question.
ANSWERS = {
    "sec-ch1-rank": "apply the merge of the lowest rank",
    "sec-ch1-same-split": "to train with one way of splitting and to encode with another",
    "sec-ch1-spaces": "End a prompt with the last letter",
    "sec-ch1-split": "leading space",
    "sec-ch1-ties": "of equally frequent pairs take the *greatest*",
    "sec-ch1-windows": "With $T + 1$ the first token of each window is never one",
    "sec-ch2-batches": "PyTorch *broadcasts* the mask",
    "sec-ch2-dropout": "So that the *average* over many steps is the weight without dropout",
    "sec-ch2-polarity": "With the mask inverted",
    "sec-ch3-batched": "One mask of shape $(T, T)$ is enough",
    "sec-ch3-merge": "`contiguous()` does that, and `view` works afterwards",
    "sec-ch3-view": "To change the order of axes takes a `transpose`",
    "sec-ch4-dropout": "before the addition: `x + dropout(f(x))`",
    "sec-ch5-tying": "one can be the other without a transposition",
    "sec-ch6-accumulation": "the sum of all losses over the number of all targets",
    "sec-ch6-cache": "With the cache it is $T + n - 1$",
    "sec-ch6-conventions": "sum over all targets / all targets",
    "sec-ch6-curves": "loss good, samples garbage",
    "sec-ch6-doctor": "holds the curves against those of healthy runs",
    "sec-ch6-leak": "*A better loss and worse samples* mean a leak",
    "sec-ch6-overfitting": "a tiny one overfits as soon as the text is tiny too",
    "sec-ch6-resume": "The weights alone are not enough",
    "sec-ch6-sampling": "falls into loops",
    "sec-ch6-stories": "two operating systems, agree on the untrained model",
    "sec-pt-seeds": "A seed does not make two machines agree to the last digit",
    "sec-pt-view": "It never changes the order of the axes",
    "sec-setup-cache": "call `reader.forget()`",
    "sec-setup-compile": "without torch.compile, which failed",
    "sec-setup-digits": "Processors add floating-point numbers in different orders",
    "sec-setup-download": "says what to do without a network",
    "sec-setup-encoding": 'write `open(path, encoding="utf-8")`',
    "sec-setup-mps": "run the same command with `--device cpu`",
    "sec-setup-nan": "a learning rate that is too high",
    "sec-setup-resume": "goes on from the last checkpoint",
    "sec-setup-tiktoken": "gives GPT-2's encoding without a network",
    "sec-setup-wheel": "Install a Python of 64 bits",
    "sec-setup-workers": 'if __name__ == "__main__":',
}
# The end-of-text between files is in the same section as the stride.
ALSO = {"sec-ch1-windows": "Files are treated alike"}


def rows():
    """(question, places, exercises and commands, sources) of each row of each table.

    A table in which no question has an exercise or a command has no column for them.
    """
    made, columns = [], 0
    for line in TABLE.split("\n"):
        if line.startswith("| "):
            cells = tuple(cell.strip() for cell in line[1:-1].split("|"))
            if cells[0] == "What they ask":
                columns = len(cells)
            else:
                made.append((*cells[:2], "", *cells[2:]) if columns == 3 else cells)
    return made


ROWS = rows()
LABELS = {found[1] for text in PAGES.values() for found in LABEL.finditer(text)}
EXERCISES = {exercise.id for exercise in all_exercises()}


def labels_of(cell):
    return [target or label for _, target, label in LINK.findall(cell)]


def section(label):
    """What stands under the heading with this label, in one line."""
    for text in PAGES.values():
        for found in LABEL.finditer(text):
            if found[1] == label:
                rest = text[found.end() :]
                end = re.search(rf"^#{{1,{len(found[2])}}} ", without_code(rest), re.MULTILINE)
                return " ".join(rest[: end.start() if end else None].split())
    raise KeyError(label)


def without_code(text):
    """The same length, with the comments of code no longer looking like headings."""
    return re.sub(r"^```.*?^```", lambda m: m[0].replace("#", "x"), text, flags=re.M | re.S)


def test_the_table_has_rows_and_each_has_four_cells():
    assert len(ROWS) == 27
    assert all(len(row) == 4 for row in ROWS), [row for row in ROWS if len(row) != 4]
    assert len({row[0] for row in ROWS}) == len(ROWS)


def test_each_question_of_the_trackers_has_exactly_one_row():
    asked = {}
    for row in ROWS:
        for source in row[3].split("; "):
            project, numbers = source.split(" ", 1)
            for number in numbers.split(", "):
                assert number not in asked.setdefault(project, []), f"{project} {number}: twice"
                asked[project].append(number)
    assert {project: set(numbers) for project, numbers in asked.items()} == QUESTIONS


def test_each_project_has_the_address_of_its_tracker():
    addresses = re.findall(r"\[([\w-]+)\]\(https://github\.com/[\w.-]+/[\w.-]+/issues\)", TABLE)
    assert sorted(addresses) == sorted(QUESTIONS)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_a_row_names_a_place_that_exists(row):
    places = labels_of(row[1])
    documents = re.findall(r"\{doc\}`\.\./([\w/]+)`", row[1])
    assert places or documents, "no place in the book"
    assert set(places) <= LABELS
    assert all((ROOT / f"{document}.md").is_file() for document in documents)


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_exercises_and_commands_of_a_row_exist(row):
    for name, target, _ in LINK.findall(row[2]):
        assert name in EXERCISES
        assert target == "ex-" + name.replace(".", "-").replace("_", "-")
        chapter = next(ROOT.glob(f"solutions/{name[:2]}_*.md")).read_text(encoding="utf-8")
        assert re.search(rf'id: "?{re.escape(name)}"?[,}}]', chapter), "not in solutions/"
    for command in re.findall(r"`course ([^`]+)`", row[2]):
        name, *options = command.split()
        offered = {
            option for parameter in course.commands[name].params for option in parameter.opts
        }
        assert set(options) <= offered
    rest = re.sub(r"\{ref\}`[^`]+`|`course [^`]+`|[\s,]", "", row[2])
    assert not rest, f"neither an exercise nor a command: {rest}"


def test_each_section_still_says_what_answers():
    named = {label for row in ROWS for label in labels_of(row[1])}
    assert named == set(ANSWERS)
    for answers in (ANSWERS, ALSO):
        for label, words in answers.items():
            assert words in section(label), f"{label} no longer says: {words}"


def test_a_section_ends_where_the_next_one_begins():
    assert "transpose" in section("sec-ch3-view")
    assert "All heads at once" not in section("sec-ch3-view")
    with pytest.raises(KeyError):
        section("sec-ch3-nowhere")


def test_every_chapter_has_its_solutions():
    for chapter in ROOT.glob("book/0*.md"):
        assert (ROOT / "solutions" / chapter.name).is_file()
