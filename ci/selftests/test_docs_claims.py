"""The claims that the pages of docs/ show hold on the embedded model, when pytest runs them."""

from __future__ import annotations

import re

from claimlens.ci.selftests.processes import ROOT, RunClaims

PAGES = sorted((ROOT / "docs").glob("*.md"))
MARK = "@pytest.mark.claim("


def claims_of(text: str) -> list[str]:
    """The Python examples of a page that are claims."""
    shown = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [example for example in shown if MARK in example]


def every_claim() -> dict[str, str]:
    """Each of them as a test file, named after its page."""
    return {
        f"test_{page.stem.replace('-', '_')}_{number}.py": text
        for page in PAGES
        for number, text in enumerate(claims_of(page.read_text(encoding="utf-8")))
    }


def test_every_claim_of_the_pages_holds(run_claims: RunClaims) -> None:
    files = every_claim()
    assert len(files) > 3
    done = run_claims(files)
    assert done.code == 0, done.output
    silent = [name for name in files if not re.search(rf"{name} \.+", done.output)]
    assert silent == [], done.output


def test_a_claim_that_does_not_hold_would_be_noticed(run_claims: RunClaims) -> None:
    files = every_claim()
    broken = files["test_first_claim_0.py"].replace(">= 0.3", ">= 300")
    assert broken != files["test_first_claim_0.py"]
    assert run_claims({"test_broken.py": broken}).code == 1
