"""Fabricated pairs, learning from them, and deciding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.errors import InputError, UsageError
from rerank_schema.decide import Decider, _best_cut, decide, packaged_decider
from rerank_schema.fabricate import SCENARIOS, RealTable, TablePair, fabricate, header_of, rename
from rerank_schema.feedback import learn, trainer
from rerank_schema.fit import fit_folder, matches_of
from rerank_schema.fused import Fused
from rerank_schema.gold import GoldPairs
from rerank_schema.learned import load_learned, right_pairs
from rerank_schema.match import MATCH
from rerank_schema.packaged import column_documents, small_tables
from rerank_schema.review.state import Review
from rerank_schema.scored import Scored


@pytest.fixture(scope="module")
def tables() -> list[RealTable]:
    return small_tables()[:6]


def test_packaged_tables_are_real_and_always_there() -> None:
    found = small_tables()
    assert len({t.name for t in found}) == len(found)
    assert any(t.name == "zone" for t in found)  # tzdata comes with pandas
    assert all(len(t.frame) >= 20 for t in found)


def test_fabricated_gold_names_columns_that_exist(tables: list[RealTable]) -> None:
    described = RealTable("d", tables[0].frame, {str(c): f"the {c} of a thing" for c in tables[0].frame.columns})
    pairs = fabricate([described, *tables], seed=3)
    assert {p.name.split("/")[1] for p in pairs} == set(SCENARIOS)
    for pair in pairs:
        left, right = {c.name for c in pair.source.columns}, {c.name for c in pair.target.columns}
        assert all(s[1] in left and t[1] in right for s, t in pair.gold.pairs), pair.name
        assert {s[1] for s in pair.gold.unmatched} <= left
    again = fabricate([described, *tables], seed=3)
    assert [p.gold for p in again] == [p.gold for p in pairs]
    assert [p.gold for p in fabricate([described, *tables], seed=4)] != [p.gold for p in pairs]


def test_renaming() -> None:
    assert rename("departureTime", "abbreviate", "t") == "depa_time"
    assert rename("departureTime", "vowels", "t") == "dprtr_tm"
    assert rename("x", "prefix", "t") == "t_x"
    assert header_of("Number of cylinders (4, 6 or 8)") == "number_cylinders"
    html = "<dl><dt><code>mpg</code></dt><dd><p>Miles per <b>gallon</b></p></dd></dl>"
    assert column_documents(html, ["mpg", "cyl"]) == {"mpg": "Miles per gallon"}


def _write(pairs: list[TablePair], frames: dict[str, tuple[pd.DataFrame, pd.DataFrame]], folder: Path) -> None:
    from rerank_schema.review.export import to_csv

    for pair in pairs:
        place = folder / pair.name.replace("/", "-")
        place.mkdir()
        left, right = frames[pair.name]
        left.to_csv(place / "source.csv", index=False)
        right.to_csv(place / "target.csv", index=False)
        (place / "ground_truth.csv").write_text(to_csv(pair.gold.pairs))


def _frame(schema) -> pd.DataFrame:
    rows = max(c.n_rows for c in schema.columns)
    return pd.DataFrame({c.name: [*c.values, *[None] * (rows - len(c.values))][:rows] for c in schema.columns})


def test_fit_learns_from_a_folder_and_reports_out_of_pair(tables: list[RealTable], encoder, tmp_path: Path) -> None:
    pairs = fabricate(tables, seed=5, scenarios=["view-unionable"])
    data, model = tmp_path / "pairs", tmp_path / "model"
    data.mkdir()
    _write(pairs, {p.name: (_frame(p.source), _frame(p.target)) for p in pairs}, data)
    report = fit_folder(data, model, base=Fused(encoder))
    assert report["pairs"] == len(pairs)
    systems = {r.system for r in report["rows"]}
    assert systems == {"default", "learned, each pair left out"}
    assert all(r.n == len(pairs) and r.ci_low <= r.value <= r.ci_high for r in report["rows"])
    learned = load_learned(model, Fused(encoder))
    scored = learned.score(pairs[0].source.columns, pairs[0].target.columns)
    assert scored.scores.shape == (len(pairs[0].source.columns), len(pairs[0].target.columns))
    with pytest.raises(InputError, match="no model folder"):
        load_learned(data, Fused(encoder))
    with pytest.raises(InputError, match="no table pair"):
        fit_folder(model, tmp_path / "other", base=Fused(encoder))


def test_one_pair_is_not_enough(tables: list[RealTable], encoder, tmp_path: Path) -> None:
    pairs = fabricate(tables[:1], seed=5, scenarios=["unionable"])
    _write(pairs, {p.name: (_frame(p.source), _frame(p.target)) for p in pairs}, tmp_path)
    with pytest.raises(InputError, match="at least two"):
        fit_folder(tmp_path, tmp_path / "model", base=Fused(encoder))


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=12))
def test_the_cut_maximises_expected_f1(probabilities: list[float]) -> None:
    cut = _best_cut(probabilities)
    expected = lambda taken: 2 * sum(taken) / (len(taken) + sum(probabilities))  # noqa: E731
    chosen = expected([p for p in probabilities if p >= cut])
    assert all(expected([p for p in probabilities if p >= other]) <= chosen + 1e-9 for other in probabilities)


def test_decisions_are_one_to_one_unless_asked_otherwise() -> None:
    rng = np.random.default_rng(0)
    scored = Scored(rng.normal(0.5, 0.3, (8, 6)).astype(np.float32))
    tops = scored.top(6)
    decided = [p for p, d in decide(scored, tops, packaged_decider(), threshold=0.0).items() if d.decision == MATCH]
    assert len({s for s, _ in decided}) == len(decided) == len({t for _, t in decided}) == 6
    every = decide(scored, tops, packaged_decider(), threshold=0.0, several=True)
    assert all(d.decision == MATCH for d in every.values())
    none = decide(scored, tops, packaged_decider(), threshold=1.0)
    assert not any(d.decision == MATCH for d in none.values())


def test_a_decider_learns_a_logistic_truth_and_survives_saving() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4000, 6))
    p = 1 / (1 + np.exp(-(2 * x[:, 0] - x[:, 3] - 1)))
    decider = Decider.fit(x, (rng.random(4000) < p).astype(float))
    assert np.abs(decider.probability(x) - p).mean() < 0.02
    assert np.allclose(Decider.from_json(decider.to_json()).probability(x), decider.probability(x))


def _reviewed(encoder, n: int = 8) -> tuple[TablePair, Review]:
    """A table pair under review, its first ``n`` columns answered as the gold has it."""
    table = max(small_tables()[:12], key=lambda t: len(t.frame.columns))
    pair = fabricate([table], seed=2, scenarios=["unionable"])[0]
    scored = Fused(encoder).score(pair.source.columns, pair.target.columns)
    review = Review.of(matches_of(pair, scored, packaged_decider()))
    right = right_pairs(pair.source, pair.target, pair.gold)
    name = lambda c: (c.table, c.name)  # noqa: E731
    for s, t in sorted(right)[:n]:
        review.answer(name(pair.source.columns[s]), [name(pair.target.columns[t])])
    return pair, review


def test_answers_of_a_review_train_a_ranker_for_what_is_open(encoder, tmp_path: Path) -> None:
    pair, review = _reviewed(encoder)
    answered = {s: [m.target for m in review.candidates[s]] for s in review.answers}
    said = trainer(pair.source, pair.target, Fused(encoder), tmp_path / "model")(review)
    assert "learned from 8 columns" in said and "before" in said
    assert {s: [m.target for m in review.candidates[s]] for s in answered} == answered  # what is answered stays
    assert all(len(row) for row in review.candidates.values())
    learned = load_learned(tmp_path / "model", Fused(encoder))
    assert learned.score(pair.source.columns, pair.target.columns).scores.shape[0] == len(pair.source.columns)


def test_a_ranker_that_does_not_help_left_out_columns_changes_nothing(encoder, tmp_path: Path) -> None:
    pair, review = _reviewed(encoder, 12)
    plain = Fused(encoder).score(pair.source.columns, pair.target.columns)
    answers = [(s, a.targets) for s, a in review.answers.items()]
    harmful = None
    for seed in range(4):  # answers given to the wrong columns
        order = np.random.default_rng(seed).permutation(len(answers))
        wrong = {s: answers[int(i)][1] for (s, _), i in zip(answers, order, strict=True)}
        lesson = learn(pair.source, pair.target, wrong, Fused(encoder))
        assert np.array_equal(lesson.scored.scores, plain.scores) == (not lesson.helps)
        harmful = harmful if lesson.helps else wrong
    assert harmful is not None
    for s, targets in harmful.items():
        review.answer(s, targets)
    before = {s: list(row) for s, row in review.candidates.items()}
    assert "no model is kept" in trainer(pair.source, pair.target, Fused(encoder), tmp_path / "model")(review)
    assert review.candidates == before and not (tmp_path / "model").exists()


def test_too_few_answers_teach_nothing(encoder) -> None:
    pair, review = _reviewed(encoder, 3)
    with pytest.raises(UsageError, match="3 answered columns"):
        learn(pair.source, pair.target, {s: a.targets for s, a in review.answers.items()}, Fused(encoder))


def test_an_exported_mapping_is_gold_under_other_file_names() -> None:
    gold = GoldPairs(((("a", "x"), ("b", "y")),), (("a", "z"),))
    assert gold.under(["source"], ["target"]) == GoldPairs(((("source", "x"), ("target", "y")),), (("source", "z"),))
    assert gold.under(["a", "c"], ["b", "d"]) == gold
    plain = GoldPairs(((("", "x"), ("", "y")),))
    assert plain.under(["source"], ["target"]) == plain
