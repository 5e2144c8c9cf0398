"""Path patching: what reaches the logits, or another head, from some heads directly.

The sender heads get their z of another run and every other head is frozen to its clean z, so that
the change travels through the residual stream and the MLPs alone (Wang et al. 2022,
arXiv:2211.00593, section 3.1 and appendix B). `mlps="recomputed"` is the paper's choice: MLPs on
the way pass the change on. `mlps="frozen"` keeps them at their clean output: the direct path alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from claimlens.circuits.kernels.ablate import Heads, many
from claimlens.circuits.kernels.bridge import check_head, value_head
from claimlens.circuits.kernels.cache import Edit, Edited, Model, cache, edit_keys, edited, intact
from claimlens.circuits.metrics import logit_diff
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured

Mlps = Literal["recomputed", "frozen"]


def path_patch(
    model: Model,
    prompts: Prompts,
    source: Prompts,
    senders: Heads,
    receivers: Heads | None = None,
    into: str = "q",
    mlps: Mlps = "recomputed",
) -> Edited:
    """The model in which only the paths from `senders` to `receivers` carry the source run.

    Senders write, at every position, what they write on `source`. Without receivers all other heads
    stay at their values on `prompts`, so the change reaches the logits by no other head. With
    receivers, their `into` (letters of q, k, v) are computed that way first; then the model runs on
    `prompts` with these put in and everything after them free. Heads of a group share keys and
    values, so patching one head's k or v patches its group's.

    Must be run on `prompts`. Raises NotApplicable naming every receiver without a sender in an
    earlier layer and every sender without a receiver in a later one (they would be left out in
    silence), ValueError for sources of other lengths, NotMeasured where the senders write the same
    on both sides.
    """
    sent, got = many(senders), None if receivers is None else many(receivers)
    _check(model, prompts, source, sent, got, into)
    if not sent:
        return edited(model)
    last = int(intact(model).cfg.n_layers) - 1 if got is None else max(h.layer for h in got) - 1
    frozen = edited(
        model,
        *_frozen(model, prompts, sent, last, mlps),
        *_sent(model, source, sent),
    )
    return frozen if got is None else _received(model, frozen, prompts, got, into)


def path_effect(
    model: Model,
    prompts: Prompts,
    source: Prompts,
    senders: Heads,
    receivers: Heads | None = None,
    into: str = "q",
    mlps: Mlps = "recomputed",
) -> Float[Tensor, " batch"]:
    """What `path_patch` adds to each prompt's logit difference [logits]: patched minus clean.

    Negative where the path from the senders carries part of the answer (Wang et al. 2022, figure 3,
    which shows it as a share of the clean difference).
    """
    patched = path_patch(model, prompts, source, senders, receivers, into, mlps)
    return logit_diff(patched, prompts) - logit_diff(model, prompts)


def _check(
    model: Model,
    prompts: Prompts,
    source: Prompts,
    senders: tuple[Head, ...],
    receivers: tuple[Head, ...] | None,
    into: str,
) -> None:
    for head in (*senders, *(receivers or ())):
        check_head(intact(model), head)
    if not into or set(into) - set("qkv"):
        raise ValueError(f"into={into!r}: expected letters of q, k and v, as 'q' or 'kv'")
    if not torch.equal(prompts.lengths, source.lengths):
        raise ValueError(
            f"clean and source prompts differ in length (rows: {len(prompts)} and {len(source)}): "
            "their positions don't correspond; take both from the same pairs"
        )
    if receivers is None or not senders:
        return
    if not receivers:
        raise ValueError("receivers is empty; give at least one head, or None for the logits")
    _check_reach(senders, receivers)


def _check_reach(senders: tuple[Head, ...], receivers: tuple[Head, ...]) -> None:
    first, last = (end(h.layer for h in of) for end, of in ((min, senders), (max, receivers)))
    deaf = ", ".join(str(head) for head in receivers if head.layer <= first)
    unheard = ", ".join(str(head) for head in senders if head.layer >= last)
    if deaf or unheard:
        what = [f"into {deaf} from any sender"] * bool(deaf)
        what += [f"from {unheard} to any receiver"] * bool(unheard)
        raise NotApplicable(
            f"no path leads {', and none '.join(what)}: a head reads what earlier layers wrote; "
            "leave these heads out"
        )


def _frozen(
    model: Model, prompts: Prompts, senders: tuple[Head, ...], last: int, mlps: Mlps
) -> list[Edit]:
    """Edits that keep what lies between the senders and layer `last` at its clean value."""
    first = min(senders).layer
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(first + 1, last + 1)]
    if mlps == "frozen":
        names += [f"blocks.{layer}.hook_mlp_out" for layer in range(first, last + 1)]
    run = cache(model, prompts, names)
    return [_put(model, name, run[name], "freezing", prompts) for name in names]


def _sent(model: Model, source: Prompts, senders: tuple[Head, ...]) -> list[Edit]:
    names = {head: f"blocks.{head.layer}.attn.hook_z" for head in senders}
    run = cache(model, source, list(dict.fromkeys(names.values())))
    edits = []
    for layer in sorted({head.layer for head in senders}):
        mine = [head.index for head in senders if head.layer == layer]
        name = f"blocks.{layer}.attn.hook_z"
        edits.append(_put(model, name, run[name], "sending", source, mine))
    return edits


def _received(
    model: Model, frozen: Edited, prompts: Prompts, receivers: tuple[Head, ...], into: str
) -> Edited:
    """The model with the receivers' inputs of the frozen run put in, all else free."""
    bridge, places = intact(model), dict[str, list[int]]()
    for head in receivers:
        for part in into:
            index = head.index if part == "q" else value_head(bridge, head)
            places.setdefault(f"blocks.{head.layer}.attn.hook_{part}", []).append(index)
    run = cache(frozen, prompts, list(places))
    return edited(
        model,
        *(_put(frozen, name, run[name], "receiving", prompts, at) for name, at in places.items()),
    )


def _put(
    model: Model,
    name: str,
    value: Float[Tensor, "batch pos *rest"],
    verb: str,
    source: Prompts,
    heads: Sequence[int] | None = None,
) -> Edit:
    """An edit that puts `value` at a hook, of all heads or of some.

    Only what senders write must differ: that a receiver then reads the same is a result.
    """

    def apply(old: Tensor) -> Tensor:
        if old.shape != value.shape:
            raise NotMeasured(
                f"{verb} at {name}: the patch was made for {tuple(value.shape)} and meets "
                f"{tuple(old.shape)}; run it on the prompts that it was made for"
            )
        if heads is None:
            return value
        new = old.clone()
        new[:, :, heads] = value[:, :, heads]
        return new

    before = edit_keys(model)
    what = name if heads is None else f"{name}, heads {', '.join(map(str, heads))}"
    key = None if None in before else (verb, what, id(source.tokens), before)
    noop = verb != "sending"
    return Edit(name, apply, f"{verb} at {what}", noop, key, holds=(source.tokens, value))
