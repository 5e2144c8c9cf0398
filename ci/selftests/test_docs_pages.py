"""Every page of docs/, and the README, does what it says: examples run, links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from claimlens.ci.selftests.processes import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
KERNEL_PAGES = [page for page in PAGES if page.parent.name == "kernels"]


def examples(text: str) -> list[str]:
    """The Python examples of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(text: str, name: str) -> None:
    """Run the examples of a page one after the other, as in one session."""
    session: dict[str, Any] = {"__name__": f"docs_{Path(name).stem}"}
    for number, example in enumerate(examples(text), 1):
        exec(compile(example, f"{name}, example {number}", "exec"), session)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what an example writes is gone with the test
    run(page.read_text(encoding="utf-8"), page.name)


@pytest.mark.parametrize("page", KERNEL_PAGES, ids=lambda page: page.stem)
def test_a_page_about_kernels_has_an_example_that_can_fail(page: Path) -> None:
    shown = examples(page.read_text(encoding="utf-8"))
    assert shown, f"{page.name} has no Python example"
    assert any("assert " in example for example in shown), f"{page.name} asserts nothing"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_an_example_that_is_wrong_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        run("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", "page.md")


def test_there_are_pages() -> None:
    assert KERNEL_PAGES


def unnamed(modules: Iterable[str], text: str) -> list[str]:
    """The modules that a text does not name, as `…kernels.cache`, `…cache` or `cache.cache(`."""
    return [name for name in modules if not re.search(rf"(kernels\.|…|`){name}\b", text)]


def test_every_kernel_module_is_named_on_a_page() -> None:
    kernels = ROOT / "circuits" / "kernels"
    modules = sorted(file.stem for file in kernels.glob("*.py") if file.stem != "__init__")
    text = "\n".join(page.read_text(encoding="utf-8") for page in KERNEL_PAGES)
    assert len(modules) > 40
    assert unnamed(modules, text) == []


def test_a_module_that_no_page_names_is_found() -> None:
    text = "`claimlens.circuits.kernels.patch` and `…knockout`; `hooked.zeroed(hook)`"
    assert unnamed(["patch", "knockout", "hooked", "zero", "cache"], text) == ["zero", "cache"]
