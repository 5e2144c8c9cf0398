"""What was measured for a row, and whether it is enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from claimlens.ci.benchmarks.rows import Row
from claimlens.ci.benchmarks.timing import PRODUCT_FLOPS, Spread, Times, ratio

REFERENCE = "TransformerLens"


@dataclass(frozen=True)
class PeerTimes:
    """A peer's rounds on a sample of the cells, and how far its numbers are from ours.

    `gap` is None where it has no numbers: a plain forward is what a cell costs at least.
    """

    times: Times
    cells: int
    gap: float | None


@dataclass(frozen=True)
class Result:
    """One row as it was measured; times in ms, `clock` naming the one that is compared."""

    row: Row
    cells: int
    clock: Literal["cpu", "wall"]
    ways: dict[str, str]
    ours: Times
    peers: dict[str, PeerTimes]
    product: Times
    flops: float
    peak_mb: float | None

    @property
    def ours_ms(self) -> float:
        """What our sweep takes."""
        return median(self._of(self.ours))

    def peer_ms(self, name: str) -> float:
        """What a peer takes for all cells."""
        return median(self._whole(name))

    def faster_than(self, name: str) -> Spread:
        """How many times faster ours is than a peer."""
        return ratio(self._whole(name), self._of(self.ours))

    @property
    def best_other(self) -> tuple[str, Spread] | None:
        """The fastest peer besides TransformerLens, and how many times faster ours is."""
        others = [name for name in self.peers if name != REFERENCE]
        if not others:
            return None
        name = min(others, key=self.peer_ms)
        return name, self.faster_than(name)

    @property
    def share_of_peak(self) -> float:
        """Operations per time of ours, as a share of those of the matrix product."""
        ours, peak = self._of(self.ours), self._of(self.product)
        return self.flops / PRODUCT_FLOPS * median(peak) / median(ours)

    def missed(self) -> Iterator[str]:
        """What the row must reach and does not."""
        row, found = self.row, self.faster_than(REFERENCE).middle
        if not found >= row.must:
            yield f"{row.name}: {found:.1f} x {REFERENCE}, must be {row.must:g}"
        best = self.best_other
        if row.best_peer is not None and best is not None and not best[1].middle >= row.best_peer:
            yield f"{row.name}: {best[1].middle:.1f} x {best[0]}, must be {row.best_peer:g}"
        most, peak = row.most_mb, self.peak_mb
        if most is not None and peak is not None and not peak <= most:
            yield f"{row.name}: {peak:.0f} MB, must be at most {most:g}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types, with the figures that follow from the times."""
        best = self.best_other
        return {
            **asdict(self),
            "ratios": {name: asdict(self.faster_than(name)) for name in self.peers},
            "best_other": best and best[0],
            "share_of_peak": self.share_of_peak,
            "missed": list(self.missed()),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Result:
        """Read what `to_json` wrote."""
        peers = {
            name: PeerTimes(Times(**peer["times"]), peer["cells"], peer["gap"])
            for name, peer in data["peers"].items()
        }
        plain = {name: data[name] for name in ("cells", "clock", "ways", "flops", "peak_mb")}
        return cls(
            row=Row(**data["row"]),
            ours=Times(**data["ours"]),
            product=Times(**data["product"]),
            peers=peers,
            **plain,
        )

    def _of(self, times: Times) -> list[float]:
        return times.cpu if self.clock == "cpu" else times.wall

    def _whole(self, name: str) -> list[float]:
        peer = self.peers[name]
        return [ms * self.cells / peer.cells for ms in self._of(peer.times)]
