"""What the engine refuses of changes, runs and bounds."""

from __future__ import annotations

from dataclasses import replace as with_other
from typing import Any

import torch
from torch import Tensor

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.errors.entry import Entry
from claimlens.ci.selftests.errors.subjects import (
    FIRST,
    LAST,
    changed,
    clean,
    corrupted,
    few,
    gemma,
    vectors,
)
from claimlens.circuits.engine.changes import (
    Cell,
    Change,
    Site,
    replace,
    resid_pre,
    scale,
    site_of,
    z,
)
from claimlens.circuits.engine.policy import Policy, either, using
from claimlens.circuits.engine.queries import Injections
from claimlens.circuits.engine.read import LogitDiff, Losses
from claimlens.circuits.engine.run import Run, check_source, intact_run
from claimlens.circuits.engine.sweep import Sweep, sweep
from claimlens.circuits.kernels.projection_loss import loss_changes
from claimlens.circuits.kernels.query_sweep import sweep as injected
from claimlens.circuits.parts import Position

_IDLE = Cell.of(scale(z(FIRST), 1.0))
_SILENCED = Cell.of(scale(z(FIRST), 0.0))


def _run() -> Run:
    return intact_run(micro.bridge(), clean())


def _unknown_site() -> None:
    site = object.__new__(Site)
    object.__setattr__(site, "kind", "logits")
    site.__post_init__()


def _swept(cell: Cell, **policy: Any) -> object:
    with using(Policy(**policy)):
        return sweep(_run(), [cell], LogitDiff.of(clean()))


def _refused(change: Change) -> object:
    return Sweep(_run(), [Cell.of(change)], LogitDiff.of(clean()))


def _value(rows: int = 12, fill: float = 1.0) -> Tensor:
    return torch.full_like(_run().pre[0][:rows], fill)


def _past_the_end() -> Tensor:
    return clean().lengths[:, None]


def _unknown_architecture() -> object:
    with using(Policy("required")):
        return either("a sweep", lambda: intact_run(gemma(), clean()), lambda: None)


def _weights_of_later() -> object:
    model = changed(lambda raw: None)
    run = intact_run(model, clean())
    with torch.no_grad():
        model.blocks[1].mlp.W_out.mul_(2)
    return sweep(run, [_SILENCED], LogitDiff.of(clean()))


def _infinite() -> object:
    model = changed(lambda raw: None)
    with torch.no_grad():
        model.blocks[1].mlp.W_out[0, 0] = torch.inf
    return intact_run(model, clean())


def _masked() -> object:
    changed_query = Injections(_run(), LAST, vectors(), (0.0, 3.0), Position("S1"), "free")
    return changed_query.attention(clean().at("END"), "score")


def _nothing_injected() -> object:
    with using(Policy("required")):
        return injected(micro.bridge(), clean(), [LAST], torch.zeros_like(vectors()), [0.0, 3.0])


def _small_bound() -> object:
    with using(Policy(max_bytes=1000)):
        return loss_changes(micro.bridge(), clean(), "nothing")


ENTRIES = (
    Entry(lambda _: _unknown_site()),
    Entry(lambda _: Cell.of()),
    Entry(lambda _: site_of("blocks.0.hook_resid_mid")),
    Entry(lambda _: _refused(scale(resid_pre(9), 0.0))),
    Entry(lambda _: _refused(scale(Site("z", 0, 9), 0.0))),
    Entry(lambda _: _refused(scale(resid_pre(0), 0.0, torch.zeros(2, 1, dtype=torch.long)))),
    Entry(lambda _: _refused(scale(resid_pre(0), 0.0, _past_the_end()))),
    Entry(lambda _: _refused(replace(resid_pre(0), _value(rows=2)))),
    Entry(lambda _: _swept(_IDLE)),
    Entry(lambda _: _swept(_SILENCED, max_bytes=10_000)),
    Entry(lambda _: _swept(Cell.of(replace(resid_pre(1), _value(fill=1e308))))),
    Entry(lambda _: _small_bound()),
    Entry(lambda _: _unknown_architecture()),
    Entry(lambda _: Losses.of(clean(), clean().at("END"))),
    Entry(lambda _: Losses.of_answers(with_other(clean(), answer=None))),
    Entry(lambda _: check_source(_run(), intact_run(changed(lambda raw: None), corrupted()))),
    Entry(lambda _: check_source(_run(), intact_run(micro.bridge(), few()))),
    Entry(lambda _: _weights_of_later()),
    Entry(lambda _: _infinite()),
    Entry(lambda _: _masked()),
    Entry(lambda _: _nothing_injected()),
)
