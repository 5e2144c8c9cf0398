"""Circuits of a head as factored matrices, and the eigenvalue copying score.

W_OV is d_model x d_model and W_E W_OV W_U is d_vocab x d_vocab, but both have rank d_head: as
TransformerLens' FactoredMatrix they are never formed. The eigenvalues of A B are those of B A, and
zeros besides.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from transformer_lens import FactoredMatrix

from claimlens.circuits.kernels.bridge import (
    Bridge,
    all_heads,
    check_plain_output,
    key_weights,
    output_weights,
    query_weights,
    unembedding,
    value_weights,
    weights_version,
)
from claimlens.circuits.kernels.cache import Model, intact
from claimlens.circuits.kernels.effective_embedding import Variant, effective_embedding
from claimlens.circuits.kernels.memory import recalled
from claimlens.circuits.parts import Head
from claimlens.circuits.verdict import NotApplicable, NotMeasured

VANISHING = 1e-5
"""Below this share of the product of the norms, eigenvalues of a product are rounding."""


def ov(model: Model, head: Head) -> FactoredMatrix:
    """W_OV = W_V W_O of a head: d_model x d_model of rank d_head, reading the normalised stream."""
    bridge = intact(model)
    return FactoredMatrix(value_weights(bridge, head), output_weights(bridge, head))


def qk(model: Model, head: Head) -> FactoredMatrix:
    """W_QK = W_Q W_K^T of a head: d_model x d_model of rank d_head; at distance 0 if rotary."""
    bridge = intact(model)
    return FactoredMatrix(query_weights(bridge, head), key_weights(bridge, head).T)


def full_ov(model: Model, head: Head, through: Variant = "W_E") -> FactoredMatrix:
    """E W_OV W_U of a head: d_vocab x d_vocab of rank d_head, from source token to output logits.

    E is W_E in the TransformerLens demo (seed 002); other embeddings by name. Without LayerNorm's
    scales and without biases. Raises NotApplicable where W_O's output is normalised once more.
    """
    bridge = intact(model)
    check_plain_output(bridge, head)
    return effective_embedding(bridge, through) @ ov(bridge, head) @ unembedding(bridge)


def eigenvalues(
    model: Model, head: Head, through: Variant | None = None
) -> Complex[Tensor, " d_head"]:
    """The d_head eigenvalues of W_OV, or of E W_OV W_U with E the embedding `through`."""
    bridge = intact(model)
    return _eigenvalues(bridge, head, _around(bridge, through))


def eigenvalue_score(model: Model, head: Head, through: Variant | None = None) -> Float[Tensor, ""]:
    """sum(Re eigenvalue) / sum(|eigenvalue|) of a head's OV circuit, from -1 to 1 [fraction].

    Towards 1 where the circuit keeps directions (copying), towards -1 where it turns them round
    (Elhage et al. 2021; seed 002). Of W_OV, or of E W_OV W_U with the embedding `through`. Raises
    NotMeasured where the head writes nothing, and NotApplicable where all eigenvalues vanish
    because it writes into directions that it doesn't read.
    """
    return _score(eigenvalues(model, head, through))


def eigenvalue_scores(
    model: Model, through: Variant | None = None, heads: Sequence[Head] | None = None
) -> dict[Head, float]:
    """`eigenvalue_score` of many heads (None: all); heads that have no score are left out.

    E and W_U are multiplied once: the score of E W_OV W_U is that of W_OV W_U E.
    """
    bridge, scores = intact(model), {}
    around = _around(bridge, through)
    for head in all_heads(bridge) if heads is None else heads:
        try:
            scores[head] = float(_score(_eigenvalues(bridge, head, around)))
        except (NotMeasured, NotApplicable):
            continue
    return scores


def score_agreement(
    one: dict[Head, float], other: dict[Head, float], fewest: int = 3
) -> Float[Tensor, ""]:
    """Pearson's correlation of two scores over the heads that have both (seed 002).

    Raises NotApplicable where fewer than `fewest` heads have both, and NotMeasured where one score
    is the same in all.
    """
    both = [head for head in one if head in other]
    if len(both) < fewest:
        raise NotApplicable(f"{len(both)} heads have both scores; a correlation needs {fewest}")
    pair = torch.tensor([[scores[head] for head in both] for scores in (one, other)])
    if bool((pair.std(1) == 0).any()):
        raise NotMeasured("one of the scores is the same in every head: there is no correlation")
    return torch.corrcoef(pair)[0, 1]


def trace_gaps(model: Model, layer: int, through: Variant = "W_E") -> Float[Tensor, " head"]:
    """How far the eigenvalues of E W_OV W_U miss its trace, by head [share of the largest |A| |B|].

    The trace is summed token by token, over what the OV circuit of each token adds to its own
    logit; it equals the sum of the eigenvalues. Raises NotMeasured in a layer that writes nothing.
    """
    bridge, gaps, bounds = intact(model), [], []
    around = _around(bridge, through)
    for head in (head for head in all_heads(bridge) if head.layer == layer):
        full = full_ov(bridge, head, through)
        own = (full.A.double() * full.B.T.double()).sum()
        gaps.append((own - (ov(bridge, head) @ around).eigenvalues.sum().real).abs())
        bounds.append(full.A.norm() * full.B.norm())
    largest = torch.stack(bounds).max()
    if float(largest) == 0:
        raise NotMeasured(f"no head of layer {layer} writes anything: every trace is 0")
    return torch.stack(gaps) / largest


def _around(model: Bridge, through: Variant | None) -> Float[Tensor, "d_model d_model"]:
    """W_U E: what closes the circle from W_O back to W_V; the identity for W_OV alone."""
    if through is None:
        return torch.eye(int(model.cfg.d_model)).to(unembedding(model))
    key = ("W_U E", through, id(model), weights_version(model))
    return recalled(key, model, lambda: unembedding(model) @ effective_embedding(model, through))


def _eigenvalues(
    model: Bridge, head: Head, around: Float[Tensor, "d_model d_model"]
) -> Complex[Tensor, " d_head"]:
    """Eigenvalues of W_OV `around`; raises where they are no more than rounding."""
    check_plain_output(model, head)
    circuit = ov(model, head)
    bound = float(circuit.A.norm() * circuit.B.norm() * around.norm())
    if bound == 0:
        raise NotMeasured(f"{head} writes nothing: its OV circuit has no eigenvalues but 0")
    found: Tensor = (circuit @ around).eigenvalues
    if float(found.abs().sum()) <= VANISHING * bound:
        raise NotApplicable(
            f"every eigenvalue of the OV circuit of {head} is 0: it writes into directions that "
            "it doesn't read, so the score says nothing"
        )
    return found


def _score(found: Complex[Tensor, " d_head"]) -> Float[Tensor, ""]:
    return found.sum().real / found.abs().sum()
