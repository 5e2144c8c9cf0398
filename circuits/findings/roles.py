"""The roles that heads play, and which heads are published as playing them."""

from __future__ import annotations

from claimlens.circuits.findings import induction, ioi
from claimlens.circuits.parts import Circuit

ROLE_IDS = {
    "ioi/name_mover": "attends from END to the indirect object and raises its logit",
    "ioi/s_inhibition": "attends from END to S2 and turns the name movers away from the subject",
    "ioi/duplicate_token": "attends from S2 back to S1",
    "ioi/backup_name_mover": "takes over when the name movers are knocked out",
    "copy_suppression/negative_head": "lowers the logit of the token it attends to",
    "induction/induction_head": "attends to the token after an earlier copy of this one",
    "induction/previous_token": "attends to the token before this one",
}
"""Every role a claim can speak of, and what playing it means."""

_PUBLISHED = {circuit.model: circuit for circuit in (ioi.GPT2_SMALL, induction.DISTILGPT2)}
_OWNERS = ("openai-community/", "distilbert/")


def circuit_of(model: str) -> Circuit | None:
    """The circuit published for the model of this hub name, if there is one."""
    for owner in _OWNERS:
        model = model.removeprefix(owner)
    return _PUBLISHED.get(model)
