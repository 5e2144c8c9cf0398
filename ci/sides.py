"""Which records of a run stand for a model that is compared: the accepted one, or heads tried."""

from __future__ import annotations

from claimlens.ci.baseline import Baseline, environment_of
from claimlens.ci.gate import Measured
from claimlens.ci.run_files import StoredRun
from claimlens.circuits.record import ClaimRecord

TRIED = ":candidates"
"""What the name of a model ends with whose heads the gate tried in the stead of lost ones."""


def is_accepted(record: ClaimRecord, baseline: Baseline) -> bool:
    """Whether it was measured on the accepted weights, as they were then."""
    same = record.model.get("revision") == baseline.revision
    return same and environment_of(record.model) == baseline.environment


def accepted_in(run: StoredRun, baseline: Baseline) -> Measured | None:
    """The accepted model's records, where a run has all that the baseline needs, of one name."""
    found = [record for record in run.records if is_accepted(record, baseline)]
    names = {record.model_name for record in found}
    needed = {key for key, claim in baseline.claims.items() if claim.values}
    if len(names) == 1 and {record.key for record in found} >= needed:
        return Measured.of(found, run.prompts, names.pop())
    return None


def with_heads(measured: Measured) -> Measured:
    """The records of claims about one head."""
    headed = {key: record for key, record in measured.records.items() if record.head}
    return Measured(headed, measured.prompts)


def tried_in(run: StoredRun) -> Measured:
    """The records of heads that were tried, each by its test: their claims recur."""
    return Measured({record.nodeid: record for record in run.records}, run.prompts)
