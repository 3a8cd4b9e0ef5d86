"""`make browser`: the built book in a browser, its pages found and their summary told."""

import os

import built
import needs
import pytest
import visits


@pytest.fixture(scope="session")
def book():
    """The built book's folder, or no test."""
    needs.demand("" if built.is_there() else built.NO_BOOK)
    return built.HTML


@pytest.fixture(scope="session")
def visitor():
    """Chromium with the book, or no test."""
    needs.demand(visits.missing())
    with visits.visitor() as opened:
        yield opened


def chosen_settings():
    """All settings, or those that COURSE_SETTINGS names.

    Raises:
        ValueError: it names one that there is not.
    """
    chosen = os.environ.get("COURSE_SETTINGS", "").split() or list(visits.SETTINGS)
    for name in chosen:
        if name not in visits.SETTINGS:
            allowed = ", ".join(visits.SETTINGS)
            raise ValueError(f"COURSE_SETTINGS={name!r} is not allowed: it must be of {allowed}.")
    return chosen


def pytest_generate_tests(metafunc):
    """Pages are found, not listed. Tests of one page go to one process, which opens it once."""
    names = metafunc.fixturenames
    if "page" in names:
        pages = built.opened_pages() if "visitor" in names else built.pages()
        # Without a book there is still one test, which says so.
        params = [
            pytest.param(page, marks=pytest.mark.xdist_group(page)) for page in pages or [None]
        ]
        metafunc.parametrize("page", params)
    if "setting" in names:
        metafunc.parametrize("setting", chosen_settings())


def pytest_terminal_summary(terminalreporter):
    reports = [
        report
        for kind in ("passed", "failed")
        for report in terminalreporter.stats.get(kind, [])
        if getattr(report, "when", "") == "call"
    ]
    told = [dict(report.user_properties) for report in reports if report.user_properties]
    violations = [found[needs.VIOLATIONS] for found in told if needs.VIOLATIONS in found]
    if violations:
        terminalreporter.section("the book in a browser")
        pages = len(built.opened_pages())
        terminalreporter.line(
            f"{pages} pages in {len(chosen_settings())} settings: {len(violations)} looked at by "
            f"axe-core, {sum(violations)} violations"
        )
    weights = sorted(
        (found[needs.WEIGHT] for found in told if needs.WEIGHT in found), key=lambda w: -w[1]
    )
    if weights:
        terminalreporter.line("kB of a page and of what it loads (html, css, js, fonts, images):")
        for page, total, *parts in sorted(weights, key=lambda weight: -weight[1]):
            shares = " ".join(f"{part / 1000:6.0f}" for part in parts)
            terminalreporter.line(f"{total / 1000:7.0f}  ({shares})  {page}")
