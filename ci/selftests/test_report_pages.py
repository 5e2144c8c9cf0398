"""The pages of the report: nothing in them is obeyed, only what changed is written."""

from __future__ import annotations

import json
import re
import shutil
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from claimlens.ci import cli
from claimlens.ci.baseline import Baseline, accepted, baseline_path
from claimlens.ci.report import pages as pages_module
from claimlens.ci.report.make import make_report
from claimlens.ci.report.names import page_of
from claimlens.ci.report.pages import write_report
from claimlens.ci.report.study import Study
from claimlens.ci.run_files import read_run
from claimlens.ci.selftests import micro
from claimlens.ci.selftests.records import record
from claimlens.ci.selftests.report_samples import Page, finding, pages, run, written
from claimlens.ci.selftests.test_plain_text import HOSTILE
from claimlens.ci.store import RunFile

MARKUP = (
    "<script>alert(1)</script>",
    "</style><b>",
    '" onmouseover="x',
    "<img src=x>",
    "{{ 70707*70707 }}",
)


# --- what must not happen


@pytest.mark.parametrize("text", [*HOSTILE, *MARKUP], ids=ascii)
def test_whatever_a_field_holds_is_text(text: str, tmp_path: Path) -> None:
    (compared,) = finding().comparisons
    hostile = finding(
        f"ioi/{text}", text, f"r{text}", statement=text, source=text, reason=text, caveat=text,
        head=text, role=text, nodeid=text, controls_note=text, memory=text, engine={text: text},
        comparisons=[replace(compared, expression=text, unit=text, method=text)],
        prompts=[{"name": text, "n": 1, "templates": 1, "digest": text}],
    )  # fmt: skip
    missing = replace(hostile, claim="ioi/m", verdict="not measured")
    folder = written(tmp_path / "hostile", run(hostile, missing, text=text))
    plain = written(tmp_path / "plain", run(finding(), finding("ioi/m", verdict="not measured")))
    allowed = {tag for page in pages(plain) for tag in page.tags} | {"dt", "dd", "br"}
    for page in pages(folder):
        assert set(page.tags) <= allowed
        assert page.tags.count("script") <= 1
        assert not [name for name, _ in page.attributes if name.startswith("on")]
        assert "4999479849" not in page.text
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    assert all(re.fullmatch(r"[\w./-]+", name) for name in names)
    json.loads((folder / "report.json").read_text())


def test_pages_ask_for_nothing(tmp_path: Path) -> None:
    folder = written(tmp_path, run(finding()))
    for path in folder.rglob("*.html"):
        text, page = path.read_text(), Page(path.read_text())
        assert "default-src 'none'" in text
        assert not {"link", "img", "iframe", "object"} & set(page.tags)
        scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
        assert len(scripts) == page.tags.count("script") == (path.name == "index.html")
        hashes = [b64encode(sha256(script.encode()).digest()).decode() for script in scripts]
        allowed = re.findall(r"script-src ('[^;\"]*)", text)
        assert allowed == [f"'sha256-{each}'" for each in hashes], "our own, and no other"
        places = [value for name, value in page.attributes if name in ("href", "src", "action")]
        assert all((path.parent / place).is_file() for place in places), places


def test_ids_that_differ_in_case_or_signs_have_pages_of_their_own() -> None:
    ids = [
        "a/b",
        "A/b",
        "a-b",
        "a/b/",
        "a b",
        "../a",
        "/etc/passwd",
        "a\0b",
        "",
        "x" * 300,
        "\ud83d",
    ]
    assert len({page_of(each) for each in ids}) == len(ids) - 1 + (page_of("a/b") != page_of("a-b"))
    assert all(re.fullmatch(r"claims/[a-z0-9._-]{1,95}\.html", page_of(each)) for each in ids)


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    first = run(finding("ioi/a"), finding("ioi/b"), finding("ioi/c"))
    made = write_report(tmp_path, Study.of([first]), {})
    assert (made.written, made.kept) == (6, 0)
    again = write_report(tmp_path, Study.of([first]), {})
    assert (again.written, again.kept) == (0, 6)
    changed = run(finding("ioi/b", verdict="refuted"), number=2)
    third = write_report(tmp_path, Study.of([first, changed]), {})
    assert (third.written, third.kept, third.removed) == (4, 2, 0)
    fewer = write_report(tmp_path, Study.of([run(finding("ioi/a"))]), {})
    assert fewer.removed == 2
    assert not (tmp_path / page_of("ioi/b")).exists()
    (tmp_path / page_of("ioi/a")).unlink()
    assert write_report(tmp_path, Study.of([run(finding("ioi/a"))]), {}).written == 1


@pytest.mark.parametrize("folder", range(len(pages_module.MAKING)))
def test_pages_of_other_code_are_made_anew(
    folder: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the report's and of the figures': a page drawn by older code would stay as it is."""
    write_report(tmp_path / "out", Study.of([run(finding())]), {})
    copied = [shutil.copytree(f, tmp_path / str(n)) for n, f in enumerate(pages_module.MAKING)]
    (copied[folder] / "new.py").write_text("# another")
    monkeypatch.setattr(pages_module, "MAKING", copied)
    pages_module._code.cache_clear()
    assert write_report(tmp_path / "out", Study.of([run(finding())]), {}).kept == 0
    pages_module._code.cache_clear()


@pytest.mark.parametrize("manifest", ["{", "[]", '{"../../etc": "x"}', '{"claims/../x.html": "y"}'])
def test_a_damaged_list_of_pages_is_no_harm(manifest: str, tmp_path: Path) -> None:
    (tmp_path / "x.html").write_text("mine")
    (tmp_path / ".pages.json").write_text(manifest)
    assert write_report(tmp_path, Study.of([run(finding())]), {}).written == 4
    assert (tmp_path / "x.html").read_text() == "mine"


def test_a_figure_that_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    folder = written(tmp_path, run(finding(figures=[{"kind": "Bars", "title": "x"}])))
    assert "a figure cannot be drawn" in (folder / page_of("ioi/x")).read_text()


def test_an_overview_of_many_results_stays_small(tmp_path: Path) -> None:
    """Under 2 MB for 20,000 results: what a hundred more claims on ten models add."""

    def size(claims: int) -> int:
        names = [(f"t{n % 9}/claim-{n}", f"m{m}") for n in range(claims) for m in range(10)]
        folder = written(tmp_path / str(claims), run(*(finding(*each) for each in names)))
        return (folder / "index.html").stat().st_size

    assert (size(120) - size(20)) / 1000 < 2e6 / 20_000


# --- from a store


def store(folder: Path, *verdicts: str) -> None:
    made = RunFile.create(folder, {})
    for number, verdict in enumerate(verdicts):
        made.add(record(claim=f"ioi/{number}", verdict=verdict))
    made.close()


def test_the_command_writes_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(tmp_path / "runs", "holds", "refuted")
    (tmp_path / "runs" / "20200101T000000Z-00000000.jsonl").write_text("}{\n")
    known = record(claim="ioi/1")
    path = baseline_path(tmp_path / "baselines", "default")
    Baseline("default", "r", "x", {}, [], {known.key: accepted(known, "d", "r")}).save(path)
    given = ["--store", str(tmp_path / "runs"), "--baselines", str(tmp_path / "baselines")]
    assert cli.main(["report", str(tmp_path / "out"), *given]) == 0
    assert f"report: {tmp_path}/out/index.html (6 files written" in capsys.readouterr().out
    shown = Page((tmp_path / "out" / "index.html").read_text()).text
    assert "was holds" in shown
    assert "is no run file, or its header is damaged" in shown
    assert "✗" in (tmp_path / "out" / "report.md").read_text()
    path.write_text("{")
    assert cli.main(["report", str(tmp_path / "out"), *given]) == 0
    assert "is damaged" in Page((tmp_path / "out" / "index.html").read_text()).text


def test_faults_of_the_user_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert cli.main(["report", out, "--store", str(tmp_path)]) == 2
    assert "no runs in" in capsys.readouterr().err
    store(tmp_path / "runs", "holds")
    assert cli.main(["report", out, "--store", str(tmp_path / "runs"), "--run", "x"]) == 2
    (tmp_path / "file").write_text("")
    given = ["--store", str(tmp_path / "runs")]
    assert cli.main(["report", str(tmp_path / "file" / "out"), *given]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert told.count("\n") == 2


def test_a_report_of_nothing_and_of_errors_alone(tmp_path: Path) -> None:
    make_report([], tmp_path / "a", tmp_path)
    assert "there is nothing to show" in (tmp_path / "a" / "index.html").read_text()
    store(tmp_path / "runs", "not measured")
    make_report([*(tmp_path / "runs").glob("*.jsonl")], tmp_path / "b", tmp_path)
    assert "Not measured" in (tmp_path / "b" / "index.html").read_text()


CLAIM = '''
import pytest

@pytest.mark.claim("made/{name}", kind="identity", source="here")
def test_{name}(model, ioi, measure):
    """A claim made for a test."""
    assert measure(lambda p: [float(i) for i in range(len(p))], on=ioi, unit="x") >= 1
'''


def test_pytest_writes_it_where_it_is_asked_to(tmp_path: Path) -> None:
    micro.write_directory(tmp_path / "model")
    (tmp_path / "test_made.py").write_text(CLAIM.format(name="one"))
    done = micro.run_pytest(tmp_path, "--claims-model=./model", "--claims-report=pages")
    assert "report: pages/index.html (4 files written, 0 as they were)" in done.output
    assert done.file is not None
    text = Page((tmp_path / "pages" / page_of("made/one")).read_text()).text
    (found,) = read_run(done.file).records
    assert f"n={found.comparisons[0].n}" in text
    (tmp_path / "taken").write_text("")
    refused = micro.run_pytest(tmp_path, "--claims-model=./model", "--claims-report=taken/x")
    assert "the report could not be written" in refused.output
    assert refused.code == done.code == 0
