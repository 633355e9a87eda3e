"""The learned ensemble, the mixture of experts, embedding similarities and entailment."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rerank_core.errors import InputError, UsageError
from rerank_core.types import Candidate, Request
from rerank_summary import experts, learned
from rerank_summary.data import Record
from rerank_summary.embedding import bertscore, embedding_mbr, token_f1
from rerank_summary.entailment import load_nli, nli_scorer, summac_zero_shot
from rerank_summary.lists import CandidateList

from . import tiny


def documents(n: int = 24) -> list[Record]:
    """Lists in which the candidate that keeps to the source is the best, the others invent numbers."""
    rng = np.random.default_rng(0)
    out = []
    for k in range(n):
        words = [f"w{rng.integers(200)}" for _ in range(40)]
        source = " ".join(words[:20]) + ". " + " ".join(words[20:]) + "."
        good = " ".join(words[:12]) + "."
        half = " ".join(words[:6] + [f"x{rng.integers(99)}" for _ in range(6)]) + "."
        bad = " ".join(f"y{rng.integers(99)}" for _ in range(12)) + "."
        texts = [good, half, bad]
        order = rng.permutation(3)
        request = Request(f"d{k}", source, tuple(Candidate(f"c{j}", texts[i]) for j, i in enumerate(order)))
        human = {f"c{j}": {"quality": float(3 - i)} for j, i in enumerate(order)}
        out.append(Record(request, (good,), human))
    return out


def best(record: Record) -> str:
    return max(record.human_means(), key=record.human_means().__getitem__)


def test_learned_reranker_learns_survives_saving_and_stays_out_of_fold(tmp_path: Path) -> None:
    records = documents()
    params = learned.LambdaRankParams(n_estimators=20, num_leaves=4, min_child_samples=2, learning_rate=0.2)
    ensemble = learned.fit(records, params=params, folds=3)
    requests = [r.request for r in records]
    reranker = learned.LearnedReranker("l", ensemble, explain=True)
    assert np.mean([a.ids[0] == best(b) for a, b in zip(reranker.rerank(requests), records, strict=True)]) > 0.9
    ensemble.save(tmp_path / "m.json.gz")
    again = learned.load(tmp_path / "m.json.gz")
    assert again.fingerprint() == ensemble.fingerprint()
    assert learned.LearnedReranker("l", again, explain=True).rerank(requests) == reranker.rerank(requests)
    # a training document is scored by the one model that did not see it
    record = records[0]
    fold = ensemble.seen[learned.document_key(record.request.query)]
    table = learned.feature_table([record.request], learned.list_features, names=ensemble.models[0].names)
    alone = learned.standardise(ensemble.models[fold].predict(table))
    np.testing.assert_allclose(ensemble.scores([record.request])[0], alone, atol=1e-9)
    assert "out of fold" in (reranker.rerank([record.request])[0].items[0].reason or "")
    other = Request("new", record.request.query + " more", record.request.candidates)
    assert "3 models" in (reranker.rerank([other])[0].items[0].reason or "")


def test_folds_never_split_a_document() -> None:
    records = documents(8)
    twice = records + [
        Record(Request(f"again-{r.id}", r.request.query, r.request.candidates), r.references, r.human) for r in records
    ]
    params = learned.LambdaRankParams(n_estimators=2, num_leaves=2, min_child_samples=1)
    ensemble = learned.fit(twice, params=params, folds=4)
    assert len(ensemble.seen) == 8


@pytest.mark.parametrize(
    "value",
    [
        b"not gzip",
        gzip.compress(b"{", mtime=0),
        gzip.compress(b"[]", mtime=0),
        gzip.compress(json.dumps({"kind": "summary-ensemble"}).encode(), mtime=0),
    ],
)
def test_hostile_model_files_are_refused(value: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.json.gz").write_bytes(value)
    with pytest.raises(InputError, match=r"m\.json\.gz"):
        learned.load(tmp_path / "m.json.gz")


def test_too_few_documents_are_refused() -> None:
    with pytest.raises(InputError, match="folds need at least as many"):
        learned.fit(documents(3), folds=5)


def test_the_packaged_model_holds_no_text() -> None:
    ensemble = learned.packaged()
    assert len(ensemble.models) == 5 and len(ensemble.seen) == 160
    assert all(len(k) == 16 and int(k, 16) >= 0 for k in ensemble.seen)
    assert not set(learned.LEFT_OUT) & set(ensemble.models[0].names)


def test_levels_keep_order_and_ties() -> None:
    assert learned.levels(np.array([0.3, 0.1, 0.3, 0.9])).tolist() == [7, 0, 7, 23]
    assert learned.levels(np.zeros(0)).tolist() == []


# -- experts -------------------------------------------------------------------------------------------------------


def test_gates_hold_k_experts_and_sum_to_one() -> None:
    torch.manual_seed(0)
    gate = experts.NoisyTopK(8, 6, 3)
    for training in (True, False):
        gates = gate.train(training)(torch.randn(5, 8))
        assert torch.allclose(gates.sum(-1), torch.ones(5)) and ((gates > 0).sum(-1) == 3).all()


def test_combination_is_the_log_of_the_gated_sum_of_exponentials() -> None:
    torch.manual_seed(0)
    params = experts.ExpertParams(tasks=("rouge1",), hidden=4, experts=3, k=2)
    model = experts.Mixture(5, params).eval()
    x = torch.randn(2, 5)
    logits, gates = model(x)
    shared = model.bottom(x)
    answers = torch.stack([e(shared) for e in model.experts], 1)
    mixed = (gates[:, 0, :, None] * answers.exp()).sum(1).log()
    assert torch.allclose(logits, model.towers[0](mixed), atol=1e-5)
    assert experts.balance_loss(torch.full((4, 1, 3), 1 / 3)).item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(model(1e4 * x)[0]).all()


def test_experts_learn_and_survive_saving(tmp_path: Path) -> None:
    records = documents()
    fitted = experts.fit_experts(records, experts.ExpertParams(epochs=30, hidden=16))
    requests = [r.request for r in records]
    rankings = experts.ExpertsReranker("e", fitted).rerank(requests)
    assert np.mean([a.ids[0] == best(b) for a, b in zip(rankings, records, strict=True)]) > 0.9
    fitted.save(tmp_path / "e")
    assert experts.ExpertsReranker("e", experts.FittedExperts.load(tmp_path / "e")).rerank(requests) == rankings
    (tmp_path / "e" / "experts.safetensors").write_bytes(b"xx")
    with pytest.raises(InputError, match="damaged model"):
        experts.FittedExperts.load(tmp_path / "e")
    with pytest.raises(UsageError, match="no document has"):
        experts.fit_experts([Record(r.request) for r in records])


# -- embeddings and entailment -------------------------------------------------------------------------------------


def test_token_matching_by_hand() -> None:
    a = np.array([[1.0, 0.0], [0.0, 1.0]])
    b = np.array([[1.0, 0.0]])
    p, r, f = token_f1(a, b)
    assert (p, r) == (0.5, 1.0) and f == pytest.approx(2 / 3)
    assert token_f1(a, np.zeros((0, 2))) == (0, 0, 0)


@pytest.mark.slow
def test_bertscore_of_a_real_encoder_knows_paraphrases() -> None:
    same, close, far = bertscore(
        ["the cat sat on the mat", "a cat was sitting on a rug", "shares fell in London"],
        ["the cat sat on the mat"] * 3,
    )
    assert same.f == pytest.approx(1, abs=1e-4) and same.f > close.f > far.f
    texts = ("the cat sat on the mat", "a cat was sitting on a rug", "shares fell in London")
    request = Request("d", "", tuple(Candidate(str(i), t) for i, t in enumerate(texts)))
    scores = embedding_mbr()(CandidateList.of(request), request)
    assert scores.argmin() == 2


def test_entailment_takes_the_best_source_sentence_of_each_claim() -> None:
    def entail(pairs):
        return np.array([float(c.split()[0] in p) for p, c in pairs])

    assert summac_zero_shot(entail, "Cats sat. Dogs ran.", "Cats slept. Owls flew.") == 0.5
    assert summac_zero_shot(entail, "", "x") == 0 == summac_zero_shot(entail, "x", "")
    request = Request("d", "Cats sat. Dogs ran.", (Candidate("a", "Owls flew."), Candidate("b", "Dogs ran.")))
    assert nli_scorer(entail)(CandidateList.of(request), request).tolist() == [0, 1]


def test_an_nli_model_must_name_its_entailment_label(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=len(tiny.WORDS) + 5, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=2, pad_token_id=1,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(tmp_path / "a")
    tiny.tokenizer().save_pretrained(tmp_path / "a")
    with pytest.raises(UsageError, match="no label is called entailment"):
        load_nli(str(tmp_path / "a"))
    config.id2label, config.label2id = {0: "entailment", 1: "other"}, {"entailment": 0, "other": 1}
    BertForSequenceClassification(config).save_pretrained(tmp_path / "b")
    tiny.tokenizer().save_pretrained(tmp_path / "b")
    found = load_nli(str(tmp_path / "b"))([("the cat sat", "the dog"), ("a", "b")])
    assert found.shape == (2,) and ((found > 0) & (found < 1)).all()
