"""Claims made to look green: what each says, and how it must be judged and told.

All run on a micro model whose heads L0H0 and L0H1 copy what they see; `m` is what L0H0 copies.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

MODEL = "./model"
PREAMBLE = '''
import contextlib

import pytest
import torch

from claimlens.circuits import Head, attention, attribute, copy_effect, logit_diff
from claimlens.circuits import margin_over_others
from claimlens.circuits.kernels.cache import Edit, edited
from claimlens.circuits.metrics import end_logits


def copied(model, p):
    """About 0.6 logits; nothing on an untrained model, or for other prompts' answers."""
    return attribute(model, p.clean, Head(0, 0), "answer")
'''


@dataclass(frozen=True)
class Attack:
    """The body of a claim, where `m` measures about 0.6 logits; and how it must come out."""

    body: str
    verdict: str
    told: str = ""
    kind: str = "behaviour"
    marker: str = ""
    above: str = ""
    args: str = "model, ioi, measure"
    definition: str = "def"
    color: str = "red"

    def source(self, name: str) -> str:
        """The claim as a test function."""
        header = (
            f'@pytest.mark.claim("contract/{name}", kind="{self.kind}", source="here"{self.marker})'
        )
        setup = 'm = measure(lambda p: copied(model, p), on=ioi, unit="logits")'
        parts = [self.above, header] if self.above else [header]
        test = f"{self.definition} test_{name.replace('-', '_')}({self.args}):"
        body = textwrap.indent(f'"""A claim made for a test."""\n{setup}\n{self.body}', "    ")
        return "\n".join([*parts, test, body])


ROLE = '@pytest.mark.role("ioi/name_mover")'
ATTACKS = {
    # --- what is green, so that the rest means something
    "holds": Attack("assert m >= 0.2", "holds", color="green"),
    "holds-mirrored": Attack("assert 0.2 <= m <= 5", "holds", color="green"),
    "holds-for-heads": Attack(
        'h = measure(lambda p: attribute(model, p.clean, head, "answer"), on=ioi, unit="logits")\n'
        "assert h >= 0.2",
        "holds",
        kind="mechanism",
        above=ROLE,
        args="model, ioi, head, measure",
        color="green",
    ),
    "expected-refuted": Attack(
        "assert m >= 5", "refuted", marker=f', expected={{"{MODEL}": "refuted"}}', color="green"
    ),
    "loaded-model": Attack(  # "not specific", were the untrained control to leave it in place
        'n = measure(lambda p: copied(loaded_model.bridge, p), on=ioi, unit="logits")\n'
        "assert n >= 0.2",
        "holds",
        args="model, loaded_model, ioi, measure",
        color="green",
    ),
    # --- what is plainly false or open
    "refuted": Attack("assert m >= 5", "refuted", "claimed >= 5: refuted"),
    "undecided": Attack("assert m >= m.value - 1e-3", "undecided", "undecided"),
    "second-comparison": Attack("assert m >= 0.2\nassert m >= 5", "refuted", "claimed >= 5"),
    # --- negation, disjunction, swallowing
    "not-false": Attack("assert not (m > 5)", "refuted", "claimed > 5: refuted"),
    "not-true": Attack("assert not (m > 0.2)", "not measured", "never with `not`"),
    "or-true": Attack("assert m > 5 or True", "refuted", "claimed > 5: refuted"),
    "any": Attack("assert any([m > 5, True])", "refuted", "claimed > 5: refuted"),
    "if-else": Attack("assert True if m > 5 else True", "refuted", "claimed > 5: refuted"),
    "swallowed": Attack("with contextlib.suppress(AssertionError):\n    assert m > 5", "refuted"),
    "swallowed-among-others": Attack(
        "with contextlib.suppress(AssertionError):\n    assert m > 5\nassert m >= 0.2", "refuted"
    ),
    "raises": Attack("with pytest.raises(AssertionError):\n    assert m > 5", "refuted"),
    "xfail": Attack("assert m >= 5", "refuted", above="@pytest.mark.xfail"),
    "xfail-strict": Attack("assert m >= 5", "refuted", above="@pytest.mark.xfail(strict=True)"),
    # --- comparisons that are none
    "never-asserted": Attack("m >= 0.2", "not measured", "never asserted; put `assert` before it"),
    "kept-in-a-name": Attack("found = m >= 0.2", "not measured", "never asserted"),
    "is-not-none": Attack("assert (m >= 0.2) is not None", "not measured", "never asserted"),
    "one-of-two-asserted": Attack("assert m >= 0.2\nm >= 0.3", "not measured", "never asserted"),
    "nothing": Attack("pass", "not measured", "nothing was compared"),
    "returns": Attack("return", "not measured", "nothing was compared"),
    "plain-number": Attack("assert m.value >= 0.2", "not measured", "nothing was compared"),
    "plain-true": Attack("assert 1 + 1 == 2", "not measured", "nothing was compared"),
    "plain-false": Attack("assert 1 + 1 == 3", "not measured", "not a comparison of measurements"),
    "equality": Attack("assert m == m", "not measured", "never =="),
    "truth-value": Attack("assert m", "not measured", "compare it with a threshold"),
    "threshold-nan": Attack('assert m >= float("nan")', "not measured", "finite number"),
    "threshold-true": Attack("assert m >= True", "not measured", "expected a number"),
    # --- measurements that are none
    "exact-sample": Attack(
        'assert measure(lambda p: copied(model, p), on=ioi, unit="logits", exact=True) >= 0.2',
        "not measured",
        "is about a sample of prompts",
    ),
    "constant": Attack(
        'assert measure(lambda p: torch.ones(len(p)), on=ioi, unit="logits") >= 0.2',
        "not measured",
        "all 128 prompts give exactly 1: without spread",
    ),
    "nan-in-one-prompt": Attack(
        "values = copied(model, ioi)\nvalues[5] = torch.nan\n"
        'assert measure(values, on=ioi, unit="logits") >= 0.2',
        "not measured",
        "1 of 128 values are not finite, first in prompt 'ioi-0-5'",
    ),
    "one-value-too-few": Attack(
        'assert measure(copied(model, ioi)[1:], on=ioi, unit="logits") >= 0.2',
        "not measured",
        "expected one value per prompt, shape (128,); got (127,)",
    ),
    "a-silent-mean": Attack(
        'assert measure(lambda p: copied(model, p).mean(), on=ioi, unit="logits") >= 0.2',
        "not measured",
        "expected one value per prompt",
    ),
    "on-no-prompts": Attack(
        'assert measure(copied(model, ioi), on=ioi.clean, unit="logits") >= 0.2',
        "not measured",
        "takes a prompt set",
    ),
    "unpaired": Attack(
        'few = measure(lambda p: copied(model, p), on=ioi.select(range(9)), unit="logits")\n'
        "assert m - few >= 0.2",
        "not measured",
        "unpaired measurements: 128 and 9 prompts",
    ),
    "unpaired-comparison": Attack(
        'few = measure(lambda p: copied(model, p), on=ioi.select(range(9)), unit="logits")\n'
        "assert m >= few",
        "not measured",
        "unpaired",
    ),
    "other-unit": Attack(
        'p = measure(lambda p: attention(model, p.clean, Head(0, 0), "END", "IO"), on=ioi, '
        'unit="probability")\nassert m - p >= 0.2',
        "not measured",
        "different units",
    ),
    # --- mechanisms without an effect size
    "measurement-above-measurement": Attack(
        "assert m >= m - m - m", "not measured", "states an effect size", kind="mechanism"
    ),
    "zero-in-a-name": Attack(
        "nothing = 0.0\nassert m > nothing",
        "not measured",
        "states an effect size",
        kind="mechanism",
    ),
    # --- interventions that did nothing
    "hook-did-not-fire": Attack(
        'idle = edited(model, Edit("blocks.0.attn.qkv.hook_out", torch.zeros_like, "my edit"))\n'
        'assert measure(lambda p: copied(idle, p), on=ioi, unit="logits") >= 0.2',
        "not measured",
        "a hook did not fire: my edit",
    ),
    "edit-changed-nothing": Attack(
        'idle = edited(model, Edit("blocks.0.attn.hook_z", torch.clone, "my edit"))\n'
        'assert measure(lambda p: copied(idle, p), on=ioi, unit="logits") >= 0.2',
        "not measured",
        "my edit changed nothing",
    ),
    # --- true of anything
    "has-logits": Attack(
        'spread = measure(lambda p: end_logits(model, p.clean).std(1), on=ioi, unit="logits")\n'
        "assert spread >= 1e-3",
        "not specific",
        "so does it with untrained model",
    ),
    "every-head-attends": Attack(
        "to_io = measure(\n"
        '    lambda p: attention(model, p.clean, head, "END", "IO"), on=ioi, unit="probability"\n'
        ")\nassert to_io >= 0.01",
        "not specific",
        "so does it with untrained model",
        kind="mechanism",
        above=ROLE,
        args="model, ioi, head, measure",
    ),
    # --- expectations
    "expected-refuted-but-holds": Attack(
        "assert m >= 0.2",
        "holds",
        "its marker expects 'refuted' of this model",
        marker=f', expected={{"{MODEL}": "refuted"}}',
    ),
    "expected-of-another-model": Attack(
        "assert m >= 5", "refuted", marker=', expected={"gpt2": "refuted"}'
    ),
    "expected-refuted-but-not-measured": Attack(
        "pass", "not measured", marker=f', expected={{"{MODEL}": "refuted"}}'
    ),
    "expected-not-measured": Attack(
        "pass", "not measured", marker=f', expected={{"{MODEL}": "not measured"}}'
    ),
    # --- faults of the body
    "type-error": Attack("len(3)", "not measured", "TypeError: object of type 'int' has no len()"),
    "unknown-hook": Attack(
        'idle = edited(model, Edit("blocks.0.attn.hook_zz", torch.zeros_like, "x"))\n'
        'assert measure(lambda p: copied(idle, p), on=ioi, unit="logits") >= 0.2',
        "not measured",
        "no hook 'blocks.0.attn.hook_zz'",
    ),
    "unknown-position": Attack(
        'assert measure(lambda p: attention(model, p.clean, Head(0, 0), "END", "S3"), on=ioi, '
        'unit="probability") >= 0.2',
        "not measured",
        "no position 'S3'",
    ),
    "unknown-role": Attack(
        'assert roles["ioi/s_inhibition"] and m >= 0.2',
        "not applicable",
        "no heads are known for the role 'ioi/s_inhibition'",
        args="model, ioi, roles, measure",
        color="grey",
    ),
    "a-head-the-model-lacks": Attack(
        'assert measure(lambda p: attribute(model, p.clean, Head(9, 9), "answer"), on=ioi, '
        'unit="logits") >= 0.2',
        "not applicable",
        "no head L9H9: it has 3 layers of 2 heads",
        color="grey",
    ),
    "swallows-a-fault": Attack(
        "try:\n    measure([1.0], on=ioi, unit='logits')\nexcept Exception:\n    pass\n"
        "assert m >= 0.2",
        "not measured",
        "the claim went on after: expected one value per prompt",
    ),
    "a-number-of-the-model-in-a-behaviour-claim": Attack(
        'assert measure(3.0, unit="logits") >= 0.2',
        "not measured",
        "a claim of kind behaviour is about a sample of prompts",
    ),
    "a-head-as-text": Attack(
        'assert measure(lambda p: attribute(model, p.clean, "0.0", "answer"), on=ioi, '
        'unit="logits") >= 0.2',
        "not measured",
        "not a head: '0.0'; write Head(2, 0), or Head.parse('2.0')",
    ),
    "skips-in-its-body": Attack('pytest.skip("not today")', "not measured", "not today"),
    "async": Attack(
        "assert m >= 5", "not measured", "nothing was compared", definition="async def"
    ),
    # --- a superlative said of each head alone: only one of two can be the top
    "superlative": Attack(
        "margin = measure(\n"
        "    lambda p: margin_over_others(copy_effect(model, p.clean), [head]),\n"
        '    on=ioi, unit="logits",\n)\nassert margin >= 1e-4',
        "refuted",
        kind="mechanism",
        above=ROLE,
        args="model, ioi, head, measure",
    ),
}
FAULTS = {
    "type-error",
}
"""Claims whose own Python raised: only these show where, as pytest does."""
