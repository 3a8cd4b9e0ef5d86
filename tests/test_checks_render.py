"""Reports as HTML."""

import re
import sys
import types
from html.parser import HTMLParser

import pytest

from course_pkg.checks import CheckFailed, check
from course_pkg.checks.engine import Outcome, Report, evaluate, find_exercise
from course_pkg.checks.render import report_html

SPLIT = find_exercise("03.split_heads")
WRONG = SPLIT.misconceptions[0].answer


class Page(HTMLParser):
    """The text of a fragment, its tags, and whether all that is opened is closed."""

    def __init__(self, source):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(re.sub(r"(?s)<style>.*?</style>", "", source))
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data + " "


def words(text):
    return text.replace("✓", " ").replace("✗", " ").replace(":", " ").split()


@pytest.mark.parametrize("answer", [SPLIT.reference, WRONG, lambda x, num_heads: 1 / 0, None])
def test_the_table_says_what_the_text_says(answer):
    report = evaluate(SPLIT, answer)
    hints = ["Hint 1 of 2: think."]
    page = Page(report_html(report, hints))
    assert words(page.text) == words("\n".join([report.text(), *hints]))


def test_marks_have_names():
    page = Page(report_html(evaluate(SPLIT, WRONG), []))
    named = [attrs["aria-label"] for tag, attrs in page.tags if tag == "b"]
    outcomes = evaluate(SPLIT, WRONG).outcomes
    assert named == ["holds" if o.holds else "does not hold" for o in outcomes]


def test_what_the_learner_wrote_is_escaped():
    def answer(x, num_heads):
        print("<img src=x onerror=alert(1)>")
        raise ValueError("</pre><script>alert(2)</script>")

    source = report_html(evaluate(SPLIT, answer), [])
    ours = {"div", "p", "strong", "table", "tbody", "tr", "td", "th", "b", "pre"}
    assert {tag for tag, _ in Page(source).tags} <= ours
    assert "&lt;script&gt;" in source and "&lt;img" in source


def test_every_outcome_is_escaped():
    nasty = "<b>&"
    report = Report("01.x", "failed", 0, 1, (Outcome(nasty, nasty, nasty),), None, (nasty,), nasty)
    page = Page(report_html(report, [nasty]))
    assert page.text.count(nasty) == 6


@pytest.fixture
def jupyter(monkeypatch):
    """A process that looks like a notebook's kernel; gives what was displayed."""
    shown = []
    display = types.SimpleNamespace(display=shown.append)
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setenv("COURSE_PROGRESS", "0")
    return shown


def test_in_jupyter_a_pass_is_displayed(jupyter, capsys):
    check("03.split_heads", SPLIT.reference)
    (shown,) = jupyter
    bundle = shown._repr_mimebundle_()
    report = evaluate(SPLIT, SPLIT.reference)
    assert bundle["text/plain"] == report.text()
    assert bundle["text/html"] == report_html(report, [])
    assert capsys.readouterr().out == ""


def test_in_jupyter_a_failure_is_displayed_once_and_raised_in_one_line(jupyter):
    with pytest.raises(CheckFailed) as caught:
        check("03.split_heads", WRONG, hint=True)
    (shown,) = jupyter
    assert "Hint 1 of" in shown._repr_mimebundle_()["text/html"]
    headline = evaluate(SPLIT, WRONG).headline
    assert str(caught.value) == headline and caught.value._render_traceback_() == [headline]


def test_a_hint_is_shown_only_when_asked():
    with pytest.raises(CheckFailed) as caught:
        check("03.split_heads", WRONG)
    assert SPLIT.hints[0] not in str(caught.value)
    assert "add hint=True" in str(caught.value)
