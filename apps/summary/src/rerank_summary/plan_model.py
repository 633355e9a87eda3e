"""A plan generator: points at units of the source, in increasing order, until it points at STOP.

Source: G. Adams et al., "Generating EDU Extracts for Plan-Guided Summary Re-Ranking", ACL 2023, and its released code.
A unit's vector is the mean of the document encoder's states from its opening to its closing marker; the sequence
[document state, units, learned STOP] goes through a new two-layer encoder; a two-layer decoder reads the plan so far.
The logit of index k is a classification head on [encoder state k; decoder state]. After k, indices <= k are masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rerank_summary.losses import salience_kl

MASKED = -1e3


@dataclass(frozen=True)
class PlanParams:
    """Sizes and decoding; lengths are the released CNN/DM ones."""

    heads: int = 4
    layers: int = 2
    dropout: float = 0.1
    mle_weight: float = 1.0
    salience_weight: float = 1.0
    beams: int = 16
    shortest: int = 3
    longest: int = 20
    length_penalty: float = 1.0


def unit_vectors(states: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
    """Mean of token states over each span (both ends inclusive), shape (n_units, d)."""
    return torch.stack([states[a : b + 1].mean(0) for a, b in spans])


class PlanGenerator(nn.Module):
    """The plan decoder over document and unit vectors of width ``d``."""

    def __init__(self, d: int, params: PlanParams | None = None) -> None:
        super().__init__()
        self.params = params or PlanParams()
        p = self.params
        self.stop = nn.Parameter(torch.randn(d) * 0.02)
        self.begin = nn.Parameter(torch.randn(d) * 0.02)
        layer = {"d_model": d, "nhead": p.heads, "dim_feedforward": 4 * d, "dropout": p.dropout, "batch_first": True}
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(**layer), p.layers, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(**layer), p.layers)
        self.head = nn.Sequential(
            nn.Dropout(p.dropout), nn.Linear(2 * d, d), nn.Tanh(), nn.Dropout(p.dropout), nn.Linear(d, 1)
        )
        self.salience = nn.Linear(d, 1)

    def encode(self, document: Tensor, units: Tensor) -> Tensor:
        """States of units and STOP, shape (n_units + 1, d), from shapes (d,) and (n_units, d)."""
        return self.encoder(torch.cat([document[None], units, self.stop[None]])[None])[0, 1:]

    def step_logits(self, states: Tensor, plans: Tensor) -> Tensor:
        """Logits of what follows each prefix of plans.

        Parameters
        ----------
        states
            Shape (n_units + 1, d).
        plans
            Unit indices, shape (n_plans, t).

        Returns
        -------
        Shape (n_plans, t + 1, n_units + 1); indices that would not increase have ``MASKED``.
        """
        n, t = plans.shape
        inputs = torch.cat([self.begin.expand(n, 1, -1), states[plans]], dim=1)
        causal = nn.Transformer.generate_square_subsequent_mask(t + 1, device=states.device)
        hidden = self.decoder(inputs, states[None].expand(n, -1, -1), tgt_mask=causal, tgt_is_causal=True)
        size = len(states)
        pairs = torch.cat(
            [states[None, None].expand(n, t + 1, -1, -1), hidden[:, :, None].expand(-1, -1, size, -1)], dim=-1
        )
        logits = self.head(pairs).squeeze(-1)
        last = torch.cat([torch.full((n, 1), -1, device=plans.device), plans], dim=1)
        return logits.masked_fill(torch.arange(size, device=plans.device) <= last[:, :, None], MASKED)

    def loss(self, document: Tensor, units: Tensor, plan: Sequence[int], soft_labels: Tensor) -> Tensor:
        """Cross-entropy of the plan and its STOP, plus the salience KL."""
        states = self.encode(document, units)
        goal = torch.tensor([*plan, len(units)], device=units.device)
        logits = self.step_logits(states, goal[None, :-1])[0]
        mask = torch.ones(1, len(units), dtype=torch.bool, device=units.device)
        kl = salience_kl(self.salience(states[:-1]).T, soft_labels[None].to(units.dtype), mask)
        return self.params.mle_weight * nn.functional.cross_entropy(logits, goal) + self.params.salience_weight * kl

    @torch.inference_mode()
    def plans(self, document: Tensor, units: Tensor) -> list[tuple[int, ...]]:
        """The best K plans by beam search: strictly increasing and all different, best first."""
        p = self.params
        self.eval()
        states = self.encode(document, units)
        n = len(units)
        if not n:
            return []
        shortest = min(p.shortest, n)
        alive: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
        done: list[tuple[float, tuple[int, ...]]] = []
        for length in range(min(p.longest, n) + 1):
            prefix = torch.tensor([plan for _, plan in alive], dtype=torch.long, device=units.device)
            logs = self.step_logits(states, prefix.reshape(len(alive), length))[:, -1].double().log_softmax(-1)
            grown = []
            for (score, plan), row in zip(alive, logs.tolist(), strict=True):
                if length >= shortest:
                    done.append(((score + row[n]) / max(length, 1) ** p.length_penalty, plan))
                if length < min(p.longest, n):
                    first = plan[-1] + 1 if plan else 0
                    # leave room for the units that the shortest plan still needs
                    last = n - max(0, shortest - length - 1)
                    grown += [(score + row[k], (*plan, k)) for k in range(first, last)]
            if not grown:
                break
            alive = sorted(grown, key=lambda x: (-x[0], x[1]))[: p.beams]
        return [plan for _, plan in sorted(done, key=lambda x: (-x[0], x[1]))[: p.beams]]
