"""The first value of every head that a claim was tried with, as a table of layers by heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from claimlens.ci.figures import theme, words
from claimlens.ci.report.move_picture import head_of
from claimlens.circuits.parts import Head
from claimlens.circuits.record import ClaimRecord


@dataclass(frozen=True)
class HeadCell:
    """One head: its colour's class, its value in words, and whether the claim is about it."""

    color: str
    text: str
    hint: str
    claimed: bool


@dataclass(frozen=True)
class HeadTable:
    """Rows from the first layer on; a head that was not tried has an empty text."""

    told: str
    columns: range
    rows: Sequence[Sequence[HeadCell]]

    @classmethod
    def of(cls, records: Sequence[ClaimRecord]) -> HeadTable | None:
        """Of a claim's results on one model; None where no other head was tried."""
        values = {
            head: value
            for record in records
            for name, value in record.head_values.items()
            if (head := head_of(name)) is not None
        }
        claimed = {head for r in records if r.head and (head := head_of(r.head)) is not None}
        first = next((r.comparisons[0] for r in records if r.comparisons), None)
        if first is None or not set(values) - claimed:
            return None
        ranks = _ranks(values, first.relation)
        layers = range(1 + max(head.layer for head in values))
        columns = range(1 + max(head.index for head in values))
        rows = [
            [_cell(Head(n, i), values, ranks, claimed, first.unit) for i in columns] for n in layers
        ]
        told = f"What `{first.expression}` compares, of every head that was tried [{first.unit}]"
        return cls(told, columns, rows)


def _ranks(values: Mapping[Head, float], relation: str) -> dict[Head, int]:
    """The place of each head among those tried, 1 for what speaks most for the claim."""
    sign = -1 if relation in (">=", ">") else 1
    ordered = sorted(values, key=lambda head: sign * values[head])
    return {head: place for place, head in enumerate(ordered, 1)}


def _cell(
    head: Head,
    values: Mapping[Head, float],
    ranks: Mapping[Head, int],
    claimed: set[Head],
    unit: str,
) -> HeadCell:
    if head not in values:
        return HeadCell("", "", f"{head}: not tried", head in claimed)
    value, largest = values[head], max(map(abs, values.values()))
    hint = f"{head}: {words.number(value)} {unit}, rank {ranks[head]} of {len(ranks)}"
    return HeadCell(theme.level(value, largest), words.number(value, 2), hint, head in claimed)
