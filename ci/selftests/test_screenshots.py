"""Pictures of the report: made by a script, 1280 pixels wide, and small."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from claimlens.ci.pictures import __main__ as pictures
from claimlens.ci.pictures.__main__ import CLAIM, LARGEST, OPTIONAL, PICTURES, SHOWN, WIDTH, main
from claimlens.ci.selftests import browser
from claimlens.ci.selftests.report_samples import finding, run, written

needs_browser = pytest.mark.skipif(browser.chromium() is None, reason=browser.HOW)


def size(picture: Path) -> tuple[int, int]:
    """Width and height of a PNG."""
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


@pytest.mark.parametrize("name", [name for name in SHOWN if name not in OPTIONAL])
def test_the_documentation_has_its_pictures(name: str) -> None:
    picture = PICTURES / f"{name}.png"
    assert size(picture)[0] == WIDTH
    assert picture.stat().st_size <= LARGEST


@needs_browser
def test_pictures_of_a_report_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = written(tmp_path / "report", run(finding(CLAIM)))
    assert main([str(report), "--to", str(tmp_path / "pictures")]) == 0
    found = {path.stem: size(path) for path in (tmp_path / "pictures").iterdir()}
    assert set(found) == {"overview", "claim"}, "there is no page of a gate"
    for name, (width, height) in found.items():
        assert width == WIDTH
        assert 0 < height <= SHOWN[name][1]
    assert "claim.png: " in capsys.readouterr().out


@needs_browser
def test_a_picture_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pictures, "LARGEST", 1000)
    report = written(tmp_path / "report", run(finding(CLAIM)))
    assert main([str(report), "--to", str(tmp_path)]) == 2
    assert "at most 1000" in capsys.readouterr().err


def test_faults_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 2
    assert "index.html is missing; expected a report" in capsys.readouterr().err
    report = written(tmp_path / "report", run(finding(CLAIM)))
    monkeypatch.setenv("PATH", "")
    assert main([str(report), "--to", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "no browser: " in told
    assert told.count("\n") == 1
