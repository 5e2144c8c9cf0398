"""What every figure checks of its data, and how it becomes plain JSON and comes back."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar

from claimlens.circuits.verdict import NotMeasured

T = TypeVar("T")
LARGEST = 1e300
"""Beyond this an axis would overflow."""
_SHOWN = 4
"""Values quoted in a message."""


class BadFigure(NotMeasured, ValueError):
    """Data that no figure can show truthfully; the message says what was given."""


def settle(instance: object, **values: object) -> None:
    """Set checked fields of a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def number(value: Any, where: str) -> float:
    """A finite float; a number as text is none."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor of many values
        raise BadFigure(f"{where}: {shown(value)} is not a number") from error
    if not math.isfinite(found):
        raise BadFigure(f"{where}: {found} is not finite; leave it out, or say why in the claim")
    if abs(found) > LARGEST:
        raise BadFigure(f"{where}: {found:g} is too large to show; at most {LARGEST:g}")
    return found


def numbers(values: Iterable[Any], where: str, length: int | None = None) -> tuple[float, ...]:
    """Finite floats of a list, an array or a tensor, `length` of them; never none."""
    found = tuple(number(v, f"{where}, value {i}") for i, v in enumerate(listed(values, where)))
    if length is not None and len(found) != length:
        raise BadFigure(f"{where} has {len(found)} values; expected {length}")
    return filled(found, where)


def matrix(
    rows: Iterable[Any], where: str, lengths: Sequence[int]
) -> tuple[tuple[float, ...], ...]:
    """Rows of finite floats, of the given lengths."""
    given = listed(rows, where)
    if len(given) != len(lengths):
        raise BadFigure(f"{where} has {len(given)} rows of values; expected {len(lengths)}")
    pairs = zip(given, lengths, strict=True)
    return tuple(numbers(row, f"{where}, row {i}", n) for i, (row, n) in enumerate(pairs))


def gapped(
    rows: Iterable[Any], where: str, lengths: Sequence[int]
) -> tuple[tuple[float | None, ...], ...]:
    """As `matrix`, but a value may be None; not all of them."""
    given = [listed(row, f"{where}, row {i}") for i, row in enumerate(listed(rows, where))]
    gaps = [{j for j, value in enumerate(row) if value is None} for row in given]
    if any(given) and all(len(gap) == len(row) for gap, row in zip(gaps, given, strict=True)):
        raise BadFigure(f"{where}: every value is None; there is nothing to show")
    whole = [[0.0 if v is None else v for v in row] for row in given]
    pairs = zip(matrix(whole, where, lengths), gaps, strict=True)
    return tuple(tuple(None if j in gap else v for j, v in enumerate(row)) for row, gap in pairs)


def texts(rows: Iterable[Any], where: str, shape: tuple[int, int]) -> tuple[tuple[str, ...], ...]:
    """Rows of strings in this shape, or no rows at all."""
    found = tuple(
        tuple(str(text) for text in listed(row, f"{where}, row {i}"))
        for i, row in enumerate(listed(rows, where))
    )
    if found and [len(row) for row in found] != [shape[1]] * shape[0]:
        lengths = shown([len(row) for row in found])
        raise BadFigure(f"{where}: rows of {lengths}; expected {shape[0]} rows of {shape[1]}")
    return found


def places(cells: Iterable[Any], where: str, shape: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """(row, column) of cells that lie inside this shape."""
    found = tuple((int(row), int(column)) for row, column in cells)
    for row, column in found:
        if not (0 <= row < shape[0] and 0 <= column < shape[1]):
            raise BadFigure(
                f"{where}: marked cell (row {row}, column {column}) lies outside "
                f"{shape[0]} rows x {shape[1]} columns"
            )
    return found


def interval(low: Any, high: Any, where: str) -> tuple[float, float] | tuple[None, None]:
    """Both ends of an interval in order, or neither."""
    if low is None and high is None:
        return None, None
    if low is None or high is None:
        raise BadFigure(f"{where}: give both low and high, or neither")
    ends = number(low, f"{where}, low"), number(high, f"{where}, high")
    if ends[0] > ends[1]:
        raise BadFigure(f"{where}: low {ends[0]:g} lies above high {ends[1]:g}")
    return ends


def parts(values: Iterable[Any], kind: type[T], where: str) -> tuple[T, ...]:
    """One or more objects of one class."""
    found = tuple(listed(values, where))
    for value in found:
        if not isinstance(value, kind):
            raise BadFigure(f"{where}: expected {kind.__name__}, got {shown(value)}")
    return filled(found, where)


def words(values: Iterable[Any], where: str) -> tuple[str, ...]:
    """One or more strings."""
    return filled(tuple(str(value) for value in listed(values, where)), where)


def cell(value: Any, where: str) -> str | int | float | None:
    """What a table's cell may hold: a word, a finite number, or nothing."""
    if value is None or isinstance(value, str | bool):
        return value if value is None else str(value)
    try:
        return operator.index(value)
    except TypeError:
        return number(value, where)


def filled(values: tuple[T, ...], where: str) -> tuple[T, ...]:
    """The values, unless there are none."""
    if not values:
        raise BadFigure(f"{where} is empty; there is nothing to show")
    return values


def listed(values: Any, where: str) -> list[Any]:
    """The items of a list, an array or a tensor; a string is not one."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise BadFigure(f"{where}: expected a list, got {shown(values)}")
    try:
        return list(values)
    except TypeError as error:  # an array or a tensor of no dimension
        raise BadFigure(f"{where}: expected a list, got {shown(values)}") from error


def shown(value: object) -> str:
    """A short quotation of what was given."""
    if isinstance(value, tuple | list) and len(value) > _SHOWN:
        return f"{', '.join(map(repr, value[:_SHOWN]))}, … ({len(value)} values)"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def plain(value: Any) -> Any:
    """Lists, dicts, words and numbers only."""
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def read(kind: type[T], data: Any) -> T:
    """One object from the mapping of its fields; raises BadFigure for one too few or too many."""
    if not isinstance(data, Mapping):
        raise BadFigure(f"{kind.__name__} is read from a mapping; got {shown(data)}")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]  # only dataclasses are read
    needed = {name for name, f in known.items() if f.default is MISSING}
    if unknown := sorted(set(data) - set(known)):
        raise BadFigure(f"not a {kind.__name__}: unknown fields {', '.join(unknown)}")
    if missing := sorted(needed - set(data)):
        raise BadFigure(f"not a {kind.__name__}: no {', '.join(missing)}")
    return kind(**data)
