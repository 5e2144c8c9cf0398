"""The report as JSON, for programs, and as Markdown, for a pull request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from claimlens.ci.gate_run import Result as Gated
from claimlens.ci.plain_text import shown_line
from claimlens.ci.report.cells import told
from claimlens.ci.report.gate_page import sentence
from claimlens.ci.report.overview import Baselines, signs, topics, unmeasured
from claimlens.ci.report.study import Result, Study

SCHEMA = 1
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|~<>@$&])")
LEFT_OUT = ("values", "denominators", "prompts")
"""What a run file holds of each comparison and programs rarely want: thousands of numbers."""


def as_json(study: Study, gated: Sequence[Gated] = ()) -> str:
    """Every result of now: schema 1 has `models`, and `results`, each a claim's record.

    A result is what the run file holds, without the values of single prompts and without figures;
    `run` and `started` say where it comes from. `compared` has, for each model with a baseline, the
    decision and what became of each finding.
    """
    data = {
        "schema": SCHEMA,
        "models": list(study.models),
        "faults": list(study.faults),
        "results": [_result(result) for result in study.results()],
        "compared": [_compared(result) for result in gated],
    }
    return json.dumps(data, indent=1, allow_nan=False) + "\n"


def _compared(result: Gated) -> dict[str, Any]:
    findings = [finding.to_json() for finding in result.findings]
    return {**asdict(result), "decision": result.decision.name.lower(), "findings": findings}


def _result(result: Result) -> dict[str, Any]:
    record = result.record.to_json()
    del record["figures"]
    for comparison in record["comparisons"]:
        for name in LEFT_OUT:
            del comparison[name]
    return {"run": result.run.id, "started": result.started, **record}


def markdown(study: Study, baselines: Baselines, gated: Sequence[Gated] = ()) -> str:
    """What became of findings, a table for each topic, and what was not measured."""
    return "\n".join((*_gates(gated), *_markdown(study, baselines))) + "\n"


def _gates(gated: Sequence[Gated]) -> Iterator[str]:
    """What is not as it was, of each model that has a baseline."""
    for result in gated:
        yield f"# {_text(sentence(result))}"
        yield ""
        for finding in result.findings:
            if finding.outcome != "unchanged":
                because = f": {finding.reason}" if finding.reason else ""
                yield f"- **{finding.outcome}** {_text(finding.key + because)}"
        yield ""


def _markdown(study: Study, baselines: Baselines) -> Iterator[str]:
    yield "# Findings"
    yield ""
    yield ", ".join(f"{sign} {word}" for _, sign, word in signs())
    for topic in topics(study, baselines):
        yield ""
        yield f"## {_text(topic.name)}"
        yield ""
        yield from (_text(sentence) for sentence in topic.sentences if sentence)
        yield ""
        yield f"| claim | {' | '.join(_text(model) for model in study.models)} |"
        yield "|---" * (1 + len(study.models)) + "|"
        for row in topic.rows:
            pairs = zip(row.cells, row.margins, strict=True)
            cells = [f"{c.sign} {c.count} {m}".strip() if c else "" for c, m in pairs]
            yield f"| {_text(row.claim)} | {' | '.join(cells)} |"
    if missing := unmeasured(study):
        yield ""
        yield "## Not measured"
        yield ""
        for result in missing:
            where = f"{result.record.key} on {result.record.model_name}"
            yield f"- {_text(where)}: {_text(told(result.record))}"


def _text(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return _MARKUP.sub(r"\\\1", shown_line(text.replace("\n", " ")))
