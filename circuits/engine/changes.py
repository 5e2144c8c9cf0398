"""What an intervention changes: a small language of sites, and of what is put there.

    Cell.of(replace(z(Head(9, 9)), clean_z))
    Cell.of(add(resid_pre(4), vector, at=prompts.at("END")))

A cell is one intervention of a sweep; its changes are made in the order of the forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from claimlens.circuits.kernels.sae import Sae
from claimlens.circuits.parts import Head

Kind = Literal["resid_pre", "q", "k", "v", "pattern", "z", "attn_out", "neurons", "mlp_out"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order in which a layer makes them; q and k before rotary positions are applied."""
OF_HEADS: tuple[Kind, ...] = ("q", "k", "v", "pattern", "z")
HOOKS: dict[Kind, str] = {
    "resid_pre": "hook_resid_pre",
    "q": "attn.hook_q",
    "k": "attn.hook_k",
    "v": "attn.hook_v",
    "pattern": "attn.hook_pattern",
    "z": "attn.hook_z",
    "attn_out": "hook_attn_out",
    "neurons": "mlp.hook_post",
    "mlp_out": "hook_mlp_out",
}
How = Literal["replace", "add", "scale", "latents"]


@dataclass(frozen=True)
class Site:
    """An activation of one layer; of one head, where it has heads (of one group in k and v)."""

    kind: Kind
    layer: int
    head: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no site {self.kind!r}; the engine knows {', '.join(KINDS)}")
        if (self.head is None) == (self.kind in OF_HEADS):
            raise ValueError(f"{self.kind} of layer {self.layer}: head={self.head!r}; " + _WHOSE)

    @property
    def order(self) -> tuple[int, int]:
        """Its place in the forward pass."""
        return self.layer, KINDS.index(self.kind)

    @property
    def hook(self) -> str:
        """The hook where TransformerLens has it, with all heads."""
        return f"blocks.{self.layer}.{HOOKS[self.kind]}"

    def __str__(self) -> str:
        head = "" if self.head is None else f" of head {self.head}"
        return f"{self.kind}{head} in layer {self.layer}"


_WHOSE = f"give one for {', '.join(OF_HEADS)}, none for the others"


@dataclass(frozen=True, eq=False)
class Latents:
    """The latents of an SAE that are scaled by `factor` (0 ablates), the rest left raw."""

    sae: Sae
    index: tuple[int, ...]
    factor: float

    def change(self, x: Float[Tensor, "*rows d_in"]) -> Float[Tensor, "*rows d_in"]:
        """What is added to the activation."""
        index = list(self.index)
        return (self.factor - 1) * self.sae.encode(x)[..., index] @ self.sae.W_dec[index]


@dataclass(frozen=True, eq=False)
class Change:
    """What becomes of one site.

    With `at` ("batch slot", token indices; -1 is nowhere) only there, and a tensor `value` is
    "batch slot …"; without, everywhere, and it is "batch pos …". The site's value must change on
    some prompt, unless `noop` declares that it need not.
    """

    site: Site
    how: How
    value: Tensor | float | Latents
    at: Int[Tensor, "batch slot"] | None = None
    noop: bool = False

    def applied(
        self,
        old: Float[Tensor, "batch row *rest"],
        rows: Int[Tensor, " batch"],
        places: Int[Tensor, " row"],
    ) -> Float[Tensor, "batch row *rest"]:
        """The site's new value in some prompts (`rows`), of which `old` holds some positions."""
        if self.at is None:
            return self._new(old, self._all_of(rows, places, old))
        if not self.at.shape[1]:
            return old
        if isinstance(self.value, Tensor) and self.at.shape[1] == 1:
            changed = (_of(self.at, rows) == places)[(..., *(None,) * (old.ndim - 2))]
            new = self._new(old, _of(self.value, rows)[..., : old.shape[-1]])
            return torch.where(changed, new, old)
        here = self.at[rows][..., None] == places
        if isinstance(self.value, Latents):  # an SAE is worth asking at these rows alone
            batch, _, row = here.nonzero(as_tuple=True)
            new = old.clone()
            new[batch, row] = self._new(old[batch, row], None)
            return new
        value = None
        if isinstance(self.value, Tensor):  # without a pattern's sources behind the last needed one
            value = self.value[rows[:, None], here.int().argmax(1)][..., : old.shape[-1]]
        changed = here.any(1)[(..., *(None,) * (old.ndim - 2))]
        return torch.where(changed, self._new(old, value), old)

    def first(self, rows: Int[Tensor, " batch"]) -> int:
        """The first position that it may change in these prompts."""
        if self.at is None:
            return 0
        somewhere = self.at[rows][self.at[rows] >= 0]
        return int(somewhere.min()) if len(somewhere) else 0

    def _all_of(self, rows: Tensor, places: Tensor, old: Tensor) -> Tensor | None:
        if not isinstance(self.value, Tensor):
            return None
        all_places = old.shape[1] == self.value.shape[1]
        value = _of(self.value, rows) if all_places else self.value[rows[:, None], places]
        return value[..., : old.shape[-1]] if self.site.kind == "pattern" else value

    def _new(self, old: Tensor, value: Tensor | None) -> Tensor:
        if isinstance(self.value, Latents):
            return old + self.value.change(old)
        if value is None:
            return old * self.value
        return value.to(old.dtype) if self.how == "replace" else old + value


@dataclass(frozen=True, eq=False)
class Cell:
    """One intervention: changes in the order of the forward pass."""

    changes: tuple[Change, ...]

    @classmethod
    def of(cls, *changes: Change) -> Cell:
        """Changes given in any order; of several at one site the first given is made first."""
        if not changes:
            raise ValueError("a cell without changes; give at least one")
        return cls(tuple(sorted(changes, key=lambda change: change.site.order)))

    @property
    def layer(self) -> int:
        """The first layer that it changes."""
        return self.changes[0].site.layer

    def at(self, layer: int, *kinds: Kind) -> tuple[Change, ...]:
        """Its changes at these sites of a layer, in their order."""
        return tuple(c for c in self.changes if c.site.layer == layer and c.site.kind in kinds)


def _of(x: Tensor, rows: Int[Tensor, " batch"]) -> Tensor:
    """Some prompts of x, in order: where as many are asked for as there are, x itself."""
    return x if len(rows) == len(x) else x[rows]


def replace(
    site: Site, value: Tensor, at: Int[Tensor, "batch slot"] | None = None, *, noop: bool = False
) -> Change:
    """Put a value in the site's place, as from another run."""
    return Change(site, "replace", value, at, noop)


def add(
    site: Site, value: Tensor, at: Int[Tensor, "batch slot"] | None = None, *, noop: bool = False
) -> Change:
    """Add a vector to the site."""
    return Change(site, "add", value, at, noop)


def scale(
    site: Site, factor: float, at: Int[Tensor, "batch slot"] | None = None, *, noop: bool = False
) -> Change:
    """Multiply the site; 0 ablates it."""
    return Change(site, "scale", float(factor), at, noop)


def scale_latents(
    sae: Sae,
    latents: Sequence[int],
    factor: float,
    at: Int[Tensor, "batch slot"] | None = None,
    *,
    noop: bool = False,
) -> Change:
    """Multiply latents of an SAE where it reads and writes; 0 ablates them, the rest stays raw."""
    return Change(site_of(sae.hook), "latents", Latents(sae, tuple(latents), factor), at, noop)


def site_of(hook: str) -> Site:
    """The site of a hook without heads; raises ValueError for one that is no site."""
    _, _, rest = hook.partition("blocks.")
    layer, _, name = rest.partition(".")
    kinds = [kind for kind, known in HOOKS.items() if known == name and kind not in OF_HEADS]
    if not kinds or not layer.isdigit():
        known = ", ".join(HOOKS[kind] for kind in KINDS if kind not in OF_HEADS)
        raise ValueError(f"no site at {hook!r}; the engine knows, in every layer, {known}")
    return Site(kinds[0], int(layer))


def inside(
    at: Int[Tensor, "batch slot"], lengths: Int[Tensor, " batch"]
) -> Int[Tensor, "batch slot"]:
    """Positions; nowhere in the prompts that are too short for them."""
    return torch.where(at < lengths[:, None], at, -1)


def z(head: Head) -> Site:
    """A head's attention-weighted values, before W_O."""
    return Site("z", head.layer, head.index)


def resid_pre(layer: int) -> Site:
    """The residual stream before a layer."""
    return Site("resid_pre", layer)
