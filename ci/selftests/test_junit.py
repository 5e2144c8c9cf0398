"""What a JUnit file says of a claim, and what it leaves to the run file."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from claimlens.ci.selftests import micro

CLAIMS = '''
import pytest

@pytest.mark.claim("junit/holds", kind="identity", source="here")
def test_holds(model, ioi, measure):
    """This holds."""
    assert measure(lambda p: [float(i) for i in range(len(p))], on=ioi, unit="x", exact=True) >= -1

@pytest.mark.claim("junit/refuted", kind="identity", source="here")
def test_refuted(model, ioi, measure):
    """This does not."""
    assert measure(lambda p: [float(i) for i in range(len(p))], on=ioi, unit="x", exact=True) < -1

@pytest.mark.claim("junit/nowhere", kind="identity", source="here")
@pytest.mark.role("induction/induction_head")
def test_nowhere(model, head, measure):
    """Of no head."""
    assert measure(lambda: 1.0, unit="x") >= 1

def test_plain(record_property):
    record_property("mine", "stays")
'''


@pytest.mark.parametrize("options", [(), ("-n2", "--dist=loadscope")])
def test_the_verdict_is_a_property_and_the_values_are_not(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    folder = tmp_path / "suite"
    folder.mkdir()
    micro.write_directory(folder / "model")
    (folder / "test_j.py").write_text(CLAIMS)
    micro.run_pytest(folder, "--claims-model=./model", "--junitxml=j.xml", *options)
    cases = {
        case.get("name", "").partition("[")[0]: {
            p.get("name"): p.get("value") for p in case.iter("property")
        }
        for case in ET.parse(folder / "j.xml").iter("testcase")
    }
    assert cases["test_plain"] == {"mine": "stays"}
    words = {name: found.get("claim_verdict") for name, found in cases.items()}
    assert words == {
        "test_holds": "holds",
        "test_refuted": "refuted",
        "test_nowhere": "not applicable",
        "test_plain": None,
    }
    assert cases["test_refuted"]["claim_claim"] == "junit/refuted"
    assert set(cases["test_refuted"]) == {"claim_claim", "claim_verdict", "claim_reason"}
    assert (folder / "j.xml").stat().st_size < 8000
