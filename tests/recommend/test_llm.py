"""The live paths with a real model: the packaged SmolLM2 answers, is recorded, and reorders."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from rerank_core.strategies import Shuffled
from rerank_core.strategies.judges import Group, Item
from rerank_recommend.chat import talk
from rerank_recommend.commands import Ask, fit_any, rerank
from rerank_recommend.domain import domain
from rerank_recommend.live import LetterJudge, letter_scores

pytest.importorskip("torch")
SMOL = "smollm2"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(film_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("llm") / "films"
    fit_any([film_files / "train.jsonl"], out, entities=film_files / "entities.jsonl", experts=["popularity", "bm25"])
    return out


def test_a_turn_is_asked_recorded_and_replayed(film_files: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "turn.jsonl").write_text((film_files / "test.jsonl").read_text().splitlines()[0] + "\n")
    record, out, again = (tmp_path / n for n in ("answers.jsonl", "out.jsonl", "again.jsonl"))
    rows, _ = rerank(
        tmp_path / "turn.jsonl", folder, out, method="select", ask=Ask(llm=SMOL, record=record, max_tokens=40)
    )
    assert record.stat().st_size > 0
    experts, _ = rerank(tmp_path / "turn.jsonl", folder, tmp_path / "experts.jsonl")
    ids = [i["id"] for i in rows[0]["ranking"]]
    # whatever it wrote: a permutation of what the experts propose, nothing invented
    assert sorted(ids) == sorted(i["id"] for i in experts[0]["ranking"])
    rerank(tmp_path / "turn.jsonl", folder, again, method="select", ask=Ask(replay=record))
    told, replayed = (json.loads(p.read_text()) for p in (out, again))
    assert told["ranking"] == replayed["ranking"]


def test_chat_is_worded_with_a_model(folder: Path) -> None:
    out = io.StringIO()
    talk(folder, io.StringIO("I love mafia films like The Godfather.\n\n"), out, llm=SMOL, k=3, max_tokens=24)
    lines = out.getvalue().splitlines()
    assert "How about one of these?" in out.getvalue()
    assert sum(line.lstrip().startswith(("1.", "2.", "3.")) for line in lines) == 3


def test_letters_in_one_pass_and_over_shuffles() -> None:
    from rerank_lm.backends.opening import open_backend

    backend = open_backend(SMOL)
    titles = ["Casino (1995)", "Frozen (2013)", "Goodfellas (1990)", "Up (2009)"]
    query = "I love mafia films like The Godfather."
    once = letter_scores(backend, query, titles)
    assert once.shape == (4,) and np.exp(once).sum() == pytest.approx(1)
    many = letter_scores(backend, query, titles, rounds=6, seed=1)
    group = Group(query, tuple(Item(t, str(i), rank=i) for i, t in enumerate(titles)))
    np.testing.assert_allclose(many, Shuffled(LetterJudge(backend), 6, 1).score_groups([group])[0])
    # averaging over orders takes out some of what the letters alone decide
    turned = letter_scores(backend, query, titles[::-1], rounds=6, seed=1)[::-1]
    assert np.abs(many - turned).mean() < np.abs(once - letter_scores(backend, query, titles[::-1])[::-1]).mean()


def test_the_method_letters_reorders_the_sample() -> None:
    from rerank_recommend.sample import sample

    requests = sample().requests[:2]
    for config in ({"top": 6}, {"top": 6, "rounds": 2}):
        for request, ranking in zip(requests, domain.method("letters", config).rerank(requests), strict=True):
            assert sorted(ranking.ids) == sorted(request.ids)
            assert set(ranking.ids[:6]) == set(request.ids[:6]), "what was not shown stays behind"
