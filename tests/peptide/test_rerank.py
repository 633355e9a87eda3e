from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_core.types import Candidate, Dataset, Request
from rerank_peptide.data import join, log_prior
from rerank_peptide.domain import domain
from rerank_peptide.masses import parse_peptide, to_proforma
from rerank_peptide.measures import judge, precision_coverage_auc, spectrum_rows
from rerank_peptide.mztab import Prediction
from rerank_peptide.probabilities import confidence
from rerank_peptide.spectra import SpectrumFile
from rerank_peptide.tables import CandidateFile, Hit

METHODS = [m for m in domain.methods if m not in ("default",)]


def request(small: Dataset[Any, Any], *peptides: str) -> Request[Any, Any]:
    tokens = [parse_peptide(p) for p in peptides]
    return Request(
        "x", small.requests[0].query, tuple(Candidate(to_proforma(t), t, -float(i)) for i, t in enumerate(tokens))
    )


@pytest.mark.parametrize("name", METHODS)
def test_lists_of_none_one_and_twins(small: Dataset[Any, Any], name: str) -> None:
    empty, one = request(small), request(small, "PEPTIDEK")
    odd = request(small, "AK", "S[UNIMOD:21]K", "[+42.011]-AAAAAAK", "G" * 60 + "K")
    rankings = domain.method(name).rerank([empty, one, odd])
    assert [len(r.items) for r in rankings] == [0, 1, 4]
    assert all(np.isfinite(x.score) for r in rankings for x in r.items if x.score is not None)


@pytest.mark.parametrize("name", METHODS)
def test_order_of_candidates_and_batch_do_not_matter(small: Dataset[Any, Any], name: str) -> None:
    reranker = domain.method(name)
    some = [r for r in small.requests if len(r.candidates) > 3][:4]
    together = reranker.rerank(some)
    for r, ranking in zip(some, together, strict=True):
        alone = reranker.rerank([r])[0]
        a, b = ({x.id: x.score for x in k.items} for k in (ranking, alone))
        assert a == pytest.approx(b, abs=1e-4)
        turned = replace(r, candidates=tuple(reversed(r.candidates)))
        c = {x.id: x.score for x in reranker.rerank([turned])[0].items}
        assert a == pytest.approx(c, abs=1e-4)


def test_the_learned_methods_see_no_label_and_beat_the_first_stage(small: Dataset[Any, Any]) -> None:
    first = np.mean([small.gold[r.id][r.candidates[0].id] for r in small.requests if r.candidates])
    ranked = domain.method("default").rerank(small.requests)
    top = np.mean([small.gold[r.id][r.items[0].id] for r in ranked if r.items])
    assert top >= first


def test_engine_names_do_not_change_the_scores(small: Dataset[Any, Any]) -> None:
    reranker = domain.method("features")
    r = small.requests[0]
    renamed = replace(
        r, candidates=tuple(replace(c, features={"rank:other": i + 1.0}) for i, c in enumerate(r.candidates))
    )
    assert [x.score for x in reranker.rerank([r])[0].items] == [x.score for x in reranker.rerank([renamed])[0].items]


def beams(small: Dataset[Any, Any], scores: dict[str, float], engine: str) -> tuple[SpectrumFile, CandidateFile]:
    spectrum = small.requests[0].query
    hits = [
        Hit(engine, ("index", str(spectrum.index)), i, parse_peptide(p), s, p)
        for i, (p, s) in enumerate(scores.items(), 1)
    ]
    return SpectrumFile([spectrum]), CandidateFile(engine, "x", hits)


def test_scores_that_are_probabilities_are_recognised(small: Dataset[Any, Any]) -> None:
    def prior(*files: tuple[SpectrumFile, CandidateFile]) -> dict[str, float]:
        r = join(files[0][0], [f for _, f in files]).requests[0]
        return dict(zip((c.id for c in r.candidates), log_prior(r), strict=True))

    log = prior(beams(small, {"PEPTLDEK": -0.5, "PEPTIDEK": -1.5, "PEPTVEEK": -3.0}, "a"))
    # The two that differ in I and L are one peptide: its probability is their sum.
    assert log["PEPTLDEK"] - log["PEPTVEEK"] == pytest.approx(np.log(np.exp(-0.5) + np.exp(-1.5)) + 3.0)
    plain = prior(beams(small, {"PEPTIDEK": 0.6, "PEPTVEEK": 0.2}, "a"))
    assert plain["PEPTIDEK"] - plain["PEPTVEEK"] == pytest.approx(np.log(3))
    for other in (
        {"PEPTIDEK": 0.9, "PEPTVEEK": 0.8},  # sum above 1
        {"PEPTIDEK": 12.0, "PEPTVEEK": 3.0},
        {"PEPTIDEK": -90.0, "PEPTVEEK": -99.0},  # a negative score of some other kind
        {"PEPTIDEK": 0.5},  # a single candidate tells nothing
    ):
        assert not any(prior(beams(small, other, "a")).values())
    both = prior(
        beams(small, {"PEPTIDEK": -0.1, "PEPTVEEK": -4.0}, "a"), beams(small, {"EPPTIDEK": 9.0, "PEPTIDEK": 7.0}, "b")
    )
    assert both["PEPTIDEK"] > both["EPPTIDEK"] > both["PEPTVEEK"]
    stranger = prior(
        beams(small, {"PEPTIDEK": -0.1, "PEPTVEEK": -4.0}, "a"), beams(small, {"EPPTIDEK": 9.0, "EPPTVEEK": 7.0}, "b")
    )
    # An engine that never proposes what the sure one believes in is believed less.
    assert stranger["EPPTIDEK"] - stranger["PEPTIDEK"] < both["EPPTIDEK"] - both["PEPTIDEK"]


def test_default_follows_a_sure_engine_where_the_spectrum_does_not_decide(small: Dataset[Any, Any]) -> None:
    weak = {"PEPTLDEK": -3.0, "EPPTLDEK": -0.06}
    spectra, candidates = beams(small, weak, "a")
    request = join(spectra, [candidates]).requests[0]
    bare = replace(request, candidates=tuple(replace(c, features={}) for c in request.candidates))
    method = domain.method("default")
    by = {x.id: x.score for x in method.rerank([request])[0].items}
    without = {x.id: x.score for x in method.rerank([bare])[0].items}
    moved = (by["EPPTLDEK"] - by["PEPTLDEK"]) - (without["EPPTLDEK"] - without["PEPTLDEK"])  # type: ignore[operator]
    assert moved == pytest.approx(2.94, abs=1e-3)
    # The engine gives the two 0.992 in all; so do the probabilities.
    sure = method.probabilities(request, np.array([by[c.id] for c in request.candidates]))
    assert sure.sum() == pytest.approx(np.exp(-3.0) + np.exp(-0.06))


@settings(deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20))
def test_confidence_keeps_the_winner(scores: list[float]) -> None:
    s = np.array(scores)
    c = confidence(s)
    assert c.shape == s.shape and np.isfinite(c).all()
    assert c[int(np.argmax(s))] == pytest.approx(c.max())


def predictions(*texts: str) -> list[Prediction]:
    return [Prediction(parse_peptide(t), i, i, -float(i), 1 / i) for i, t in enumerate(texts, 1)]


def test_measures_on_a_case_done_by_hand() -> None:
    truth = {"0": parse_peptide("PEPTIDEK"), "1": parse_peptide("M[+15.995]AAK"), "2": parse_peptide("GGGGK")}
    found = {"0": predictions("PEPTLDEK"), "1": predictions("FAAK", "M[+15.995]AAK")}
    got = {r.measure: r.value for r in judge(truth, found, system="s", n_boot=10)}
    assert got["peptide_recall"] == pytest.approx(2 / 3)  # F and oxidised M match within 0.1 Da
    assert got["peptide_precision"] == 1
    assert got["peptide_recall_ppm"] == pytest.approx(1 / 3)
    assert got["aa_precision"] == 1 and got["aa_recall"] == pytest.approx(12 / 17)
    assert got["exact_recall"] == pytest.approx(1 / 3)
    assert got["ptm_recall"] == 0 and got["auc"] == pytest.approx(2 / 3)
    assert got["oracle@20"] == pytest.approx(2 / 3)


def test_spectra_without_prediction_count_as_misses() -> None:
    rows = spectrum_rows(parse_peptide("PEPTIDEK"), [])
    assert (
        rows["peptide_recall"] == (0.0,) and rows["aa_recall"] == (0.0, 8.0) and rows["peptide_precision"] == (0.0, 0.0)
    )


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=30))
def test_auc_lies_between_zero_and_coverage_and_ignores_order(rows: list[tuple[bool, float]]) -> None:
    table = np.array([[float(m), s, 1.0] for m, s in rows])
    value = precision_coverage_auc(table)
    assert 0 <= value <= 1 + 1e-9
    assert value == pytest.approx(precision_coverage_auc(table[::-1]))
