"""Multi-hop fact verification in AdMIRaL's manner: natural-logic proofs say when the evidence is enough.

Aly and Vlachos, "Natural Logic-guided Autoregressive Multi-hop Document Retrieval for Fact Verification", EMNLP 2022.
A proof is a list of (claim span, evidence span, operator). Its operators drive a three-state automaton from SUPPORTS;
evidence is sufficient when there is at least one confident proof and all of them end in SUPPORTS or REFUTES (the released
code's comment says one, the code requires all; we follow the code). The retriever, the sentence reranker and the proof
generator are interfaces: their trained checkpoints are not distributed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from rerank_core.errors import UsageError


class Verdict(StrEnum):
    """Where a proof ends."""

    SUPPORTS = "SUPPORTS"
    REFUTES = "REFUTES"
    NOT_ENOUGH_INFO = "NOT ENOUGH INFO"


OPERATORS = {
    "=": "equivalence",
    "<": "forward entailment",
    ">": "reverse entailment",
    "!": "negation",
    "|": "alternation",
    "#": "independence",
}

_NEXT = {
    Verdict.SUPPORTS: {"=": Verdict.SUPPORTS, "<": Verdict.SUPPORTS, "!": Verdict.REFUTES, "|": Verdict.REFUTES},
    Verdict.REFUTES: {"=": Verdict.REFUTES, ">": Verdict.REFUTES, "!": Verdict.SUPPORTS},
    Verdict.NOT_ENOUGH_INFO: {},
}


def verdict(operators: Iterable[str]) -> Verdict:
    """Run the automaton over operators; what has no edge leads to NOT ENOUGH INFO, which is never left.

    Raises
    ------
    UsageError
        For an operator that natural logic does not have.
    """
    state = Verdict.SUPPORTS
    for operator in operators:
        if operator not in OPERATORS:
            raise UsageError(f"unknown natural-logic operator {operator!r}; known: {' '.join(OPERATORS)}")
        state = _NEXT[state].get(operator, Verdict.NOT_ENOUGH_INFO)
    return state


@dataclass(frozen=True)
class Step:
    """One mutation of a proof."""

    claim_span: str
    evidence_span: str
    operator: str


@dataclass(frozen=True)
class Proof:
    """A generated proof with the generator's confidence (log-probability a token, or any monotone score)."""

    steps: tuple[Step, ...]
    confidence: float

    @property
    def verdict(self) -> Verdict:
        """Where the proof ends."""
        return verdict(s.operator for s in self.steps)


def sufficient(proofs: Sequence[Proof], cut_off: float) -> bool:
    """Return whether the evidence is enough: some proof above the cut-off, and none of those ends undecided."""
    confident = [p.verdict for p in proofs if p.confidence > cut_off]
    return bool(confident) and Verdict.NOT_ENOUGH_INFO not in confident


@dataclass(frozen=True)
class Evidence:
    """A sentence of a document."""

    document: str
    sentence: str
    score: float = 0.0


class DocumentRetriever(Protocol):
    """Finds documents for a claim and the evidence at hand (none at the first hop)."""

    def retrieve(self, claim: str, evidence: Sequence[Evidence]) -> Sequence[str]: ...


class SentenceReranker(Protocol):
    """Scores the sentences of documents against a claim, best first."""

    def rerank(self, claim: str, documents: Sequence[str]) -> Sequence[Evidence]: ...


class ProofGenerator(Protocol):
    """Writes proofs of a claim from evidence."""

    def prove(self, claim: str, evidence: Sequence[Evidence]) -> Sequence[Proof]: ...


@dataclass(frozen=True)
class HopParams:
    """The iteration's settings; defaults are the released ones."""

    max_hops: int = 2
    evidence: int = 4
    new_documents: int = 2
    cut_off: float = 0.0


@dataclass(frozen=True)
class Verified:
    """What the iteration ended with."""

    documents: tuple[str, ...]
    evidence: tuple[Evidence, ...]
    proofs: tuple[Proof, ...]
    hops: int
    sufficient: bool


def verify(
    claim: str,
    retriever: DocumentRetriever,
    reranker: SentenceReranker,
    generator: ProofGenerator,
    params: HopParams | None = None,
) -> Verified:
    """Retrieve, rerank sentences and prove, hop by hop, until the proofs say that the evidence is enough.

    A later hop adds at most ``new_documents`` documents that are not there yet, after those whose sentences were
    chosen; a hop that finds none ends the iteration.
    """
    p = params or HopParams()
    documents = list(dict.fromkeys(retriever.retrieve(claim, ())))
    evidence, proofs, hops, enough = _hop(claim, documents, reranker, generator, p)
    while not enough and hops < p.max_hops:
        known = set(documents)
        new = [d for d in dict.fromkeys(retriever.retrieve(claim, evidence)) if d not in known][: p.new_documents]
        if not new:
            break
        kept = list(dict.fromkeys(e.document for e in evidence))
        documents = [*kept, *new, *(d for d in documents if d not in kept)]
        evidence, proofs, _, enough = _hop(claim, documents, reranker, generator, p)
        hops += 1
    return Verified(tuple(documents), tuple(evidence), tuple(proofs), hops, enough)


def _hop(
    claim: str, documents: Sequence[str], reranker: SentenceReranker, generator: ProofGenerator, p: HopParams
) -> tuple[list[Evidence], list[Proof], int, bool]:
    evidence = list(reranker.rerank(claim, documents))[: p.evidence]
    proofs = list(generator.prove(claim, evidence))
    return evidence, proofs, 1, sufficient(proofs, p.cut_off)
