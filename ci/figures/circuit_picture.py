"""The circuit of a claim: its roles as boxes, from the first layers at the top to the logits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from claimlens.ci.figures import words
from claimlens.ci.figures.drawing import Drawing, Sheet, svg
from claimlens.ci.figures.placing import Box
from claimlens.circuits.findings.edges import LOGITS, Edge, circuit_name, edges_of

WIDTH, SIDE, BETWEEN_BOXES, BETWEEN_ROWS = 352.0, 10.0, 28.0, 46.0
HEADING, CHIP_ROW, PADDING, ACROSS = 22.0, 18.0, 6.0, 3
MOST = 9
"""Heads of a role that are written out."""
TIP = 5.0
"""Half the width of an arrow's tip [px]."""
_NAMES = {"ioi/s_inhibition": "S-inhibition"}
"""Of roles whose id does not say it well."""


@dataclass(frozen=True)
class Chip:
    """One head in its role's box."""

    text: str
    box: Box
    claimed: bool


@dataclass(frozen=True)
class Role:
    """One box: a role and its heads."""

    id: str
    name: str
    box: Box
    chips: Sequence[Chip]
    note: str
    whole: str
    claimed: bool

    @property
    def middle(self) -> float:
        """From the left."""
        return (self.box.left + self.box.right) / 2


@dataclass(frozen=True)
class Arrow:
    """From the lower edge of one box to the upper one of another."""

    sender: str
    receiver: str
    start: tuple[float, float]
    end: tuple[float, float]
    label: str
    leftward: bool
    told: str
    source: str

    @property
    def turn(self) -> float:
        """Of the tip, in degrees, from one that points down."""
        across, down = self.end[0] - self.start[0], self.end[1] - self.start[1]
        return -math.degrees(math.atan2(across, down))

    @property
    def label_at(self) -> tuple[float, float]:
        """Beside the arrow, a half row above its end, as far off as a steep arrow asks for."""
        across, down = self.end[0] - self.start[0], self.end[1] - self.start[1]
        x = self.end[0] - BETWEEN_ROWS / 2 * across / down
        off = 5 + 9 * abs(across / down)
        return x + (-off if self.leftward else off), self.end[1] - BETWEEN_ROWS / 2 + 4


def circuit_picture(
    topic: str,
    heads: Mapping[str, Sequence[str]],
    claimed: str | None = None,
    claimed_heads: Sequence[str] = (),
    id: str = "circuit",
) -> Drawing | None:
    """The circuit that a topic or a role belongs to, with a model's heads by role.

    The claimed role and heads are outlined. None where no circuit is known of the topic, or where
    the claimed role is no part of it.
    """
    edges = edges_of(topic)
    depths = _depths(edges)
    if not edges or (claimed is not None and claimed not in depths):
        return None
    roles = _roles(depths, {**heads, LOGITS: ()}, claimed, claimed_heads)
    arrows = _arrows(edges, {role.id: role for role in roles})
    height = max(role.box.bottom for role in roles)
    title = f"The {circuit_name(topic)} circuit"
    sheet = Sheet(id, title, _description(roles, arrows), WIDTH, height)
    return svg("circuit_picture.svg.jinja", sheet, roles=roles, arrows=arrows, tip=TIP)


def _depths(edges: Sequence[Edge]) -> dict[str, int]:
    """Each role's row, from the top: right above the first that reads from it."""
    below: dict[str, int] = {LOGITS: 0}
    for _ in edges:  # as often as the longest path could be
        for edge in edges:
            below[edge.sender] = max(below.get(edge.sender, 0), below.get(edge.receiver, 0) + 1)
    return {role: max(below.values()) - height for role, height in below.items()}


def _roles(
    depths: Mapping[str, int],
    heads: Mapping[str, Sequence[str]],
    claimed: str | None,
    claimed_heads: Sequence[str],
) -> list[Role]:
    found, top = list[Role](), 0.0
    for depth in range(max(depths.values()) + 1):
        row = [role for role, at in depths.items() if at == depth]
        wide = (WIDTH - 2 * SIDE - BETWEEN_BOXES) / 2
        left = (WIDTH - len(row) * wide - (len(row) - 1) * BETWEEN_BOXES) / 2
        for i, role in enumerate(row):
            mine = claimed_heads if role == claimed else ()
            shown = list(dict.fromkeys([*heads.get(role, ()), *mine]))
            start = left + i * (wide + BETWEEN_BOXES)
            found.append(_role(role, shown, (start, top, wide), role == claimed, mine))
        top = max(role.box.bottom for role in found) + BETWEEN_ROWS
    return found


def _role(
    id: str,
    heads: Sequence[str],
    at: tuple[float, float, float],
    claimed: bool,
    claimed_heads: Sequence[str],
) -> Role:
    left, top, wide = at
    across = (wide - 2 * PADDING) / ACROSS
    chips = [
        Chip(
            words.fitted(words.visible(head, 20), across - 2, 11),
            _chip(
                left + PADDING + i % ACROSS * across, top + HEADING + i // ACROSS * CHIP_ROW, across
            ),
            head in claimed_heads,
        )
        for i, head in enumerate(_first(heads, claimed_heads))
    ]
    more = len(heads) - len(chips)
    note = "" if id == LOGITS else f"and {more} more" if more else "" if heads else "no heads known"
    bottom = max((chip.box.bottom for chip in chips), default=top + HEADING - 2)
    box = Box(left, top, left + wide, bottom + PADDING + (CHIP_ROW if note else 0))
    name = _NAMES.get(id, id.rpartition("/")[2].replace("_", " "))
    whole = ", ".join(words.visible(head, 12) for head in _first(heads, claimed_heads)) or note
    return Role(id, name, box, chips, note, f"{id}: {whole}" if whole else id, claimed)


def _first(heads: Sequence[str], claimed: Sequence[str]) -> list[str]:
    """As many heads as are written out, the claimed ones among them, in their order."""
    kept = sorted(range(len(heads)), key=lambda i: heads[i] not in claimed)[:MOST]
    return [heads[i] for i in sorted(kept)]


def _chip(left: float, top: float, wide: float) -> Box:
    return Box(left + 1, top + 1, left + wide - 1, top + CHIP_ROW - 1)


def _arrows(edges: Sequence[Edge], roles: Mapping[str, Role]) -> list[Arrow]:
    return [_arrow(edge, edges, roles) for edge in edges]


def _arrow(edge: Edge, edges: Sequence[Edge], roles: Mapping[str, Role]) -> Arrow:
    sender, receiver = roles[edge.sender], roles[edge.receiver]
    out = [roles[e.receiver] for e in edges if e.sender == edge.sender]
    come = [roles[e.sender] for e in edges if e.receiver == edge.receiver]
    start = _port(sender.box, receiver, out), sender.box.bottom
    end = _port(receiver.box, sender, come), receiver.box.top
    at = "" if edge.into == "logits" else f": {edge.into}"
    into = "the logits" if edge.into == "logits" else f"the {edge.into} of {receiver.name}"
    told = f"{sender.name}, at {edge.at}, into {into}"
    leftward = (start[0] + end[0]) / 2 < WIDTH / 2 - 1
    label = f"{edge.at}{at}"
    return Arrow(edge.sender, edge.receiver, start, end, label, leftward, told, edge.source)


def _port(box: Box, other: Role, others: Sequence[Role]) -> float:
    """Where on a box's edge the arrow from or to another begins: in the order of the others."""
    order = sorted(others, key=lambda role: (role.middle, role.box.top))
    share = (order.index(other) + 1) / (len(order) + 1)
    return box.left + share * (box.right - box.left)


def _description(roles: Sequence[Role], arrows: Sequence[Arrow]) -> str:
    boxes = "; ".join(role.whole + (" (claimed)" if role.claimed else "") for role in roles)
    return f"Roles: {boxes}. Arrows: {'; '.join(arrow.told for arrow in arrows)}"
