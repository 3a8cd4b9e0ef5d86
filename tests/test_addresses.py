"""From the repository's address to the places that open a notebook."""

import pytest

from course_pkg.authoring.addresses import Address

NOTEBOOK = "book/02_causal_attention.ipynb"


def test_without_a_repository_nothing_is_offered():
    address = Address()
    assert address.colab(NOTEBOOK) == address.binder(NOTEBOOK) == ""
    assert address.home == address.requirement == ""


@pytest.mark.parametrize("given", ["", ".git", "/"])
def test_a_repository_on_github_is_offered_everywhere(given):
    address = Address("https://github.com/Owner/course" + given)
    assert address.colab(NOTEBOOK) == (
        "https://colab.research.google.com/github/Owner/course/blob/gh-pages/notebooks/"
        "book/02_causal_attention.ipynb"
    )
    assert address.binder(NOTEBOOK) == (
        "https://mybinder.org/v2/gh/Owner/course/gh-pages"
        "?urlpath=lab%2Ftree%2Fnotebooks%2Fbook%2F02_causal_attention.ipynb"
    )
    assert address.home == "https://owner.github.io/course"
    assert address.requirement == "git+https://github.com/Owner/course@main"


def test_the_branches_and_the_site_can_be_others():
    address = Address(
        "https://github.com/o/c", branch="dev", pages="pages/new", site="https://c.org/"
    )
    assert "/blob/pages/new/notebooks/" in address.colab(NOTEBOOK)
    assert "/o/c/pages%2Fnew?" in address.binder(NOTEBOOK)
    assert address.home == "https://c.org"
    assert address.requirement.endswith("@dev")
    assert Address("https://github.com/o/O.github.io").home == "https://o.github.io"


@pytest.mark.parametrize(
    ("repository", "place"),
    [
        ("https://gitlab.com/group/part/course", "gl/group%2Fpart%2Fcourse"),
        ("https://git.example.org/o/course", "git/https%3A%2F%2Fgit.example.org%2Fo%2Fcourse"),
    ],
)
def test_colab_reads_github_alone_and_binder_other_hosts_too(repository, place):
    address = Address(repository)
    assert address.colab(NOTEBOOK) == ""
    assert address.binder(NOTEBOOK).startswith(f"https://mybinder.org/v2/{place}/gh-pages?")
    assert address.home == ""
    assert address.requirement == f"git+{repository}@main"


@pytest.mark.parametrize("given", ["github.com/o/c", "https://github.com/o", "o/c", "git@x:o/c"])
def test_what_is_no_address_is_refused(given):
    with pytest.raises(ValueError, match=r"repository=.* must look like 'https://github"):
        Address(given)
