"""Dataclasses from plain JSON: a field that is unknown, missing or of another type is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

Kind = TypeVar("Kind")


def read(kind: type[Kind], data: Mapping[str, Any], name: str) -> Kind:
    """An instance of a dataclass; `name` is what errors call it. Raises ValueError."""
    check(kind, data, name)
    return kind(**data)


def check(kind: type[Any], data: object, name: str) -> None:
    """Raise ValueError where `data` is not the plain form of a dataclass."""
    if not isinstance(data, Mapping):
        raise ValueError(f"not a {name} record: {_shown(data)} where an object is expected")
    known, needed = _fields(kind)  # type: ignore[arg-type]  # mypy doubts that a class has a hash
    if data.keys() != known.keys():
        if unknown := sorted(set(data) - set(known)):
            raise ValueError(f"not a {name} record: unknown fields {unknown}")
        if missing := sorted(needed - set(data)):
            raise ValueError(f"not a {name} record: fields {missing} are missing")
    for field, value in data.items():
        types, inside = known[field]
        if type(value) not in types or (type(value) is float and not isfinite(value)):
            raise ValueError(f"not a {name} record: {field} is {_shown(value)}")
        if inside and value and not all(_is_one_of(each, inside) for each in _elements(value)):
            raise ValueError(f"not a {name} record: {field} holds something else than it should")


def _is_one_of(value: object, types: frozenset[type]) -> bool:
    """Whether it is of one of these types, and no infinity."""
    return type(value) in types and (type(value) is not float or isfinite(value))


def refuse_constant(constant: str) -> float:
    """For `json.loads(parse_constant=…)`: NaN and infinities are no JSON. Raises ValueError."""
    raise ValueError(f"{constant} is no JSON number")


@cache
def _fields(
    kind: type[Any],
) -> tuple[dict[str, tuple[frozenset[type], frozenset[type]]], frozenset[str]]:
    """The JSON types that each field takes, and those of its elements; the fields that must be."""
    hints = get_type_hints(kind)
    known = {f.name: (_types(hints[f.name]), _inside(hints[f.name])) for f in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
    return known, frozenset(needed)


def _types(hint: Any) -> frozenset[type]:
    if get_origin(hint) in (Union, UnionType):
        return frozenset().union(*map(_types, get_args(hint)))
    kind = get_origin(hint) or hint
    if kind is float:
        return frozenset({int, float})
    return frozenset({kind if kind in (str, int, bool, NoneType, list, dict) else dict})


def _inside(hint: Any) -> frozenset[type]:
    """The types of a list's elements or a dict's values; nothing where they may be any."""
    kinds = get_args(hint)
    if get_origin(hint) not in (list, dict) or kinds[-1] is Any:
        return frozenset()
    return _types(kinds[-1])


def _elements(value: list[Any] | dict[str, Any]) -> Any:
    return value.values() if isinstance(value, dict) else value


def _shown(value: object) -> str:
    text = repr(value)
    return f"{text[:40]}…" if len(text) > 40 else text
