"""The documentation as a site: it builds without a warning, asks no network, has no dead link."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import claimlens.circuits as circuits
from claimlens.ci.selftests.processes import ROOT, Finished

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""What a browser fetches by itself, by the attribute that says from where."""
FETCHED_BY_STYLE = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")]+)")


class Page(HTMLParser):
    """What one page loads, links to, and can be linked by."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.ids |= {given["id"]} if "id" in given else set()
        if tag in LOADED and LOADED[tag] in given:
            self.loads.append(given[LOADED[tag]])
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])


def is_remote(address: str) -> bool:
    return bool(re.match(r"[a-z]+:|//", address)) and not address.startswith("data:")


def fetched(site: Path) -> Iterator[str]:
    """Every address outside of the site that a browser would ask for by itself."""
    for path in sorted(site.rglob("*")):
        if path.suffix == ".html":
            yield from filter(is_remote, Page(path.read_text(encoding="utf-8")).loads)
        elif path.suffix in (".css", ".svg"):
            yield from FETCHED_BY_STYLE.findall(path.read_text(encoding="utf-8"))


def dead_links(site: Path) -> Iterator[str]:
    """Every link within the site whose file or place is not there."""
    pages = {p.resolve(): Page(p.read_text(encoding="utf-8")) for p in site.rglob("*.html")}
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            if is_remote(link) or link.startswith("data:"):
                continue
            name, place = urldefrag(link)
            file = name.partition("?")[0]
            target = (path.parent / unquote(file)).resolve() if file else path
            lost = target in pages and place and unquote(place) not in pages[target].ids
            if lost or not target.is_file():
                yield f"{path.name}: {link}"


def build(source: Path, out: Path) -> Finished:
    """Build as ci/site does; .dev/claimlens is what `claimlens` is here."""
    package = out.parent / "path" / "claimlens"
    package.mkdir(parents=True, exist_ok=True)
    for part in ("circuits", "fixtures", "ci", "claims"):
        if not (package / part).exists():
            (package / part).symlink_to(ROOT / part)
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet",
         "--builder", "html", "--doctree-dir", str(out.parent / "doctrees"), str(source), str(out)],
        env={**os.environ, "PYTHONPATH": str(package.parent), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=400, check=False,
    )  # fmt: skip
    return Finished(done.returncode, done.stdout)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build") / "site"
    done = build(ROOT / "docs", out)
    assert done.code == 0, done.output
    return out


def test_every_page_is_in_the_site(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 30
    assert [str(page) for page in pages if not (site / page.with_suffix(".html")).exists()] == []


def test_it_is_read_without_network(site: Path) -> None:
    assert list(fetched(site)) == []


def test_no_link_is_dead(site: Path) -> None:
    assert list(dead_links(site)) == []


def test_the_reference_has_every_public_name_of_circuits(site: Path) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html"))
    known = Page(text).ids
    homes = {name: f"claimlens.circuits.{home}.{name}" for name, home in circuits._HOME.items()}
    assert len(homes) > 100
    assert [name for name, id in homes.items() if id not in known] == []


def test_the_script_builds_what_is_tested_here() -> None:
    script = (ROOT / "ci" / "site").read_text(encoding="utf-8")
    for option in ("--fail-on-warning", "--keep-going", "--builder html"):
        assert option in script
    assert (ROOT / "ci" / "site").stat().st_mode & 0o111


def test_a_page_with_a_dead_link_is_not_built(tmp_path: Path) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    (source / "conf.py").write_text((ROOT / "docs" / "conf.py").read_text(encoding="utf-8"))
    (source / "index.md").write_text("# A page\n\n[a page that is not there](nothing.md)\n")
    done = build(source, tmp_path / "site")
    assert done.code == 1
    assert "nothing.md" in done.output


def test_what_is_fetched_and_what_is_dead_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<link href="https://fonts.example/x.css"><script src="//cdn.example/x.js"></script>'
        '<a href="https://paper.example">a paper</a><a href="b.html">b</a><a href="#no">no</a>'
        '<p id="yes"><a href="#yes">yes</a><a href="a.html#gone">gone</a></p>'
    )
    (tmp_path / "x.css").write_text('@import "https://style.example/y.css";')
    assert list(fetched(tmp_path)) == [
        "https://fonts.example/x.css", "//cdn.example/x.js", "https://style.example/y.css",
    ]  # fmt: skip
    assert list(dead_links(tmp_path)) == ["a.html: b.html", "a.html: #no", "a.html: a.html#gone"]


def test_a_docstring_is_no_markup_but_its_code() -> None:
    conf: dict[str, object] = {}
    exec((ROOT / "docs" / "conf.py").read_text(encoding="utf-8"), conf)
    docstring = conf["docstring"]
    assert callable(docstring)
    assert docstring(["one `a * b` of W_O*"]) == ["one ``a * b`` of W\\_O\\*"]
    assert docstring(["W_E   the embedding"]) == ["| W\\_E   the embedding"]
