"""Generators for multi-hop verification over any sequence-to-sequence model: proofs, and titles held to a trie.

The formats are those of ProoFVer and AdMIRaL (see `proofs`): a proof is a run of ``{ claim span } [ evidence span ]
operator``; a title is written between brackets and cannot leave the collection's titles, since every step of the beam search
may only take what the trie offers (De Cao et al., "Autoregressive Entity Retrieval" (GENRE), ICLR 2021).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rerank_passages.proofs import OPERATORS, Evidence, Proof, Step

_STEP = re.compile(
    r"\{\s*(?P<claim>[^{}]*?)\s*\}\s*\[\s*(?P<evidence>[^\[\]]*?)\s*\]\s*(?P<operator>["
    + re.escape("".join(OPERATORS))
    + r"])"
)


def parse_proof(text: str) -> tuple[Step, ...] | None:
    """Read a written proof; None where it is no proof: nothing in it, or something beside its steps."""
    steps = tuple(Step(m["claim"], m["evidence"], m["operator"]) for m in _STEP.finditer(text))
    return steps if steps and not _STEP.sub("", text).strip() else None


def write_proof(steps: Iterable[Step]) -> str:
    """Write a proof; the inverse of `parse_proof`."""
    return " ".join(f"{{ {s.claim_span} }} [ {s.evidence_span} ] {s.operator}" for s in steps)


def proof_input(claim: str, evidence: Sequence[Evidence]) -> str:
    """Return what the proof generator reads: the claim, then ``title ; sentence`` of every piece of evidence."""
    return " ".join([claim, *(f"</s> {e.document} ; {e.sentence}" for e in evidence)])


def hop_input(claim: str, evidence: Sequence[Evidence]) -> str:
    """Return what the title generator reads at a later hop: the claim, then tagged sentences."""
    return " ".join([claim, *(f"< E{i} > [ {e.document} ] {e.sentence}" for i, e in enumerate(evidence))])


@dataclass
class Trie:
    """Token sequences that may be written; every one ends with ``end``."""

    end: int
    _root: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def over(cls, sequences: Iterable[Sequence[int]], end: int) -> Trie:
        """Hold sequences (without their end)."""
        trie = cls(end)
        for sequence in sequences:
            node = trie._root
            for token in [*sequence, end]:
                node = node.setdefault(int(token), {})
        return trie

    def following(self, prefix: Sequence[int]) -> list[int]:
        """Return the tokens that may follow a prefix; the end alone where the prefix is not in the trie."""
        node = self._root
        for token in prefix:
            if token not in node:
                return [self.end]
            node = node[token]
        return sorted(node) or [self.end]


@dataclass(frozen=True)
class Seq2Seq:
    """A sequence-to-sequence model with its tokenizer, as transformers load them; beam search only.

    Parameters
    ----------
    model, tokenizer
        ``AutoModelForSeq2SeqLM`` and a fast tokenizer.
    """

    model: Any
    tokenizer: Any
    longest: int = 128

    def generate(self, text: str, *, beams: int, keep: int, allowed: Trie | None = None) -> list[tuple[str, float]]:
        """Return the ``keep`` best texts with their log-probability a token, best first."""
        import torch

        inputs = self.tokenizer(text, return_tensors="pt", truncation=True, max_length=1024).to(self.model.device)
        constraint: dict[str, Any] = {}
        if allowed is not None:
            constraint["prefix_allowed_tokens_fn"] = lambda _, ids: allowed.following(ids.tolist()[1:])
        with torch.inference_mode():
            done = self.model.generate(
                **inputs,
                num_beams=beams,
                num_return_sequences=keep,
                max_new_tokens=self.longest,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
                **constraint,
            )
        texts = self.tokenizer.batch_decode(done.sequences, skip_special_tokens=True)
        return [(t.strip(), float(s)) for t, s in zip(texts, done.sequences_scores, strict=True)]


@dataclass(frozen=True)
class WrittenProofs:
    """A `ProofGenerator` over a sequence-to-sequence model; what is no proof is dropped."""

    model: Seq2Seq
    beams: int = 25
    keep: int = 3

    def prove(self, claim: str, evidence: Sequence[Evidence]) -> Sequence[Proof]:
        """Write proofs of a claim."""
        found = []
        for text, score in self.model.generate(proof_input(claim, evidence), beams=self.beams, keep=self.keep):
            steps = parse_proof(text)
            if steps is not None:
                found.append(Proof(steps, score))
        return found


@dataclass(frozen=True)
class WrittenTitles:
    """A `DocumentRetriever` that writes titles of the collection and nothing else."""

    model: Seq2Seq
    trie: Trie
    beams: int = 5
    keep: int = 2

    @classmethod
    def over(cls, model: Seq2Seq, titles: Iterable[str], *, beams: int = 5, keep: int = 2) -> WrittenTitles:
        """Hold a collection's titles."""
        ids = [model.tokenizer(t, add_special_tokens=False).input_ids for t in titles]
        return cls(model, Trie.over(ids, int(model.model.config.eos_token_id)), beams, keep)

    def retrieve(self, claim: str, evidence: Sequence[Evidence]) -> Sequence[str]:
        """Return titles for a claim and the evidence so far, best first."""
        text = hop_input(claim, evidence)
        found = self.model.generate(text, beams=self.beams, keep=self.keep, allowed=self.trie)
        return list(dict.fromkeys(t for t, _ in found))
