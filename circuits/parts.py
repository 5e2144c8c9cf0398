"""The nouns: heads, positions, circuits and prompts.

Pure data. A prompt set knows its tokens, its answers and its labelled positions, so that a kernel
takes a name ("END", "S1+1") where a notebook would take an index.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int
from torch import Tensor

from claimlens.circuits.verdict import NotMeasured

_HEAD = re.compile(r"L?(\d+)[.H](\d+)")
_POSITION = re.compile(r"([A-Za-z][A-Za-z0-9_]*)([+-]\d+)?")


@dataclass(frozen=True, order=True)
class Head:
    """One attention head, printed `L9H9`."""

    layer: int
    index: int

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read `9.9` or `L9H9`."""
        match = _HEAD.fullmatch(text)
        if match is None:
            raise ValueError(f"not a head: {text!r}; expected layer and index as '9.9' or 'L9H9'")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"L{self.layer}H{self.index}"


@dataclass(frozen=True)
class Position:
    """A labelled position and an offset from it: `S2`, `S1+1`, `REPEAT-1`."""

    label: str
    offset: int = 0

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read `S1`, `S1+1` or `REPEAT-1`."""
        match = _POSITION.fullmatch(text)
        if match is None:
            raise ValueError(f"not a position: {text!r}; expected a label and an offset, as 'S1+1'")
        return cls(match[1], int(match[2] or 0))

    def __str__(self) -> str:
        return f"{self.label}{self.offset:+d}" if self.offset else self.label


@dataclass(frozen=True)
class Circuit:
    """Which heads play which role in one model, and how far to trust it."""

    name: str
    model: str
    roles: Mapping[str, tuple[Head, ...]]
    source: str
    doubt: str = ""


@dataclass(frozen=True, eq=False)
class Prompts:
    """A batch of prompts, padded on the right.

    A label may stand for several positions of a prompt (`REPEAT`: the whole second half); the
    slots of two labels correspond. `answer` and `wrong_answer` are scored after position END.
    `moved` is set on shuffled prompts only: where each position is looked for instead.
    """

    tokens: Int[Tensor, "batch pos"]
    lengths: Int[Tensor, " batch"]
    positions: Mapping[str, Int[Tensor, "batch slot"]]
    templates: tuple[str, ...]
    answer: Int[Tensor, " batch"] | None = None
    wrong_answer: Int[Tensor, " batch"] | None = None
    moved: Int[Tensor, "batch pos"] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def at(self, position: str | Position) -> Int[Tensor, "batch slot"]:
        """Token indices of a labelled position, as `at("S1+1")`.

        Raises NotMeasured for an unknown label, and where the offset leaves a prompt.
        """
        place = Position.parse(position) if isinstance(position, str) else position
        if place.label not in self.positions:
            known = ", ".join(sorted(self.positions))
            raise NotMeasured(f"no position {place.label!r} in these prompts; they label {known}")
        index = self.positions[place.label] + place.offset
        if bool(((index < 0) | (index >= self.lengths[:, None])).any()):
            raise NotMeasured(f"position {place} lies outside some prompt; use a smaller offset")
        if self.moved is None or place.label in _FIXED:
            return index
        return self.moved.gather(1, index)

    def select(self, rows: Int[Tensor, " chosen"]) -> Prompts:
        """The prompts of the given rows, in that order."""
        return replace(
            self,
            tokens=self.tokens[rows],
            lengths=self.lengths[rows],
            positions={name: index[rows] for name, index in self.positions.items()},
            templates=tuple(self.templates[i] for i in rows.tolist()),
            answer=None if self.answer is None else self.answer[rows],
            wrong_answer=None if self.wrong_answer is None else self.wrong_answer[rows],
            moved=None if self.moved is None else self.moved[rows],
        )

    def to(self, device: torch.device) -> Prompts:
        """The same prompts with every tensor on `device`."""
        return replace(
            self,
            tokens=self.tokens.to(device),
            lengths=self.lengths.to(device),
            positions={name: index.to(device) for name, index in self.positions.items()},
            answer=None if self.answer is None else self.answer.to(device),
            wrong_answer=None if self.wrong_answer is None else self.wrong_answer.to(device),
            moved=None if self.moved is None else self.moved.to(device),
        )


@dataclass(frozen=True, eq=False)
class PromptPairs:
    """Named prompts: clean, corrupted (scored on the clean answers), and how to draw more.

    `grow(n)` returns the same set with `n` prompts, the first `len(self)` of them unchanged;
    a set that cannot grow has None. `bos` says whether position 0 holds the BOS token.
    """

    name: str
    ids: tuple[str, ...]
    texts: tuple[str, ...]
    clean: Prompts
    corrupted: Prompts | None
    bos: bool
    grow: Callable[[int], PromptPairs] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        sizes = {len(self.ids), len(self.texts), len(self.clean)}
        if self.corrupted is not None:
            sizes.add(len(self.corrupted))
        if len(sizes) != 1:
            raise ValueError(f"prompt set {self.name!r}: ids, texts and tokens differ in number")
        if len(set(self.ids)) != len(self.ids):
            raise ValueError(f"prompt set {self.name!r}: prompt ids must be unique")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def templates(self) -> tuple[str, ...]:
        """The template of each prompt: prompts of one template are not independent."""
        return self.clean.templates

    @property
    def digest(self) -> str:
        """A short digest of all that a kernel can read from these prompts."""
        sha = hashlib.sha256(repr((self.name, self.bos, self.ids, self.templates)).encode())
        for side in (self.clean, self.corrupted):
            for name, tensor in _tensors(side):
                sha.update(repr((name, tuple(tensor.shape))).encode())
                sha.update(tensor.cpu().numpy().tobytes())
        return sha.hexdigest()[:16]

    def select(self, rows: Sequence[int]) -> PromptPairs:
        """The pairs of the given rows; the result cannot grow."""
        index = torch.tensor(list(rows), device=self.clean.tokens.device)
        return replace(
            self,
            ids=tuple(self.ids[i] for i in rows),
            texts=tuple(self.texts[i] for i in rows),
            clean=self.clean.select(index),
            corrupted=None if self.corrupted is None else self.corrupted.select(index),
            grow=None,
        )

    def without_bos(self) -> PromptPairs:
        """The same prompts without BOS: every token and label one place further left.

        Raises NotMeasured where there is no BOS to leave out.
        """
        if not self.bos:
            raise NotMeasured(f"the prompts {self.name!r} have no BOS to leave out")
        grow = self.grow
        return replace(
            self,
            name=f"{self.name}:no-bos",
            clean=_without_first(self.clean),
            corrupted=self.corrupted and _without_first(self.corrupted),
            bos=False,
            grow=None if grow is None else lambda n: grow(n).without_bos(),
        )

    def shuffled(self, seed: int) -> PromptPairs:
        """A control: the same text with its labels in the wrong places and others' answers.

        In every prompt the positions after BOS move by one random cycle before any label but BOS
        and END is looked up, and each prompt takes the answers of another.
        """
        generator = torch.Generator().manual_seed(seed)
        n, grow = len(self), self.grow
        step = int(torch.randint(1, max(n, 2), (), generator=generator))
        donors = (torch.arange(n) + step) % n
        moved = _cycles(self.clean, generator).to(self.clean.tokens.device)
        return replace(
            self,
            name=f"{self.name}:shuffled",
            clean=_relabelled(self.clean, moved, donors),
            corrupted=self.corrupted and _relabelled(self.corrupted, moved, donors),
            grow=None if grow is None else lambda n: grow(n).shuffled(seed),
        )


_FIXED = ("BOS", "END")


def _tensors(prompts: Prompts | None) -> Iterable[tuple[str, Tensor]]:
    if prompts is None:
        return
    yield "tokens", prompts.tokens
    yield "lengths", prompts.lengths
    for label in sorted(prompts.positions):
        yield f"position {label}", prompts.positions[label]
    for name in ("answer", "wrong_answer", "moved"):
        optional = getattr(prompts, name)
        if optional is not None:
            yield name, optional


def _cycles(prompts: Prompts, generator: torch.Generator) -> Int[Tensor, "batch pos"]:
    """One random cycle per prompt over its positions after BOS: no position keeps its place."""
    moved = torch.arange(prompts.tokens.shape[1]).repeat(len(prompts), 1)
    for row, length in enumerate(prompts.lengths.tolist()):
        order = 1 + torch.randperm(length - 1, generator=generator)
        moved[row, order] = order.roll(1)
    return moved


def _without_first(prompts: Prompts) -> Prompts:
    labels = {name: at - 1 for name, at in prompts.positions.items() if name != "BOS"}
    moved = None if prompts.moved is None else (prompts.moved[:, 1:] - 1).clamp(min=0)
    return replace(
        prompts,
        tokens=prompts.tokens[:, 1:],
        lengths=prompts.lengths - 1,
        positions=labels,
        moved=moved,
    )


def _relabelled(prompts: Prompts, moved: Tensor, donors: Tensor) -> Prompts:
    return replace(
        prompts,
        moved=moved,
        answer=None if prompts.answer is None else prompts.answer[donors],
        wrong_answer=None if prompts.wrong_answer is None else prompts.wrong_answer[donors],
    )
