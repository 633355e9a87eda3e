"""Claims through the command line on a small collection, the ranker's rules, and the ROUGE-guided encoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rerank_core.errors import InputError, UsageError
from rerank_core.io import read_rankings, read_run
from rerank_passages.claims.features import ClaimIndex, clean, relative
from rerank_passages.claims.files import Post, read_articles, read_posts
from rerank_passages.claims.mtm import logistic
from rerank_passages.claims.ranker import bm25_ranking, memory_scores
from rerank_passages.claims.rouge import RougeEncoder, RougeParams, rouge2
from rerank_passages.cli import app

SUBJECTS = ["vaccines", "taxes", "windmills", "elections", "bananas", "bridges", "wolves", "satellites"]
CLAIMS = ["cause headaches", "were raised by half", "kill thousands of birds", "cost two billion dollars"]


def collection(folder: Path) -> tuple[Path, Path]:
    """32 articles, two posts for each; the second post is of the split ``dev``."""
    articles, posts = [], []
    for s, subject in enumerate(SUBJECTS):
        for c, claim in enumerate(CLAIMS):
            n = 4 * s + c
            articles.append(
                {
                    "article_id": n,
                    "title": f"Do {subject} {claim}?",
                    "claim": f"Says {subject} {claim}.",
                    "sentences": [
                        f"We asked experts about {subject}.",
                        f"No, {subject} never {claim}.",
                        "Rated false.",
                    ],
                }
            )
            for k, text in enumerate(
                (f"wow {subject} really {claim} !", f"RT @user did you know {subject} {claim} url")
            ):
                posts.append(
                    {"query_id": f"p{n}-{k}", "text": text, "ocr": "", "gold": [n], "split": ("train", "dev")[k]}
                )
    a, q = folder / "articles.jsonl", folder / "posts.jsonl"
    a.write_text("".join(json.dumps(x) + "\n" for x in articles))
    q.write_text("".join(json.dumps(x) + "\n" for x in posts))
    return q, a


def invoke(*args: object) -> object:
    return CliRunner().invoke(app, [str(x) for x in args], catch_exceptions=True)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("claims")
    q, a = collection(folder)
    done = invoke("fit-claims", "--queries", q, "--articles", a, "--split", "train", "-o", folder / "model")
    assert done.exit_code == 0, done.output  # type: ignore[attr-defined]
    blind = folder / "dev.jsonl"
    rows = [json.loads(x) for x in q.read_text().splitlines()]
    blind.write_text(
        "".join(json.dumps({k: r[k] for k in ("query_id", "text", "ocr")}) + "\n" for r in rows if r["split"] == "dev")
    )
    return blind, a, folder / "model"


@pytest.mark.parametrize("method", ["bm25", "features", "mtm", "default"])
def test_posts_find_their_articles(fitted: tuple[Path, Path, Path], method: str, tmp_path: Path) -> None:
    posts, articles, model = fitted
    args = ["claims", "--queries", posts, "--articles", articles, "--method", method, "--model", model]
    done = invoke(*args, "-o", tmp_path / "o.trec")
    assert done.exit_code == 0, done.output  # type: ignore[attr-defined]
    run = read_run(tmp_path / "o.trec")
    right = [max(docs, key=lambda d: docs[d]) == q[1:].split("-")[0] for q, docs in run.items()]
    assert len(right) == 32 and np.mean(right) >= 0.9
    if method != "bm25":
        assert invoke(*args, "-o", tmp_path / "o.jsonl").exit_code == 0  # type: ignore[attr-defined]
        reasons = [r.items[0].reason for r in read_rankings(tmp_path / "o.jsonl")]
        lines = {x for a in read_articles(articles) for x in (a.headline, *a.sentences)}
        assert all(reason in lines for reason in reasons)


def test_mtm_over_vectors_that_learned_from_rouge(tmp_path: Path) -> None:
    q, a = collection(tmp_path)
    fit = ["fit-claims", "--queries", q, "--articles", a, "--split", "train", "-o", tmp_path / "m", "--mtm-encoder"]
    assert isinstance(invoke(*fit, "bert").exception, UsageError)  # type: ignore[attr-defined]
    assert invoke(*fit, "rouge").exit_code == 0  # type: ignore[attr-defined]
    args = ("claims", "--queries", q, "--articles", a, "--method", "mtm", "--model", tmp_path / "m")
    assert invoke(*args, "-o", tmp_path / "o.trec").exit_code == 0  # type: ignore[attr-defined]
    run = read_run(tmp_path / "o.trec")
    assert np.mean([max(docs, key=lambda d: docs[d]) == post[1:].split("-")[0] for post, docs in run.items()]) >= 0.9
    assert invoke(*fit, "static").exit_code == 0 and not (tmp_path / "m" / "rouge.npz").exists()  # type: ignore[attr-defined]


def test_wrong_calls_of_claims(fitted: tuple[Path, Path, Path], tmp_path: Path) -> None:
    posts, articles, _ = fitted
    base = ("claims", "--queries", posts, "--articles", articles, "-o", tmp_path / "o.trec")
    for extra, complaint in (
        (("--method", "nope"), "no method 'nope'"),
        (("--method", "mtm"), "needs --model"),
        (("--model", tmp_path), "is no claims model"),
        (("--method", "memory"), "looks posts up in --known"),
        (("--method", "bm25", "--known", posts), "looks posts up in --known"),
    ):
        error = invoke(*base, *extra).exception  # type: ignore[attr-defined]
        assert isinstance(error, (UsageError, InputError)) and complaint in str(error)
    assert not (tmp_path / "o.trec").exists()
    for text, complaint in (('{"query_id": 1}\n', "neither text nor ocr"), ("", "holds no posts")):
        (tmp_path / "bad.jsonl").write_text(text)
        with pytest.raises(InputError, match=complaint):
            read_posts(tmp_path / "bad.jsonl")


def test_gold_is_not_read_where_posts_are_ranked(tmp_path: Path) -> None:
    q, a = collection(tmp_path)
    with_gold = read_posts(q, "dev")
    for row in (rows := [json.loads(x) for x in q.read_text().splitlines()]):
        row["gold"] = [0]
    q.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert read_posts(q, "dev") == with_gold
    articles = read_articles(a)
    assert [r.ids for r in bm25_ranking(articles, with_gold)] == [
        r.ids for r in bm25_ranking(articles, read_posts(q, "dev"))
    ]


def test_features_describe_pairs_and_no_article_alone(tmp_path: Path) -> None:
    _, a = collection(tmp_path)
    index = ClaimIndex(read_articles(a))
    empty = Post("e", "", "zzz qqq")
    ((_, found),) = index.features([empty])
    assert all(np.abs(m).max() < 1e-9 for m in found.values())  # nothing shared: every feature of every article is 0
    scores = np.array([[3.0, 1.0, 2.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    z = relative(scores)
    assert z["rr"][0].tolist() == pytest.approx([1, 1 / 3, 1 / 2]) and np.isfinite(z["z"]).all()
    assert clean("RT @user: see https://t.co/x the #facts url") == ": see the #facts"


def test_a_memory_returns_what_was_seen(tmp_path: Path) -> None:
    q, a = collection(tmp_path)
    articles, known = read_articles(a), read_posts(q, "train")
    gold = {p.id: {p.id[1:].split("-")[0]: 1.0} for p in known}
    scores = memory_scores(known[:3], known, gold, articles)
    assert scores.argmax(axis=1).tolist() == [0, 1, 2] and scores.max() == pytest.approx(1, abs=1e-5)
    args = ("claims", "--queries", q, "--articles", a, "--method", "memory", "--known", q, "-o", tmp_path / "o.trec")
    assert invoke(*args).exit_code == 0  # type: ignore[attr-defined]
    run = read_run(tmp_path / "o.trec")
    assert all(max(docs, key=lambda d: docs[d]) == post[1:].split("-")[0] for post, docs in run.items())


def test_logistic_regression_separates_and_stays_finite() -> None:
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    w = logistic(x, np.array([0.0, 0, 1, 1]))
    assert w[0] > 0 and np.isfinite(w).all()
    assert np.isfinite(logistic(x, np.zeros(4))).all()


def test_rouge_by_hand() -> None:
    assert rouge2([1, 2, 3, 4], [2, 3, 9]) == (1 / 2, 1 / 3)
    assert rouge2([1], [1]) == (0.0, 0.0) and rouge2([1, 2], [1, 2]) == (1.0, 1.0)


def test_training_on_rouge_moves_word_vectors_a_little() -> None:
    from rerank_lm.encoders import BiEncoder

    bert = BiEncoder.load(precision="fp32")
    pairs = [(f"Says {s} {c}.", f"No, {t} never {c}.") for s in SUBJECTS[:3] for t in SUBJECTS[:3] for c in CLAIMS]
    before = RougeEncoder.untrained(bert)
    free = RougeEncoder.fit(bert, pairs, RougeParams(epochs=2, batch=8, rate=1e-3, near=0.0))
    held = RougeEncoder.fit(bert, pairs, RougeParams(epochs=2, batch=8, rate=1e-3, near=0.5))
    moved = [float(np.abs(e.table - before.table).sum()) for e in (free, held)]
    assert moved[0] > moved[1] > 0  # the regulariser is alive
    assert (
        RougeEncoder.untrained(bert).encode(["x"]).tolist() == before.encode(["x"]).tolist()
    )  # the encoder is unchanged
    assert np.linalg.norm(free.encode(["some words", ""]), axis=1).tolist() == pytest.approx([1, 0], abs=1e-5)
