"""What the book's pages add to an exercise: facts, hints in their order, a folded solution."""

import json
import re
import sys
from pathlib import Path

import browser
import pytest

pytest.importorskip("sphinx")
pytest.importorskip("bs4")

import bs4

from course_pkg.authoring import exercises, formats, notebooks
from course_pkg.checks.engine import find_exercise

ROOT = Path(__file__).parent.parent
NEEDS_BROWSER = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "is there")

HEADER = formats._HEADER
# Real ids, since hints and difficulty are those of the checks; the words are this test's own.
SOLUTIONS = """# Solutions: attention

## Average the past

Write `past_average`.

```{code-cell} ipython3
---
tags: [exercise]
exercise: {id: "02.past_average", points: 1, kind: implement}
---
def past_average(x):
    ### BEGIN SOLUTION
    quokkaweights = x.cumsum(dim=1)
    return quokkaweights
    ### END SOLUTION
```

```{code-cell} ipython3
:tags: [check]

check("02.past_average", past_average)
```

+++ {"tags": ["solution"]}

The wombat sum $s_i$ explains it.

+++

## A mask

Write `masked_weights`.

```{code-cell} ipython3
---
tags: [exercise]
exercise: {id: "02.mask", points: 3, kind: implement}
---
def masked_weights(scores, is_real):
    ### BEGIN SOLUTION
    return echidnamask(scores)
    ### END SOLUTION
```

```{code-cell} ipython3
:tags: [check]

check("02.mask", masked_weights)
```
"""
CHAPTER = "# Attention\n\nText about the numbat.\n\n## Exercises\n\n<!-- exercises -->\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A book of three pages: the folder of its HTML."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    root = tmp_path_factory.mktemp("book")
    for folder in ("book", "solutions", "exercises"):
        (root / folder).mkdir()
    source = root / "solutions" / "02_attention.md"
    source.write_text(HEADER + "\n" + SOLUTIONS, encoding="utf-8")
    (root / "book" / "02_attention.md").write_text(HEADER + "\n" + CHAPTER, encoding="utf-8")
    exercises.write(root)
    for folder in ("book", "solutions"):
        notebook = notebooks.build(root / folder / "02_attention.md")
        target = root / folder / "02_attention.ipynb"
        target.write_text(formats.to_ipynb(notebook), encoding="utf-8")
    pages = [f"{folder}/02_attention" for folder in ("book", "exercises", "solutions")]
    (root / "index.md").write_text(
        "# Start\n\n```{toctree}\n" + "\n".join(pages) + "\n```\n", encoding="utf-8"
    )
    extensions = str(ROOT / "book" / "_ext")
    sys.path.insert(0, extensions)
    try:
        with docutils_namespace():
            app = Sphinx(
                root,
                None,
                root / "html",
                root / "doctrees",
                "html",
                confoverrides={
                    "extensions": ["myst_nb", "course_exercises"],
                    "exclude_patterns": ["*/02_attention.md", "html"],
                    "html_static_path": [str(ROOT / "book" / "_static")],
                    "myst_enable_extensions": ["colon_fence", "dollarmath", "attrs_inline"],
                    "myst_heading_anchors": 3,
                    "nb_execution_mode": "off",
                    "project": "book",
                },
                status=None,
                warningiserror=True,
            )
            app.build()
            sources = {page: sorted(files) for page, files in app.env.dependencies.items()}
            (root / "sources.json").write_text(json.dumps(sources), encoding="utf-8")
    finally:
        sys.path.remove(extensions)
    return root / "html"


def page(built, name):
    return bs4.BeautifulSoup((built / name).read_text(encoding="utf-8"), "html.parser")


def place_of(soup, folder, exercise_id):
    """The element of a page that holds an exercise."""
    if folder == "book":
        return soup.find(id="ex-" + re.sub(r"[._]", "-", exercise_id))
    number = {"02.past_average": "2.1", "02.mask": "2.2"}[exercise_id]
    (heading,) = [h for h in soup.find_all("h2") if h.text.startswith(f"Exercise {number} ·")]
    return heading.parent


def own_text(fold):
    """The text of a fold without its line and without the folds inside."""
    return " ".join(p.get_text() for p in fold.div.find_all("p", recursive=False))


EVERYWHERE = [
    (folder, name) for folder in ("book", "exercises") for name in ("02.past_average", "02.mask")
]


def test_a_title_leaves_kind_and_points_to_the_line_below_it(built):
    soup = page(built, "exercises/02_attention.html")
    titles = [heading.get_text().removesuffix("#").strip() for heading in soup.find_all("h2")]
    wanted = ["Exercise 2.1 · Average the past", "Exercise 2.2 · A mask"]
    assert [re.sub(r"\W+$", "", title) for title in titles] == wanted
    facts = [
        place_of(soup, "exercises", f"02.{name}").get_text() for name in ("past_average", "mask")
    ]
    assert all("implement" in fact for fact in facts)


@pytest.mark.parametrize(("folder", "name"), EVERYWHERE)
def test_hints_are_those_of_the_check_and_each_lies_inside_the_one_before(built, folder, name):
    place = place_of(page(built, f"{folder}/02_attention.html"), folder, name)
    hints = find_exercise(name).hints
    fold = place.find("details")
    for position, hint in enumerate(hints, start=1):
        assert fold.summary.text == f"Hint {position} of {len(hints)}"
        assert own_text(fold) == hint.replace("`", "")
        assert not fold.has_attr("open")
        fold = fold.div.find("details", recursive=False)
    assert fold is None


@pytest.mark.parametrize(("folder", "name"), EVERYWHERE)
def test_the_solution_follows_the_hints_closed_and_without_checks_and_markers(built, folder, name):
    place = place_of(page(built, f"{folder}/02_attention.html"), folder, name)
    hint, solution = place.find(class_="exercise-aside").find_all("details", recursive=False)
    assert "exercise-hint" in hint["class"]
    assert solution.summary.text == "Solution"
    assert not solution.has_attr("open")
    text = solution.get_text()
    mine, others = ("quokkaweights", "echidnamask")
    if name == "02.mask":
        mine, others = others, mine
    # A chapter's page is long already: there the solution is a link.
    assert (mine in text) == (folder != "book")
    assert others not in text
    assert "SOLUTION" not in text
    assert "check(" not in text
    assert ("wombat sum" in text) == ((folder, name) == ("exercises", "02.past_average"))
    # Nowhere else on the page, and the link goes to that exercise on the solutions' page.
    place.find(class_="exercise-aside").extract()
    assert mine not in place.get_text()
    target, _, anchor = solution.find(class_="exercise-more").a["href"].partition("#")
    assert target == "../solutions/02_attention.html"
    there = page(built, "solutions/02_attention.html").find(id=anchor)
    assert mine in there.get_text()


def test_the_solutions_page_shows_the_code_without_the_lines_for_the_program(built):
    shown = page(built, "solutions/02_attention.html").get_text()
    assert "quokkaweights" in shown and "echidnamask" in shown
    assert "SOLUTION" not in shown


@pytest.mark.parametrize(("folder", "name"), EVERYWHERE)
def test_difficulty_points_and_kind_stand_in_words_before_the_task(built, folder, name):
    place = place_of(page(built, f"{folder}/02_attention.html"), folder, name)
    facts = place.find(class_="exercise-facts")
    items = [item.get_text() for item in facts.find_all("li")]
    expected = {
        "02.past_average": ["Difficulty: ●○○ easy", "1 point", "implement"],
        "02.mask": ["Difficulty: ●●● hard", "3 points", "implement"],
    }[name]
    assert items == expected
    dots = facts.find(attrs={"aria-hidden": "true"})
    assert set(dots.text) <= set("●○")
    assert "Write " in facts.find_next("p").text


def test_every_difficulty_has_a_word(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    import course_exercises

    from course_pkg.checks import all_exercises

    assert {e.difficulty for e in all_exercises()} <= set(course_exercises.DIFFICULTIES)


def test_links_to_what_an_exercise_builds_on_lead_there(monkeypatch):
    from types import SimpleNamespace

    monkeypatch.syspath_prepend(str(ROOT / "book" / "_ext"))
    import course_exercises

    builder = SimpleNamespace(get_relative_uri=lambda page, other: f"<{page}>{other}")
    app = SimpleNamespace(srcdir=ROOT, builder=builder)
    pages = course_exercises.Pages(app)
    _, exercise = pages.place["02.scaled_dot_product"]
    nodes = pages.builds_on(exercise, "book/02_causal_attention")
    assert "".join(node.astext() for node in nodes) == "2.2, 2.3"
    assert nodes[0]["refuri"] == "<book/02_causal_attention>book/02_causal_attention#ex-02-softmax"


def test_no_page_holds_an_id_twice(built):
    for folder in ("book", "exercises", "solutions"):
        soup = page(built, f"{folder}/02_attention.html")
        ids = [tag["id"] for tag in soup.find_all(id=True)]
        assert len(ids) == len(set(ids)), folder


def test_the_search_finds_no_word_of_a_hint_or_solution_in_chapter_and_exercises(built):
    text = (built / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    names = index["docnames"]

    def found_in(word):
        hits = [places for term, places in index["terms"].items() if term.startswith(word)]
        flat = {i for places in hits for i in (places if isinstance(places, list) else [places])}
        return {names[i].partition("/")[0] for i in flat}

    assert found_in("numbat") == {"book"}
    assert found_in("wombat") == {"solutions"}
    assert found_in("quokka") == {"solutions"}
    hint = find_exercise("02.mask").hints[0]
    assert "conditions" in hint  # a word that stands in that hint alone
    assert found_in("condit") == set()


def test_a_page_is_made_again_when_its_hints_or_solutions_change(built):
    sources = json.loads((built.parent / "sources.json").read_text(encoding="utf-8"))
    for folder in ("book", "exercises"):
        names = [Path(file).name for file in sources[f"{folder}/02_attention"]]
        assert {"ch02.py", "02_attention.md", "02_attention.ipynb"} <= set(names)


def test_the_notebooks_of_the_learner_hold_no_hint():
    for path in sorted((ROOT / "exercises").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        for exercise in exercises.read_solutions(ROOT / "solutions" / f"{path.stem}.md").exercises:
            for hint in find_exercise(exercise.id).hints:
                assert json.dumps(hint, ensure_ascii=False)[1:-1] not in text


# In a browser


@pytest.fixture(scope="module")
def chromium():
    if browser.missing():
        pytest.skip(browser.missing())
    with browser.chromium() as running:
        yield running


@NEEDS_BROWSER
def test_by_keyboard_alone_the_second_hint_can_be_reached_after_the_first_only(built, chromium):
    opened = browser.Page(chromium, built / "book" / "02_attention.html", java_script_enabled=False)
    box = opened.page.locator("#ex-02-mask")
    lines = box.locator("summary")
    assert [lines.nth(i).is_visible() for i in range(4)] == [True, False, False, True]
    lines.nth(0).focus()
    opened.page.keyboard.press("Tab")
    assert lines.nth(3).evaluate("line => line === document.activeElement")
    lines.nth(0).focus()
    opened.page.keyboard.press("Enter")
    opened.page.keyboard.press("Tab")
    assert lines.nth(1).evaluate("line => line === document.activeElement")
    assert [lines.nth(i).is_visible() for i in range(4)] == [True, True, False, True]
    assert not box.locator(".exercise-more a").is_visible()
    lines.nth(3).press("Enter")
    assert box.locator(".exercise-more a").is_visible()
    assert opened.complaints == []


@NEEDS_BROWSER
def test_paper_shows_the_task_and_neither_hints_nor_solution(built, chromium):
    opened = browser.Page(chromium, built / "exercises" / "02_attention.html")
    for line in opened.page.locator("details.exercise-fold > summary").all():
        line.evaluate("line => { line.parentElement.open = true; }")
    assert "quokkaweights" in opened.page.locator("body").inner_text()
    opened.page.emulate_media(media="print")
    text = opened.page.locator("body").inner_text()
    assert "Write past_average" in text
    assert "quokkaweights" not in text
    assert "Hint 1" not in text


@NEEDS_BROWSER
def test_the_searchs_excerpts_show_no_solution(built, chromium):
    opened = browser.Page(chromium, built / "search.html")

    def excerpt(name):
        html = (built / name).read_text(encoding="utf-8")
        return opened.page.evaluate("html => Search.htmlToText(html)", html)

    text = excerpt("book/02_attention.html")
    assert "numbat" in text and "Write past_average" in text
    assert "quokkaweights" not in text and "Hint 1" not in text
    assert "masked_weights" in excerpt("exercises/02_attention.html")
    assert "echidnamask" not in excerpt("exercises/02_attention.html")
    assert excerpt("solutions/02_attention.html") == ""
