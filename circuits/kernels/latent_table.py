"""The results of latent ablations: a table, its spread, its worst prompts, what fires together.

Numbers only; nothing here runs a model. A latent that never fires is a row that says so, and a
correlation with something constant is None: neither is ever a NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from claimlens.circuits.figures import Histogram, Point, Scatter, Table
from claimlens.circuits.verdict import NotMeasured

COLUMNS = (
    "latents",
    "share active",
    "mean activation",
    "mean where active",
    "loss increase [nats]",
    "spread",
    "where active",
    "rest encoded",
    "spread of encoded",
    "note",
)
NEVER = "never fires here"
"""The note of a latent whose activation is 0 on every prompt."""


@dataclass(frozen=True)
class Worst:
    """A prompt on which an ablation costs much."""

    id: str
    text: str
    increase: float
    activation: float


@dataclass(frozen=True)
class Coactivation:
    """Correlation of who is active; None where one of the two never changes: undefined."""

    names: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]

    def table(self) -> Table:
        """As a square table; undefined ones say so."""
        rows = [
            (name, *("undefined" if v is None else v for v in row))
            for name, row in zip(self.names, self.values, strict=True)
        ]
        return Table("Which latents are active together (correlation)", ("", *self.names), rows)


@dataclass(frozen=True, eq=False)
class LatentEffects:
    """What ablating each of `sets` does to each prompt; losses in nats, of the answer after END.

    `raw` and `encoded` as in `loss_increase`. A set counts as active above `above`.
    """

    sets: tuple[tuple[int, ...], ...]
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    activation: Float[Tensor, "batch set"]
    raw: Float[Tensor, "batch set"]
    encoded: Float[Tensor, "batch set"]
    above: float

    @property
    def active(self) -> Bool[Tensor, "batch set"]:
        """Which prompts each set is active on."""
        return self.activation > self.above

    @property
    def names(self) -> tuple[str, ...]:
        """`78` for one latent, `78+254` for a set."""
        return tuple("+".join(map(str, s)) for s in self.sets)

    def table(self) -> Table:
        """One row per set, the greatest loss increase first.

        Spreads are standard deviations over prompts (divided by n, as in seed 003).
        """
        order = self.raw.mean(0).argsort(descending=True, stable=True).tolist()
        return Table("Ablating latents", COLUMNS, [self._row(i) for i in order])

    def histogram(self, of: int, bins: int = 20) -> Histogram:
        """The loss increases of one set over the prompts it is active on."""
        rows = self._active_rows(of)
        title = f"Loss increase without {self.names[of]}"
        return Histogram(title, "loss increase [nats]", self.raw[rows, of].tolist(), bins)

    def scatter(self, of: int) -> Scatter:
        """Loss increase against activation, one point per prompt on which the set is active."""
        rows = self._active_rows(of)
        pairs = zip(self.activation[rows, of].tolist(), self.raw[rows, of].tolist(), strict=True)
        title = f"Loss increase without {self.names[of]}, against its activation"
        points = [Point(x, y) for x, y in pairs]
        return Scatter(title, "activation", "loss increase [nats]", points)

    def worst(self, of: int, k: int = 10) -> tuple[Worst, ...]:
        """The `k` active prompts whose loss rises most; fewer where fewer are active."""
        rows = self._active_rows(of)
        order = rows[self.raw[rows, of].argsort(descending=True, stable=True)][:k].tolist()
        return tuple(
            Worst(self.ids[i], self.texts[i], float(self.raw[i, of]), float(self.activation[i, of]))
            for i in order
        )

    def coactivation(self) -> Coactivation:
        """Pearson correlation between the sets' activity, 1 active and 0 not, over prompts."""
        on = self.active.double()
        deviation = on - on.mean(0)
        size = deviation.square().sum(0).sqrt()
        values = tuple(
            tuple(_cosine(deviation[:, i], deviation[:, j], size[i] * size[j]) for j in _all(size))
            for i in _all(size)
        )
        return Coactivation(self.names, values)

    def _row(self, i: int) -> tuple[str | float | None, ...]:
        on = self.active[:, i]
        fires = bool(on.any())
        return (
            self.names[i],
            float(on.double().mean()),
            float(self.activation[:, i].mean()),
            float(self.activation[on, i].mean()) if fires else None,
            float(self.raw[:, i].mean()),
            float(self.raw[:, i].std(correction=0)),
            float(self.raw[on, i].mean()) if fires else None,
            float(self.encoded[:, i].mean()),
            float(self.encoded[:, i].std(correction=0)),
            None if fires else self._silence(i),
        )

    def _silence(self, i: int) -> str:
        faint = bool((self.activation[:, i] > 0).any())
        return f"never above {self.above:g}" if faint else NEVER

    def _active_rows(self, of: int) -> Tensor:
        rows = self.active[:, of].nonzero()[:, 0]
        if not len(rows):
            raise NotMeasured(
                f"latent {self.names[of]} is above {self.above:g} in none of the "
                f"{len(self.ids)} prompts: nothing to draw"
            )
        return rows


def _all(size: Float[Tensor, " set"]) -> range:
    return range(len(size))


def _cosine(
    a: Float[Tensor, " batch"], b: Float[Tensor, " batch"], size: Float[Tensor, ""]
) -> float | None:
    return None if float(size) == 0 else float((a * b).sum() / size)
