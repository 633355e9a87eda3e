"""From scores to a result: what speaks for a pair, and the features a decision sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_schema.decide import FEATURES, WITH_SIGNALS, pair_features
from rerank_schema.fused import ASKED, Fused
from rerank_schema.reasons import reason
from rerank_schema.scored import Scored
from rerank_schema.signals import signals
from rerank_schema.tables import Column, column_from_values

cells = st.one_of(st.just(np.nan), st.sampled_from([0.0, 0.25, 0.5, 2.0]), st.floats(-3, 3, width=32))


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=5)))
def test_features_of_a_pair_are_what_they_are_said_to_be(rows: list[list[float]]) -> None:
    scores = np.array(rows)
    scored = Scored(scores, lambda s, t: {"name": s - t})
    features = pair_features(scored, scored.top(3), (*FEATURES, "name", "letters"))
    assert list(features) == [(s, t) for s, row in enumerate(scored.top(3)) for t in row]
    for (s, t), (score, similarity, row_gap, column_gap, in_row, in_column, name, letters) in features.items():
        assert score == similarity == scores[s, t]  # there is no uncorrected similarity here
        assert (name, letters) == (s - t, 0.0)
        for gap, first, others in (
            (row_gap, in_row, np.delete(scores[s], t)),
            (column_gap, in_column, np.delete(scores[:, t], s)),
        ):
            best = max((float(x) for x in others if not np.isnan(x)), default=-np.inf)
            assert first == (score >= best)
            assert gap == pytest.approx(np.clip(score - best, -1, 1))


def test_evidence_is_the_signals_of_the_pair_in_every_block(encoder) -> None:
    n = ASKED + 3
    left = [column_from_values("a", f"part {i} of {i % 7}", ["x", f"v{i}"]) for i in range(n)]
    right = [column_from_values("b", f"piece{i}", [f"v{i}", "y"]) for i in range(5)]
    scored = Fused(encoder).score(left, right)
    used = signals(left, right, encoder)
    whole = {s.name: s.rows(0, n) for s in used}
    for s, t in [(0, 0), (n - 1, 4), (ASKED, 0), (ASKED - 1, 2), (0, 4)]:
        evidence = scored.evidence(s, t)
        assert set(evidence) == {*whole, "similarity"}
        assert evidence["similarity"] == pytest.approx(np.mean([w[s, t] for w in whole.values()]), abs=1e-6)
        assert {k: evidence[k] for k in whole} == pytest.approx({k: float(w[s, t]) for k, w in whole.items()}, abs=1e-6)
        assert evidence.get("described") is None
    assert pair_features(scored, scored.top(2), WITH_SIGNALS)[0, scored.top(1)[0][0]].shape == (len(WITH_SIGNALS),)


def test_rounding_errors_do_not_order_a_reason() -> None:
    words = {"name": "names", "plain": "values", "letters": "letters", "tagged": "tags"}
    said = []
    for noise in (1e-7, -1e-7):
        evidence = {"name": 1 - noise, "plain": 1 + noise, "letters": 1.0, "tagged": 0.3, "similarity": 2.0}
        said.append(reason(Column("a", "x"), Column("b", "y"), evidence, words))
    assert said == ["names 1.00; values 1.00; letters 1.00"] * 2
