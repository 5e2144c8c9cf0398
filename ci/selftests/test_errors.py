"""docs/errors.md is what the code says today, and no `raise` is missing without a reason."""

from __future__ import annotations

import pytest

from claimlens.ci.selftests.errors.entry import Entry, Nothing, provoked
from claimlens.ci.selftests.errors.sites import of_source, sites
from claimlens.ci.selftests.errors_page import (
    AREAS,
    NOT_PROVOKED,
    PAGE,
    collected,
    entries,
    faults,
    page,
    reasons,
)
from claimlens.fixtures.sizes import bytes_of

SOURCE = "def f():\n    raise ValueError(\n        'a'\n    )\n\nraise KeyError\n"


@pytest.fixture(scope="module")
def listed() -> dict[str, str]:
    return reasons(NOT_PROVOKED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("area", AREAS)
def test_each_entry_provokes_a_site_of_its_own(area: str) -> None:
    known = sites()
    met = [provoked(entry, known) for entry in entries(area)]
    assert all(one.message.strip() for one in met)


def test_every_site_has_an_entry_or_a_reason(listed: dict[str, str]) -> None:
    known = sites()
    met = [one for found in collected(known).values() for one in found]
    assert faults(known, met, listed) == []


def test_the_page_is_what_the_entries_say(listed: dict[str, str]) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(collected(sites()), listed), (
        "docs/errors.md is stale; python -m claimlens.ci.selftests.errors_page writes it"
    )


def test_sites_are_named_by_function_and_count_their_lines() -> None:
    first, second = of_source("circuits/a.py", SOURCE)
    assert (str(first), first.lines) == ("circuits/a.py f ValueError", (2, 4))
    assert str(second) == "circuits/a.py <module> KeyError"


def test_two_raises_of_a_function_have_two_names() -> None:
    found = of_source("a.py", "def f(x):\n    if x:\n        raise E('a')\n    raise E('b')\n")
    assert [str(site) for site in found] == ["a.py f E", "a.py f E #2"]


def test_a_new_raise_is_a_fault() -> None:
    new = of_source("circuits/a.py", SOURCE)
    told = faults(new, [], {"circuits/a.py <module> KeyError": "an invariant"})
    assert told == ["circuits/a.py f ValueError: no entry and no reason"]


def test_a_listed_site_that_is_no_more_is_a_fault() -> None:
    assert faults([], [], {"a.py f E": "an invariant"}) == ["a.py f E: listed, and no such site"]


def test_a_listed_site_needs_a_reason() -> None:
    known = of_source("a.py", "raise E")
    listed = reasons("a.py <module> E\n")
    assert faults(known, [], listed) == ["a.py <module> E: listed without a reason"]


def test_a_site_that_is_provoked_is_not_listed_as_not() -> None:
    known = sites()
    met = provoked(Entry(lambda _: bytes_of("0")), known)
    told = faults([met.site], [met], {str(met.site): "no entry yet"})
    assert told == [f"{met.site}: provoked, and listed as not"]


def test_an_entry_that_provokes_nothing_is_refused() -> None:
    with pytest.raises(Nothing, match=r"test_errors\.py:\d+ provokes nothing"):
        provoked(Entry(lambda _: bytes_of("1GB")), sites())


def test_an_error_of_other_code_is_no_site() -> None:
    with pytest.raises(Nothing, match="is no site: ValueError"):
        provoked(Entry(lambda _: int("x")), sites())


def test_another_message_makes_the_page_stale(listed: dict[str, str]) -> None:
    met = provoked(Entry(lambda _: bytes_of("2 gigs")), sites())
    other = provoked(Entry(lambda _: bytes_of("3 gigs")), sites())
    assert page({"options": [met]}, listed) != page({"options": [other]}, listed)
