from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core import Candidate, Ranking, Request
from rerank_core.errors import UsageError
from rerank_core.evaluation import judge_runs
from rerank_core.measures import GainRecovered, IrMeasure, Oracle, PerRequest, Top1Gain, evaluate, evaluate_run, parse
from rerank_core.statistics import bootstrap, kendall_tau, paired_bootstrap, randomisation_test, rbo


@pytest.mark.shared_data
@pytest.mark.parametrize(("section", "level"), [("trec_eval", 1), ("trec_eval_rel2", 2)])
def test_every_value_of_trec_eval(shared_data, section, level):
    oracle = json.loads(shared_data("text/oracle/trec_metrics.json").read_text())
    worst = 0.0
    for name in next(iter(oracle[section].values())):
        rows = parse(name, level=level).rows_of_run(oracle["qrels"], oracle["run"])
        worst = max(worst, *(abs(rows[q][0] - v[name]) for q, v in oracle[section].items()))
    print(f"worst difference {worst:.2e}")
    assert worst < 1e-9


@pytest.mark.shared_data
def test_every_value_of_ir_measures(shared_data):
    oracle = json.loads(shared_data("text/oracle/trec_metrics.json").read_text())
    for name, per_query in oracle["ir_measures_per_query"].items():
        measure = parse(name)
        rows = measure.rows_of_run(oracle["qrels"], oracle["run"])
        assert set(rows) == set(per_query)
        assert max(abs(rows[q][0] - v) for q, v in per_query.items()) < 1e-9
        (row,) = evaluate_run([measure], oracle["qrels"], oracle["run"], system="s", n_boot=10)
        assert row.value == pytest.approx(oracle["ir_measures_aggregate"][name], abs=1e-9)


# nDCG@1, @5, @10, MAP@100, R@100, perfect rerank of the top 100 and of the top 20 (nDCG@10).
TABLE = {
    ("dl19", "bm25"): (0.5426, 0.5278, 0.5058, 0.2993, 0.4531, 0.8922, 0.7262),
    ("dl19", "bm25_rm3"): (0.5620, 0.5223, 0.5216, 0.3402, 0.4821, 0.8789, 0.7194),
    ("dl19", "tasb"): (0.7558, 0.7441, 0.7210, 0.3953, 0.5158, 0.9517, 0.8709),
    ("dl19", "ada2"): (0.6977, 0.7037, 0.7035, 0.4004, 0.5256, 0.9487, 0.8863),
    ("dl19", "splade_pp"): (0.8023, 0.7569, 0.7308, 0.4382, 0.5549, 0.9570, 0.8899),
    ("dl20", "bm25"): (0.5772, 0.5067, 0.4796, 0.3027, 0.4834, 0.8707, 0.6978),
    ("dl20", "bm25_rm3"): (0.5586, 0.4960, 0.4896, 0.3308, 0.5316, 0.8886, 0.7086),
    ("dl20", "splade_pp"): (0.7716, 0.7353, 0.7197, 0.4824, 0.6388, 0.9777, 0.9150),
}


@pytest.mark.shared_data
@pytest.mark.parametrize(("year", "run"), TABLE)
def test_published_first_stages_to_four_decimals(shared_data, year, run):
    folder = shared_data(f"text/trec_{year}_passage")
    rows = judge_runs(
        folder / "qrels.txt",
        [folder / f"runs/{run}.top100.trec.gz"],
        ["nDCG@1", "nDCG@5", "nDCG@10", "MAP@100", "Recall@100"],
        oracle=[100, 20],
    )
    value = {(r["measure"], r["system"].partition(" ")[2]): r["value"] for r in rows}
    plain = [value[m, ""] for m in ("nDCG@1", "nDCG@5", "nDCG@10", "MAP@100", "Recall@100")]
    perfect = [value["nDCG@10", f"(perfect top {k})"] for k in (100, 20)]
    assert [round(x, 4) for x in (*plain, *perfect)] == list(TABLE[year, run])


def request(n=5, scores=None):
    return Request("q", "?", tuple(Candidate(f"d{i}", i, None if scores is None else scores[i]) for i in range(n)))


def test_gain_measures_exist_in_every_domain():
    req = request(3)
    gold = {"q": {"d1": 0.5, "d2": 1.0}}
    ranking = Ranking.from_order(req, ["d1", "d2", "d0"])
    rows = evaluate([Top1Gain(), Oracle(), Oracle(2), GainRecovered()], gold, [ranking], [req], system="s")
    assert [r.value for r in rows] == [0.5, 1.0, 0.5, 0.5]
    assert [r.measure for r in rows] == ["Gain@1", "Oracle", "Oracle@2", "GainRecovered"]


def test_gain_recovered_has_no_value_where_the_first_stage_is_perfect():
    req = request(2)
    (row,) = evaluate([GainRecovered()], {"q": {"d0": 1}}, [Ranking.from_scores(req, [1, 0])], [req], system="s")
    assert math.isnan(row.value)
    assert row.as_dict()["value"] is None


def test_missing_queries_count_zero_or_not_at_all():
    gold = {"a": {"d": 1}, "b": {"d": 1}}
    run = {"a": {"d": 1.0}}
    for policy, value, n in (("zero", 0.5, 2), ("skip", 1.0, 1)):
        (row,) = evaluate_run([parse("MRR@10")], gold, run, system="s", missing=policy)
        assert (row.value, row.n) == (value, n)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 1000), st.integers(1, 12))
def test_real_valued_ndcg_equals_trec_eval_on_whole_grades(grades, seed, k):
    rng = np.random.default_rng(seed)
    docs = [f"d{i}" for i in range(len(grades))]
    run = {"q": {d: float(s) for d, s in zip(docs, rng.permutation(len(docs)), strict=True)}}
    whole = {"q": dict(zip(docs, grades, strict=True))}
    # A second query with a half grade sends the same first query through the real-valued formula.
    real = whole | {"other": {"x": 0.5}}
    measure = parse(f"nDCG@{k}")
    assert measure.rows_of_run(real, run)["q"][0] == pytest.approx(measure.rows_of_run(whole, run)["q"][0], abs=1e-12)


@pytest.mark.parametrize(
    "text", ["nDCG@10", "MAP@100", "MRR@10", "Recall@20", "P@5", "Hits@3", "RR(rel=2)@10", "Rprec"]
)
def test_measures_print_as_they_were_written(text):
    assert str(parse(text)) == text
    assert parse(text) == parse(text)


def test_level_applies_to_binary_measures_only():
    assert parse("MAP@100", level=2) == IrMeasure("MAP@100", "AP(rel=2)@100")
    assert parse("nDCG@10", level=2) == IrMeasure("nDCG@10", "nDCG@10")
    assert parse("MRR(rel=1)@10", level=2) == IrMeasure("MRR(rel=1)@10", "RR(rel=1)@10")


@pytest.mark.parametrize("text", ["", "foo", "foo@10", "nDCG@", "@10", "__import__('os')", "nDCG(cutoff=1"])
def test_unknown_measures_are_refused(text):
    with pytest.raises(UsageError, match="unknown measure"):
        parse(text)


def test_a_function_makes_a_measure_and_nan_leaves_a_request_out():
    measure = PerRequest("half", lambda gains, ranking, req: math.nan if not gains else len(ranking.items) / 2)
    gold = {"q": {"d0": 1}, "empty": {}}
    rankings = [Ranking.from_scores(request(4), [4, 3, 2, 1]), Ranking("empty", ())]
    (row,) = evaluate([measure], gold, rankings, system="s")
    assert (row.value, row.n) == (2.0, 1)


def test_bootstrap_is_seeded_and_covers_the_mean():
    rows = np.random.default_rng(0).normal(0.5, 0.1, (80, 1))
    low, high = bootstrap(rows, lambda r: float(r.mean()), seed=1)
    assert low < rows.mean() < high
    assert (low, high) == bootstrap(rows, lambda r: float(r.mean()), seed=1)
    # The normal approximation is good here: half-width 1.96 s / sqrt(n).
    assert (high - low) / 2 == pytest.approx(1.96 * rows.std() / math.sqrt(80), rel=0.15)


def test_paired_tests_see_a_difference_and_do_not_invent_one():
    rng = np.random.default_rng(0)
    base = {str(i): x for i, x in enumerate(rng.random(60))}
    better = {q: x + 0.1 + 0.05 * rng.standard_normal() for q, x in base.items()}
    noise = {q: x + 0.05 * rng.standard_normal() for q, x in base.items()}
    diff, low, high, p = paired_bootstrap(better, base, seed=0)
    assert low > 0
    assert p < 0.01
    assert diff == pytest.approx(0.1, abs=0.03)
    assert high > diff
    assert randomisation_test(better, base, seed=0) < 0.01
    assert randomisation_test(noise, base, seed=0) > 0.05
    assert randomisation_test(base, base) == 1.0
    with pytest.raises(ValueError, match="no request in common"):
        paired_bootstrap({"a": 1.0}, {"b": 1.0})


def test_randomisation_test_keeps_its_level():
    rng = np.random.default_rng(1)
    false_alarms = sum(
        randomisation_test(dict(enumerate(x)), dict.fromkeys(range(20), 0.0), seed=i, n_samples=400) < 0.05  # type: ignore[arg-type]
        for i, x in enumerate(rng.standard_normal((200, 20)))
    )
    assert 2 <= false_alarms <= 22, "about 10 of 200 at the 5 % level"


def test_kendall_tau():
    assert kendall_tau([1, 2, 3], [1, 2, 3]) == pytest.approx(1)
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert math.isnan(kendall_tau([1, 1, 1], [1, 2, 3]))


@given(st.permutations(list("abcdefg")), st.floats(0.1, 1.0))
def test_rbo_is_symmetric_bounded_and_1_for_equal_rankings(other, p):
    base = list("abcdefg")
    assert rbo(base, base, p) == pytest.approx(1)
    assert rbo(base, other, p) == pytest.approx(rbo(other, base, p))
    assert 0 <= rbo(base, other, p) <= 1


def test_rbo_known_values():
    assert rbo(list("ab"), list("ba"), 1.0) == pytest.approx(0.5)
    # Depths agree 0, 1, 1: (1-p)(0 + p + p^2) + p^3.
    assert rbo(list("abc"), list("bac"), 0.5) == pytest.approx(0.5 * (0.5 + 0.25) + 0.125)
    assert rbo([], []) == 1.0
    assert rbo(["a"], []) == 0.0
