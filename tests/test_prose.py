"""The linter of the prose finds planted errors where a reader would, and nothing elsewhere."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
spec = importlib.util.spec_from_file_location("prose", ROOT / "scripts" / "prose.py")
prose = importlib.util.module_from_spec(spec)
sys.modules["prose"] = prose
spec.loader.exec_module(prose)


def found(source):
    """(line, rule) of each finding."""
    return [(f.line, f.rule) for f in prose.check(Path("page.md"), source, **prose.settings())]


# So that no word of a long sentence is repeated.
ENDINGS = [a + b for a in "abcdefgh" for b in "abcdefgh"]


def run(*arguments):
    command = [sys.executable, str(ROOT / "scripts" / "prose.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


# The pages themselves


def test_every_page_is_clean():
    result = run()
    assert result.returncode == 0, result.stdout
    pages = len(list(ROOT.glob("book/*.md"))) + len(list(ROOT.glob("solutions/*.md")))
    assert pages > 20 and f"{pages} pages" in result.stdout


@pytest.mark.parametrize("page", ["book/02_causal_attention.md", "solutions/06_training.md"])
def test_an_error_planted_in_a_page_is_found_at_its_line(page, tmp_path):
    lines = (ROOT / page).read_text(encoding="utf-8").split("\n")
    fence, places = False, []
    for i, line in enumerate(lines):
        fence ^= line.startswith("```")
        if not fence and re.fullmatch(r"[A-Z][a-z ]+\b[^`$|:{]*", line) and lines[i - 1] == "":
            places.append(i)
    assert len(places) > 10
    for i in (places[0], places[len(places) // 2], places[-1]):
        copy = tmp_path / "copy.md"
        planted = [*lines[:i], f"Trivially {lines[i]}", *lines[i + 1 :]]
        copy.write_text("\n".join(planted), encoding="utf-8")
        result = run(copy)
        assert result.returncode == 1
        assert result.stdout.startswith(f"{copy}:{i + 1}: house.filler: 'Trivially'")
        assert result.stdout.count("\n") == 1


# Rules


@pytest.mark.parametrize(
    "sentence, rule",
    [
        ("This is simply a sum.", "house.filler"),
        ("It is, of\ncourse, a sum.", "house.filler"),
        ("Let us add them.", "house.filler"),
        ("A powerful layer.", "house.hype"),
        ("The state-of-the-art layer.", "house.hype"),
        ("The color of a cell.", "house.spelling"),
        ("It works!", "house.exclamation"),
        ("It takes the the mean.", "lexical_illusions"),
        ("At the end of the day it is a sum.", "cliches"),
        ("That is more unique than a sum.", "uncomparables"),
        ("It could care less about the order.", "misc.illogic"),
    ],
)
def test_a_rule_finds_its_error(sentence, rule):
    rules = [each for _, each in found(f"# A title\n\n{sentence}\n")]
    assert any(each.startswith(rule) for each in rules), rules


@pytest.mark.parametrize(
    "sentence",
    [
        "Justice is no adjustment, and every reality has a basis.",
        'The model wrote "of course! It\'s magic", which is its word.',
        "The option `simply` and the comment `# obviously` are code.",
        "The factor is $n!$ in the formula, and $very$ is a product.",
        "The British write colour, centre, grey, neighbour and labelled.",
    ],
)
def test_what_is_right_passes(sentence):
    assert found(f"{sentence}\n") == []


def test_a_sentence_may_have_45_words_and_no_more():
    def words(n):
        return " ".join(["Word", *("word" + ENDINGS[i] for i in range(n - 1))])

    assert found(words(45) + ".\n") == []
    assert found("One sentence. " + words(46) + ".\n") == [(1, "house.length")]
    assert found(words(44) + " `a b c d`.\n") == [], "code counts as one word"
    assert found(words(30) + ".\n\n" + words(30) + ".\n") == [], "paragraphs are apart"


# What is prose, and where


@pytest.mark.parametrize(
    "source, line",
    [
        ("---\nkernelspec: very\n---\n\nIt is\nvery\nlarge.\n", 6),
        ("# A very large title\n", 1),
        ("| a | b |\n|---|---|\n| c | d |\n| e | very f |\n", 4),
        ("- one\n- two\n  is very large\n", 3),
        (":::{admonition} A title\n:class: note\n\nIt is\nvery large.\n:::\n", 5),
        (":::{admonition} A very large title\nText.\n:::\n", 1),
        ("```{glossary}\nterm\n  A word that is\n  very large.\n\nother\n  A word.\n```\n", 4),
        ("See {ref}`the very\nlarge one <sec-a>` and others.\n", 1),
        ("See {ref}`the\nlarge one <sec-a>` and\nvery large others.\n", 3),
        ("The code `a\nb` and the code `c\nd` are\nvery large.\n", 4),
        ("The formula $a\n+ b$ is\nvery large.\n", 3),
        ("text\n\n+++\n\n(sec-a)=\n## Very large\n", 6),
        ("![A very large picture.](a.png){.only-light}\n", 1),
        (
            "```{code-cell} ipython3\n---\nmystnb:\n  image:\n    alt: >-\n      A very\n"
            "---\n1\n```\n",
            5,
        ),
        (
            "```{code-cell} ipython3\n---\nmystnb:\n  image:\n    alt: a\n  figure:\n"
            "    caption: A very large one.\n---\n1\n```\n",
            7,
        ),
    ],
)
def test_the_line_is_the_one_in_the_file(source, line):
    assert found(source) == [(line, "house.filler")]


@pytest.mark.parametrize(
    "source",
    [
        "```python\n# very\n```\n",
        "```{code-cell} ipython3\n:tags: [very]\n\n# very large\n```\n",
        "```{code-cell} ipython3\n---\ntags: [very]\n---\n# very large\n```\n",
        "$$\nvery + 1\n$$ (eq-very)\n",
        "    very large code\n",
        "% a very large comment\n",
        "<!-- very -->\n",
        ":::{admonition} A title\n:class: very\nText.\n:::\n",
        "[text](very)\n",
        "See {ref}`sec-very` and {cite:t}`very2020large`.\n",
        "See {ref}`06.resume <ex-06-resume>`.\n",
        "```{eval-rst}\n.. automodule:: very\n```\n",
    ],
)
def test_what_is_not_prose_is_left_alone(source):
    assert found("A page.\n\n" + source) == []


def test_two_paragraphs_are_no_repetition():
    assert found("It is a sum\n\nsum of two\n\n| yes | yes |\n|---|---|\n| yes | yes |\n") == []


def test_an_unknown_directive_is_an_error_and_not_skipped(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```{invented}\nvery\n```\n", encoding="utf-8")
    result = run(page)
    assert result.returncode == 1
    assert "line 1: the directive 'invented' is not known" in result.stderr


# Settings


def test_what_is_switched_off_exists_and_has_a_reason():
    registered = {check.path for check in prose.ALL_CHECKS}
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[tool.prose]")[1]
    off = prose.settings()["off"]
    assert off
    for name in off:
        assert name in registered
        assert re.search(rf'"{re.escape(name)}",\s+# \w', section), f"{name} has no reason"


def test_the_neighbours_of_what_is_switched_off_stay_on():
    assert found('He said "no" and left.\n') == []
    assert found("It ended...\n") == [(1, "typography.symbols.ellipsis")]


def test_lint_runs_it():
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    assert "$(PY) scripts/prose.py" in lint
