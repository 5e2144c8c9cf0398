"""Records from plain JSON: what does not fit is named, whatever it is."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimlens.ci.selftests.records import comparison, record
from claimlens.circuits.plain import check
from claimlens.circuits.record import (
    ClaimRecord,
    ComparisonRecord,
    ControlRecord,
    PromptsRecord,
    packed,
    unpacked,
)

KINDS: list[tuple[type[Any], dict[str, Any]]] = [
    (ClaimRecord, asdict(record())),
    (ComparisonRecord, asdict(comparison())),
    (ControlRecord, asdict(record().controls[0])),
    (PromptsRecord, asdict(PromptsRecord("00", ["a"], ["t"], ["x"]))),
]
OF_ANOTHER_TYPE = {str: 5, int: "5", float: "0.5", bool: 1, list: {}, dict: [], type(None): []}


@pytest.mark.parametrize(("kind", "data"), KINDS)
def test_every_field_of_another_type_is_named(kind: type[Any], data: dict[str, Any]) -> None:
    check(kind, data, "x")
    for field in fields(kind):
        wrong = {**data, field.name: OF_ANOTHER_TYPE[type(data[field.name])]}
        with pytest.raises(ValueError, match=f"not a x record: {field.name} is "):
            check(kind, wrong, "x")


@pytest.mark.parametrize(("kind", "data"), KINDS)
def test_unknown_and_missing_fields_are_named(kind: type[Any], data: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"unknown fields \['more'\]"):
        check(kind, {**data, "more": 1}, "x")
    first = fields(kind)[0].name
    with pytest.raises(ValueError, match=rf"fields \['{first}'\] are missing"):
        check(kind, {k: v for k, v in data.items() if k != first}, "x")


@pytest.mark.parametrize("data", [None, 5, "text", [1], True])
def test_what_is_no_object_is_no_record(data: object) -> None:
    with pytest.raises(ValueError, match="where an object is expected"):
        check(ClaimRecord, data, "claim")


@pytest.mark.parametrize("text", ["1e999", "-1e999"])
def test_a_number_beyond_all_numbers_is_no_number(text: str) -> None:
    data = {**asdict(comparison()), "value": json.loads(text)}
    with pytest.raises(ValueError, match=r"value is -?inf"):
        check(ComparisonRecord, data, "comparison")


@pytest.mark.parametrize(
    ("field", "value"), [("ids", ["a", 5]), ("texts", [None]), ("templates", [[]])]
)
def test_elements_of_another_type_are_named(field: str, value: list[Any]) -> None:
    data = {**asdict(PromptsRecord("00", ["a"], ["t"], ["x"])), field: value}
    with pytest.raises(ValueError, match=f"{field} holds something else"):
        check(PromptsRecord, data, "prompts")


def test_a_verdict_that_there_is_not() -> None:
    with pytest.raises(ValueError, match="no verdict 'maybe'"):
        ClaimRecord.from_json({**record().to_json(), "verdict": "maybe"})


def test_prompts_of_unequal_number() -> None:
    data = {"digest": "00", "ids": ["a"], "templates": [], "texts": ["x"]}
    with pytest.raises(ValueError, match="ids, templates and texts differ in number"):
        PromptsRecord.from_json(data)


@given(st.lists(st.floats(allow_nan=False), max_size=50))
def test_packed_numbers_come_back_to_the_bit(values: list[float]) -> None:
    array = np.array(values, dtype=float)
    assert unpacked(packed(array)).tobytes() == array.tobytes()


@pytest.mark.parametrize("text", ["?", "AAAA", "é"])
def test_a_text_without_numbers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not packed numbers"):
        unpacked(text)
