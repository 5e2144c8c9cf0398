"""A plain GPT-2 in which single paths can be changed: what path patching must agree with.

As `twin.py`, from the raw weights; besides z and the MLPs, each head's query, key and value read a
residual stream of their own, so that an edge is one addition to one of these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from claimlens.ci.selftests.twin import Place, Twin, gelu

Read = tuple[Place, str]
"""A head and which of its inputs: q, k or v."""
NONE: Mapping[Place, Tensor] = {}
LOGITS: Read = ((-1, -1), "logits")


@dataclass
class Walk:
    """All of one forward pass of one prompt."""

    read: dict[Read, Tensor] = field(default_factory=dict)  # q, k, v: pos d_head
    z: dict[Place, Tensor] = field(default_factory=dict)  # pos d_head
    mlp: dict[int, Tensor] = field(default_factory=dict)  # pos d_model
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


class PathTwin(Twin):
    """`walk` puts given values in the place of what would be computed."""

    def walk(
        self,
        tokens: Tensor,
        *,
        z: Mapping[Place, Tensor] = NONE,
        mlp: Mapping[int, Tensor] | None = None,
        read: Mapping[Read, Tensor] | None = None,
        added: Mapping[Read, Tensor] | None = None,
        embedded: Tensor | None = None,
    ) -> Walk:
        """Run one prompt; `added` goes into the stream that one input, or the logits, read."""
        found, extra = Walk(), added or {}
        x = self.embedded(tokens) if embedded is None else embedded
        x = x + self.weights["transformer.wpe.weight"][: len(tokens)]
        for layer in range(self.layers):
            for head in range(self.heads):
                at = (layer, head)
                for part in "qkv":
                    seen = x + extra[at, part] if (at, part) in extra else x
                    found.read[at, part] = (read or {}).get((at, part), self.input(seen, at, part))
                mixed = self.mixed(*(found.read[at, part] for part in "qkv"))
                found.z[at] = z.get(at, mixed)
            block = f"transformer.h.{layer}."
            written = (found.z[layer, head] @ self.w_o((layer, head)) for head in range(self.heads))
            x = x + sum(written) + self.weights[block + "attn.c_proj.bias"]
            hidden = gelu(self._linear(self._norm(x, block + "ln_2"), block + "mlp.c_fc"))
            found.mlp[layer] = (mlp or {}).get(layer, self._linear(hidden, block + "mlp.c_proj"))
            x = x + found.mlp[layer]
        x = x + extra[LOGITS] if LOGITS in extra else x
        found.logits = self._norm(x, "transformer.ln_f") @ self.weights["lm_head.weight"].T
        return found

    def embedded(self, tokens: Tensor) -> Tensor:
        """Token embeddings, without positions."""
        return self.weights["transformer.wte.weight"][tokens]

    def input(self, x: Tensor, at: Place, part: str) -> Tensor:
        """q, k or v of a head that reads the stream x."""
        block, start = f"transformer.h.{at[0]}.", "qkv".index(part) * self.width
        own = slice(start + at[1] * self.d_head, start + (at[1] + 1) * self.d_head)
        weight = self.weights[block + "attn.c_attn.weight"][:, own]
        bias = self.weights[block + "attn.c_attn.bias"][own]
        return self._norm(x, block + "ln_1") @ weight + bias

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Causal attention of one head."""
        scores = q @ k.T / math.sqrt(self.d_head)
        future = torch.ones_like(scores).triu(1).bool()
        return scores.masked_fill(future, -math.inf).softmax(1) @ v

    def path_patched(
        self,
        tokens: Tensor,
        source: Tensor,
        senders: Sequence[Place],
        receivers: Sequence[Read] = (),
        *,
        freeze_mlps: bool = False,
    ) -> Walk:
        """The definition, step by step: Wang et al. 2022, appendix B."""
        own, other = self.walk(tokens), self.walk(source)
        z = {at: other.z[at] if at in senders else own.z[at] for at in own.z}
        carried = self.walk(tokens, z=z, mlp=own.mlp if freeze_mlps else None)
        if not receivers:
            return carried
        return self.walk(tokens, read={read: carried.read[read] for read in receivers})
