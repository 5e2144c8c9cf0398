"""The circuit that a claim is about, with the heads that play its roles in one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from claimlens.ci.figures.circuit_picture import circuit_picture
from claimlens.ci.figures.drawing import Drawing
from claimlens.ci.report.study import Result, Study

Heads = Mapping[str, Sequence[str]]
"""By role, the heads that play it."""


def players(study: Study) -> dict[str, dict[str, list[str]]]:
    """By model, its heads by role, as all its results name them."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for record in (result.record for result in study.results()):
        if record.role and record.head:
            roles = found.setdefault(record.model_name, {})
            roles.setdefault(record.role, {})[record.head] = None
    return {
        model: {role: sorted(heads) for role, heads in sorted(roles.items())}
        for model, roles in found.items()
    }


def circuit(results: Sequence[Result], heads: Heads) -> Drawing | None:
    """Of a claim's results on one model.

    None where the claim is about no role, or about one that is no part of a known circuit.
    """
    role = results[0].record.role
    claimed = [result.record.head for result in results if result.record.head]
    return circuit_picture(role, heads, role, claimed) if role else None
