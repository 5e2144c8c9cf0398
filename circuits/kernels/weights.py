"""What a head would copy, and what it would look at, read off its weights.

No prompt is run: a token stands for itself by its effective embedding. The token asked about is
the one at END of each prompt, and the one it is compared with is the prompt's answer; on a set of
names both are the name itself.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from claimlens.circuits.kernels.bridge import (
    Bridge,
    all_heads,
    check_plain_output,
    final_norm,
    key_weights,
    output_weights,
    query_weights,
    tied,
    unembedding,
    unembedding_bias,
    value_weights,
    weights_version,
)
from claimlens.circuits.kernels.cache import Model, intact
from claimlens.circuits.kernels.effective_embedding import (
    Variant,
    effective_embedding,
    source_tokens,
)
from claimlens.circuits.kernels.memory import recalled
from claimlens.circuits.metrics import answer_tokens
from claimlens.circuits.parts import Head, Prompts
from claimlens.circuits.verdict import NotApplicable

Keys = Literal["answers", "vocabulary"]


def copies(
    model: Model,
    prompts: Prompts,
    head: Head,
    k: int = 5,
    *,
    negative: bool = False,
    embedding: Variant = "W_E+MLP0",
    bias: bool = True,
) -> Bool[Tensor, " batch"]:
    """Whether the answer is among the `k` first tokens of the head's OV circuit on the token.

    The `k` highest logits of ln_final(e W_OV) W_U + b_U, with e the embedding of the token at END;
    with `negative` of ln_final(-e W_OV) W_U + b_U: the sign is turned before LayerNorm and bias.
    The mean over names is the copying score of Wang et al. 2022, section 3.1 (seed 000,
    `get_copying_scores`). Without `bias`, b_U is left out, as in the OV diagonal of McDougall et
    al. 2023, section 3.1. Tied logits count against the answer, and a head that writes nothing
    copies nothing. Raises ValueError where k is not below the size of the vocabulary.
    """
    bridge, answers = intact(model), answer_tokens(prompts)[0]
    source = effective_embedding(bridge, embedding, source_tokens(prompts))
    direct = _direct_logits(bridge, source, head)
    return _copied(bridge, direct, answers, k, negative=negative, bias=bias)


def copy_scores(
    model: Model, prompts: Prompts, k: int = 5, *, embedding: Variant = "W_E+MLP0"
) -> Bool[Tensor, "sign batch layer head"]:
    """`copies` for every head: positive first, then negative, from one product per head."""
    bridge, answers = intact(model), answer_tokens(prompts)[0]
    asked = (id(prompts.tokens), id(prompts.positions["END"]), id(answers))
    key = ("copy scores", id(bridge), weights_version(bridge), asked, k, embedding)

    def computed() -> Bool[Tensor, "sign batch layer head"]:
        source = effective_embedding(bridge, embedding, source_tokens(prompts))
        found = [_both_signs(bridge, source, answers, head, k) for head in all_heads(bridge)]
        layers = int(bridge.cfg.n_layers)
        return rearrange(found, "(layer head) sign batch -> sign batch layer head", layer=layers)

    return recalled(key, (bridge, prompts), computed)


def qk_matrix(
    model: Model,
    prompts: Prompts,
    head: Head,
    *,
    query: Variant = "W_E+MLP0",
    key: Variant = "W_E+MLP0",
    keys: Keys = "answers",
) -> Float[Tensor, "batch key"]:
    """QK circuit of a head between tokens: e_q W_Q W_K^T e_k^T [score times sqrt(d_head)].

    A row for the token at END of each prompt; a column for the answer of each prompt, or for each
    token of the vocabulary. Without biases, without LayerNorm's scales, and for rotary models at
    distance 0 (seed 000, `look_at_qk_circuit`; with query "W_U" and key "W_EE" the QK circuit of
    McDougall et al. 2023, section 3.2). Raises ValueError where a name comes twice.
    """
    bridge = intact(model)
    check_distinct(prompts)
    columns = None if keys == "vocabulary" else answer_tokens(prompts)[0]
    queries = effective_embedding(bridge, query, source_tokens(prompts))
    read = effective_embedding(bridge, key, columns)
    return _bilinear(bridge, head, queries, read)


def qk_matches(
    model: Model,
    prompts: Prompts,
    head: Head,
    k: int = 1,
    *,
    negative: bool = False,
    query: Variant = "W_E+MLP0",
    key: Variant = "W_E+MLP0",
    keys: Keys = "answers",
) -> Bool[Tensor, " batch"]:
    """Whether a token's own answer is among the `k` keys that the head's QK circuit prefers.

    With `negative`, among the `k` it avoids. The mean over names is the QK score of seed 000. Tied
    keys count against the answer. Raises ValueError where k is not below the number of keys.
    """
    matrix = qk_matrix(model, prompts, head, query=query, key=key, keys=keys)
    return first_of_row(-matrix if negative else matrix, own_column(prompts, keys), k, "keys")


def qk_scores(
    model: Model,
    prompts: Prompts,
    k: int = 1,
    *,
    negative: bool = False,
    query: Variant = "W_E+MLP0",
    key: Variant = "W_E+MLP0",
) -> Bool[Tensor, "batch layer head"]:
    """`qk_matches` over the answers, for every head."""
    bridge = intact(model)
    check_distinct(prompts)
    queries = effective_embedding(bridge, query, source_tokens(prompts))
    read = effective_embedding(bridge, key, answer_tokens(prompts)[0])
    sign, own = -1 if negative else 1, own_column(prompts)
    found = [
        first_of_row(sign * _bilinear(bridge, head, queries, read), own, k, "keys")
        for head in all_heads(bridge)
    ]
    layers = int(bridge.cfg.n_layers)
    return rearrange(found, "(layer head) batch -> batch layer head", layer=layers)


def require_tied(model: Model) -> None:
    """Raise NotApplicable where an embedding cannot stand for a prediction of its token."""
    if not tied(intact(model)):
        raise NotApplicable(
            "embedding and unembedding of this model are not tied: the embedding of a name does "
            "not stand for its prediction"
        )


def first_of_row(
    matrix: Float[Tensor, "row column"], own: Int[Tensor, " row"], k: int, what: str
) -> Bool[Tensor, " row"]:
    """Whether fewer than `k` other entries of a row reach its own: what topk says without ties.

    Raises ValueError where k is not below the number of columns, which are `what`.
    """
    check_k(k, matrix.shape[1], what)
    mine = matrix.gather(1, own[:, None])
    return (matrix >= mine).sum(1) - 1 < k


def own_column(prompts: Prompts, keys: Keys = "answers") -> Int[Tensor, " batch"]:
    """The column of each prompt's own answer in a matrix of `qk_matrix`."""
    if keys == "vocabulary":
        return answer_tokens(prompts)[0]
    return torch.arange(len(prompts), device=prompts.tokens.device)


def check_distinct(prompts: Prompts) -> None:
    """Raise ValueError where two prompts ask about one token, or have one answer."""
    for what, tokens in (("token", source_tokens(prompts)), ("answer", answer_tokens(prompts)[0])):
        ids: list[int] = tokens.tolist()
        twice = next((id for id in ids if ids.count(id) > 1), None)
        if twice is not None:
            rows = [row for row, id in enumerate(ids) if id == twice]
            raise ValueError(
                f"prompts {rows[0]} and {rows[1]} have the same {what}, id {twice}: each would "
                "beat the other and no head could score 1; give every name once"
            )


def check_k(k: int, choices: int, what: str) -> None:
    """Raise ValueError where being among the first k of the choices would say nothing."""
    if not 1 <= k < choices:
        raise ValueError(
            f"k={k} of {choices} {what}: k must be at least 1 and below {choices}, or everything "
            "is among the first k"
        )


def _direct_logits(
    model: Bridge, source: Float[Tensor, "batch d_model"], head: Head
) -> Float[Tensor, "batch d_vocab"]:
    """ln_final(e W_OV) W_U. Its negative is that of -W_OV: the folded norm has no bias."""
    check_plain_output(model, head)
    written = source @ value_weights(model, head) @ output_weights(model, head)
    return final_norm(model, written) @ unembedding(model)


def _both_signs(
    model: Bridge,
    source: Float[Tensor, "batch d_model"],
    answers: Int[Tensor, " batch"],
    head: Head,
    k: int,
) -> Bool[Tensor, "sign batch"]:
    direct = _direct_logits(model, source, head)
    signs = (False, True)
    return torch.stack(
        [_copied(model, direct, answers, k, negative=sign, bias=True) for sign in signs]
    )


def _copied(
    model: Bridge,
    direct: Float[Tensor, "batch d_vocab"],
    answers: Int[Tensor, " batch"],
    k: int,
    *,
    negative: bool,
    bias: bool,
) -> Bool[Tensor, " batch"]:
    signed = -direct if negative else direct
    spread = direct.amax(1) > direct.amin(1)  # nothing written for this token: b_U alone ranks it
    logits = signed + unembedding_bias(model) if bias else signed
    return first_of_row(logits, answers, k, "tokens of the vocabulary") & spread


def _bilinear(
    model: Bridge,
    head: Head,
    queries: Float[Tensor, "query d_model"],
    keys: Float[Tensor, "key d_model"],
) -> Float[Tensor, "query key"]:
    return einsum(
        queries @ query_weights(model, head),
        keys @ key_weights(model, head),
        "query d_head, key d_head -> query key",
    )
