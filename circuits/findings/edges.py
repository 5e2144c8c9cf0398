"""Who reads from whom in a published circuit: the arrows between roles, each with its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LOGITS = "logits"
"""The end of a circuit: what reads from a role is the model's output."""
Into = Literal["query", "key", "value", "logits"]


@dataclass(frozen=True)
class Edge:
    """A role whose heads' output, written at a position, is read by those of another."""

    sender: str
    receiver: str
    at: str
    into: Into
    source: str


_WANG = "Wang et al. 2022, arXiv:2211.00593"
_OLSSON = "Olsson et al. 2022, arXiv:2209.11895"
_NOTEBOOK = "research notebook on query interventions and backup circuits"

IOI = (
    Edge(
        "induction/previous_token",
        "induction/induction_head",
        "S1+1",
        "key",
        f"{_WANG}, figure 2",
    ),
    Edge("induction/induction_head", "ioi/s_inhibition", "S2", "value", f"{_WANG}, section 3.3"),
    Edge("ioi/duplicate_token", "ioi/s_inhibition", "S2", "value", f"{_WANG}, section 3.3"),
    Edge("ioi/s_inhibition", "ioi/name_mover", "END", "query", f"{_WANG}, section 3.2"),
    Edge("ioi/name_mover", LOGITS, "END", "logits", f"{_WANG}, section 3.1"),
    Edge(
        "ioi/name_mover",
        "ioi/backup_name_mover",
        "END",
        "query",
        f"{_NOTEBOOK}: backup/query-intervention-11.2",
    ),
    Edge(
        "ioi/name_mover",
        "copy_suppression/negative_head",
        "END",
        "query",
        f"{_NOTEBOOK}: backup/composition-into-negative",
    ),
    Edge("ioi/backup_name_mover", LOGITS, "END", "logits", f"{_WANG}, section 3.4"),
    Edge("copy_suppression/negative_head", LOGITS, "END", "logits", f"{_WANG}, section 3.1"),
)
INDUCTION = (
    Edge(
        "induction/previous_token",
        "induction/induction_head",
        "next to the copy",
        "key",
        f"{_OLSSON}, on the mechanism of induction heads",
    ),
    Edge("induction/induction_head", LOGITS, "the repeat", "logits", f"{_OLSSON}, as above"),
)
_EDGES = {"ioi": IOI, "induction": INDUCTION}
_CIRCUITS = {"ioi": "ioi", "copy_suppression": "ioi", "backup": "ioi", "induction": "induction"}


def circuit_name(topic: str) -> str:
    """The circuit that a role or a topic belongs to: `ioi` for `ioi/name_mover` and `backup`.

    Empty where none is known.
    """
    return _CIRCUITS.get(topic.partition("/")[0].replace("-", "_"), "")


def edges_of(topic: str) -> tuple[Edge, ...]:
    """The arrows of the circuit that a role or a topic belongs to; none where none is known."""
    return _EDGES.get(circuit_name(topic), ())
