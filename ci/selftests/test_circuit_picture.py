"""The circuit's picture: every head in its role's box, arrows from box to box, nothing over it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations
from xml.etree import ElementTree

import pytest

from claimlens.ci.figures.circuit_picture import circuit_picture
from claimlens.ci.figures.placing import Box
from claimlens.ci.selftests.figure_samples import HOSTILE
from claimlens.ci.selftests.heatmap_cells import SVG
from claimlens.ci.selftests.test_figure_drawings import Seen, overlaps, texts
from claimlens.circuits.findings import ROLE_IDS, all_findings
from claimlens.circuits.findings.edges import INDUCTION, IOI, LOGITS, Edge, edges_of
from claimlens.circuits.findings.ioi import GPT2_SMALL

GPT2 = {role: [str(head) for head in heads] for role, heads in GPT2_SMALL.roles.items()}
LARGEST = 15_000
EDGE = 0.51
"""Half a pixel's worth."""


@dataclass(frozen=True)
class Seat:
    """A role's box as it is drawn, and the heads whose names lie in it."""

    box: Box
    heads: list[str]
    outlined: bool
    outlined_heads: list[str]


def picture(
    topic: str, heads: dict[str, list[str]], claimed: str | None = None, mine: tuple[str, ...] = ()
) -> str:
    drawing = circuit_picture(topic, heads, claimed, mine)
    assert drawing is not None
    return drawing.standalone()


def box_of(rect: ElementTree.Element) -> Box:
    x, y, wide, high = (float(rect.get(name, "nan")) for name in ("x", "y", "width", "height"))
    return Box(x, y, x + wide, y + high)


def seats(document: str) -> dict[str, Seat]:
    """By role: its box, and what lies in it, by position alone."""
    root = ElementTree.fromstring(document)
    chips = [
        (text.text or "", float(text.get("x", "nan")), float(text.get("y", "nan")))
        for text in root.iter(f"{SVG}text")
        if text.get("class") == "middle small"
    ]
    rects = [(rect, (rect.get("class") or "").split()) for rect in root.iter(f"{SVG}rect")]
    marks = [box_of(rect) for rect, classes in rects if classes == ["mark"]]
    found: dict[str, Seat] = {}
    for group in root.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect[@rx='4']")
        if rect is None:
            continue
        box = box_of(rect)
        inside = [(t, Box(x, y - 4, x, y - 4)) for t, x, y in chips if box.holds(Box(x, y, x, y))]
        marked = [text for text, at in inside if any(mark.holds(at) for mark in marks)]
        role = (group.findtext(f"{SVG}title") or "").partition(": ")[0]
        outlined = "mark" in (rect.get("class") or "").split()
        found[role] = Seat(box, [text for text, _ in inside], outlined, marked)
    return found


def arrows(document: str) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Start and end of each arrow."""
    paths = re.findall(r'<path d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"/>', document)
    return [((float(a), float(b)), (float(c), float(d))) for a, b, c, d in paths]


def tips(document: str) -> list[tuple[float, float]]:
    found = re.findall(r'<path class="tip" d="M([\d.]+) ([\d.]+)l', document)
    return [(float(x), float(y)) for x, y in found]


def joined(document: str) -> set[tuple[str, str]]:
    """The roles that each arrow leads from and to, by where it begins and ends."""
    at = seats(document)

    def below(x: float, y: float) -> str:
        return next((r for r, s in at.items() if _spans(s, x) and abs(s.box.bottom - y) < EDGE), "")

    def above(x: float, y: float) -> str:
        return next((r for r, s in at.items() if _spans(s, x) and abs(s.box.top - y) < EDGE), "")

    return {(below(*start), above(*end)) for start, end in arrows(document)}


def _spans(seat: Seat, x: float) -> bool:
    return seat.box.left <= x <= seat.box.right


def crossed(document: str) -> list[str]:
    """Roles through whose box an arrow leads."""
    found = []
    for (x0, y0), (x1, y1) in arrows(document):
        for i in range(1, 100):
            x, y = x0 + (x1 - x0) * i / 100, y0 + (y1 - y0) * i / 100
            found += [r for r, s in seats(document).items() if s.box.holds(Box(x, y, x, y))]
    return found


DRAWN = {
    "gpt2": picture("ioi", GPT2),
    "a claimed mover": picture("ioi/name_mover", GPT2, "ioi/name_mover", ("L9H6",)),
    "no heads": picture("backup", {}),
    "a claimed head that the roles do not name": picture(
        "copy_suppression", GPT2, "copy_suppression/negative_head", ("L11H1",)
    ),
    "many heads": picture("ioi", {role: [f"L{i}H11" for i in range(10, 40)] for role in GPT2}),
    "induction": picture("induction", GPT2),
    "hostile": picture("ioi", {role: list(HOSTILE) for role in GPT2}),
}


@pytest.mark.parametrize("document", DRAWN.values(), ids=DRAWN)
def test_nothing_lies_over_anything_else(document: str) -> None:
    found = seats(document)
    for (a, one), (b, other) in combinations(found.items(), 2):
        assert not one.box.meets(other.box), (a, b)
    assert crossed(document) == []
    shown = [text for text in texts(document) if text.text.strip()]
    assert overlaps(shown) == []
    root = ElementTree.fromstring(document)
    sheet = Box(0, 0, float(root.get("width", 0)), float(root.get("height", 0)))
    assert [text for text in shown if not sheet.holds(text.box)] == []


@pytest.mark.parametrize("document", DRAWN.values(), ids=DRAWN)
def test_arrows_end_at_the_boxes_of_their_roles(document: str) -> None:
    edges = INDUCTION if "The induction circuit" in document else IOI
    assert joined(document) == {(edge.sender, edge.receiver) for edge in edges}
    assert tips(document) == [end for _, end in arrows(document)]


@pytest.mark.parametrize("document", DRAWN.values(), ids=DRAWN)
def test_a_picture_is_small_inert_and_as_wide_as_a_telephone(document: str) -> None:
    assert len(document.encode()) <= LARGEST
    seen = Seen(document)
    assert set(seen.elements) <= {"svg", "title", "desc", "style", "rect", "g", "path", "text"}
    assert not {name for name in seen.attributes if name.startswith("on") or "href" in name}
    assert "url(" not in document
    root = ElementTree.fromstring(document)
    assert float(root.get("width", 0)) <= 360
    assert root.findtext(f"{SVG}desc")


def test_every_head_is_in_the_box_of_its_role() -> None:
    found = seats(DRAWN["gpt2"])
    assert {role: seat.heads for role, seat in found.items()} == {**GPT2, LOGITS: []}


def test_the_claimed_role_and_head_are_outlined_and_no_others() -> None:
    found = seats(DRAWN["a claimed mover"])
    assert [role for role, seat in found.items() if seat.outlined] == ["ioi/name_mover"]
    assert {role: seat.outlined_heads for role, seat in found.items() if seat.outlined_heads} == {
        "ioi/name_mover": ["L9H6"]
    }
    assert not any(seat.outlined or seat.outlined_heads for seat in seats(DRAWN["gpt2"]).values())


def test_a_claimed_head_is_shown_though_the_roles_do_not_name_it() -> None:
    found = seats(DRAWN["a claimed head that the roles do not name"])
    assert found["copy_suppression/negative_head"].heads == ["L10H7", "L11H10", "L11H1"]
    many = {"induction/induction_head": [f"L3H{i}" for i in range(30)]}
    last = seats(picture("induction", many, "induction/induction_head", ("L3H29",)))
    seat = last["induction/induction_head"]
    assert (len(seat.heads), seat.outlined_heads) == (9, ["L3H29"])


def test_what_belongs_to_no_circuit_has_no_picture() -> None:
    assert circuit_picture("sae", GPT2) is None
    assert circuit_picture("ioi", GPT2, "sae/quotes") is None
    assert circuit_picture("", {}) is None
    assert circuit_picture("induction", GPT2, "ioi/name_mover") is None


# --- what would be wrong is noticed --------------------------------------------------------------


def test_a_head_in_another_box_would_be_noticed() -> None:
    wrong = DRAWN["gpt2"].replace(">L9H9<", ">swap<").replace(">L7H3<", ">L9H9<")
    found = seats(wrong.replace(">swap<", ">L7H3<"))
    assert found["ioi/name_mover"].heads != GPT2["ioi/name_mover"]
    assert "L9H9" in found["ioi/s_inhibition"].heads


def test_an_arrow_that_ends_elsewhere_would_be_noticed() -> None:
    (_, (x, y)), *_ = arrows(DRAWN["gpt2"])
    wrong = DRAWN["gpt2"].replace(f"L{x:g} {y:g}", f"L{x:g} {y - 12:g}")
    assert ("induction/previous_token", "") in joined(wrong)
    assert tips(wrong) != [end for _, end in arrows(wrong)]


def test_boxes_over_each_other_and_arrows_through_them_would_be_noticed() -> None:
    box = seats(DRAWN["gpt2"])["ioi/name_mover"].box
    wrong = DRAWN["gpt2"].replace(f'y="{box.top:g}"', f'y="{box.top - 60:g}"')
    found = seats(wrong)
    assert found["ioi/name_mover"].box.meets(found["ioi/s_inhibition"].box)
    assert crossed(wrong)


# --- the arrows as data --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edge", dict.fromkeys((*IOI, *INDUCTION)), ids=lambda e: f"{e.sender}-{e.receiver}"
)
def test_every_arrow_joins_known_roles_and_has_a_source(edge: Edge) -> None:
    assert edge.sender in ROLE_IDS
    assert edge.receiver in {*ROLE_IDS, LOGITS}
    assert (edge.into == "logits") == (edge.receiver == LOGITS)
    assert edge.source
    cited = edge.source.rpartition(": ")[2]
    assert "arXiv:" in edge.source or cited in all_findings()


def test_every_published_role_is_in_the_circuit() -> None:
    assert {end for edge in IOI for end in (edge.sender, edge.receiver)} == {*ROLE_IDS, LOGITS}
    for role in ROLE_IDS:
        assert role in {end for edge in edges_of(role) for end in (edge.sender, edge.receiver)}
