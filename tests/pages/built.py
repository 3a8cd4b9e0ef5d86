"""The built book as files: its pages, what they hold, and a server for them."""

import contextlib
import os
import sys
import threading
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

# BOOK_HTML: another folder with a built book, to look at one that was built elsewhere.
HTML = Path(os.environ.get("BOOK_HTML") or Path(__file__).parents[2] / "_build" / "html").resolve()
SOURCES = "_modules/"  # listings of the package, one like the other
NO_BOOK = f"{HTML} holds no book: run `make book` first"


def is_there():
    return (HTML / "index.html").is_file()


def pages():
    """Every page of the book, as a path below its folder."""
    found = (path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html"))
    return sorted(page for page in found if not page.startswith("_static/"))


def opened_pages():
    """The pages that are opened in a browser: all, but of the listings only the extremes."""
    listings = [page for page in pages() if page.startswith(SOURCES)]
    by_size = sorted(listings, key=lambda page: (HTML / page).stat().st_size)
    left_out = set(by_size[1:-1])
    return [page for page in pages() if page not in left_out]


def redirect(page):
    """Where a page sends its reader at once, or None."""
    for tag, attributes in read(page).elements:
        if tag == "meta" and (attributes.get("http-equiv") or "").lower() == "refresh":
            return attributes["content"].partition("url=")[2].strip("'\" ")
    return None


def names(text):
    return frozenset(text.split())


class Reader(HTMLParser):
    """What one page holds, and what is wrong with its markup.

    ``elements`` is (tag, attributes) of each element; ``mistakes`` is a list of sentences.
    """

    # Elements without an end tag.
    VOID = names("area base br col embed hr img input link meta source track wbr")
    # Elements whose end tag HTML lets an author leave out.
    OPTIONAL = names(
        "p li dt dd tr td th thead tbody tfoot option colgroup optgroup rp rt html head body"
    )
    # A start tag of these ends a paragraph: what follows is not in it, and a later </p> is stray.
    ENDS_PARAGRAPH = names(
        "address article aside blockquote details dialog div dl fieldset "
        "figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr main "
        "menu nav ol p pre section table ul"
    )

    def __init__(self, text):
        super().__init__()
        self.elements, self.mistakes, self._open = [], [], []
        self.feed(text)
        self.close()
        for tag, line in self._open:
            if tag not in self.OPTIONAL:
                self.mistakes.append(f"line {line}: <{tag}> is not closed")

    def handle_starttag(self, tag, attributes):
        line = self.getpos()[0]
        names = [name for name, _ in attributes]
        for name in sorted({name for name in names if names.count(name) > 1}):
            self.mistakes.append(f"line {line}: <{tag}> has the attribute {name} twice")
        self.elements.append((tag, dict(attributes)))
        inside = [name for name, _ in self._open]
        in_svg = "svg" in inside or "math" in inside
        if not in_svg:
            if tag in ("a", "button") and {"a", "button"} & set(inside):
                self.mistakes.append(f"line {line}: <{tag}> inside a link or a button")
            if tag in self.ENDS_PARAGRAPH and inside and inside[-1] == "p":
                self._open.pop()
            if tag in ("li", "dt", "dd", "tr", "td", "th", "option"):
                closes = {"dt": ("dt", "dd"), "dd": ("dt", "dd"), "td": ("td", "th")}
                if inside and inside[-1] in closes.get(tag, (tag,)):
                    self._open.pop()
        if tag not in self.VOID:
            self._open.append((tag, line))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        inside_drawing = {"svg", "math"} & {name for name, _ in self._open}
        if tag not in self.VOID and inside_drawing:
            self._open.pop()

    def handle_endtag(self, tag):
        line = self.getpos()[0]
        if tag in self.VOID:
            self.mistakes.append(f"line {line}: </{tag}> although <{tag}> has no end")
            return
        for index in range(len(self._open) - 1, -1, -1):
            if self._open[index][0] == tag:
                for left, at in self._open[index + 1 :]:
                    if left not in self.OPTIONAL:
                        self.mistakes.append(f"line {line}: </{tag}> closes <{left}> of line {at}")
                del self._open[index:]
                return
        self.mistakes.append(f"line {line}: </{tag}> closes nothing")

    def ids(self):
        return [attributes["id"] for _, attributes in self.elements if "id" in attributes]

    def links(self):
        """Where the page points and what it loads."""
        for tag, attributes in self.elements:
            for name in ("href", "src", "xlink:href", "poster", "action", "data"):
                if attributes.get(name) is not None and not (
                    tag == "base" or name == "data" != tag
                ):
                    yield tag, attributes[name]
            for candidate in (attributes.get("srcset") or "").split(","):
                if candidate.strip():
                    yield tag, candidate.split()[0]

    def loads(self):
        """What the page loads without being asked to: addresses as they stand in it."""
        for tag, attributes in self.elements:
            if tag == "link":
                kinds = (attributes.get("rel") or "").split()
                if {"stylesheet", "icon", "preload", "modulepreload", "manifest"} & set(kinds):
                    yield attributes["href"]
            elif tag != "a" and attributes.get("src"):
                yield attributes["src"]


@cache
def read(page):
    return Reader((HTML / page).read_text(encoding="utf-8"))


def broken_links(page):
    """Each link of a page to a file of the book, or a place in one, that is not there."""
    found = []
    for tag, link in read(page).links():
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        if tag == "form" and not link:
            continue
        address, fragment = urldefrag(urljoin(f"/{page}", link))
        target = unquote(urlsplit(address).path).removeprefix("/")
        if target == "" or target.endswith("/"):
            target += "index.html"
        if not (HTML / target).is_file():
            found.append(f"{link}: there is no {target}")
        elif fragment and target.endswith(".html"):
            place = unquote(fragment)
            names = {a.get("name") for t, a in read(target).elements if t == "a"}
            if place not in read(target).ids() and place not in names:
                found.append(f"{link}: {target} has no id {place!r}")
    return sorted(set(found))


def local_file(url):
    """The file of an address of the book, on the server or on the disk."""
    path = unquote(urlsplit(url).path)
    if urlsplit(url).scheme == "file":
        return Path(path)
    return HTML / path.lstrip("/")


class _Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # a page was left before all had come
            super().handle_error(request, client_address)


@contextlib.contextmanager
def served():
    """The address of the book on a server of its own."""
    with _Server(("127.0.0.1", 0), partial(_Quiet, directory=str(HTML))) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
