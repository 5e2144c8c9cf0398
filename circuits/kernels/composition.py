"""What one head writes as what another head looks for: OV of the sender into QK of the receiver.

A receiver in the sender's layer, or before it, never reads what the sender writes. Such pairs are
scored like all others, as the notebook scores them, and marked: their score is about weights that
never meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from claimlens.circuits.kernels.bridge import (
    Bridge,
    all_heads,
    check_plain_output,
    key_weights,
    output_weights,
    query_weights,
    value_weights,
)
from claimlens.circuits.kernels.cache import Model, intact
from claimlens.circuits.kernels.effective_embedding import (
    Variant,
    effective_embedding,
    source_tokens,
)
from claimlens.circuits.kernels.factored import ov, qk
from claimlens.circuits.kernels.weights import check_distinct, first_of_row, own_column
from claimlens.circuits.metrics import answer_tokens
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable, NotMeasured


@dataclass(frozen=True, eq=False)
class Composition:
    """Scores of every sender into every receiver; `causal` is False where they cannot meet."""

    senders: tuple[Head, ...]
    receivers: tuple[Head, ...]
    matches: Bool[Tensor, "batch sender receiver"]
    causal: Bool[Tensor, "sender receiver"]

    @property
    def shares(self) -> Float[Tensor, "sender receiver"]:
        """The share of prompts that match, which is the score of seed 000."""
        return self.matches.double().mean(0)

    def best_receiver(self) -> Head:
        """The receiver with the highest mean share over the senders that it can read.

        Raises NotApplicable where no receiver can read any of them.
        """
        if not bool(self.causal.any()):
            raise NotApplicable("no receiver lies in a later layer than any of the senders")
        counted = self.causal.to(self.shares)
        mean = (self.shares * counted).sum(0) / counted.sum(0)
        return self.receivers[int(mean.nan_to_num(-torch.inf).argmax())]


def is_causal(sender: Head, receiver: Head) -> bool:
    """Whether the receiver can read what the sender writes: it is in a later layer."""
    return sender.layer < receiver.layer


def senders_before(senders: Sequence[Head], receiver: Head) -> tuple[Head, ...]:
    """Those of the senders that the receiver can read; raises NotApplicable where it can none."""
    found = tuple(sender for sender in senders if is_causal(sender, receiver))
    if not found:
        named = ", ".join(str(sender) for sender in senders) or "no head"
        raise NotApplicable(
            f"{receiver} lies in no later layer than {named}: it reads none of them"
        )
    return found


def composition_matrix(
    model: Model,
    prompts: Prompts,
    sender: Head,
    receiver: Head,
    *,
    embedding: Variant = "W_E+MLP0",
) -> Float[Tensor, "batch key"]:
    """What the receiver looks for where the sender has copied a token: e W_OV W_Q W_K^T e_k^T.

    A row for the token at END of each prompt, which the sender copies into the query; a column for
    the answer of each prompt as key [score times sqrt(d_head), without biases and LayerNorm's
    scales; at distance 0 in rotary models]. Seed 000, `look_at_backup_circuit`. Raises ValueError
    where a name comes twice.
    """
    bridge = intact(model)
    source, keys = _embedded(bridge, prompts, embedding)
    return _looked_for(bridge, _sent(bridge, source, sender)[None], keys, receiver)[0]


def composes(
    model: Model,
    prompts: Prompts,
    sender: Head,
    receiver: Head,
    k: int = 1,
    *,
    negative: bool = False,
    embedding: Variant = "W_E+MLP0",
) -> Bool[Tensor, " batch"]:
    """Whether the answer is among the `k` keys that the receiver prefers for what was copied.

    With `negative`, among the `k` it avoids. The mean over names is the (negative) backup score of
    seed 000, `look_at_backup_circuit`. Tied keys count against the answer, so that a sender which
    writes nothing matches nothing. Raises ValueError where k is not below the number of prompts.
    """
    matrix = composition_matrix(model, prompts, sender, receiver, embedding=embedding)
    return first_of_row(-matrix if negative else matrix, own_column(prompts), k, "names")


def compositions(
    model: Model,
    prompts: Prompts,
    senders: Sequence[Head] | None,
    receivers: Sequence[Head] | None,
    k: int = 1,
    *,
    negative: bool = False,
    embedding: Variant = "W_E+MLP0",
) -> Composition:
    """`composes` for every sender into every receiver; None stands for all heads of the model.

    All into one (seed 000, `display_back_scores`) and list by list (seed 000,
    `gather_backup_scores_between_heads`).
    """
    bridge, sign = intact(model), -1 if negative else 1
    source, keys = _embedded(bridge, prompts, embedding)
    sending = tuple(all_heads(bridge) if senders is None else senders)
    receiving = tuple(all_heads(bridge) if receivers is None else receivers)
    if not sending or not receiving:
        raise ValueError("no senders or no receivers given; None stands for all heads")
    sent = [_sent(bridge, source, sender) for sender in sending]
    own, found = own_column(prompts), []
    for receiver in receiving:
        for matrix in _looked_for(bridge, torch.stack(sent), keys, receiver):
            found.append(first_of_row(sign * matrix, own, k, "names"))
    return Composition(
        sending,
        receiving,
        rearrange(found, "(receiver sender) batch -> batch sender receiver", sender=len(sending)),
        torch.tensor(
            [[is_causal(one, other) for other in receiving] for one in sending],
            device=source.device,
        ),
    )


def composition_norm(
    model: Model, sender: Head, receiver: Head, into: Literal["query", "key", "value"]
) -> Float[Tensor, ""]:
    """How much of the receiver's input map lies along the sender's output, over all directions.

    |W_OV W_QK| / (|W_OV| |W_QK|) in Frobenius norms, with W_QK transposed for keys, and the
    receiver's W_OV for values: the composition score of Elhage et al. 2021 [fraction, 0 to 1], as
    TransformerLens' `all_composition_scores`. Random matrices score above 0. Raises NotMeasured
    where one of the matrices is zero.
    """
    bridge = intact(model)
    sent, read = ov(bridge, sender), ov(bridge, receiver) if into == "value" else None
    if read is None:
        circuit = qk(bridge, receiver)
        read = circuit.T if into == "key" else circuit
    parts = sent.norm() * read.norm()
    if float(parts) == 0:
        raise NotMeasured(
            f"{sender} into the {into} of {receiver}: one of their matrices is zero, so that "
            "there is nothing to compose"
        )
    return (sent @ read).norm() / parts


def _embedded(
    model: Bridge, prompts: Prompts, embedding: Variant
) -> tuple[Float[Tensor, "batch d_model"], Float[Tensor, "batch d_model"]]:
    """The tokens asked about, and the answers as keys."""
    check_distinct(prompts)
    source = effective_embedding(model, embedding, source_tokens(prompts))
    return source, effective_embedding(model, embedding, answer_tokens(prompts)[0])


def _sent(
    model: Bridge, source: Float[Tensor, "batch d_model"], sender: Head
) -> Float[Tensor, "batch d_model"]:
    check_plain_output(model, sender)
    return source @ value_weights(model, sender) @ output_weights(model, sender)


def _looked_for(
    model: Bridge,
    sent: Float[Tensor, "sender batch d_model"],
    keys: Float[Tensor, "key d_model"],
    receiver: Head,
) -> Float[Tensor, "sender batch key"]:
    return einsum(
        sent @ query_weights(model, receiver),
        keys @ key_weights(model, receiver),
        "sender batch d_head, key d_head -> sender batch key",
    )
