"""Figures are drawn in dark ink on a light page and in light ink on a dark one, also in Firefox."""

from collections import Counter
from io import BytesIO

import built
import firefox
import needs
import pytest
from PIL import Image, ImageDraw

# The recording of a terminal is dark in both themes.
FIGURE = "article img[src$='.svg']:not([src$='train_mine.svg'])"


def pages_with_figures():
    marks = ('src="../_images/', '.svg"')
    pages = [p for p in built.pages() if p.startswith("book/")]
    texts = {page: (built.HTML / page).read_text(encoding="utf-8") for page in pages}
    return [page for page in pages if all(mark in texts[page] for mark in marks)] or [None]


def ink(png):
    """The ground's lightness, and that of the pixel which differs most from it, from 0 to 255."""
    with Image.open(BytesIO(png)) as image:
        levels = Counter(image.convert("L").tobytes())
    ground = levels.most_common(1)[0][0]
    return ground, max(levels, key=lambda level: abs(level - ground))


def check(png, dark):
    ground, drawn = ink(png)
    if dark:
        assert ground < 60 and drawn > 160
    else:
        assert ground > 220 and drawn < 90


def drawing(ground, line):
    image = Image.new("L", (60, 40), ground)
    ImageDraw.Draw(image).line((5, 5, 50, 30), line, 2)
    written = BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def test_wrong_ink_is_noticed():
    check(drawing(255, 0), dark=False)
    check(drawing(18, 230), dark=True)
    for ground, line, dark in [(18, 0, True), (255, 0, True), (255, 200, False), (18, 230, False)]:
        with pytest.raises(AssertionError):
            check(drawing(ground, line), dark)


@pytest.fixture(scope="module", params=[False, True], ids=["light", "dark"])
def browser(request):
    needs.demand("" if built.is_there() else built.NO_BOOK)
    if firefox.missing():
        pytest.skip(firefox.missing())
    with firefox.opened(request.param) as opened:
        opened.size(1000, 800)
        opened.dark = request.param
        yield opened


@pytest.fixture(scope="module")
def address():
    with built.served() as at:
        yield at


def figure_ready(opened):
    # The theme's switch is a click: nothing of the theme before it may have been remembered.
    opened.run(
        f"""(async () => {{
            const figure = document.querySelector("{FIGURE}");
            figure.loading = "eager";
            figure.scrollIntoView({{ behavior: "instant", block: "center" }});
            await figure.decode();
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
        }})()"""
    )


@pytest.mark.parametrize("name", pages_with_figures())
@pytest.mark.xdist_group("firefox")
def test_firefox_draws_figures_for_the_theme_of_the_system(browser, address, name):
    browser.open(address + name)
    figure_ready(browser)
    assert browser.run("document.documentElement.dataset.theme")["value"] == (
        "dark" if browser.dark else "light"
    )
    check(browser.picture(f'document.querySelector("{FIGURE}")'), browser.dark)


@pytest.mark.xdist_group("firefox")
def test_firefox_draws_figures_for_the_theme_that_was_switched_to(browser, address):
    name = pages_with_figures()[0]
    browser.open(address + name)
    other = "light" if browser.dark else "dark"
    browser.run(f"""(async () => {{
        const root = document.documentElement.dataset;
        for (let i = 0; i < 3 && root.mode !== "{other}"; i++)
            document.querySelector(".theme-switch-button").click();
    }})()""")
    assert browser.run("document.documentElement.dataset.theme")["value"] == other
    figure_ready(browser)
    check(browser.picture(f'document.querySelector("{FIGURE}")'), not browser.dark)
    browser.run("localStorage.clear()")


@pytest.mark.xdist_group("firefox")
def test_firefox_draws_formulas_with_the_books_font(browser, address):
    name = "book/02_causal_attention.html"
    browser.open(address + name)
    fonts = browser.run("document.fonts.ready.then(() => document.fonts.check('16px Formulas'))")
    assert fonts["value"] is True
    browser.run("document.querySelector('.formula').scrollIntoView({ behavior: 'instant' })")
    check(browser.picture("document.querySelector('.formula')"), browser.dark)


@pytest.mark.parametrize("name", pages_with_figures())
@pytest.mark.parametrize("look", ["light-desktop", "dark-phone"])
def test_chromium_draws_figures_for_the_theme(visitor, name, look):
    with visitor.page(name, look) as opened:
        for figure in opened.locator(FIGURE).all():
            check(figure.screenshot(), look.startswith("dark"))
