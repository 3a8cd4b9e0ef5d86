"""Figures: the same text on every run, legible on a light and a dark page, no bitmap inside."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch

from course_pkg.authoring import figures, formats

ROOT = Path(__file__).parent.parent
WHITE, DARK = "#ffffff", "#121212"  # the two themes' pages


def luminance(color):
    """Relative luminance (WCAG 2.2)."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def mixed(color, alpha, ground):
    parts = [
        alpha * c + (1 - alpha) * int(ground[i : i + 2], 16) / 255
        for c, i in zip(color, (1, 3, 5), strict=True)
    ]
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


@pytest.fixture
def ax():
    figures.use_style()
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


def test_every_colour_is_legible_on_both_pages():
    for color in figures.COLORS.values():
        assert contrast(color, WHITE) >= 3
        assert contrast(color, DARK) >= 3
    assert contrast(figures.INK_ON_LIGHT, WHITE) >= 7
    assert contrast(figures.INK_ON_DARK, DARK) >= 7


@pytest.mark.parametrize(
    ("ink", "page"), [(figures.INK_ON_LIGHT, WHITE), (figures.INK_ON_DARK, DARK)]
)
def test_numbers_in_a_heatmap_are_legible_on_every_cell(ink, page):
    for value in np.linspace(0, 1, 21):
        *color, alpha = figures.HEAT(value)
        assert contrast(ink, mixed(color, alpha, page)) >= 4.5


def test_an_svg_is_well_formed_themed_transparent_and_undated(ax):
    ax.plot([0, 1], [1, 0], color="black", marker="o")
    ax.set_title("A title")
    svg = figures.svg(ax.figure)
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert root.get("fill") == "currentColor"
    assert "prefers-color-scheme:dark" in svg
    assert "#000000" not in svg
    assert "#ffffff" not in svg
    assert "<metadata" not in svg
    assert not re.search(r"20\d\d-\d\d-\d\d", svg)
    # The style is the figure's own: it names a class that only this root has.
    assert f".{root.get('class')}{{color:" in svg


def test_noise_in_the_last_bits_does_not_change_the_svg():
    def draw(noise):
        figures.use_style()
        fig, ax = plt.subplots()
        ax.plot(np.linspace(0, 1, 20), np.sin(np.linspace(0, 6, 20)) * (1 + noise))
        ax.scatter([0.1, 0.5], [0.2, 0.4])
        text = figures.svg(fig)
        plt.close(fig)
        return text

    assert draw(0.0) == draw(1e-7)
    assert draw(0.0) != draw(0.1)


def test_boxes_and_clips_are_rounded_as_well():
    figures.use_style()
    fig, ax = plt.subplots()
    ax.bar([0, 1], [1 / 3, 2 / 3])
    text = figures.svg(fig)
    plt.close(fig)
    assert "<rect" in text or "<clipPath" in text
    assert not re.findall(r'\b(?:x|y|width|height)="-?\d+\.\d{3,}"', text)


def test_another_process_draws_the_same_svg():
    code = (
        "import matplotlib.pyplot as plt; from course_pkg.authoring import figures;"
        "figures.use_style(); fig, ax = plt.subplots();"
        "ax.plot([1, 3, 2], 'o-', label='loss'); ax.legend(); print(figures.svg(fig))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert "<svg" in runs[0]


def test_ids_resolve_and_differ_between_figures():
    texts = []
    for slope in (1, 2):
        figures.use_style()
        fig, ax = plt.subplots()
        ax.plot([0, slope], "o")
        texts.append(figures.svg(fig))
        plt.close(fig)
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in texts]
    for text, own in zip(texts, ids, strict=True):
        assert own
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', text)) == own
    assert not ids[0] & ids[1]


def test_a_rounded_coordinate_stays_within_a_tenth_of_a_pixel():
    for value in (0.0, -0.0, 0.004, -0.004, 1.005, 9.999, 10.04, -123.456, 1e-07):
        text = figures._round(re.match(r".*", repr(value)))
        assert abs(float(text) - value) <= 0.05
        assert text != "-0"
        assert "e" not in text


def test_letters_survive_on_a_phone():
    figures.use_style()
    width, _ = plt.rcParams["figure.figsize"]
    pixels = plt.rcParams["font.size"] / 72 * 96
    assert pixels * min(1, 350 / (width * 96)) >= 10


def test_a_bitmap_is_refused_with_the_way_out(ax):
    ax.imshow(np.eye(3))
    with pytest.raises(ValueError, match=r"figures\.heatmap"):
        figures.svg(ax.figure)


def test_show_displays_only_svg_and_closes_the_figure(ax, monkeypatch):
    from IPython import display

    shown = []
    monkeypatch.setattr(display, "display", lambda data, raw: shown.append((set(data), raw)))
    assert figures.show(ax.figure) is None
    assert shown == [({"image/svg+xml"}, True)]
    assert not plt.fignum_exists(ax.figure.number)


def test_a_heatmap_puts_each_value_in_its_row_and_column(ax):
    values = torch.tensor([[1.0, float("nan")], [0.25, 0.75]], requires_grad=True)
    figures.heatmap(ax, values, ["a", "b"], ["first", "second"], write=".2f")
    written = {t.get_text(): ax.transData.transform(t.get_position()) for t in ax.texts}
    assert set(written) == {"1.00", "0.25", "0.75"}
    assert written["1.00"][1] > written["0.25"][1]  # the first row is on top
    assert written["0.25"][0] < written["0.75"][0]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["first", "second"]
    (mesh,) = ax.collections
    assert list(np.ma.getmaskarray(mesh.get_array()).ravel()) == [False, True, False, False]
    assert "<image" not in figures.svg(ax.figure)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3),), "has shape"),
        ((np.zeros((2, 3)), ["a"]), "rows has 1 labels for 2"),
        ((np.zeros((2, 3)), None, ["a", "b"]), "columns has 2 labels for 3"),
    ],
)
def test_a_heatmap_says_what_is_wrong_with_its_input(ax, arguments, message):
    with pytest.raises(ValueError, match=message):
        figures.heatmap(ax, *arguments)


def test_the_map_lights_the_pieces_that_are_named_and_no_other():
    names = {label for label, *_ in figures._MAP.values()}
    for piece in figures.PIECES:
        root = ElementTree.fromstring(figures.course_map(piece).svg)
        texts = root.iter("{http://www.w3.org/2000/svg}text")
        bold = {t.text for t in texts if t.get("font-weight") == "bold"}
        assert bold == {figures._MAP[piece][0]}
    both = ElementTree.fromstring(figures.course_map(["tokenizer", "embeddings"]).svg)
    texts = list(both.iter("{http://www.w3.org/2000/svg}text"))
    assert sum(t.get("font-weight") == "bold" for t in texts) == 2
    assert names <= {t.text for t in texts}
    assert contrast("#ffffff", figures._LIT) >= 4.5


def test_the_boxes_of_the_map_lie_inside_it_and_nest_or_are_apart():
    boxes = [(x, y, x + w, y + h) for _, x, y, w, h in figures._MAP.values()]
    for a in boxes:
        assert 0 <= a[0] < a[2] <= 340
        assert 0 <= a[1] < a[3] <= 372
        for b in boxes:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            a_in_b = b[0] <= a[0] and b[1] <= a[1] and a[2] <= b[2] and a[3] <= b[3]
            b_in_a = a[0] <= b[0] and a[1] <= b[1] and b[2] <= a[2] and b[3] <= a[3]
            assert apart or a_in_b or b_in_a


def map_of(text):
    """The links of a page's map: title -> (address, whether it is marked as where we are)."""
    (svg,) = re.findall(r'<svg class="course-map".*?</svg>', text, flags=re.DOTALL)
    links = ElementTree.fromstring(svg).iter("a")
    return {a.find("title").text: (a.get("href"), a.get("aria-current")) for a in links}


def test_each_piece_of_the_map_is_one_link_and_no_link_holds_another():
    shown = figures.course_map()
    root = ElementTree.fromstring(shown.page)
    links = list(root.iter("a"))
    assert len(links) == len(figures.PIECES)
    assert not any(list(link.iter("a"))[1:] for link in links)
    assert {a.find("text").text for a in links} == {label for label, *_ in figures._MAP.values()}
    assert root.get("role") == "group"  # as an "img" it would hide its links
    assert "<a " not in shown.svg


def test_the_map_follows_the_pages_theme_and_not_the_systems():
    page = figures.course_map("gpt").page
    assert "prefers-color-scheme" not in page
    assert 'fill="currentColor"' in page
    assert not {figures.INK_ON_LIGHT, figures.INK_ON_DARK} & set(re.findall(r"#\w{6}", page))


def test_the_map_marks_where_we_are_for_those_who_do_not_see_it():
    marked = {title for title, (_, here) in map_of(figures.course_map("gpt").page).items() if here}
    assert marked == {"GPT: chapter 5"}
    label = ElementTree.fromstring(figures.course_map(["gpt", "training"]).page).get("aria-label")
    assert label.endswith("Lit: GPT and Training.")


def test_the_keyboard_meets_an_outer_piece_before_those_inside_it():
    names = figures._READING
    assert sorted(names) == sorted(figures.PIECES)
    for outer, (_, x, y, w, h) in figures._MAP.items():
        for inner, (_, left, top, width, height) in figures._MAP.items():
            inside = x <= left and y <= top and left + width <= x + w and top + height <= y + h
            if outer != inner and inside:
                assert names.index(outer) < names.index(inner)


@pytest.mark.parametrize("folder", ["book", "exercises", "solutions"])
def test_the_map_leads_to_a_notebook_that_is_there_and_to_a_heading_in_it(folder):
    for title, (address, _) in map_of(figures.course_map().page).items():
        path, _, anchor = address.partition("#")
        source = (ROOT / folder / path).resolve().with_suffix(".md")
        assert source.with_suffix(".ipynb").exists()
        text = source.read_text(encoding="utf-8")
        assert source.name.startswith(f"0{title[-1]}_")
        assert not anchor or f"\n({anchor})=\n#" in text


def test_relinking_leaves_all_but_the_map_alone():
    assert figures.relink_map('<a href="../book/05_gpt.ipynb">no map</a>', "{}#{}".format) is None
    page = figures.course_map("gpt").page
    asked = []
    linked = figures.relink_map(page, lambda *link: asked.append(link) or f"x{len(asked)}.html")
    assert re.sub(r'href="[^"]*"', "", linked) == re.sub(r'href="[^"]*"', "", page)
    assert [href for href, _ in map_of(linked).values()] == [f"x{i}.html" for i in range(1, 8)]
    assert asked[0] == ("book/01_tokenizer", "")
    assert ("book/01_tokenizer", "sec-ch1-embeddings") in asked
    named = figures.relink_map(page, lambda *_: "#", label='Said by "alt" & more')
    assert ElementTree.fromstring(named).get("aria-label") == 'Said by "alt" & more'


def a_book(folder, chapters, pages):
    """A book of notebooks, built; ``pages`` show a map. Returns the warnings."""
    pytest.importorskip("myst_nb")
    for name in [*chapters, *pages]:
        title = f"({chapters[name]})=\n# {name}" if chapters.get(name) else f"# {name}"
        cells = [nbformat.v4.new_markdown_cell(title, id="title")]
        if name in pages:
            shown = figures.course_map("gpt")
            data = {"text/html": shown.page, "image/svg+xml": shown.svg}
            output = nbformat.v4.new_output("display_data", data=data)
            alt = {"mystnb": {"image": {"alt": f"The map of {name}"}}}
            cell = nbformat.v4.new_code_cell("map", id="map", outputs=[output], metadata=alt)
            cells.append(cell)
        path = folder / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(nbformat.writes(formats.new_notebook(cells)), encoding="utf-8")
    names = "\n".join([*chapters, *pages])
    (folder / "index.md").write_text(f"# A book\n\n```{{toctree}}\n{names}\n```\n")
    (folder / "conf.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(ROOT / 'book' / '_ext')!r})\n"
        "import course_book\n"
        "extensions = ['myst_nb']\nhtml_theme = 'basic'\n"
        "nb_execution_mode = 'off'\n"
        "def setup(app):\n"
        "    app.add_post_transform(course_book.LinkTheMap)\n"
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-E", str(folder), str(folder / "out")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


CHAPTERS = {f"book/{page.split('.')[0]}": "" for page in figures._EXPLAINED.values()}


def test_in_the_book_the_map_leads_to_pages_and_says_the_cells_text(tmp_path):
    chapters = {**CHAPTERS, "book/01_tokenizer": "sec-ch1-embeddings"}
    pages = ["book/first", "exercises/other"]
    assert a_book(tmp_path, chapters, pages) == ""
    for page in pages:
        built = (tmp_path / "out" / f"{page}.html").read_text(encoding="utf-8")
        assert f'aria-label="The map of {page}"' in built
        links = map_of(built)
        assert len(links) == len(figures.PIECES)
        for address, _ in links.values():
            path, _, anchor = address.partition("#")
            target = (tmp_path / "out" / page).parent / path
            assert target.suffix == ".html"
            assert not anchor or f'id="{anchor}"' in target.read_text(encoding="utf-8")
        assert links["Embeddings: chapter 1"][0].endswith("#sec-ch1-embeddings")


def test_the_book_warns_of_a_map_that_leads_nowhere(tmp_path):
    said = a_book(tmp_path, {"book/01_tokenizer": "", "book/05_gpt": ""}, ["book/first"])
    assert "the map links to sec-ch1-embeddings in book/01_tokenizer" in said
    assert "the map links to book/06_training, which is no page" in said


def test_an_unknown_piece_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'tokenizer'"):
        figures.course_map("tokeniser")


def test_the_first_page_shows_the_story_and_the_map_and_leads_to_chapter_1_before_all_else():
    page = (ROOT / "book" / "intro.md").read_text(encoding="utf-8").split("\n## ")[0]
    links = re.findall(r"\[([^\]]+)\]\(([^)]+)\)", page)
    assert links == [("Start with chapter 1: the tokenizer", "01_tokenizer.ipynb")]
    assert page.index(links[0][1]) < page.index("{code-cell}")
    cells = [cell.source for cell in formats.read(ROOT / "book" / "intro.md").cells]
    assert "generate(" in page and "figures.course_map()" in page and len(cells) > 2
    config = (ROOT / "_config.yml").read_text(encoding="utf-8")
    for style in re.search(r"html_css_files: \[(.*)\]", config)[1].split(", "):
        assert (ROOT / "book" / "_static" / style).exists()
    # What the style looks for, so that the page stays on one screen.
    style = (ROOT / "book" / "_static" / "landing.css").read_text(encoding="utf-8")
    assert ".course-story" in style and 'class="course-story"' in page
    assert "#fig-map" in style and "name: fig-map" in page
