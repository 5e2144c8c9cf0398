"""The search for what a circuit lacks."""

from __future__ import annotations

import random

from claimlens.circuits.kernels.cache import Model
from claimlens.circuits.kernels.knockout import Kind, Node, Nodes, node_of
from claimlens.circuits.metrics import completeness_gap
from claimlens.circuits.parts import Prompts


def incomplete_subset(
    model: Model,
    prompts: Prompts,
    circuit: Nodes,
    kind: Kind,
    source: Prompts | None = None,
    *,
    steps: int = 4,
    tries: int = 5,
    seed: int = 0,
) -> tuple[Node, ...]:
    """A subset of the circuit without which circuit and model differ most, found greedily.

    At each of `steps`, of `tries` nodes drawn at random the one is added that makes the mean
    `completeness_gap` largest in size; the best subset on the way is returned (Wang et al. 2022,
    section 4.2). Two forwards a try. Chosen on these prompts: measure its gap on others.
    """
    if steps < 1 or tries < 1:
        raise ValueError(f"steps={steps}, tries={tries}: expected at least one of each")
    if not circuit:
        raise ValueError("the circuit is empty; there is no subset to look for")
    rng, left = random.Random(seed), [node_of(node) for node in circuit]
    chosen: tuple[Node, ...] = ()
    best: tuple[float, tuple[Node, ...]] = (-1.0, ())
    for _ in range(min(steps, len(left))):
        drawn = rng.sample(left, min(tries, len(left)))
        grown = [(*chosen, node) for node in drawn]
        gaps = [
            abs(float(completeness_gap(model, prompts, circuit, removed, kind, source).mean()))
            for removed in grown
        ]
        largest = max(range(len(drawn)), key=gaps.__getitem__)
        chosen = grown[largest]
        left.remove(drawn[largest])
        best = max(best, (gaps[largest], chosen), key=lambda found: found[0])
    return best[1]
