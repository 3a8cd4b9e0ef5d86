"""Pages of the book opened in Debian's Chromium, each once in a setting."""

import contextlib
import dataclasses
import importlib.util
from pathlib import Path

import browser
import built

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SETTINGS = {
    f"{theme}-{name}": {"color_scheme": theme, "viewport": size}
    for theme in ("light", "dark")
    for name, size in (("desktop", DESKTOP), ("phone", PHONE))
}
WIDGETS = "/_static/widgets/"

# What is folded away is read too: the page is looked at with everything open.
OPEN_ALL = """async () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    for (const folded of document.querySelectorAll(".toggle-hidden"))
        folded.classList.remove("toggle-hidden");
    // The page is told of what opens in a later task.
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
}"""
SETTLED = """async () => {
    await document.fonts.ready;
    await Promise.all(Array.from(document.images, (image) => {
        if (image.checkVisibility()) image.loading = "eager";
        return image.loading === "eager" && image.decode().catch(() => {});
    }));
    // What fades or glides is neither here nor there.
    document.head.insertAdjacentHTML("beforeend",
        `<style>*, ::before, ::after { transition: none !important; animation: none !important;
                                       scroll-behavior: auto !important }</style>`);
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
}"""
# Elements that stick out of the page, without those in a part that scrolls or hides by itself.
TOO_WIDE = """() => {
    const width = document.documentElement.clientWidth, found = [];
    if (document.documentElement.scrollWidth <= width) return found;
    found.push(`the page is ${document.documentElement.scrollWidth} wide`);
    for (const element of document.body.querySelectorAll("*")) {
        if (element.getBoundingClientRect().right <= width + 1) continue;
        let inside = false;
        for (let up = element.parentElement; up && up !== document.body; up = up.parentElement)
            inside ||= getComputedStyle(up).overflowX !== "visible";
        if (!inside && getComputedStyle(element).position !== "fixed")
            found.push(element.outerHTML.slice(0, 120));
    }
    return found.slice(0, 6);
}"""
# All rules run. Contrast alone takes a second for 400 elements, and a chapter has 6,000 coloured
# words of code: once every other rule has run, words in a colour and on a ground that were there
# before become plain text of what they stand in, and so do formulas, which have its colour.
AXE = """async () => {
    const options = { resultTypes: ["violations"] };
    const all = await axe.run(document,
        { ...options, rules: { "color-contrast": { enabled: false } } });
    const asked = new Set(), known = [];
    const look = (element) => {
        const parts = [getComputedStyle(element).color];
        for (let up = element; up && up.id !== "main-content"; up = up.parentElement) {
            const style = getComputedStyle(up);
            parts.push(style.backgroundColor, style.backgroundImage, style.opacity);
            if (up.tagName === "PRE") parts.push(style.fontSize);
        }
        return parts.join("|");
    };
    for (const word of document.querySelectorAll("pre span:not(:has(*))")) {
        const question = `${look(word)}|${getComputedStyle(word).fontWeight}`;
        if (asked.has(question)) known.push(word);
        asked.add(question);
    }
    for (const formula of document.querySelectorAll("math")) {
        const colors = new Set([formula.parentElement, formula, ...formula.querySelectorAll("*")]
            .map((part) => getComputedStyle(part).color));
        if (colors.size === 1) known.push(formula);
    }
    for (const element of known) element.replaceWith(element.textContent);
    const contrast = await axe.run(document, { ...options, runOnly: ["color-contrast"] });
    return [...all.violations, ...contrast.violations].map((rule) => ({
        id: rule.id, help: rule.help,
        nodes: rule.nodes.map((node) => ({
            target: node.target.join(" "), html: node.html.slice(0, 200),
            why: node.failureSummary.split("\\n").slice(1).join(" ").trim().slice(0, 300) })),
    }));
}"""


def missing():
    """What is not here that the pages need to be looked at, or an empty text."""
    if not built.is_there():
        return built.NO_BOOK
    if axe_file() is None:
        return "the Python package axe-playwright-python is not installed"
    return browser.missing()


def axe_file():
    """axe-core as one script, from the package that brings it."""
    found = importlib.util.find_spec("axe_playwright_python")
    return found and Path(found.submodule_search_locations[0]) / "axe.min.js"


@dataclasses.dataclass
class Seen:
    """What a page did and was in one setting."""

    requests: list
    complaints: list
    too_wide: list
    violations: list

    def weight(self, kinds=""):
        """Bytes of the page and of what it loaded, each file once, without the widgets."""
        files = {built.local_file(url) for url in self.requests if "://" in url}
        return sum(
            path.stat().st_size
            for path in files
            if WIDGETS not in path.as_posix() and path.is_file() and path.suffix.endswith(kinds)
        )


class Visitor:
    """One browser, one context for each setting, one visit for each page in it."""

    def __init__(self, opened, address):
        self.browser, self._address = opened, address
        self._contexts, self._seen = {}, {}

    def context(self, setting):
        if setting not in self._contexts:
            context = self.browser.new_context(**SETTINGS[setting])
            context.set_default_timeout(120_000)  # nothing is timed: a busy machine may be slow
            self._contexts[setting] = context
        return self._contexts[setting]

    def url(self, page):
        return self._address + page

    @contextlib.contextmanager
    def page(self, name, setting, address=None):
        """The page, opened and at rest; ``requests`` and ``complaints`` fill while it is open."""
        page = self.context(setting).new_page()
        page.requests, page.complaints = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("console", lambda message: self._note(page, message))
        page.on("pageerror", lambda error: page.complaints.append(f"error: {error}"))
        page.on("requestfailed", lambda request: self._failed(page, request, name))
        try:
            page.goto((address or self._address) + name)
            if target := built.redirect(name):
                page.wait_for_url(f"**/{target}")
                page.wait_for_load_state()
            page.evaluate(SETTLED)
            yield page
            page.evaluate("localStorage.clear()")  # the next page starts as a first one does
        finally:
            page.close()

    @staticmethod
    def _failed(page, request, name):
        # A page that leads on at once may be left before its icon has come.
        if not (built.redirect(name) and request.failure == "net::ERR_ABORTED"):
            page.complaints.append(f"failed: {request.url}")

    @staticmethod
    def _note(page, message):
        if message.type in ("error", "warning"):
            page.complaints.append(f"console {message.type}: {message.text}")

    def seen(self, name, setting):
        """What the page is in that setting; looked at once."""
        key = name, setting
        if key not in self._seen:
            with self.page(name, setting) as page:
                page.evaluate(OPEN_ALL)
                too_wide = page.evaluate(TOO_WIDE)
                complaints = list(page.complaints)
                requests = list(page.requests)
                page.evaluate(axe_file().read_text(encoding="utf-8"))
                violations = page.evaluate(AXE)
            self._seen[key] = Seen(requests, complaints, too_wide, violations)
        return self._seen[key]


@contextlib.contextmanager
def visitor():
    with browser.chromium() as opened, built.served() as address:
        yield Visitor(opened, address)
