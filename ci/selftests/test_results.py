"""The result cache: what is kept, what happens to damaged entries, and who may use the folder."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from claimlens.circuits.verdict import NotMeasured
from claimlens.fixtures.results import IGNORED, FolderRefused, ResultCache, ResultsWarning

SILENT = "CLAIMLENS_TEST_SILENT"


def scaled(values: Tensor, scale: float = 2.0) -> Tensor:
    """A kernel without a model; it cannot run where SILENT is set."""
    if SILENT in os.environ:
        raise AssertionError("the kernel ran")
    return values * scale


def both(values: Tensor) -> dict[str, Tensor]:
    return {"twice": values * 2, "half": values / 2}


def not_a_number(values: Tensor) -> Tensor:
    return values / 0 * 0


def a_number(values: Tensor) -> float:
    return float(values.sum())


@pytest.fixture
def results(tmp_path: Path) -> ResultCache:
    return ResultCache(tmp_path / "results")


def measured(results: ResultCache, kernel: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether this call had to be measured."""
    results.measure(kernel, *args, **kwargs)
    return not results.log[-1].from_cache


# --- a result that is known ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_a_known_result_is_the_same_and_is_not_measured_again(
    results: ResultCache, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.arange(12).reshape(3, 4).to(dtype)
    first = results.measure(scaled, values, 3)
    monkeypatch.setenv(SILENT, "1")
    again = results.measure(scaled, values, 3)
    assert [lookup.from_cache for lookup in results.log] == [False, True]
    assert results.reused == [f"{__name__}.scaled"]
    assert again.dtype == first.dtype
    assert torch.equal(again, first)


def test_a_result_of_several_tensors_keeps_their_names_and_order(results: ResultCache) -> None:
    first = results.measure(both, torch.ones(2))
    again = results.measure(both, torch.ones(2))
    assert list(again) == list(first) == ["twice", "half"]
    assert all(torch.equal(again[name], first[name]) for name in first)


def test_another_process_finds_it(results: ResultCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process would: with another cache object on the same folder."""
    results.measure(scaled, torch.ones(2))
    assert not measured(ResultCache(results.folder), scaled, torch.ones(2))


def test_a_default_given_or_left_out_is_the_same_call(results: ResultCache) -> None:
    assert measured(results, scaled, torch.ones(2))
    assert not measured(results, scaled, torch.ones(2), 2.0)
    assert not measured(results, scaled, scale=2.0, values=torch.ones(2))


def test_without_a_folder_everything_is_measured() -> None:
    results = ResultCache(None)
    assert measured(results, scaled, torch.ones(2))
    assert measured(results, scaled, torch.ones(2))


# --- entries that are not what was written -------------------------------------------------------


def entry(results: ResultCache) -> Path:
    assert results.folder is not None
    (found,) = results.folder.glob("*.result")
    return found


DAMAGE: Mapping[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "cut short": lambda raw: raw[:-3],
    "cut in the header": lambda raw: raw[:40],
    "longer": lambda raw: raw + b"\0",
    "a changed number": lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
    "a changed header": lambda raw: raw.replace(b"F32", b"I32"),
    "a changed checksum": lambda raw: raw[:30] + bytes([raw[30] ^ 1]) + raw[31:],
    "text": lambda raw: b"not a result\n" * 40,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_reported_measured_anew_and_mended(
    results: ResultCache, damage: Callable[[bytes], bytes]
) -> None:
    value = results.measure(scaled, torch.ones(3))
    path = entry(results)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(ResultsWarning, match="is damaged"):
        again = results.measure(scaled, torch.ones(3))
    assert torch.equal(again, value)
    assert not results.log[-1].from_cache
    assert not measured(results, scaled, torch.ones(3))


def test_an_entry_under_another_key_is_not_trusted(results: ResultCache) -> None:
    results.measure(scaled, torch.ones(3))
    written = entry(results).read_bytes()
    results.measure(scaled, torch.ones(3), 5.0)
    assert results.folder is not None
    (results.folder / f"{results.log[-1].key}.result").write_bytes(written)
    with pytest.warns(ResultsWarning, match="another call"):
        assert results.measure(scaled, torch.ones(3), 5.0)[0] == 5


def test_what_cannot_be_written_is_measured_all_the_same(
    results: ResultCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(ResultsWarning, match="no space left"):
        assert results.measure(scaled, torch.ones(1)).item() == 2
    assert results.folder is not None
    assert sorted(path.name for path in results.folder.iterdir()) == [".gitignore"]


def test_nan_is_an_error_and_is_not_kept(results: ResultCache) -> None:
    with pytest.raises(NotMeasured, match="NaN"):
        results.measure(not_a_number, torch.zeros(2))
    assert results.folder is not None
    assert not list(results.folder.glob("*.result"))


def test_only_tensors_can_be_kept() -> None:
    with pytest.raises(TypeError, match="returned a float"):
        ResultCache(None).measure(a_number, torch.ones(2))


# --- the folder ----------------------------------------------------------------------------------


def test_the_longest_unused_entries_go_first(tmp_path: Path) -> None:
    size = len(_packed_one(tmp_path / "one"))
    results = ResultCache(tmp_path / "results", max_bytes=3 * size + size // 2)
    for scale in (1.0, 2.0, 3.0):
        assert measured(results, scaled, torch.ones(64), scale)
        time.sleep(0.01)
    assert not measured(results, scaled, torch.ones(64), 1.0)  # used: now 2.0 is the oldest
    assert measured(results, scaled, torch.ones(64), 4.0)
    kept = [not measured(results, scaled, torch.ones(64), scale) for scale in (1.0, 3.0, 4.0)]
    assert kept == [True, True, True]
    assert measured(results, scaled, torch.ones(64), 2.0)


def _packed_one(folder: Path) -> bytes:
    results = ResultCache(folder)
    results.measure(scaled, torch.ones(64), 1.0)
    return entry(results).read_bytes()


def test_a_result_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    results = ResultCache(tmp_path / "results", max_bytes=100)
    with pytest.warns(ResultsWarning, match="at most 100"):
        results.measure(scaled, torch.ones(64))
    assert not list((tmp_path / "results").glob("*.result"))


def test_git_does_not_see_the_folder(results: ResultCache) -> None:
    assert results.folder is not None
    assert (results.folder / ".gitignore").read_text() == IGNORED


@pytest.mark.parametrize("file", ["notes.txt", ".gitignore"])
def test_a_folder_of_something_else_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_text("mine")
    with pytest.raises(FolderRefused, match="holds other files"):
        ResultCache(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderRefused, match="no results can be kept"):
        ResultCache(tmp_path / "file")


def test_a_limit_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="max_bytes=0"):
        ResultCache(tmp_path / "results", max_bytes=0)


def test_what_a_killed_writer_left_is_swept(results: ResultCache) -> None:
    assert results.folder is not None
    old, new = results.folder / ".a.part", results.folder / ".b.part"
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results.measure(scaled, torch.ones(2))
    assert (old.exists(), new.exists()) == (False, True)
