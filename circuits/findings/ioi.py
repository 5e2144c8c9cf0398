"""The indirect-object-identification circuit of GPT-2 small."""

from __future__ import annotations

from claimlens.circuits.parts import Circuit, Head


def _heads(*names: str) -> tuple[Head, ...]:
    return tuple(Head.parse(name) for name in names)


GPT2_SMALL = Circuit(
    name="ioi",
    model="gpt2",
    roles={
        "ioi/name_mover": _heads("9.9", "9.6", "10.0"),
        "ioi/s_inhibition": _heads("7.3", "7.9", "8.6", "8.10"),
        "ioi/duplicate_token": _heads("0.1", "3.0"),
        "ioi/backup_name_mover": _heads("10.1", "10.2", "10.6", "10.10", "11.2", "11.9"),
        "copy_suppression/negative_head": _heads("10.7", "11.10"),
        "induction/induction_head": _heads("5.5", "6.9", "5.1", "7.2", "7.10"),
        "induction/previous_token": _heads("2.2", "4.11"),
    },
    source=(
        "Wang et al. 2022, arXiv:2211.00593, figure 2; induction heads from the TransformerLens "
        "main demo (score above 0.8); negative heads also McDougall et al. 2023, arXiv:2310.04625"
    ),
    doubt=(
        "0.10, 5.8 and 5.9 are called fuzzy by the authors and left out; so are the backups 9.0 "
        "and 9.7, which lie beside or below the movers and can rise only through the final "
        "LayerNorm's scale; the circuit is "
        "incomplete (greedy search finds a gap of 3.09 logits) and its faithfulness depends on "
        "the ablation (arXiv:2407.08734)"
    ),
)
