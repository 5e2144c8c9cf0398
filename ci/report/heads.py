"""The first value of every head that a claim was tried with, drawn as layers by heads."""

from __future__ import annotations

from collections.abc import Sequence

from claimlens.ci.figures.draw import draw
from claimlens.ci.figures.drawing import Drawing
from claimlens.ci.figures.head_map import head_map
from claimlens.circuits.record import ClaimRecord


def heads_drawn(records: Sequence[ClaimRecord], id: str) -> Drawing | None:
    """Of a claim's results on one model; None where no other head was tried.

    The heads that the claim is about are outlined. Raises BadFigure where a record names what is no
    head.
    """
    values = {head: value for record in records for head, value in record.head_values.items()}
    claimed = list(dict.fromkeys(record.head for record in records if record.head))
    first = next((r.comparisons[0] for r in records if r.comparisons), None)
    if first is None or not set(values) - set(claimed):
        return None
    title = f"What `{first.expression}` compares, of every head that was tried"
    upward = first.relation in (">=", ">")
    return draw(head_map(values, claimed, first.unit, title, largest_first=upward), id)
