"""Every page of the built book used by keyboard alone, printed, and opened from a disk."""

import built
import needs
import pytest
import visits

# What has the focus: a name, whether it can be seen, and whether one sees that it has the focus.
FOCUSED = """() => {
    const element = document.activeElement;
    if (!element || element === document.body) return null;
    const marks = () => {
        const style = getComputedStyle(element);
        const outline = parseFloat(style.outlineWidth) > 0 && style.outlineStyle !== "none";
        const ring = element.querySelector(".ring");  // of a piece of the map
        return [ring ? getComputedStyle(ring).stroke : "", outline ? style.outline : "",
                style.boxShadow, style.backgroundColor, style.color,
                style.borderColor, style.textDecoration].join("|");
    };
    const focused = marks(), box = element.getBoundingClientRect();
    const shown = box.width > 0 && box.height > 0 && box.right > 0 && box.left < innerWidth
        && box.bottom > 0 && box.top < innerHeight
        && element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
    element.blur();
    const marked = focused !== marks();
    element.focus({ preventScroll: true });
    return { html: element.outerHTML.slice(0, 120), shown, marked,
             inMain: Boolean(element.closest("article")),
             sidebar: Boolean(element.closest("#pst-primary-sidebar") && element.href),
             theme: element.matches(".theme-switch-button"),
             search: element.matches(".search-button__button") };
}"""
STOPS = 90  # more than the links of the sidebar and the buttons before the text
PAPER = {"width": 718, "height": 1046}  # A4 at 96 dots an inch, within Chromium's margins

# What paper would cut off, and what has no use on it.
CUT_OFF = """() => {
    const found = [], width = document.documentElement.clientWidth;
    for (const part of document.querySelectorAll("article *")) {
        if (!part.checkVisibility() || part.closest("svg, math, .visually-hidden")) continue;
        const style = getComputedStyle(part);
        const hides = style.overflowX !== "visible" && part.scrollWidth > part.clientWidth + 1;
        const sticksOut = part.getBoundingClientRect().right > width + 1;
        if (hides || sticksOut) found.push(part.outerHTML.slice(0, 150));
    }
    return found.slice(0, 6);
}"""
NO_USE_ON_PAPER = """() => [
    "#pst-primary-sidebar", "#pst-secondary-sidebar", ".bd-header-article", ".bd-header",
    ".prev-next-footer", "#pst-back-to-top", ".copybtn", "a.headerlink",
].filter((selector) => Array.from(document.querySelectorAll(selector)).some(
    (part) => part.checkVisibility({ visibilityProperty: true })))"""


def test_the_first_stop_leads_past_the_navigation(visitor, page):
    with visitor.page(page, "light-desktop") as opened:
        opened.keyboard.press("Tab")
        first = opened.evaluate(FOCUSED)
        assert 'href="#main-content"' in first["html"]
        assert first["shown"]
        opened.keyboard.press("Enter")
        opened.wait_for_function("location.hash === '#main-content'")
        opened.keyboard.press("Tab")
        assert not opened.evaluate(FOCUSED)["sidebar"]


def test_the_keyboard_reaches_everything_and_shows_where_it_is(visitor, page):
    seen = []
    with visitor.page(page, "light-desktop") as opened:
        for _ in range(STOPS):
            opened.keyboard.press("Tab")
            stop = opened.evaluate(FOCUSED)
            if stop is None:
                break
            seen.append(stop)
    assert [stop["html"] for stop in seen if not (stop["shown"] and stop["marked"])] == []
    for what in ("sidebar", "theme", "search"):
        assert any(stop[what] for stop in seen), what


def test_the_theme_changes_by_keyboard(visitor, page):
    with visitor.page(page, "light-desktop") as opened:
        modes = [opened.evaluate("document.documentElement.dataset.mode")]
        opened.focus(".theme-switch-button:visible")
        for _ in range(3):
            opened.keyboard.press("Enter")
            opened.wait_for_function(
                f"document.documentElement.dataset.mode !== '{modes[-1]}'"
                " && document.activeElement.matches('.theme-switch-button')"
            )
            modes.append(opened.evaluate("document.documentElement.dataset.mode"))
        assert modes == ["auto", "dark", "light", "auto"]


def test_the_contents_open_and_close_by_keyboard_on_a_phone(visitor, page):
    with visitor.page(page, "light-phone") as opened:
        link = opened.locator(
            "#pst-primary-sidebar a.reference, #pst-primary-sidebar-modal a.reference"
        )
        assert not link.first.is_visible()
        for _ in range(STOPS):
            opened.keyboard.press("Tab")
            stop = opened.evaluate(FOCUSED)
            assert stop["shown"], stop["html"]
            if opened.evaluate("document.activeElement.matches('.primary-toggle')"):
                break
        opened.keyboard.press("Enter")
        link.first.wait_for(state="visible")
        opened.keyboard.press("Escape")
        link.first.wait_for(state="hidden")


def test_nothing_is_cut_off_on_paper(visitor, page):
    with visitor.page(page, "light-desktop") as opened:
        opened.set_viewport_size(PAPER)
        opened.emulate_media(media="print")
        opened.evaluate(visits.OPEN_ALL)
        assert opened.evaluate(NO_USE_ON_PAPER) == []
        assert opened.evaluate(CUT_OFF) == []


def test_a_dark_page_is_printed_dark_on_white(visitor, page):
    with visitor.page(page, "dark-desktop") as opened:
        assert opened.evaluate("document.documentElement.dataset.theme") == "dark"
        opened.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert opened.evaluate("document.documentElement.dataset.theme") == "light"
        opened.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert opened.evaluate("document.documentElement.dataset.theme") == "dark"


FROM_DISK = ["index.html", "search.html", *[p for p in built.pages() if p.startswith("book/")][:3]]


@pytest.mark.parametrize("name", FROM_DISK)
def test_a_page_works_when_it_is_opened_from_a_disk(visitor, name):
    if not name.startswith("book/") and not (built.HTML / name).exists():
        needs.demand(built.NO_BOOK)
    with visitor.page(name, "light-desktop", address=built.HTML.as_uri() + "/") as opened:
        assert opened.locator("h1:visible").first.is_visible()
        assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
        assert opened.complaints == []


def test_the_search_finds_a_page(visitor):
    with visitor.page("search.html", "light-desktop") as opened:
        opened.goto(visitor.url("search.html?q=attention"))
        found = opened.locator("#search-results li a")
        found.first.wait_for()
        assert "02_causal_attention" in " ".join(link.get_attribute("href") for link in found.all())
