"""Badly made claims don't collect, and say why: in one line, without a traceback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from claimlens.ci.selftests import micro
from claimlens.ci.selftests.micro import Run

MODEL = "./model"
BODY = '''def test_it(model, ioi, measure):
    """A claim made for a test."""
    m = measure(lambda p: logit_diff(model, p.clean), on=ioi, unit="logits")
    assert m >= 0.3
'''
HEAD_BODY = BODY.replace("ioi, measure", "ioi, head, measure")
CLAIM = '@pytest.mark.claim("contract/x", kind="behaviour", source="here")\n'
BAD = {
    "no_docstring": (
        CLAIM + BODY.replace('    """A claim made for a test."""\n', ""),
        "'contract/x' has no docstring; say in one sentence what it claims",
    ),
    "no_source": (
        '@pytest.mark.claim("contract/x", kind="behaviour")\n' + BODY,
        "has no source; cite a published figure with finding=",
    ),
    "empty_source": (
        '@pytest.mark.claim("contract/x", kind="behaviour", source=" ")\n' + BODY,
        "has no source",
    ),
    "unknown_finding": (
        '@pytest.mark.claim("contract/x", kind="behaviour", finding="ioi/tsk")\n' + BODY,
        "no published finding 'ioi/tsk'; nearest: ioi/task",
    ),
    "unknown_role": (
        '@pytest.mark.role("ioi/name_mvoer")\n'
        + CLAIM
        + BODY.replace("ioi, measure", "ioi, head, measure"),
        "no role 'ioi/name_mvoer'; did you mean 'ioi/name_mover'?",
    ),
    "unknown_shared_role": (
        '@pytest.mark.role("ioi/name_mover", shared_with=("ioi/nobody",))\n' + CLAIM + BODY,
        "no role 'ioi/nobody'",
    ),
    "shared_with_a_string": (
        '@pytest.mark.role("ioi/name_mover", shared_with="ioi/s_inhibition")\n' + CLAIM + BODY,
        "shared_with takes a tuple of roles",
    ),
    "unknown_role_argument": (
        '@pytest.mark.role("ioi/name_mover", shared=("ioi/s_inhibition",))\n' + CLAIM + BODY,
        "unknown argument 'shared' of role; did you mean 'shared_with'?",
    ),
    "head_without_role": (
        CLAIM + HEAD_BODY,
        "takes `head` but names no role; add @pytest.mark.role",
    ),
    "role_without_head": (
        '@pytest.mark.role("ioi/name_mover")\n' + CLAIM + BODY,
        "names the role 'ioi/name_mover' but takes neither `head` nor `heads`",
    ),
    "expected_of_a_misspelt_model": (
        '@pytest.mark.claim("contract/x", kind="behaviour", source="here", '
        'expected={"defualt": "refuted"})\n' + BODY,
        "no model 'defualt'; did you mean 'default'?",
    ),
    "misspelt_kind": (
        '@pytest.mark.claim("contract/x", kind="behavior", source="here")\n' + BODY,
        "kind='behavior'; expected one of behaviour, mechanism, weights, identity",
    ),
    "no_kind": (
        '@pytest.mark.claim("contract/x", source="here")\n' + BODY,
        "expected one of behaviour",
    ),
    "unknown_argument": (
        '@pytest.mark.claim("contract/x", kind="behaviour", source="here", expects={})\n' + BODY,
        "unknown argument 'expects' of claim; did you mean 'expected'?",
    ),
    "no_id": ('@pytest.mark.claim(kind="behaviour", source="here")\n' + BODY, "takes one id"),
    "id_without_topic": (
        '@pytest.mark.claim("Accuracy", kind="behaviour", source="here")\n' + BODY,
        "claim id 'Accuracy': expected lower-case words and a slash, as 'ioi/accuracy'",
    ),
    "expected_is_no_verdict": (
        '@pytest.mark.claim("contract/x", kind="behaviour", source="here", '
        'expected={"gpt2": "false"})\n' + BODY,
        "give a verdict per model, as expected={'gpt2': 'refuted'}",
    ),
    "expected_is_a_list": (
        '@pytest.mark.claim("contract/x", kind="behaviour", source="here", '
        'expected={"gpt2": ["refuted"]})\n' + BODY,
        "give a verdict per model",
    ),
    "version_is_no_number": (
        '@pytest.mark.claim("contract/x", kind="behaviour", source="here", version="two")\n' + BODY,
        "version='two'; expected a whole number",
    ),
    "bare_zero": (
        CLAIM.replace("behaviour", "mechanism") + BODY.replace("m >= 0.3", "m > 0"),
        "`assert m > 0` states no effect size; a mechanism claim says how much",
    ),
    "bare_zero_mirrored": (
        CLAIM.replace("behaviour", "mechanism") + BODY.replace("m >= 0.3", "0 < m"),
        "`assert 0 < m` states no effect size",
    ),
    "bare_zero_negated": (
        CLAIM.replace("behaviour", "mechanism") + BODY.replace("m >= 0.3", "not (m <= 0.0)"),
        "states no effect size",
    ),
    "bare_minus_zero": (
        CLAIM.replace("behaviour", "mechanism") + BODY.replace("m >= 0.3", "m > -0.0"),
        "states no effect size",
    ),
    "no_model": (
        CLAIM + BODY.replace("model, ioi", "ioi").replace("model, p", "None, p"),
        "takes no `model`",
    ),
}


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All badly made claims, each in a file of its own, collected at once."""
    folder = tmp_path_factory.mktemp("bad") / "suite"
    folder.mkdir()
    start = "import pytest\nfrom claimlens.circuits import logit_diff\n\n\n"
    for name, (text, _) in BAD.items():
        numbered = text.replace("contract/x", f"contract/{name.replace('_', '-')}")
        (folder / f"test_{name}.py").write_text(start + numbered)
    return micro.run_pytest(folder, f"--claims-model={MODEL}")


@pytest.mark.parametrize("name", BAD)
def test_a_badly_made_claim_does_not_collect_and_is_told_why(collected: Run, name: str) -> None:
    _, told = BAD[name]
    heading = re.search(rf"^_+ ERROR collecting test_{name}\.py _+$", collected.output, re.M)
    assert heading, collected.output
    section = re.split(r"^_+ ERROR|^=+ ", collected.output[heading.end() :], flags=re.M)[0]
    assert told.replace("contract/x", f"contract/{name.replace('_', '-')}") in section, section
    assert "Traceback" not in section
    assert not re.search(r"\.py:\d+: ", section), section


def test_a_run_with_a_badly_made_claim_is_interrupted(collected: Run) -> None:
    assert collected.code == pytest.ExitCode.INTERRUPTED
    assert f"{len(BAD)} errors" in collected.output
    assert not collected.records


def test_a_claim_id_is_used_once(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    start = "import pytest\nfrom claimlens.circuits import logit_diff\n\n\n"
    for name in ("one", "two"):
        (folder / f"test_{name}.py").write_text(start + CLAIM + BODY)
    twice = micro.run_pytest(folder, f"--claims-model={MODEL}")
    assert twice.code == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in twice.output.splitlines() if "contract/x" in line]
    assert "used twice: by test_one.py::test_it and by test_two.py::test_it" in line
    assert "rename one" in line
    assert "Traceback" not in twice.output


def test_measure_is_for_claims_only(tmp_path: Path) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    (folder / "test_plain.py").write_text("def test_it(measure):\n    pass\n")
    plain = micro.run_pytest(folder)
    assert plain.code == pytest.ExitCode.TESTS_FAILED
    assert "test_it uses `measure` but is no claim; mark it with" in plain.output
    assert "1 error" in plain.output
