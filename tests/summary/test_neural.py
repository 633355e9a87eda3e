"""Seq2seq scoring and training, group beam search, plans and abstraction, over tiny random models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rerank_core.errors import UsageError
from rerank_core.types import Candidate, Request
from rerank_lm.losses import brio_rank_gap
from rerank_summary import abstractor, beam, training
from rerank_summary.edu import units_of
from rerank_summary.likelihood import LikelihoodReranker, candidate_scores, pad_rows
from rerank_summary.losses import pair_margin, salience_kl, smoothed_nll, unlikelihood
from rerank_summary.plan_model import PlanGenerator, PlanParams
from rerank_summary.simcls import SimClsReranker

from . import tiny

Find = Callable[[str], Path]
SOURCE = "the cat sat on the mat and the dog ran fast in the rain . police said the company will not report it ."
TEXTS = (
    "the cat sat .",
    "the dog ran fast in the rain and the cat sat .",
    "police said",
    "it was red",
    "the old man .",
)


def double(x: object) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def oracle(shared_data: Find, name: str) -> dict:
    return json.loads(shared_data(f"summary/oracle/{name}.json").read_text())


@pytest.mark.shared_data
def test_rank_gap_loss_and_gradients_equal_the_released_code(shared_data: Find) -> None:
    worst = 0.0
    for case in oracle(shared_data, "brio_ranking_loss")["cases"]:
        scores, gold = double(case["score"]).requires_grad_(), double(case["summary_score"]).requires_grad_()
        loss = brio_rank_gap(
            scores,
            None if case["no_gold"] else gold,
            margin=case["margin"],
            gold_margin=case["gold_margin"],
            gold_weight=case["gold_weight"],
            candidates=not case["no_cand"],
        )
        loss.backward()
        worst = max(
            worst, abs(loss.item() - case["loss"]), (scores.grad - double(case["grad_score"])).abs().max().item()
        )
        if gold.grad is not None:
            worst = max(worst, (gold.grad - double(case["grad_summary"])).abs().max().item())
    print(f"worst difference {worst:.1e}")
    assert worst < 1e-10


@pytest.mark.shared_data
def test_label_smoothing_unlikelihood_and_candidate_scores_equal_their_oracles(shared_data: Find) -> None:
    for case in oracle(shared_data, "brio_label_smoothing")["cases"]:
        value = smoothed_nll(
            double(case["logits_B_T_V"]),
            torch.tensor(case["target"]),
            ignore=case["ignore_index"],
            epsilon=case["epsilon"],
        )
        assert value.item() == pytest.approx(case["loss"], abs=1e-10)
    case = oracle(shared_data, "edu_unlikelihood")
    value = unlikelihood(double(case["logits"]), torch.tensor(case["targets"]), epsilon=case["epsilon"])
    assert value.item() == pytest.approx(case["loss"], abs=1e-10)
    for case in oracle(shared_data, "brio_candidate_score")["cases"]:
        scores = candidate_scores(
            double(case["logits"]),
            torch.tensor(case["candidate_ids"]),
            case["pad"],
            length_penalty=case["length_penalty"],
            adding=case["adding"],
            normalise=case["normalize"],
            mode=case["score_mode"],
        )
        assert (scores - double(case["score"])).abs().max().item() < 1e-10


@pytest.mark.parametrize("loss", [brio_rank_gap, pair_margin])
@pytest.mark.parametrize("scores", [[[0.3]], [[0.2, 0.2, 0.2]], [[0.0, 0.0]]])
def test_ranking_losses_are_finite_for_one_candidate_and_equal_scores(loss: Callable, scores: list) -> None:
    s = double(scores).requires_grad_()
    value = loss(s, margin=0.001)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(s.grad).all()


def test_the_papers_sum_weighs_pairs_and_the_released_code_gaps() -> None:
    scores = double([[0.0, 0.0, 0.0]])
    # gaps of 1: two pairs of margin m; gap of 2: one pair of 2 m
    assert pair_margin(scores, 0.5).item() == pytest.approx(2 * 0.5 + 1.0)
    assert brio_rank_gap(scores, margin=0.5).item() == pytest.approx(0.5 + 1.0)
    ordered = double([[3.0, 2.0, 1.0]])
    assert pair_margin(ordered, 0.5).item() == 0.0


def test_candidate_scores_without_tokens_are_zero() -> None:
    ids = torch.tensor([[[2, 1, 1], [2, 5, 2]]])
    scores = candidate_scores(torch.zeros(1, 2, 3, 8, dtype=torch.float64), ids, 1, length_penalty=2.0)
    assert scores[0, 0] == 0 and torch.isfinite(scores).all()


def test_salience_kl_is_zero_where_the_head_agrees_and_positive_elsewhere() -> None:
    soft = double([[0.1, 0.4, 0.0]])
    mask = torch.tensor([[True, True, False]])
    assert salience_kl(10 * soft, soft, mask).item() == pytest.approx(0, abs=1e-12)
    assert salience_kl(-10 * soft, soft, mask).item() > 0.1


def request() -> Request:
    return Request("d", SOURCE, tuple(Candidate(str(i), t) for i, t in enumerate(TEXTS)))


def test_likelihood_reranker_scores_do_not_depend_on_the_other_candidates() -> None:
    reranker = LikelihoodReranker("brio", tiny.seq2seq(), explain=True)
    together = {r.id: r.score for r in reranker.rerank([request()])[0].items}
    for c in request().candidates:
        alone = reranker.rerank([Request("d", SOURCE, (c,))])[0].items[0]
        assert alone.score == pytest.approx(together[c.id], abs=1e-5)
        assert "tokens" in (alone.reason or "")


def test_likelihood_reranker_equals_the_models_own_loss() -> None:
    scorer = tiny.seq2seq()
    reranker = LikelihoodReranker("brio", scorer, length_penalty=1.0)
    ranking = reranker.rerank([request()])[0]
    labels = torch.tensor([scorer.target_ids(TEXTS[1])[1:]])
    with torch.inference_mode():
        loss = scorer.model(input_ids=torch.tensor([scorer.source_ids(SOURCE)[0]]), labels=labels).loss.item()
    assert next(r.score for r in ranking.items if r.id == "1") == pytest.approx(-loss, abs=1e-4)


def examples() -> list[training.Example]:
    good = ("the cat sat on the mat", "the dog ran fast in the rain", "police said the company will not report it")
    bad = ("red red red", "it it was was", "house house")
    return [training.Example(SOURCE, g, (g, f"{g} and", b), (1.0, 0.8, 0.1)) for g, b in zip(good, bad, strict=True)]


@pytest.mark.parametrize("loss", ["official", "pairs"])
def test_brio_training_teaches_the_order(loss: str) -> None:
    scorer = tiny.seq2seq()
    params = training.BrioParams(
        loss=loss, margin=0.05, length_penalty=1.0, max_lr=0.05, warmup=10, accumulate=3, mle_weight=0.1
    )
    history = training.train(
        scorer.model, lambda e: training.brio_step(scorer, e, params), examples(), params, updates=25
    )
    assert history.collapsed is None
    assert np.mean(history.tau[-5:]) > 0.9
    assert np.mean(history.loss[-5:]) < 0.5 * history.loss[0]
    requests = [
        Request(str(i), e.source, tuple(Candidate(str(j), t) for j, t in enumerate(reversed(e.candidates))))
        for i, e in enumerate(examples())
    ]
    assert all(r.ids[0] == "2" for r in LikelihoodReranker("x", scorer, 1.0).rerank(requests))


def test_simcls_training_teaches_the_order_and_survives_saving(tmp_path: Path) -> None:
    scorer = tiny.encoder()
    params = training.SimClsParams(max_lr=0.05, warmup=10, accumulate=3)
    history = training.train(
        scorer.model, lambda e: training.simcls_step(scorer, e, params), examples(), params, updates=30
    )
    assert np.mean(history.tau[-5:]) > 0.9
    scorer.save(tmp_path / "m")
    again = type(scorer).load(str(tmp_path / "m"), 100)
    one = SimClsReranker("a", scorer).rerank([request()])[0]
    two = SimClsReranker("b", again).rerank([request()])[0]
    assert one.ids == two.ids


def test_training_without_two_candidates_is_refused() -> None:
    with pytest.raises(UsageError, match="two different candidates"):
        training.train(
            torch.nn.Linear(1, 1), lambda e: None, [training.Example("a", "b", ("c",), (1.0,))], training.BrioParams(), updates=1
        )  # fmt: skip


def test_collapse_detector_names_flat_scores_short_texts_and_nan() -> None:
    steady = [0.5] * 40
    assert training.collapse(steady) is None
    assert "flat" in (training.collapse([0.5] * 20 + [1e-4] * 20) or "")
    assert "length" in (training.collapse(steady, [60.0, 1.0]) or "")
    assert "finite" in (training.collapse([float("nan")]) or "")


def test_suggested_scale_makes_the_margin_the_size_of_the_gaps() -> None:
    scores = [np.array([-0.3, -0.1, -0.2]), np.array([0.0, 0.1])]
    assert training.suggest_scale(scores, 0.001) * 0.1 == pytest.approx(0.001)
    assert training.suggest_scale([np.array([1.0])], 0.001) == 1.0


def test_learning_rate_peaks_at_the_end_of_warm_up() -> None:
    assert training.learning_rate(10_000, 2e-3, 10_000) == pytest.approx(2e-5)
    assert training.learning_rate(5_000, 2e-3, 10_000) == pytest.approx(1e-5)


def test_selection_loss_and_its_legacy_slip() -> None:
    assert training.selection_loss(0.4, 0.2, 0.3) == pytest.approx(0.7)
    assert training.selection_loss(0.4, 0.2, 0.3, "legacy") == pytest.approx(1 - (0.08 + 0.3) / 3)
    assert training.selection_loss(0.0, 0.0, 0.0, "harmonic") == 1.0


# -- beam search ---------------------------------------------------------------------------------------------------


def search(scorer, **settings):
    params = beam.BeamParams(**settings)
    source, _ = scorer.source_ids(SOURCE)
    return beam.group_beam_search(beam.Seq2SeqStepper(scorer, source), params, start=scorer.start, eos=2, forced_last=2)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("length_penalty", "early"), [(1.0, True), (2.0, True), (0.6, False)])
def test_one_group_equals_transformers_beam_search(seed: int, length_penalty: float, early: bool) -> None:
    scorer = tiny.seq2seq(seed)
    mine = search(
        scorer, beams=4, groups=1, penalty=0.0, length_penalty=length_penalty, min_length=4, max_length=13, no_repeat=3,
        early_stopping=early,
    )  # fmt: skip
    source = torch.tensor([scorer.source_ids(SOURCE)[0]])
    theirs = scorer.model.generate(
        input_ids=source, num_beams=4, num_return_sequences=4, do_sample=False, length_penalty=length_penalty,
        min_length=4, max_length=13, no_repeat_ngram_size=3, early_stopping=early, forced_eos_token_id=2,
        forced_bos_token_id=None, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    best = [i for i in theirs.sequences[0, 1:].tolist() if i != 1]
    assert list(mine[0].ids) == best
    assert mine[0].score == pytest.approx(theirs.sequences_scores[0].item(), abs=1e-4)


def test_groups_make_different_texts_and_each_honours_the_limits() -> None:
    scorer = tiny.seq2seq(3)
    same = search(scorer, beams=4, groups=4, penalty=0.0, min_length=4, max_length=10)
    different = search(scorer, beams=4, groups=4, penalty=100.0, min_length=4, max_length=10)
    assert len({h.ids for h in same}) == 1  # without a penalty every group finds the same
    assert len({h.ids for h in different}) == 4
    first_tokens = [h.ids[0] for h in different]
    assert len(set(first_tokens)) == 4
    for h in different:
        assert 4 <= len(h.ids) <= 10
        trigrams = list(zip(h.ids, h.ids[1:], h.ids[2:], strict=False))
        assert len(set(trigrams)) == len(trigrams)


def test_beam_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="do not split"):
        beam.BeamParams(beams=5, groups=2)


def test_generate_gives_distinct_texts() -> None:
    texts = beam.generate(
        tiny.seq2seq(1), SOURCE, beam.BeamParams(beams=6, groups=6, penalty=5.0, min_length=3, max_length=12)
    )
    assert len(texts) == len(set(texts)) > 1


# -- plans ---------------------------------------------------------------------------------------------------------


def test_plans_increase_strictly_are_unique_and_keep_their_lengths() -> None:
    torch.manual_seed(0)
    planner = PlanGenerator(16, PlanParams(beams=16, shortest=2, longest=5))
    plans = planner.plans(torch.randn(16), torch.randn(9, 16))
    assert len(plans) == 16 == len(set(plans))
    for plan in plans:
        assert 2 <= len(plan) <= 5
        assert list(plan) == sorted(set(plan))
    assert planner.plans(torch.randn(16), torch.randn(1, 16)) == [(0,)]
    assert planner.plans(torch.randn(16), torch.zeros(0, 16)) == []


def test_the_plan_generator_learns_a_plan() -> None:
    torch.manual_seed(0)
    planner = PlanGenerator(16, PlanParams(dropout=0.0, shortest=1, longest=5))
    document, units = torch.randn(16), torch.randn(6, 16)
    soft = torch.tensor([0.0, 0.9, 0.0, 0.0, 0.8, 0.0])
    optimiser = torch.optim.Adam(planner.parameters(), lr=3e-3)
    planner.train()
    for _ in range(60):
        loss = planner.loss(document, units, (1, 4), soft)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert planner.plans(document, units)[0] == (1, 4)


def test_step_logits_mask_whatever_would_not_increase() -> None:
    planner = PlanGenerator(8, PlanParams(heads=2)).eval()
    states = planner.encode(torch.randn(8), torch.randn(4, 8))
    logits = planner.step_logits(states, torch.tensor([[1, 2]]))
    assert (logits[0, 1, :2] == -1e3).all() and (logits[0, 2, :3] == -1e3).all()
    assert (logits[0, 2, 3:] > -1e3).all() and (logits[0, 0] > -1e3).all()


def test_corruption_never_keeps_the_oracle_where_it_can_help_it() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        wrong = abstractor.corrupt((1, 3), 6, "random", rng)
        assert not set(wrong) & {1, 3} and len(wrong) == 2
        swapped = abstractor.corrupt((1, 3), 6, "swap", rng)
        assert len(set(swapped) & {1, 3}) == 1
    assert abstractor.corrupt((0, 1), 2, "random", rng) == (0, 1)
    with pytest.raises(UsageError, match="corruption"):
        abstractor.corrupt((0,), 2, "shuffle", rng)


def test_guided_training_lowers_likelihood_under_wrong_plans_and_realises_one_text_a_plan() -> None:
    scorer = tiny.seq2seq(0)
    abstractor.add_markers(scorer)
    units = units_of("the cat sat on the mat . the dog ran fast . police said it was new . the old man found water .")
    assert len(units) == 4
    optimiser = torch.optim.Adam(scorer.model.parameters(), lr=3e-3)
    params, rng, totals = abstractor.AbstractorParams(), np.random.default_rng(0), []
    for _ in range(30):
        losses = abstractor.guided_loss(scorer, units, (1, 2), "the dog ran and police said it was new", params, rng)
        optimiser.zero_grad()
        losses["total"].backward()
        optimiser.step()
        totals.append(losses["total"].item())
    assert np.isfinite(totals).all() and np.mean(totals[-5:]) < 0.8 * totals[0]
    scorer.model.eval()
    planner = PlanGenerator(32, PlanParams(beams=4, shortest=1, longest=3))
    settings = beam.BeamParams(beams=2, groups=1, penalty=0.0, min_length=2, max_length=10)
    plans, texts = abstractor.plan_guided(scorer, planner, units, settings)
    assert len(plans) == len(set(plans)) == len(texts) == 4


def test_pad_rows_of_nothing_still_has_a_column() -> None:
    assert pad_rows([[]], 1).tolist() == [[1]]
