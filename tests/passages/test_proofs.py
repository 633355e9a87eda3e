"""The natural-logic automaton and the stopping rule of multi-hop verification."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rerank_core.errors import UsageError
from rerank_passages.proofs import Evidence, Proof, Step, Verdict, sufficient, verdict, verify


@pytest.mark.shared_data
def test_automaton_equals_the_oracle(shared_data: Callable[[str], Path]) -> None:
    o = json.loads(shared_data("summary/oracle/natlog_automaton.json").read_text())
    assert len(o["cases"]) == 259
    assert {s: str(verdict(s)) for s in o["cases"]} == {s: o["meaning"][x] for s, x in o["cases"].items()}


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(UsageError, match="'@'"):
        verdict("=@")


def proof(operators: str, confidence: float = 1.0) -> Proof:
    return Proof(tuple(Step("a", "b", o) for o in operators), confidence)


def test_sufficient_evidence() -> None:
    assert not sufficient([], 0)
    assert sufficient([proof("=="), proof("=!")], 0)
    assert not sufficient([proof("=="), proof("=#")], 0)
    assert sufficient([proof("=="), proof("=#", 0.1)], 0.5)
    assert not sufficient([proof("==", 0.1)], 0.5)


class Wiki:
    """Two linked pages; the second is only found from the first's sentence. Proofs are recorded."""

    def __init__(self, recorded: Sequence[Sequence[Proof]]) -> None:
        self.recorded, self.asked = list(recorded), []

    def retrieve(self, claim: str, evidence: Sequence[Evidence]) -> Sequence[str]:
        self.asked.append([e.document for e in evidence])
        return ["Film", "Film", "City"] if not evidence else ["Film", "Director", "Actor", "Studio"]

    def rerank(self, claim: str, documents: Sequence[str]) -> Sequence[Evidence]:
        return [Evidence(d, f"{d} sentence", 1.0) for d in documents]

    def prove(self, claim: str, evidence: Sequence[Evidence]) -> Sequence[Proof]:
        return self.recorded.pop(0)


def test_a_second_hop_only_where_the_first_was_not_enough() -> None:
    enough = Wiki([[proof("==")]])
    done = verify("c", enough, enough, enough)
    assert (done.hops, done.sufficient, done.documents) == (1, True, ("Film", "City"))
    wiki = Wiki([[proof("=#")], [proof("=<")]])
    done = verify("c", wiki, wiki, wiki)
    assert (done.hops, done.sufficient) == (2, True)
    assert done.documents == ("Film", "City", "Director", "Actor")
    assert wiki.asked == [[], ["Film", "City"]]
    assert done.proofs[0].verdict is Verdict.SUPPORTS
    never = Wiki([[proof("#")], [proof("#")]])
    assert not verify("c", never, never, never).sufficient
