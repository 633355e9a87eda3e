from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.types import Candidate, Request
from rerank_programs.data import Program, Task
from rerank_programs.expectation import Expectation, agreement, guess
from rerank_programs.lints import lint, penalty
from rerank_programs.rerank import MbrExec, NGram, Semantic, vote
from rerank_programs.results import Outcome, Verdict, failed
from rerank_programs.semantic import SemanticConfig, interleave, mix_temperatures, pick


def ok(*rows, columns=None) -> Outcome:
    width = len(rows[0]) if rows else 1
    return Outcome(Verdict.OK, "table", tuple(columns or (f"c{i}" for i in range(width))), tuple(rows))


def request(*programs: Program | str, question: str = "") -> Request:
    made = [p if isinstance(p, Program) else Program(p) for p in programs]
    return Request("q", Task(question), tuple(Candidate(f"c{i}", p) for i, p in enumerate(made)))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_interleaving_is_best_for_every_k(sizes):
    """With one right cluster, right with probability equal to its mass, no order beats the interleaved one."""
    sizes = sorted(sizes, reverse=True)
    groups, at = [], 0
    for s in sizes:
        groups.append(list(range(at, at + s)))
        at += s
    owner = {i: k for k, g in enumerate(groups) for i in g}
    mass = [s / at for s in sizes]

    def chance(order, k):
        return sum(mass[c] for c in {owner[i] for i in order[:k]})

    ours = interleave(groups)
    assert sorted(ours) == list(range(at))
    for k in range(1, at + 1):
        best = sum(sorted(mass, reverse=True)[:k])  # k programs show at most k clusters
        assert chance(ours, k) == pytest.approx(best)


@given(st.permutations(list(range(5))))
def test_the_winner_does_not_depend_on_the_order_given(order):
    outcomes = [ok((1,)), ok((1,)), ok((1,)), ok((2,)), failed(Verdict.ERROR, "x")]
    picked = pick(request(*"abcde"), [outcomes[i] for i in order])
    assert outcomes[order[picked.order[0]]].rows == ((1,),)
    assert outcomes[order[picked.order[1]]].rows == ((2,),)
    assert order[picked.order[-1]] == 4
    assert picked.confidence == pytest.approx(0.75)
    assert list(picked.scores) == sorted(picked.scores, reverse=True)


def test_nothing_ran_leaves_the_order_and_says_so():
    picked = pick(request("a", "b"), [failed(Verdict.ERROR, "x"), failed(Verdict.TIMEOUT, "y")])
    assert picked.all_failed and picked.order == (0, 1) and picked.confidence == 0


def test_lints_overturn_a_narrow_majority_only_when_asked():
    outcomes = [ok(columns=["x"]), ok(columns=["x"]), ok(columns=["x"]), ok((3,)), ok((3,)), ok((4,))]
    r = request(*"abcdef")
    assert vote().picks([r], [outcomes])[0].order[0] == 0
    assert Semantic().picks([r], [outcomes])[0].order[0] == 3


def test_every_lint_is_found():
    inf = float("inf")
    assert lint(ok(columns=["a"])) == ("empty",)
    assert lint(ok((None,))) == ("all_null",)
    assert lint(ok((None, 1), (None, 2))) == ("null_column",)
    assert "duplicate_rows" in lint(ok((1,), (1,)))
    assert "duplicate_columns" in lint(ok((1, 2), columns=["a", "a"]))
    assert "not_finite" in lint(ok((inf,)))
    assert "table_for_scalar" in lint(ok((1,), (2,)), "How many singers are there?")
    assert "unordered" in lint(ok((1,), (2,)), "List ages sorted in ascending order", "SELECT age FROM t")
    assert "text_order" in lint(ok(("10",), ("9",)), "", "SELECT x FROM t ORDER BY x")
    assert penalty(("empty", "null_column", "null_column")) == pytest.approx(0.32)


def test_a_predicted_output_breaks_a_tie():
    outcomes = [ok((1, "x")), ok((5,))]
    assert guess("How many singers are there?") == Expectation(1, None, "1", True)
    assert agreement(ok((5,)), guess("How many singers are there?")) == 0
    assert pick(request("a", "b", question="How many singers are there?"), outcomes).order[0] == 1
    named = Expectation(columns=("name",))
    assert (
        pick(request("a", "b"), [ok((1,), columns=["age"]), ok((1,), (2,), columns=["Name"])], expected=named).order[0]
        == 1
    )


def test_log_probabilities_and_counts_weigh_votes():
    outcomes = [ok((1,)), ok((1,)), ok((2,))]
    likely = request(Program("a", -5.0), Program("b", -5.0), Program("c", -0.1))
    assert pick(likely, outcomes).order[0] == 2
    assert pick(likely, outcomes, SemanticConfig(use_scores=False)).order[0] == 0
    counted = request(Program("a"), Program("b"), Program("c", count=5))
    assert pick(counted, outcomes).order[0] == 2


def test_mixing_temperatures_merges_texts_and_keeps_the_greedy_sample_first():
    cold = (Candidate("t0", Program("SELECT 1", -0.5, temperature=0.0)),)
    hot = (
        Candidate("h1", Program("SELECT  1", -0.2, temperature=0.8)),
        Candidate("h2", Program("SELECT 2", temperature=0.8)),
    )
    mixed = mix_temperatures(cold, hot)
    assert [c.id for c in mixed] == ["t0", "h2"]
    assert mixed[0].content == Program("SELECT 1", -0.2, 2, None, 0.0)


def test_mbr_exec_is_its_formula():
    r = request(Program("a", -2.0), Program("b", -1.0), Program("c", -0.1), Program("d", -0.1))
    outcomes = [ok((1,)), ok((1,)), ok((2,)), failed(Verdict.ERROR, "x")]
    brute = []
    for i, j in itertools.product(range(4), repeat=2):
        brute.append((i, int(outcomes[i].ok and outcomes[j].ok and outcomes[i] == outcomes[j])))
    support = [sum(n for i, n in brute if i == k) for k in range(4)]
    picked = MbrExec().picks([r], [outcomes])[0]
    assert picked.order == (1, 0, 2, 3)  # support, then log-probability
    assert [support[i] for i in picked.order] == sorted(support, reverse=True)


def test_ngram_prefers_the_central_text_and_runs_nothing():
    r = request("SELECT a FROM t", "SELECT a FROM t WHERE x", "DROP everything now")
    ranking = NGram().rerank([r])[0]
    assert ranking.ids[-1] == "c2"
    assert NGram().scores(request("same", "same"))[0] == pytest.approx(1.0)
