"""Drawings: well-formed, inert, legible, nothing over anything else, in light and in dark."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimlens.ci.figures import words
from claimlens.ci.figures.draw import draw
from claimlens.ci.figures.histogram import bins
from claimlens.ci.figures.placing import Box, apart, beside
from claimlens.ci.figures.scale import Axis
from claimlens.ci.selftests.figure_samples import SAMPLES, cloud, heads, hostile, tokens
from claimlens.circuits.figures import Figure, Histogram, TokenMap

EVERY = {**{name: make() for name, make in SAMPLES.items()}, **hostile()}
SVG = "{http://www.w3.org/2000/svg}"
HARMLESS = {
    "svg", "title", "desc", "style", "rect", "text", "g", "line", "polyline", "polygon", "circle",
    "path", "html", "head", "meta", "body", "main", "section", "h2", "p", "span", "i", "fieldset",
    "legend", "input", "label", "div", "table", "thead", "tbody", "tr", "th", "td", "bdi",
}  # fmt: skip


class Seen(HTMLParser):
    """Elements, attributes and text of a document, as a browser would find them."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.elements: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


# --- inert and legible ---------------------------------------------------------------------------


@pytest.mark.parametrize("figure", EVERY.values(), ids=EVERY)
def test_nothing_in_a_drawing_can_act(figure: Figure) -> None:
    document = draw(figure).standalone()
    seen = Seen(document)
    assert set(seen.elements) <= HARMLESS
    assert not {name for name in seen.attributes if name.startswith("on") or "href" in name}
    assert not {"src", "style", "action"} & seen.attributes
    assert "url(" not in document
    assert "@import" not in document
    document.encode("utf-8")  # no lone surrogates


@pytest.mark.parametrize("figure", EVERY.values(), ids=EVERY)
def test_a_drawing_is_well_formed_and_names_itself(figure: Figure) -> None:
    drawing = draw(figure, "mine")
    if drawing.suffix == "html":
        assert Seen(drawing.standalone()).elements["h2"] == 1
        assert 'aria-labelledby="mine-title"' in drawing.body
        return
    root = ElementTree.fromstring(drawing.standalone())
    assert root.get("role") == "img"
    labels = (root.get("aria-labelledby") or "").split()
    described = [root.find(f"*[@id='{label}']") for label in labels]
    assert all(element is not None and element.text for element in described), labels


def test_hostile_tokens_are_shown_in_their_cells() -> None:
    seen = Seen(draw(hostile()["TokenMap"]).standalone())
    for shown in ("<script>alert(1)</script>", "{{␣7␣*␣7}}"[:3], "a↵b⇥c⟨U+000D⟩", "⟨U+D800⟩"):
        assert shown in seen.text
    assert "⟨U+202E⟩gnp.exe⟨U+2066⟩" in seen.text
    assert "x" * 61 not in seen.text


@given(st.text())
def test_every_character_shown_has_a_sign_of_its_own(text: str) -> None:
    shown = words.visible(text)
    assert not set(shown) & set("\n\r\t\0\x1b\x7f\u202e\u2066\ufeff\u200b\ud800\u2028")
    assert len(shown) >= len(text)
    assert words.token(text, 10)
    assert len(words.visible(text, 10)) <= 10


def test_plain_text_stays_as_it_is() -> None:
    plain = "Émile said “no”. 日本語 שלום 👨\u200d👩 e\u0301"
    assert words.visible(plain) == plain


def test_an_id_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="id '1\"><script>'"):
        draw(heads(), '1"><script>')


def test_a_figure_that_nobody_draws_is_refused() -> None:
    with pytest.raises(TypeError, match="nothing draws a Figure"):
        draw(Figure())


# --- nothing over anything else ------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """A text of a drawing and about where it lies."""

    text: str
    box: Box


def texts(document: str) -> list[Text]:
    """The upright texts of an SVG, each with the room it takes."""
    root = ElementTree.fromstring(document)
    body = next(g for g in root.findall(f"{SVG}g") if g.get("transform"))
    top = float((body.get("transform") or "").split()[1].rstrip(")"))
    found = [_text(e, 0.0) for e in root.findall(f"{SVG}text")]
    found += [_text(e, top) for e in body.iter(f"{SVG}text") if e.get("x")]
    return found


def _text(element: ElementTree.Element, top: float) -> Text:
    classes = (element.get("class") or "").split()
    size = {"heading": 15, "small": 11, "cell": 10}.get(
        next((c for c in classes if c in ("heading", "small", "cell")), ""), 12
    )
    text = "".join((element.text or "", *((child.tail or "") for child in element)))
    wide = words.width(text, size) * 0.92  # `width` errs on the broad side
    x, y = float(element.get("x") or 0), float(element.get("y") or 0) + top
    left = x - wide if "end" in classes else x - wide / 2 if "middle" in classes else x
    return Text(text, Box(left, y - size * 0.75, left + wide, y + size * 0.15))


def overlaps(found: list[Text]) -> list[tuple[str, str]]:
    return [
        (a.text, b.text) for i, a in enumerate(found) for b in found[i + 1 :] if a.box.meets(b.box)
    ]


DRAWN = {name: figure for name, figure in EVERY.items() if draw(figure).suffix == "svg"}


@pytest.mark.parametrize("figure", DRAWN.values(), ids=DRAWN)
def test_no_text_lies_over_another_or_outside(figure: Figure) -> None:
    document = draw(figure).standalone()
    found = [text for text in texts(document) if text.text.strip()]
    assert found
    assert overlaps(found) == []
    root = ElementTree.fromstring(document)
    sheet = Box(0, 0, float(root.get("width") or 0), float(root.get("height") or 0))
    assert [text for text in found if not sheet.holds(text.box)] == []


def test_an_overlap_would_be_noticed() -> None:
    document = draw(heads()).standalone()
    moved = re.sub(r'(class="small faint end" x="[\d.]+" y=")[\d.]+', r"\g<1>40", document)
    assert overlaps(texts(moved))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_labels_are_spread_apart(wanted: list[float]) -> None:
    placed = apart(wanted, 13, 0, 110)
    assert all(b - a >= 13 - 1e-9 for a, b in zip(sorted(placed), sorted(placed)[1:], strict=False))
    assert min(placed) >= -1e-9
    assert max(placed) <= 110 + 1e-9
    assert all(
        (placed[i] <= placed[j]) for i in range(len(wanted)) for j in range(len(wanted))
        if wanted[i] < wanted[j]
    )  # fmt: skip


def test_labels_that_are_far_apart_stay_where_they_are() -> None:
    assert apart([80.0, 10.0, 40.0], 13, 0, 110) == [80, 10, 40]


def test_names_of_points_keep_clear_and_what_has_no_room_is_listed() -> None:
    bounds = Box(0, 0, 100, 60)
    placed = beside([(50, 30)] * 40, [(28, 14)] * 40, bounds, keep_clear=[(50, 30)], avoid=[])
    boxes = [box for box in placed if box is not None]
    assert 1 < len(boxes) < 40
    assert not any(a.meets(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
    assert "no room for the names of" in draw(cloud(120, 120)).body
    assert "no room" not in draw(cloud()).body


# --- axes ------------ ----------------------------------------------------------------------------

NUMBERS = st.floats(-1e300, 1e300)


@given(st.lists(NUMBERS, min_size=1, max_size=5))
def test_an_axis_holds_its_values_between_round_ticks(values: list[float]) -> None:
    axis = Axis.over(values, 100, 0)
    assert all(-1e-6 <= axis(value) <= 100 + 1e-6 for value in values)
    assert 2 <= len(axis.ticks) <= 13
    labels = [tick.label for tick in axis.ticks]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 1], ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([-3, 7], ["−4", "−2", "0", "2", "4", "6", "8"]),  # noqa: RUF001  (a true minus sign)
        ([0, 130], ["0", "50", "100", "150"]),
        ([0, 2e-7], ["0", "5e−08", "1e−07", "1.5e−07", "2e−07"]),  # noqa: RUF001  (as above)
        ([1_000_000, 1_000_001], ["1000000", "1000000.2", "1000000.4", "1000000.6", "1000000.8",
                                  "1000001"]),
    ],
)  # fmt: skip
def test_ticks_are_round(values: list[float], labels: list[str]) -> None:
    assert [tick.label for tick in Axis.over(values, 100, 0).ticks] == labels


def test_labels_that_would_meet_are_left_out() -> None:
    labels = [tick.label for tick in Axis.over([1_000_000, 1_000_001], 0, 300).ticks]
    assert labels == ["1000000", "", "1000000.4", "", "1000000.8", ""]


# --- what is drawn is what was given -------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(1, 12))
def test_a_histogram_counts_every_value_once(values: list[float], number: int) -> None:
    counts, edges = bins(Histogram("t", "x", values, number))
    assert sum(counts) == len(values)
    assert len(edges) == number + 1
    assert [int(n) for n in np.histogram(values, np.asarray(edges))[0]] == counts


def test_all_frames_of_a_token_map_share_one_scale() -> None:
    """The value 1 has one colour in every frame, though its frame's largest value differs."""
    body = draw(tokens()).body
    ones = re.findall(r'<td(?: class="(\w+)")? title="[^"]*: 1 logits"', body)
    assert ones == ["p10", "p10", "p10"]
    assert 'class="m20" title=" Mary: −2 logits"' in body  # noqa: RUF001  (a true minus sign)


def test_frames_are_switched_without_a_script() -> None:
    drawing = draw(tokens(), "map")
    buttons = re.findall(r'<input type="radio" name="map-frame" id="(\S+)"(.*?)>', drawing.body)
    assert buttons == [("map-0", " checked"), ("map-1", "")]
    for i in range(2):
        assert f"#map-{i}:checked~.frames>.frame-{i}{{display:block}}" in drawing.style


def test_a_single_frame_needs_no_switch() -> None:
    drawing = draw(TokenMap("t", "u", [["a"]], {"only": [[1.0]]}))
    assert "<input" not in drawing.body
    assert 'class="frames only"' in drawing.body


def test_drawing_twice_gives_the_same() -> None:
    for figure in EVERY.values():
        assert draw(figure).standalone() == draw(figure).standalone()
