"""The filters of the first page in a browser: by CSS alone, and with the script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from claimlens.ci.selftests.browser import View, Watched, looking
from claimlens.ci.selftests.report_samples import finding, run, written

HOSTILE_MODEL = '"]{}<b>&x=1#'
FOUND = [
    finding("ioi/a"),
    finding("ioi/a", "planted", verdict="refuted"),
    finding("ioi/b", verdict="refuted", head="L9H9"),
    finding("sae/c", "planted"),
    finding("sae/d", verdict="not measured", reason="no file", comparisons=[]),
    finding("sae/d", HOSTILE_MODEL),
    finding("tokens/e", HOSTILE_MODEL),
]
ALL = ["ioi/a", "ioi/b", "sae/c", "sae/d", "tokens/e"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("report"), run(*FOUND)) / "index.html"


@pytest.fixture(params=[True, False], ids=["with-javascript", "without-javascript"])
def page(request: pytest.FixtureRequest, report: Path, browser: Browser) -> Iterator[Watched]:
    with looking(browser, View(script=request.param)) as seen:
        seen.open(report)
        yield seen
        assert seen.faults == []


@pytest.fixture
def scripted(report: Path, browser: Browser) -> Iterator[Watched]:
    with looking(browser, View()) as seen:
        seen.open(report)
        yield seen
        assert seen.faults == []


def shown(seen: Watched) -> list[str]:
    """The claims of the rows that can be seen."""
    rows = seen.page.locator(".topic tbody tr").all()
    return [row.locator("th").inner_text() for row in rows if row.is_visible()]


def texts(found: Locator) -> list[str]:
    return [each.inner_text() for each in found.all() if each.is_visible()]


def choose(seen: Watched, **given: str) -> None:
    for group, name in given.items():
        box = seen.page.get_by_role("group", name=group.capitalize(), exact=True)
        box.get_by_role("radio", name=name, exact=True).check()


def told(seen: Watched, text: str) -> None:
    """Wait until the count says this."""
    seen.page.get_by_role("status").get_by_text(text, exact=True).wait_for(timeout=5000)


# --- by CSS alone


@pytest.mark.parametrize(
    ("chosen", "claims"),
    [
        ({}, ALL),
        ({"verdict": "refuted"}, ["ioi/a", "ioi/b"]),
        ({"verdict": "holds"}, ["ioi/a", "sae/c", "sae/d", "tokens/e"]),
        ({"verdict": "undecided"}, []),
        ({"topic": "sae"}, ["sae/c", "sae/d"]),
        ({"model": "planted"}, ["ioi/a", "sae/c"]),
        ({"model": HOSTILE_MODEL}, ["sae/d", "tokens/e"]),
        ({"model": "planted", "verdict": "refuted"}, ["ioi/a"]),
        ({"model": "default", "verdict": "holds"}, ["ioi/a"]),
        ({"model": "default", "topic": "ioi", "verdict": "refuted"}, ["ioi/b"]),
        ({"model": "planted", "topic": "sae", "verdict": "refuted"}, []),
    ],
    ids=str,
)
def test_buttons_filter_alone_and_together(
    page: Watched, chosen: dict[str, str], claims: list[str]
) -> None:
    choose(page, **chosen)
    assert shown(page) == claims
    topics = list(dict.fromkeys(claim.partition("/")[0] for claim in claims))
    assert texts(page.page.locator(".topic h2")) == topics, "no heading of nothing"


def test_of_a_model_its_column_alone_is_shown(page: Watched) -> None:
    choose(page, model="planted")
    heads = page.page.locator(".topic thead th")
    assert texts(heads) == ["claim", "planted"] * 2
    assert texts(page.page.locator(".topic td b")) == ["✗", "✓"]
    assert texts(page.page.locator("summary")) == ["planted"]
    assert texts(page.page.locator(".topic p")) == ["On planted 0 of 1 hold; 1 refuted.",
                                                    "On planted 1 of 1 hold."]  # fmt: skip


def test_the_sentences_of_a_model_are_its_own(page: Watched) -> None:
    """Also where the models before it have none."""
    choose(page, model=HOSTILE_MODEL)
    told = texts(page.page.locator(".topic p"))
    assert told == [f"On {HOSTILE_MODEL} 1 of 1 hold."] * 2


def test_what_was_not_measured_is_filtered_too(page: Watched) -> None:
    lost = page.page.locator(".lost h2")
    for chosen, visible in (
        ({"topic": "ioi"}, False), ({"topic": "sae"}, True), ({"model": "planted"}, False),
        ({"model": "default"}, True), ({"verdict": "refuted"}, False),
        ({"verdict": "not measured"}, True),
    ):  # fmt: skip
        page.page.get_by_role("button", name="Show all").click()
        choose(page, **chosen)
        assert lost.is_visible() == visible, chosen


def test_one_button_shows_all_again(page: Watched) -> None:
    choose(page, model="planted", topic="sae", verdict="refuted")
    page.page.get_by_role("button", name="Show all").click()
    rows = page.page.locator(".topic tbody tr").filter(visible=True)
    expect(rows).to_have_count(len(ALL))


def test_keys_alone_are_enough(page: Watched) -> None:
    page.page.keyboard.press("Tab")
    assert page.page.locator(":focus").get_attribute("name") == "verdict"
    outline = page.page.locator(":focus").evaluate("e => getComputedStyle(e).outlineStyle")
    assert outline != "none", "it can be seen where one is"
    for _ in range(2):
        page.page.keyboard.press("ArrowRight")
    assert shown(page) == ["ioi/a", "ioi/b"]
    page.page.keyboard.press("Enter")  # sends no form anywhere
    assert shown(page) == ["ioi/a", "ioi/b"]


def test_without_a_script_no_search_is_offered(report: Path, browser: Browser) -> None:
    with looking(browser, View(script=False)) as seen:
        seen.open(report)
        assert not seen.page.get_by_role("searchbox").is_visible()


# --- with the script


def test_a_search_finds_ids_heads_and_reasons(scripted: Watched) -> None:
    field = scripted.page.get_by_role("searchbox", name="Search")
    for text, claims in (
        ("sae", ["sae/c", "sae/d"]), ("L9h9", ["ioi/b"]), ("no FILE", ["sae/d"]),
        ("ioi refuted", ["ioi/a", "ioi/b"]), ("nothing", []), ("", ALL),
    ):  # fmt: skip
        field.fill(text)
        field.press("Enter")  # at once; without it when nothing was typed for a while
        told(scripted, f"{len(claims)} of 5 claims shown")
        assert shown(scripted) == claims, text


def test_a_search_and_the_buttons_are_combined(scripted: Watched) -> None:
    told(scripted, "5 of 5 claims shown")
    scripted.page.get_by_role("searchbox").fill("/a")
    choose(scripted, verdict="refuted", model="planted")
    told(scripted, "1 of 5 claims shown")
    choose(scripted, topic="sae")
    told(scripted, "0 of 5 claims shown")
    assert texts(scripted.page.locator(".topic h2")) == []
    scripted.page.get_by_role("button", name="Show all").click()
    told(scripted, "5 of 5 claims shown")
    assert scripted.page.get_by_role("searchbox").input_value() == ""
    scripted.page.get_by_role("searchbox").fill("sae/c")
    told(scripted, "1 of 5 claims shown")
    scripted.page.get_by_role("searchbox").press("Escape")
    told(scripted, "5 of 5 claims shown")


def test_the_address_keeps_what_is_shown(scripted: Watched, report: Path, browser: Browser) -> None:
    choose(scripted, model=HOSTILE_MODEL, topic="sae")
    scripted.page.get_by_role("searchbox").fill("d & <b>")
    told(scripted, "0 of 5 claims shown")
    fragment = "#" + scripted.page.url.partition("#")[2]
    with looking(browser, View()) as again:
        again.open(report, fragment)
        assert again.page.get_by_role("searchbox").input_value() == "d & <b>"
        assert again.page.locator("[name=model]:checked").input_value() == HOSTILE_MODEL
        again.page.get_by_role("searchbox").fill("")
        told(again, "1 of 5 claims shown")
        assert shown(again) == ["sae/d"]
        assert again.faults == []
    scripted.page.get_by_role("button", name="Show all").click()
    told(scripted, "5 of 5 claims shown")
    assert "#" not in scripted.page.url


def test_an_address_may_be_changed_by_hand(scripted: Watched) -> None:
    scripted.page.evaluate("location.hash = '#verdict=refuted'")
    told(scripted, "2 of 5 claims shown")
    assert shown(scripted) == ["ioi/a", "ioi/b"]
    scripted.page.evaluate("location.hash = '#verdict=never-heard-of&model=x&y'")
    told(scripted, "5 of 5 claims shown")
    assert "#" not in scripted.page.url


def test_a_search_finds_what_was_not_measured(scripted: Watched) -> None:
    lost = scripted.page.locator(".lost h2")
    scripted.page.get_by_role("searchbox").fill("no file")
    told(scripted, "1 of 5 claims shown")
    assert lost.is_visible()
    scripted.page.get_by_role("searchbox").fill("ioi")
    told(scripted, "2 of 5 claims shown")
    assert not lost.is_visible()


def test_the_count_is_announced(scripted: Watched) -> None:
    count = scripted.page.get_by_role("status")
    assert count.evaluate("e => e.tagName") == "OUTPUT", "a live region, polite by itself"
