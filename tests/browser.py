"""What tests and benchmarks of the book's widgets share: Debian's Chromium, without a network."""

import contextlib
import importlib.util
from pathlib import Path

CHROMIUM = Path("/usr/bin/chromium")
WIDGETS = Path(__file__).parent.parent / "book" / "_static" / "widgets"


def missing():
    """What of a browser is not here, or an empty text."""
    if importlib.util.find_spec("playwright") is None:
        return "the Python package playwright is not installed"
    return "" if CHROMIUM.exists() else f"{CHROMIUM} is not installed"


@contextlib.contextmanager
def chromium():
    """A browser in which pages can be opened."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


class Page:
    """A page from the disk that must not ask for anything elsewhere nor complain.

    ``complaints`` lists each request that is no file, each error and each message of the console.
    """

    def __init__(self, browser, path, **options):
        self.complaints = []
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(60_000)  # nothing is timed: a busy machine may be slow
        self.page.route("**/*", self._route)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.resolve().as_uri())

    def _route(self, route):
        if route.request.url.startswith(("file:", "data:")):
            route.continue_()
        else:
            self.complaints.append(f"a request to {route.request.url}")
            route.abort()
