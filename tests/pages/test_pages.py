"""Every page of the built book in Chromium, light and dark, on a wide screen and on a phone."""

import needs

PAGE_BYTES = 1_000_000


def test_nothing_is_asked_of_another_host(visitor, page, setting):
    own = visitor.url("")
    seen = visitor.seen(page, setting)
    assert [url for url in seen.requests if not url.startswith((own, "data:", "blob:"))] == []


def test_the_console_is_silent(visitor, page, setting):
    assert visitor.seen(page, setting).complaints == []


def test_axe_finds_nothing(visitor, page, setting, record_property):
    violations = visitor.seen(page, setting).violations
    record_property(needs.VIOLATIONS, sum(len(rule["nodes"]) for rule in violations))
    told = [
        f"{rule['id']} ({rule['help']}): {node['target']}: {node['html']}: {node['why']}"
        for rule in violations
        for node in rule["nodes"]
    ]
    assert told == []


def test_the_page_does_not_scroll_sideways(visitor, page, setting):
    assert visitor.seen(page, setting).too_wide == []


def test_the_page_is_not_heavy(visitor, page, record_property):
    seen = visitor.seen(page, "light-desktop")
    parts = [seen.weight(kind) for kind in ("html", "css", "js", (".woff2", ".woff", ".ttf"))]
    images = seen.weight((".svg", ".webp"))
    record_property(needs.WEIGHT, [page, seen.weight(), *parts, images])
    assert seen.weight() < PAGE_BYTES
