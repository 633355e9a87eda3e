from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core import Candidate, Request
from rerank_core.calibration import Isotonic, Platt, abstention_threshold, coverage_accuracy, ece
from rerank_core.errors import InputError
from rerank_core.learning import (
    FeatureTable,
    LambdaRank,
    LambdaRankParams,
    Learned,
    cross_fit,
    feature_table,
    gain_levels,
    gains_of,
    group_folds,
)

SMALL = LambdaRankParams(n_estimators=30, min_child_samples=5)


def problem(n=60, width=8, seed=0):
    """Candidates whose gain is the sign of a noisy linear rule of two of three features."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n * width, 3))
    gains = (values[:, 0] + 0.5 * values[:, 1] + 0.2 * rng.normal(size=n * width) > 0.8).astype(float)
    offsets = np.arange(0, n * width + 1, width)
    return FeatureTable(("good", "fair", "noise"), values, offsets), gains


def top_gain(table, gains, scores):
    return float(np.mean([g[np.argmax(s)] for g, s in zip(table.split(gains), table.split(scores), strict=True)]))


def test_it_learns_is_deterministic_and_survives_a_round_trip(tmp_path):
    table, gains = problem()
    fresh, truth = problem(seed=1)
    model = LambdaRank(SMALL).fit(table, gains, seed=3)
    scores = model.predict(fresh)
    assert top_gain(fresh, truth, scores) > 0.8 > 2 * truth.mean()
    assert (scores == LambdaRank(SMALL).fit(table, gains, seed=3).predict(fresh)).all()
    model.save(tmp_path / "m")
    loaded = LambdaRank.load(tmp_path / "m")
    assert (loaded.predict(fresh) == scores).all()
    assert loaded.fingerprint() == model.fingerprint()
    importances = model.importances()
    assert next(iter(importances)) == "good"
    assert sum(importances.values()) == pytest.approx(1)


def test_columns_are_matched_by_name_not_by_place():
    table, gains = problem()
    model = LambdaRank(SMALL).fit(table, gains)
    swapped = FeatureTable(
        ("noise", "fair", "good", "new"), np.c_[table.values[:, ::-1], table.values[:, 0]], table.offsets
    )
    assert (model.predict(swapped) == model.predict(table)).all()


def test_out_of_fold_predictions_never_see_their_group():
    table, gains = problem(n=40)
    # A feature that gives the answer away, but by a code of its own in every group.
    rng = np.random.default_rng(5)
    groups = [f"g{i // 4}" for i in range(40)]
    sign = {g: rng.choice([-1, 1]) for g in set(groups)}
    leak = np.concatenate([sign[g] * x for g, x in zip(groups, table.split(gains), strict=True)])
    leaky = FeatureTable(("leak",), leak[:, None], table.offsets)
    scores = cross_fit(leaky, gains, groups, 5, SMALL)
    assert np.isfinite(scores).all()
    seen = LambdaRank(SMALL).fit(leaky, gains).predict(leaky)
    assert top_gain(leaky, gains, scores) <= top_gain(leaky, gains, seen)
    folds = group_folds(groups, 5)
    assert all(len({f for f, x in zip(folds, groups, strict=True) if x == g}) == 1 for g in set(groups))


@given(st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=60), st.integers(1, 6), st.integers(0, 99))
def test_folds_never_cut_a_group_and_none_is_empty(groups, k, seed):
    if len(set(groups)) < k:
        with pytest.raises(ValueError, match="cannot make"):
            group_folds(groups, k, seed)
        return
    folds = group_folds(groups, k, seed)
    assert set(folds.tolist()) == set(range(k))
    assert len(set(zip(groups, folds.tolist(), strict=True))) == len(set(groups))
    assert (folds == group_folds(groups, k, seed)).all()


def test_nothing_to_learn_is_said():
    table, gains = problem(n=5)
    with pytest.raises(ValueError, match="nothing can be learned"):
        LambdaRank(SMALL).fit(table, np.ones_like(gains))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_gain_levels_keep_the_order(values):
    gains = np.array(values)
    levels = gain_levels(gains)
    assert levels.min() >= 0
    assert levels.max() < 32
    order = np.argsort(gains, kind="stable")
    assert (np.diff(levels[order]) >= 0).all()
    assert (levels[gains == gains[0]] == levels[0]).all()


def test_a_learned_reranker_is_a_permutation_and_reads_candidate_features():
    requests = [
        Request(f"q{i}", "", tuple(Candidate(f"c{j}", None, None, {"x": float(j == i % 4)}) for j in range(4)))
        for i in range(40)
    ]
    gold = {r.id: {f"c{i % 4}": 1.0} for i, r in enumerate(requests)}
    table = feature_table(requests, lambda rs: [{"place": np.arange(len(r.candidates))} for r in rs])
    assert table.names == ("place", "x")
    model = LambdaRank(SMALL).fit(table, gains_of(requests, gold))
    reranker = Learned("learned", (lambda rs: [{"place": np.arange(len(r.candidates))} for r in rs],), model)
    rankings = reranker.rerank(requests)
    assert [r.ids[0] for r in rankings] == [f"c{i % 4}" for i in range(40)]
    assert reranker.rerank([]) == []


def test_two_extractors_may_not_give_the_same_name():
    requests = [Request("q", "", (Candidate("c", None),))]
    with pytest.raises(ValueError, match="given twice"):
        feature_table(requests, *[lambda rs: [{"x": np.zeros(1)}]] * 2)


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "ranker.json").write_text("{}")
    with pytest.raises(InputError, match="no LambdaRank model"):
        LambdaRank.load(tmp_path)


# -- calibration ---------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(-5, 5), st.booleans()), min_size=1, max_size=80))
def test_isotonic_rises_and_keeps_the_mean(pairs):
    s, y = np.array([a for a, _ in pairs]), np.array([float(b) for _, b in pairs])
    p = Isotonic.fit(s, y).predict(s)
    assert ((p >= -1e-12) & (p <= 1 + 1e-12)).all()
    assert (np.diff(p[np.argsort(s, kind="stable")]) >= -1e-12).all()
    assert p.mean() == pytest.approx(y.mean())


def test_calibration_mends_overconfidence():
    rng = np.random.default_rng(0)
    truth = rng.random(4000)
    y = (rng.random(4000) < truth).astype(float)
    confident = 1 / (1 + np.exp(-4 * np.log(truth / (1 - truth))))
    score = np.log(confident.clip(1e-9, 1 - 1e-9) / (1 - confident.clip(1e-9, 1 - 1e-9)))
    before = ece(confident, y)
    assert before > 0.1
    for method in (Isotonic, Platt):
        fitted = method.fit(score[:2000], y[:2000])
        assert ece(fitted.predict(score[2000:]), y[2000:]) < before / 3


def test_ece_by_hand():
    assert ece([0.95, 0.85, 0.15], [1, 0, 0]) == pytest.approx((0.05 + 0.85 + 0.15) / 3)
    assert ece([1.0, 1.0], [1, 1]) == 0


def test_coverage_ties_do_not_depend_on_the_order():
    coverage, accuracy = coverage_accuracy([0.9, 0.5, 0.5, 0.5], [1, 1, 0, 0])
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    assert accuracy.tolist() == [1, 0.5, 0.5, 0.5]


def test_the_threshold_keeps_the_promise_where_it_was_chosen():
    rng = np.random.default_rng(2)
    p = rng.random(1000)
    y = (rng.random(1000) < p).astype(float)
    t = abstention_threshold(p, y, 0.9)
    assert y[p >= t].mean() >= 0.9
    assert 0.6 < t < 0.95
    assert abstention_threshold([0.1, 0.2], [0, 0], 0.5) == float("inf")
