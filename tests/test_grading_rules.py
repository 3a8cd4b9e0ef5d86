"""Due dates and late penalties, against sums done by hand and against a slow oracle."""

import datetime
import textwrap
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from course_pkg.grading.rules import ALL, Rules, apply, load, rounded

BERLIN = datetime.timezone(datetime.timedelta(hours=1))
DUE = datetime.datetime(2026, 3, 1, 23, 59, tzinfo=BERLIN)
COURSE = """
    [due]
    all = 2026-07-01T23:59:00+02:00
    3 = 2026-03-01T23:59:00+01:00

    [late]
    grace_minutes = 15
    percent_per_day = 12.5
    at_most_percent = 50
    none_after_days = 7

    [extension.anna]
    3 = 2026-03-08T23:59:00+01:00

    [extension."0012 x"]
    all = 2026-04-01T00:00:00Z

    [extra]
    exercises = ["06.first_update"]
"""


@pytest.fixture
def rules_file(tmp_path):
    def write(text):
        path = tmp_path / "rules.toml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture
def course(rules_file):
    return load(rules_file(COURSE))


def test_the_example_of_the_module_is_read(rules_file):
    from course_pkg.grading import rules

    example = rules.__doc__.split("::\n", 1)[1].split("Every part", 1)[0]
    read = load(rules_file(example))
    assert read.due[3] == DUE
    assert read.percent == 10
    assert read.at_most == 50
    assert read.grace == datetime.timedelta(minutes=15)
    assert read.none_after == datetime.timedelta(days=7)
    assert read.extra == {"06.first_update"}
    assert set(read.extensions) == {"anna"}


def test_an_empty_file_lays_down_nothing(rules_file):
    assert load(rules_file("")) == Rules()


def test_percents_are_exact(course):
    assert course.percent == Fraction(25, 2)


@pytest.mark.parametrize(
    ("after", "percent"),
    [
        (datetime.timedelta(hours=-1), 0),
        (datetime.timedelta(0), 0),
        (datetime.timedelta(minutes=15), 0),
        (datetime.timedelta(minutes=15, microseconds=1), Fraction(25, 2)),
        (datetime.timedelta(days=1), Fraction(25, 2)),
        (datetime.timedelta(days=1, microseconds=1), 25),
        (datetime.timedelta(days=4), 50),
        (datetime.timedelta(days=7), 50),
        (datetime.timedelta(days=7, microseconds=1), 100),
    ],
)
def test_days_begun_are_counted_from_the_due_time(course, after, percent):
    late = apply(course, "ben", 3, (DUE + after).isoformat())
    assert late.percent == percent
    assert (late.line is None) == (after <= datetime.timedelta(0))


def test_the_time_zone_counts(course):
    assert apply(course, "ben", 3, "2026-03-01T22:59:00+00:00").percent == 0
    assert apply(course, "ben", 3, "2026-03-01T23:15:00Z").percent == Fraction(25, 2)


def test_a_time_without_a_zone_is_read_in_the_due_dates(course):
    assert apply(course, "ben", 3, "2026-03-01T23:59:00").percent == 0
    assert apply(course, "ben", 3, "2026-03-02T00:15:00").percent == Fraction(25, 2)


@pytest.mark.parametrize(
    "submitted", [None, "", "yesterday", "2026-13-01T00:00:00", "\x00", "9" * 99]
)
def test_an_unknown_time_is_not_late_and_is_said(course, submitted):
    late = apply(course, "ben", 3, submitted)
    assert late.percent == 0
    assert "unknown" in late.line


@pytest.mark.parametrize("submitted", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_the_ends_of_the_calendar_do_no_harm(course, submitted):
    assert apply(course, "ben", 3, submitted).percent in (0, 100)


def test_without_a_due_date_nothing_is_said():
    assert apply(Rules(), "ben", 3, None) == apply(Rules(), "ben", 3, "2031-01-01T00:00:00Z")
    assert apply(Rules(), "ben", 3, None).line is None


def test_an_extension_counts_for_its_student_and_chapter_only(course):
    late = "2026-03-05T12:00:00+01:00"
    assert apply(course, "anna", 3, late).percent == 0
    assert apply(course, "ben", 3, late).percent == 50
    assert course.due_date("anna", 5) == course.due[ALL]


def test_an_extension_for_all_never_makes_a_date_earlier(course):
    assert course.due_date("0012 x", 3) == datetime.datetime(2026, 4, 1, tzinfo=datetime.UTC)
    assert course.due_date("0012 x", 5) == course.due[ALL]


def test_hours(rules_file):
    rules = load(rules_file("[due]\nall = 2026-03-01T12:00:00Z\n[late]\npercent_per_hour = 3"))
    assert apply(rules, "ben", 1, "2026-03-01T14:00:01Z").percent == 9
    assert apply(rules, "ben", 1, "2026-03-09T14:00:01Z").percent == 100


@given(
    late=st.timedeltas(datetime.timedelta(seconds=-9), datetime.timedelta(days=30)),
    percent=st.fractions(0, 100, max_denominator=100),
    at_most=st.integers(0, 100),
    none_after=st.none() | st.integers(0, 40).map(lambda days: datetime.timedelta(days=days)),
)
def test_the_penalty_is_that_of_counting_day_by_day(late, percent, at_most, none_after):
    rules = Rules({ALL: DUE}, percent=percent, at_most=Fraction(at_most), none_after=none_after)
    expected, day = Fraction(0), datetime.timedelta(0)
    while day < late:
        expected, day = expected + percent, day + datetime.timedelta(days=1)
    expected = min(expected, Fraction(at_most))
    if none_after is not None and late > max(none_after, datetime.timedelta(0)):
        expected = Fraction(100)
    assert apply(rules, "ben", 1, (DUE + late).isoformat()).percent == expected


@given(st.decimals(0, 10_000, places=6))
def test_rounding_is_half_up(value):
    assert rounded(value) == value.quantize(Decimal("0.01"), ROUND_HALF_UP)
    assert rounded(Fraction(value)) == rounded(value)


def test_rounding_a_third():
    assert rounded(Fraction(2, 3)) == Decimal("0.67")
    assert rounded(Fraction(1, 200)) == Decimal("0.01")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[late]\ngrace_minuts = 3", "grace_minutes"),
        ("[lates]\n", "Did you mean 'late'"),
        ("[due]\nchapter3 = 2026-03-01T23:59:00Z", "all"),
        ("[due]\n3 = 2026-03-01T23:59:00", "time zone"),
        ("[due]\n3 = 2026-03-01", "time zone"),
        ('[due]\n3 = "tomorrow"', "time zone"),
        ("[due]\n3 = 2026-03-01T23:59:00Z\n03 = 2026-03-01T23:59:00Z", "twice"),
        ("due = 3", "table"),
        ("[extension]\nanna = 2026-03-01T23:59:00Z", "extension.anna"),
        ("[extension.anna]\nx = 2026-03-01T23:59:00Z", "extension.anna"),
        ("[late]\npercent_per_day = 101", "percent_per_day"),
        ("[late]\npercent_per_day = -1", "percent_per_day"),
        ("[late]\npercent_per_day = nan", "percent_per_day"),
        ("[late]\npercent_per_day = true", "percent_per_day"),
        ('[late]\npercent_per_day = "10"', "percent_per_day"),
        ("[late]\npercent_per_day = 1\npercent_per_hour = 1", "one of them"),
        ("[late]\ngrace_minutes = 5", "takes nothing off"),
        ("[late]\nnone_after_days = inf", "none_after_days"),
        ("[extra]\nexercises = '06.first_update'", "list"),
        ("[extra]\nexercises = ['first_update']", "first_update"),
        ("[extra]\nexercise = []", "exercises"),
        ("[due", "not TOML"),
    ],
)
def test_a_slip_is_named(rules_file, text, told):
    with pytest.raises(ValueError, match=r"rules\.toml") as error:
        load(rules_file(text))
    assert told in str(error.value)


def test_an_extension_for_nobody_is_said(course):
    assert course.oddities(["anna", "0012 x", "ben"]) == []
    (line,) = course.oddities(["anna", "ben"])
    assert "0012 x" in line
