"""What the book's own Sphinx extensions do to styles, figures, fonts and formulas."""

import html
import importlib.util
import re
import sys
from pathlib import Path

import matplotlib
import pygments
import pytest
from fontTools.ttLib import TTFont
from pygments.token import Token

EXTENSIONS = Path(__file__).parents[1] / "book" / "_ext"


@pytest.fixture(scope="module", autouse=True)
def importable():
    sys.path.insert(0, str(EXTENSIONS))
    yield
    sys.path.remove(str(EXTENSIONS))


# Styles


@pytest.mark.parametrize(
    ("style", "kept"),
    [
        (".a{x:1}.b{x:2}", ".a{x:1}"),
        (".a,.b{x:1}", ".a{x:1}"),
        (".a .b{x:1}p.a>i{x:2}", "p.a>i{x:2}"),
        ("p:not(.b){x:1}", "p:not(.b){x:1}"),
        ("p:is(.b,.a){x:1}", "p:is(.b,.a){x:1}"),
        ('a[href$=".b"]{x:1}', 'a[href$=".b"]{x:1}'),
        ("@media print{.b{x:1}}@media print{.a{x:1}.b{x:2}}", "@media print{.a{x:1}}"),
        ("@font-face{src:url(b.woff)}/* .b{} */", "@font-face{src:url(b.woff)}"),
        ("@keyframes b{0%{x:1}to{x:2}}", "@keyframes b{0%{x:1}to{x:2}}"),
        ('@charset "UTF-8";.a{x:1}', '@charset "UTF-8";.a{x:1}'),
        (r".a\:c{x:1}.b\:c{x:2}", r".a\:c{x:1}"),
        (".bs-tooltip-top{x:1}", ".bs-tooltip-top{x:1}"),
    ],
)
def test_a_rule_stays_when_something_could_match_it(style, kept):
    import course_light

    used = course_light.words('<p class="a a:c">') | {"a:c"}
    assert course_light.purged(style, used) == kept
    assert course_light.purged(kept, used) == kept


def test_a_page_loads_what_its_body_needs_and_no_more():
    import course_light

    class File:
        def __init__(self, filename, **attributes):
            self.filename, self.attributes = filename, attributes

    names = ["a.js", "copybutton.js", "togglebutton.js", "sphinx-thebe.js", "design-tabs.js"]

    def loaded(body):
        files = [File(name) for name in names] + [File("", body='const THEBE_JS_URL = "x"')]
        context = {"body": body, "script_files": files, "css_files": [File("sphinx-thebe.css")]}
        course_light.leave_out_what_is_not_used(None, "page", "page.html", context, None)
        assert context["css_files"] == []
        return [file.filename for file in context["script_files"]]

    assert loaded("<p>") == ["a.js"]
    assert loaded('<div class="highlight-x"><div class="highlight">') == ["a.js", "copybutton.js"]
    assert loaded('<div class="admonition dropdown">') == ["a.js", "togglebutton.js"]
    assert loaded('<div class="sd-tab-set docutils">') == ["a.js", "design-tabs.js"]


# Pages


def test_a_page_loses_empty_lines_and_code_does_not():
    import course_light

    page = "<p>a\n \n  \n</p>\n<pre>b\n\n  \nc</pre>\n\n<i>d</i><textarea>\n\n</textarea>\n\n"
    assert course_light.finished(page) == (
        "<p>a\n</p>\n<pre>b\n\n  \nc</pre>\n<i>d</i><textarea>\n\n</textarea>\n"
    )


@pytest.mark.parametrize("name", ["a11y-high-contrast-light", "a11y-high-contrast-dark"])
def test_marks_of_code_that_are_left_out_change_no_colour(name):
    import course_light
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer
    from pygments.styles import get_style_by_name

    code = "def f(x, y):\n    return [x @ y, 1]\n"
    page = pygments.highlight(code, PythonLexer(), HtmlFormatter())
    short = course_light.finished(page)
    assert re.sub("<[^>]*>", "", short) == re.sub("<[^>]*>", "", page)
    assert len(short) < len(page)
    assert '<span class="o">@</span>' in short
    style = get_style_by_name(name)
    plain = style.style_for_token(Token.Name)["color"]
    for token in (Token.Punctuation, Token.Text.Whitespace):
        assert style.style_for_token(token)["color"] == plain


def test_of_two_pictures_the_one_that_is_not_shown_is_not_loaded():
    import course_light

    picture = '<img alt="a" class="only-dark" src="a.png"/>'
    assert course_light.finished(picture) == picture.replace("<img", '<img loading="lazy"')
    for kept in ('<img class="logo__image only-dark" src="a"/>', '<img class="x" src="a"/>'):
        assert course_light.finished(kept) == kept


# Figures


def points(path):
    """Where a path goes, each point in full."""
    x = y = "0"
    for letter, said in re.findall(r"([MLHVz])([^MLHVz]*)", path):
        numbers = said.split()
        if letter == "z":
            yield "z"
            continue
        x = numbers[0] if letter in "MLH" else x
        y = numbers[-1] if letter in "MLV" else y
        yield letter in "LHV", x, y


def test_a_compact_path_goes_where_the_long_one_goes():
    import course_light

    path = "M 15.6 30.9 \nL 46.3 30.9 \nL 46.3 1e-05 \nL 40 1e-05 \nL 3 4 \nz\nM 3 4 \nL 3 5 \n"
    short = course_light.compact_svg(f'<svg><path d="{path}"/></svg>')[14:-9]
    assert list(points(short)) == list(points(path))
    assert short == "M15.6 30.9H46.3V1e-05H40L3 4zM3 4V5"
    curve = "M 1 2 C 1 2 3 4 5 6 L 5 7 Q 1 1 2 2"
    assert course_light._compact_path(curve) == "M1 2C1 2 3 4 5 6V7Q1 1 2 2"


def test_repeated_styles_of_a_figure_become_one_rule():
    import course_light

    long = '<svg class="f1">' + '<path d="M 1 1" style="fill: #123456; x: 1"/>' * 6
    long += '<g class="k" style="fill: #123456; x: 1"/></svg>'
    short = course_light.compact_svg(long)
    assert "<style>.s0{fill:#123456;x:1}</style>" in short
    assert short.count('class="s0"') == 6
    assert '<g class="k" style="fill:#123456;x:1"/>' in short
    assert course_light.compact_svg(short) == short


def test_text_in_a_figure_keeps_its_spaces():
    import course_light

    text = "<svg>\n <text>a  b <tspan>c</tspan> <tspan>d</tspan></text>\n</svg>"
    assert "<text>a  b <tspan>c</tspan> <tspan>d</tspan></text>" in course_light.compact_svg(text)


# Fonts


def test_a_font_is_cut_down_to_its_characters(tmp_path):
    import course_light

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    made = course_light.subset_font(path, {ord("g"), ord("√")})
    assert made == course_light.subset_font(path, {ord("g"), ord("√")})
    (tmp_path / "small.woff").write_bytes(made)
    font = TTFont(tmp_path / "small.woff")
    assert set(font.getBestCmap()) == {ord("g"), ord("√")}
    assert len(made) < 10_000


# Formulas


def test_formulas_become_mathml():
    import course_formulas

    assert course_formulas.mathml("T", display=False) == "<math><mi>T</mi></math>"
    assert course_formulas.mathml("T", display=True).startswith('<math display="block">')
    assert "<msqrt>" in course_formulas.mathml(r"\sqrt{d}", display=False)


def test_a_part_of_a_formula_may_have_a_class():
    import course_formulas

    made = course_formulas.mathml(r"\class{sym-W}{W}_{\class{sym-q}{q}} + x", display=False)
    assert made.startswith("<math>")
    assert '<mrow class="sym-W"><mi>W</mi></mrow><mrow class="sym-q"><mi>q</mi></mrow>' in made
    assert "color" not in made


@pytest.mark.parametrize(
    ("tex", "rows"),
    [
        (r"a \\ b", 2),
        ("a &= b\n\nc &= d", 2),
        (r"\begin{cases} 1 & x\\ 0 & y \end{cases}", 2),
        (r"a = \begin{cases} 1 & x\\ 0 & \begin{bmatrix} 1 \\ 2 \end{bmatrix} \end{cases}", 4),
    ],
)
def test_a_displayed_formula_has_the_lines_of_its_source(tex, rows):
    import course_formulas

    made = course_formulas.mathml(tex, display=True)
    assert made.count("<mtr>") == rows
    # Lines of an environment are not lines of the whole formula.
    assert made.count("<mtable") == tex.count(r"\begin") or r"\begin" not in tex


def test_a_formula_that_is_not_understood_is_an_error():
    import course_formulas

    with pytest.raises(ValueError, match=r"'\\\\foo' is not understood: .*Unknown command"):
        course_formulas.mathml(r"\foo", display=False)


def test_the_font_of_the_formulas_holds_the_heights_of_brackets_and_roots():
    if importlib.util.find_spec("brotli") is None:
        pytest.skip("the Python package brotli, which reads woff2, is not installed")
    font = TTFont(EXTENSIONS.parent / "_static" / "fonts" / "stix-two-math.woff2")
    assert "MATH" in font
    assert {ord("√"), ord("∑"), 0x1D447} <= set(font.getBestCmap())
    # Behind a root in a line a browser keeps room for the widest of its heights.
    variants = font["MATH"].table.MathVariants
    place = variants.VertGlyphCoverage.glyphs.index(font.getBestCmap()[ord("√")])
    root = variants.VertGlyphConstruction[place]
    heights = [record.AdvanceMeasurement for record in root.MathGlyphVariantRecord]
    widths = {font["hmtx"][record.VariantGlyph][0] for record in root.MathGlyphVariantRecord}
    assert heights == sorted(set(heights)) and len(heights) > 1
    assert len(widths) == 1 and root.GlyphAssembly is None
    # The depth of a letter does not move its index.
    constants, lowest = font["MATH"].table.MathConstants, font["glyf"][font.getBestCmap()[0x1D45E]]
    drop = constants.SubscriptBaselineDropMin.Value - lowest.yMin
    assert drop <= constants.SubscriptShiftDown.Value


def test_the_font_of_the_formulas_has_every_sign_that_a_page_uses():
    if importlib.util.find_spec("brotli") is None:
        pytest.skip("the Python package brotli, which reads woff2, is not installed")
    import course_formulas
    import course_hover

    font = TTFont(EXTENSIONS.parent / "_static" / "fonts" / "stix-two-math.woff2")
    root, here = EXTENSIONS.parents[1], set(font.getBestCmap())
    missing = {}
    for page in sorted(root.glob("book/*.md")) + sorted(root.glob("solutions/*.md")):
        for piece in course_hover.pieces(page.read_text(encoding="utf-8")):
            if piece.kind == "formula":
                made = course_formulas.mathml(piece.text, display=True)
                text = html.unescape(re.sub("<[^>]*>", "", made))
                for sign in set(text) - set("\n\ufe00"):  # U+FE00 only picks a form
                    if ord(sign) not in here:
                        missing.setdefault(sign, f"{page.name}: {piece.text}")
    assert missing == {}
