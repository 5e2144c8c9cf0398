"""Induction heads of models whose other circuits are not published."""

from __future__ import annotations

from claimlens.circuits.parts import Circuit, Head

DISTILGPT2 = Circuit(
    name="induction",
    model="distilgpt2",
    roles={"induction/induction_head": (Head(3, 10), Head(3, 2), Head(4, 9))},
    source="TransformerLens main demo, induction scores of distilgpt2: .937, .862 and .647",
    doubt="one batch of random tokens without BOS; no other role of this model is published",
)
