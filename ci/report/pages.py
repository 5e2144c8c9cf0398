"""Writing the report: only pages whose data changed, and none that no claim has any more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from claimlens.ci.figures import theme, words
from claimlens.ci.gate_run import Result as Gated
from claimlens.ci.progress import progress
from claimlens.ci.report import gate_page, overview
from claimlens.ci.report.circuit import Heads, circuit, players
from claimlens.ci.report.claim_page import sections, styles
from claimlens.ci.report.compared import compared
from claimlens.ci.report.export import as_json, markdown
from claimlens.ci.report.names import FOLDER, page_of
from claimlens.ci.report.overview import Baselines
from claimlens.ci.report.published import published
from claimlens.ci.report.script import Script
from claimlens.ci.report.study import Result, Study
from claimlens.ci.whole_file import write_whole

MANIFEST = ".pages.json"
MAKING = (Path(__file__).parent, Path(theme.__file__).parent)
"""Where the code and the templates of pages and of their figures are."""
COMBINED = 12
"""Models up to which CSS has a rule for each verdict on each; with more, browsers would be slow."""
LONGEST = 2000
"""Characters of a text that a page shows."""
LONGEST_CODE = 20_000


@dataclass(frozen=True)
class Written:
    """The first page, how many files were written, and how many were as they are."""

    index: Path
    written: int
    kept: int
    removed: int

    @property
    def told(self) -> str:
        """What was done, in one line."""
        return f"report: {self.index} ({self.written} files written, {self.kept} as they were)"


def write_report(folder: Path, study: Study, baselines: Baselines) -> Written:
    """Write what changed, remove what is no more; raises OSError."""
    before = _manifest(folder)
    now, written = dict[str, str](), 0
    for name, data, render in progress(_pages(study, baselines), "writing pages", len(study.now)):
        now[name] = _digest(data)
        if before.get(name) == now[name] and (folder / name).is_file():
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, render().encode("utf-8", "replace"))
        written += 1
    gone = [name for name in before if name not in now and _is_page(name)]
    for name in gone:
        (folder / name).unlink(missing_ok=True)
    write_whole(folder / MANIFEST, json.dumps(now, indent=0).encode())
    return Written(folder / "index.html", written, len(now) - written, len(gone))


Page = tuple[str, Any, Callable[[], str]]


def _pages(study: Study, baselines: Baselines) -> Iterator[Page]:
    """The file of each page, what it is made of, and how."""
    whole = [[_of(r) for r in study.results()], study.models, study.faults, _accepted(baselines)]
    results = compared(study, baselines)
    found = [whole, [asdict(result) for result in results]]
    yield "index.html", found, lambda: _overview(study, baselines, results)
    yield "report.json", found, lambda: as_json(study, results)
    yield "report.md", found, lambda: markdown(study, baselines, results)
    if results:
        yield gate_page.PAGE, found, lambda: _gate(study, results)
    by_model = players(study)
    for claim in study.now:
        past = [[_of(r) for r in study.past(now)] for now in _all(study, claim)]
        heads = by_model.get(_first_model(study, claim), {})
        yield page_of(claim), [past, heads], partial(_claim, study, claim, heads)


def _first_model(study: Study, claim: str) -> str:
    """The first model that a claim was run on: the one whose circuit its page shows."""
    return next(model for model in study.models if model in study.now[claim])


def _all(study: Study, claim: str) -> list[Result]:
    return [result for found in study.now[claim].values() for result in found]


def _of(result: Result) -> list[Any]:
    return [result.run.id, result.record.to_json()]


def _accepted(baselines: Baselines) -> Any:
    return {model: asdict(baseline) for model, baseline in sorted(baselines.items())}


def _gate(study: Study, results: Sequence[Gated]) -> str:
    return _render(
        "gate.html.jinja",
        compared=gate_page.comparisons(study, results),
        signs=overview.signs(),
        figure_style="",
    )


def _overview(study: Study, baselines: Baselines, results: Sequence[Gated]) -> str:
    return _render(
        "overview.html.jinja",
        gates=gate_page.summaries(results),
        topics=overview.topics(study, baselines),
        models=study.models,
        unmeasured=overview.unmeasured(study),
        places=overview.places(study),
        signs=overview.signs(),
        faults=study.faults,
        figure_style="",
        combined=COMBINED,
        page_of=page_of,
        topic_numbers={c: n for n, each in enumerate(study.topics.values()) for c in each},
        script=Script(templates().get_template("filters.js.jinja").render()),
    )


def _claim(study: Study, claim: str, heads: Heads) -> str:
    found = sections(study, claim)
    drawn = circuit(study.now[claim][_first_model(study, claim)], heads)
    return _render(
        "claim.html.jinja",
        claim=claim,
        sections=found,
        first=found[0].record,
        published=published(found[0].record),
        circuit=drawn,
        signs=overview.signs(),
        figure_style=styles(found, drawn),
    )


def _render(template: str, **given: Any) -> str:
    return templates().get_template(template).render(variables=theme.variables(), **given)


@cache
def templates() -> Environment:
    """Everything that a page shows is escaped, and what cannot be seen is made visible."""
    environment = Environment(
        loader=FileSystemLoader(str(files(__package__) / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = lambda text, most=LONGEST: words.visible(str(text), most)
    environment.filters["code"] = _code_of
    environment.filters["number"] = lambda value: f"{value:.4g}"
    return environment


def _code_of(text: str) -> str:
    """Line by line, so that its newlines stay what they are."""
    lines = text[:LONGEST_CODE].split("\n")
    return "\n".join(words.visible(line) for line in lines)


@cache
def _code() -> str:
    """A digest of what makes pages of data: other templates make other pages."""
    sha = hashlib.sha256()
    for folder in MAKING:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".jinja"):
                sha.update(path.read_bytes())
    return sha.hexdigest()


def _digest(data: Any) -> str:
    text = json.dumps([_code(), data], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _manifest(folder: Path) -> dict[str, str]:
    """What was written before; nothing where that is not known."""
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = isinstance(found, dict) and all(isinstance(v, str) for v in found.values())
    return found if known else {}


def _is_page(name: str) -> bool:
    """Whether a name of the manifest is one of ours: nothing else is removed."""
    folder, slash, file = name.partition("/")
    if name == gate_page.PAGE:
        return True
    return folder == FOLDER and bool(slash) and "/" not in file and file.endswith(".html")
