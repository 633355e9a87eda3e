"""Losses against the public implementations' values, and on the lists those cannot take."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from rerank_lm import losses
from rerank_lm.losses.first import gathered_targets


@pytest.fixture(scope="module")
def cases(shared_data):
    return json.loads(shared_data("text/oracle/ranking_losses.json").read_text())["cases"]


SCHEMES = ("ndcgLoss1", "ndcgLoss2", "lambdaRank", "ndcgLoss2PP", "rankNet")


def _values(c) -> dict[str, Tensor]:
    s, y, g = torch.tensor(c["scores"]), torch.tensor(c["first_target_scores"]), torch.tensor(c["graded_labels"])
    rank, rel = torch.tensor(c["gold_rank0"]).float(), torch.tensor(c["rel_labels_n_minus_rank"])
    pair = {"reduction": "pair"}
    out = {
        "first_ranknet_weighted": losses.ranknet(s, -rank, weight="reciprocal-rank", **pair),
        "ranknet_unweighted": losses.ranknet(s, y, **pair),
        "ranknet_weight_by_diff": losses.ranknet(s, y, weight="difference", **pair),
        "ranknet_weight_by_diff_powed": losses.ranknet(s, y, weight="squared-difference", **pair),
        "ranknet_unweighted_rel": losses.ranknet(s, rel, **pair),
        "ranknet_graded": losses.ranknet(s, g, **pair),
        "listnet": losses.listnet(s, y),
        "dear_soft_ranknet": losses.soft_ranknet(s, g, **pair),
        "dear_listnet_kl_batchmean": losses.listnet_kl(s, g),
        "lambdarank_ndcgLoss2_kNone_mean_binary": losses.lambdaloss(s, g, **pair),
        "lambdarank_ndcgLoss2_k5_mean_binary": losses.lambdaloss(s, g, k=5, **pair),
    }
    for scheme in SCHEMES:
        out[f"rankgpt_lambda_{scheme}_scheme"] = losses.lambdaloss(s, g, scheme=scheme, k=10, **pair)
    return out


@pytest.mark.shared_data
def test_ranking_losses_equal_the_oracle(cases):
    compared = 0
    for c in cases:
        for name, value in _values(c).items():
            if name in c:
                assert value.item() == pytest.approx(c[name], rel=1e-5, abs=1e-9), name
                compared += 1
    assert compared >= 75


@pytest.mark.shared_data
def test_dear_mixtures_equal_the_oracle(cases):
    for c in cases:
        s = torch.tensor(c["scores"])
        positive = torch.zeros_like(s)
        positive[:, 0] = 1
        for t in (1, 2):
            d = c[f"dear_T{t}"]
            teacher = torch.tensor(d["teacher"])
            mine = {
                "softmax_ce_pos0": losses.infonce(s, positive),
                "soft_ranknet_binary_pos0": losses.soft_ranknet(s, positive),
                "total_softmax_ce_alpha0.1": losses.dear(s, positive, teacher, main="cross-entropy", temperature=t),
                "total_ranknet_ce_beta0.5_alpha0.1": losses.dear(s, positive, teacher, temperature=t),
            }
            for name, value in mine.items():
                assert value.item() == pytest.approx(d[name], rel=1e-5), (t, name)


@pytest.mark.shared_data
def test_brio_values_and_gradients_equal_the_oracle(shared_data):
    for c in json.loads(shared_data("summary/oracle/brio_ranking_loss.json").read_text())["cases"]:
        s = torch.tensor(c["score"], dtype=torch.float64, requires_grad=True)
        gold = torch.tensor(c["summary_score"], dtype=torch.float64, requires_grad=True)
        loss = losses.brio_rank_gap(
            s,
            None if c["no_gold"] else gold,
            margin=c["margin"],
            gold_margin=c["gold_margin"],
            gold_weight=c["gold_weight"],
            candidates=not c["no_cand"],
        )
        loss.backward()
        assert loss.item() == pytest.approx(c["loss"], abs=1e-10)
        assert torch.allclose(s.grad, torch.tensor(c["grad_score"], dtype=torch.float64), atol=1e-10)
        if c["grad_summary"] is not None and gold.grad is not None:
            assert torch.allclose(gold.grad, torch.tensor(c["grad_summary"], dtype=torch.float64), atol=1e-10)


LISTWISE = {
    "ranknet": losses.ranknet,
    "weighted ranknet": lambda s, y, m=None: losses.ranknet(s, y, m, weight="reciprocal-rank"),
    "soft ranknet": losses.soft_ranknet,
    "listnet": losses.listnet,
    "listmle": losses.listmle,
    "lambda": losses.lambdaloss,
    "margin": losses.margin_ranking,
    "infonce": losses.infonce,
    "kl": lambda s, y, m=None: losses.kl_distillation(s, y, m, temperature=2.0),
    "margin mse": losses.margin_mse,
    "dear": lambda s, y, m=None: losses.dear(s, (y > 1).float(), y, m),
    "yes/no": lambda s, y, m=None: losses.yes_no_sft(s, -s, y, m),
}


@pytest.mark.parametrize("name", LISTWISE)
def test_padding_changes_nothing(name):
    torch.manual_seed(0)
    loss = LISTWISE[name]
    scores, labels = torch.randn(3, 6, dtype=torch.float64), torch.randint(0, 4, (3, 6)).double()
    lengths = [6, 3, 2]
    mask = torch.tensor([[i < n for i in range(6)] for n in lengths])
    alone = torch.stack([loss(scores[i : i + 1, :n], labels[i : i + 1, :n]) for i, n in enumerate(lengths)])
    padded = torch.where(mask, scores, torch.nan).requires_grad_()
    together = loss(padded, torch.where(mask, labels, torch.nan), mask)
    assert together.item() == pytest.approx(alone.mean().item(), rel=1e-9)
    together.backward()
    assert torch.isfinite(padded.grad).all() and (padded.grad[~mask] == 0).all()


@pytest.mark.parametrize("name", LISTWISE)
@pytest.mark.parametrize("kind", ["one item", "equal labels", "extreme scores"])
def test_hopeless_lists_give_finite_gradients(name, kind):
    scores = {
        "one item": torch.zeros(2, 1),
        "equal labels": torch.randn(2, 4),
        "extreme scores": torch.tensor([[1e4, -1e4, 3e3]]),
    }[kind]
    labels = {
        "one item": torch.ones(2, 1),
        "equal labels": torch.ones(2, 4),
        "extreme scores": torch.tensor([[0.0, 2.0, 1.0]]),
    }[kind]
    scores = scores.requires_grad_()
    value = LISTWISE[name](scores, labels)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(scores.grad).all()
    if kind == "one item" and "yes" not in name:
        assert value.item() == pytest.approx(0.0, abs=1e-6) and (scores.grad.abs() < 1e-6).all()


@pytest.mark.parametrize("name", LISTWISE)
def test_following_the_gradient_orders_the_list(name):
    labels = torch.tensor([[0.0, 3.0, 0.0, 0.0]])
    scores = torch.zeros(1, 4, requires_grad=True)
    optimiser = torch.optim.Adam([scores], lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        LISTWISE[name](scores, labels).backward()
        optimiser.step()
    assert scores.argmax().item() == 1


@pytest.mark.parametrize("ranking", ["weighted-ranknet", "ranknet", "listnet", "lambda"])
def test_first_joint_loss_adds_up(ranking):
    from rerank_lm.losses.first import WEIGHTS

    torch.manual_seed(1)
    logits, ranks = torch.randn(2, 5, requires_grad=True), torch.stack([torch.randperm(5), torch.randperm(5)])
    lm = torch.tensor(2.0)
    joint = losses.first_joint(logits, ranks, lm, ranking=ranking)
    joint.backward()
    doubled = losses.first_joint(logits, ranks, lm, ranking=ranking, factor=2 * WEIGHTS[ranking])
    assert (doubled - lm).item() == pytest.approx(2 * (joint - lm).item(), rel=1e-5)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.shared_data
def test_first_targets_are_the_official_ones(cases):
    for c in cases:
        s, r = torch.tensor(c["scores"]), torch.tensor(c["gold_rank0"])
        assert torch.equal(
            gathered_targets(s, r, torch.ones_like(s, dtype=torch.bool)), torch.tensor(c["first_target_scores"])
        )


@pytest.mark.parametrize("kind", ["contrastive", "sft"])
def test_weight_times_direction_is_the_gradient(kind):
    torch.manual_seed(2)
    yes, no = torch.randn(1, 4, dtype=torch.float64), torch.randn(1, 4, dtype=torch.float64)
    labels = torch.tensor([[1.0, 0.0, 0.0, 0.0]])

    def grads(function):
        a, b = yes.clone().requires_grad_(), no.clone().requires_grad_()
        function(a, b).backward()
        return a.grad, b.grad if b.grad is not None else torch.zeros_like(b)

    mine = grads(lambda a, b: losses.unified(a, b, labels, weight=kind, direction=kind))
    true = grads(
        lambda a, b: losses.infonce(a, labels) if kind == "contrastive" else 4 * losses.yes_no_sft(a, b, labels)
    )
    for x, y in zip(mine, true, strict=True):
        assert torch.allclose(x, y, rtol=1e-5, atol=1e-12)


def test_weights_in_closed_form():
    yes, no = torch.tensor([[2.0, 1.0, 0.0, -1.0]]), torch.zeros(1, 4)
    labels = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    sft = losses.gradient_weights(yes, no, labels, kind="sft").values[0]
    assert torch.allclose(sft, torch.tensor([1 - torch.sigmoid(yes[0, 0]), *torch.sigmoid(yes[0, 1:])]))
    e = yes[0].exp()
    contrastive = losses.gradient_weights(yes, no, labels, kind="contrastive").values[0]
    assert torch.allclose(contrastive, torch.tensor([e[1:].sum(), e[1], e[2], e[3]]) / e.sum())
    solved = losses.gradient_weights(yes, no, labels, kind="sft", solved=0.3)
    assert solved.values[0].tolist()[0] == 0 and solved.values[0].tolist()[3] == 0
    assert solved.statistics(torch.ones(1, 4, dtype=torch.bool))["active_negatives"] == pytest.approx(2 / 3)


def test_orthogonal_anchors_cost_nothing():
    assert losses.orthogonal(torch.eye(4).unsqueeze(0) * 3).item() == pytest.approx(0, abs=1e-12)
    same = torch.ones(1, 3, 5)
    assert losses.orthogonal(same).item() == pytest.approx(6, rel=1e-6)
    assert losses.orthogonal(torch.zeros(1, 3, 5, requires_grad=True)).item() == 0
