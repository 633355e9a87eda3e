"""Experts, stacking, the saved folder and the commands, on the embedded films."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rerank_core.errors import InputError, UsageError
from rerank_recommend.commands import Ask, evaluate_ranked, fit_any, link, recommend, rerank
from rerank_recommend.data import Turn, make_catalogue, read_catalogue, read_gold, read_turns
from rerank_recommend.experts import Context, Log, indicator, recency_matrix
from rerank_recommend.factors import ALS
from rerank_recommend.model import Recommender
from rerank_recommend.rerank import run_strategy
from rerank_recommend.sample import sample_turns
from rerank_recommend.sequence import EntityTransformer, TransformerParams
from rerank_recommend.stack import StackParams, ranks_within

CLI = "import sys; from rerank_recommend.cli import main; sys.argv[0] = 'rerank-recommend'; main()"


def command(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CLI, *map(str, args)], capture_output=True, text=True)


@pytest.fixture(scope="session")
def folder(film_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "films"
    experts = ["popularity", "entity-target", "als", "bm25", "graph"]
    fit_any([film_files / "train.jsonl"], out, entities=film_files / "entities.jsonl", experts=experts)
    return out


def test_ranks_by_hand() -> None:
    scores = np.array([[0.0, 3.0, 1.0, 3.0], [2.0, 0.0, 0.0, 0.0]], dtype=np.float32)
    assert ranks_within(scores, 3).tolist() == [[np.inf, 1, 3, 2], [1, np.inf, np.inf, np.inf]]


def test_indicator_keeps_the_largest_of_repeats() -> None:
    assert indicator([[1, 1, 0], []], 3).toarray().tolist() == [[1, 1, 0], [0, 0, 0]]
    assert recency_matrix([[1, 0, 1]], 2, 0.5).toarray().tolist() == [[0.5, 1.0]]


def test_every_expert_scores_every_item_and_survives_saving(films: Recommender, tmp_path: Path) -> None:
    turns, _ = sample_turns()
    films.save(tmp_path / "m")
    again = Recommender.load(tmp_path / "m")
    contexts = films.contexts(turns)
    assert again.contexts(turns) == contexts
    for one, two in zip(films.experts, again.experts, strict=True):
        scores = one.score(contexts)
        assert scores.shape == (len(turns), films.catalogue.n_items) and np.isfinite(scores).all()
        np.testing.assert_array_equal(scores, two.score(contexts))
    for a, b in zip(films.recommend(contexts), again.recommend(contexts), strict=True):
        assert a.columns.tolist() == b.columns.tolist() and a.scores.tolist() == b.scores.tolist()


def test_odd_conversations_get_a_list(films: Recommender) -> None:
    turns = [
        Turn("1", "1", ()),
        Turn("2", "2", ("",)),
        Turn("3", "3", ("zzz qqq",)),
        Turn("4", "4", ("Ünïcode 🎬 \x00",), ("no such film", 999)),
    ]
    for r in films.recommend(films.contexts(turns)):
        assert len(r.columns) == 60 and len(set(r.columns.tolist())) == 60


def test_a_catalogue_smaller_than_the_list_asked_for() -> None:
    turns = [Turn(str(i), f"d{i}", ("Seen Only?",)) for i in range(12)]
    params = StackParams(folds=2, trees=5, min_child=1)
    for names in (["Only"], ["Only", "Other"]):
        catalogue = make_catalogue([{"id": n, "name": x} for n, x in enumerate(names)])
        gold = {t.id: (int(t.id) % len(names),) for t in turns}
        experts = ["popularity", "co-occurrence", "als", "bm25"]
        fitted = Recommender.fit(turns, gold, catalogue, experts=experts, params=params)
        best = fitted.recommend(fitted.contexts([Turn("x", "x", ("hello",))]))[0]
        assert sorted(best.columns.tolist()) == list(range(len(names)))


def test_nothing_to_learn_is_said() -> None:
    catalogue = make_catalogue([{"id": 1, "name": "Only"}])
    with pytest.raises(InputError, match="nothing to learn"):
        Recommender.fit([Turn("1", "1", ("hi",))], {}, catalogue)


def test_als_fold_in_is_the_models_own() -> None:
    from implicit.cpu.als import AlternatingLeastSquares

    rng = np.random.default_rng(0)
    known = [rng.choice(30, 5, replace=False).tolist() for _ in range(40)]
    matrix = indicator(known, 30)
    als = ALS(factors=8, iterations=5).fit_matrix(matrix)
    model = AlternatingLeastSquares(
        factors=8, regularization=0.05, alpha=10.0, iterations=5, random_state=0, num_threads=1
    )
    model.fit(matrix, show_progress=False)
    np.testing.assert_allclose(
        als.users(known[:3]), model.recalculate_user(np.arange(3), matrix[:3]), rtol=1e-4, atol=1e-5
    )
    assert not als.users([[]]).any()


def test_the_entity_transformer_learns_an_order() -> None:
    catalogue = make_catalogue([{"id": i, "name": f"film {i}"} for i in range(12)])
    rng = np.random.default_rng(0)
    contexts, targets = [], []
    for _ in range(300):
        a, b = rng.choice(12, 2, replace=False).tolist()
        contexts.append(Context((a, b), "", (a, b)))
        targets.append(((b + 1) % 12,))  # what comes next depends on the last entity alone
    log = Log(catalogue, tuple(contexts), tuple(targets), tuple(f"d{i}" for i in range(300)))
    params = TransformerParams(width=32, layers=1, epochs=15, batch=32, dropout=0.0, learning_rate=5e-3)
    expert = EntityTransformer(params=params).fit(log)
    scores = expert.score(contexts[:50])
    assert (scores.argmax(axis=1) == [t[0] for t in targets[:50]]).mean() > 0.9
    flipped = [Context(c.rows[::-1], "", c.known) for c in contexts[:50]]
    assert (expert.score(flipped).argmax(axis=1) != scores.argmax(axis=1)).mean() > 0.8
    again = EntityTransformer(params=params).restore(expert.state(), catalogue)
    np.testing.assert_allclose(again.score(contexts[:5]), scores[:5], rtol=1e-5, atol=1e-5)
    assert np.isfinite(expert.score([Context((), "", ())])).all()


def test_labels_are_never_looked_at(folder: Path, film_files: Path, tmp_path: Path) -> None:
    for method in ("experts", "direct", "expand", "rerank", "select", "fuse"):
        outputs = []
        for name in ("test", "blind"):
            out = tmp_path / f"{name}-{method}.jsonl"
            rerank(
                film_files / f"{name}.jsonl",
                folder,
                out,
                method=method,
                ask=Ask(film_files / "answers.jsonl"),
                explain=True,
            )
            outputs.append(out.read_bytes())
        assert outputs[0] == outputs[1]


def test_the_written_lists_are_judged_and_compared(folder: Path, film_files: Path, tmp_path: Path) -> None:
    for method in ("experts", "fuse"):
        rerank(
            film_files / "test.jsonl",
            folder,
            tmp_path / f"{method}.jsonl",
            method=method,
            ask=Ask(film_files / "answers.jsonl"),
        )
    rows = evaluate_ranked(
        tmp_path / "fuse.jsonl", film_files / "test.jsonl", against=tmp_path / "experts.jsonl", popularity=folder
    )
    value = {(r["subset"], r["measure"]): r["value"] for r in rows}
    assert value["new", "R@1"] >= 0.4  # the recorded answers name a right film first
    assert value["new", "R@1 difference"] > 0 and 0 < value["lists", "coverage@10"] <= 1
    again = evaluate_ranked(
        tmp_path / "fuse.jsonl", film_files / "test.jsonl", film_files / "entities.jsonl", match="name"
    )
    assert {(r["subset"], r["measure"]): r["value"] for r in again}["new", "R@1"] == value["new", "R@1"]


def test_known_dialogues_are_told_apart(folder: Path, film_files: Path, tmp_path: Path) -> None:
    _, notes = rerank(film_files / "train.jsonl", folder, tmp_path / "o.jsonl")
    assert any(n.startswith("40/40 turns") for n in notes)
    rows = evaluate_ranked(tmp_path / "o.jsonl", film_files / "train.jsonl")
    assert next(r for r in rows if r["subset"] == "clean-all")["n"] == 0


def test_recommend_leaves_out_what_was_mentioned(folder: Path) -> None:
    rows = recommend(["I love The Godfather, mafia films are great"], folder, 5)
    assert len(rows) == 5 and "The Godfather (1972)" not in [r["title"] for r in rows]


def test_a_damaged_folder_is_said_to_be_one(films: Recommender, tmp_path: Path) -> None:
    films.save(tmp_path / "m")
    films.save(tmp_path / "m")  # replacing is fine
    data = (tmp_path / "m/experts.safetensors").read_bytes()
    (tmp_path / "m/experts.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="damaged"):
        Recommender.load(tmp_path / "m")
    with pytest.raises(InputError, match="no saved recommender"):
        Recommender.load(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("precious")
    with pytest.raises(InputError, match="no saved recommender"):
        films.save(tmp_path / "other")
    assert (tmp_path / "other/thesis.txt").read_text() == "precious"


def test_methods_that_need_answers_say_so(films: Recommender) -> None:
    turns, _ = sample_turns()
    with pytest.raises(UsageError, match="recorded"):
        run_strategy(films, turns[:2], "fuse")
    with pytest.raises(UsageError, match="unknown method"):
        run_strategy(films, turns[:2], "magic")


BAD = [
    (
        "test.jsonl",
        '{"index": 1, "context": ["a"]}\n{"index": 1, "context": ["b"]}\n',
        "test.jsonl:2: index 1 occurs twice",
    ),
    ("test.jsonl", '{"index": 1}\n', 'test.jsonl:1: a turn needs "context"'),
    ("test.jsonl", '{"index": 1, "context": ["a"]\n', "test.jsonl:1: not JSON"),
    ("test.jsonl", "", "no turns"),
]


@pytest.mark.parametrize(("name", "text", "message"), BAD)
def test_bad_turns_name_file_and_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        read_turns(tmp_path / name)


def test_bad_catalogues_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text('{"id": 1, "name": "A"}\n{"id": 1, "name": "B"}\n')
    with pytest.raises(InputError, match=r"e\.jsonl:2: entity id 1 was given in line 1"):
        read_catalogue(path)
    path.write_bytes(b'{"id": 1, "name": "caf\xe9"}\n')
    with pytest.raises(InputError, match=r"e\.jsonl:1: invalid UTF-8"):
        read_catalogue(path)
    path.write_text('{"id": 1, "name": "Romeo &amp; Juliet (1996)"}\n')
    item = read_catalogue(path).items[0]
    assert (item.title, item.year) == ("Romeo & Juliet", 1996)


def test_turns_without_index_may_repeat(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"dialog_id": 1, "turn_id": 2, "context": [], "rec": ["A"]}\n' * 2)
    assert [t.id for t in read_turns(path)] == ["1/2", "1/2#2"] == list(read_gold(path))


@pytest.mark.slow
def test_the_command_from_fit_to_chat(film_files: Path, tmp_path: Path) -> None:
    entities = film_files / "entities.jsonl"
    done = command(
        "fit",
        film_files / "train.jsonl",
        "--entities",
        entities,
        "-o",
        tmp_path / "m",
        "--experts",
        "popularity,bm25,graph",
    )
    assert done.returncode == 0, done.stderr
    done = command(
        "rerank",
        film_files / "test.jsonl",
        "--model",
        tmp_path / "m",
        "--recorded",
        film_files / "answers.jsonl",
        "--method",
        "fuse",
        "-o",
        tmp_path / "o.jsonl",
    )
    assert done.returncode == 0 and "20 rankings" in done.stderr
    done = command("eval", tmp_path / "o.jsonl", "--test", film_files / "test.jsonl", "--json")
    assert {r["subset"] for r in json.loads(done.stdout)} == {"new", "repeated", "all"}
    talk = subprocess.run(
        [sys.executable, "-c", CLI, "chat", "--model", str(tmp_path / "m")],
        input="I love mafia films like The Godfather\n\n",
        capture_output=True,
        text=True,
    )
    assert talk.returncode == 0 and "You mentioned The Godfather (1972)" in talk.stdout and "  5. " in talk.stdout
    done = command("rerank", film_files / "test.jsonl", "--model", tmp_path, "-o", tmp_path / "x.jsonl")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "x.jsonl").exists()


def test_link_gives_one_line_a_line(film_files: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"id": "a", "text": "Have you seen Pulp Fiction?"}\n{"id": "b", "text": ""}\n')
    link(tmp_path / "t.jsonl", film_files / "entities.jsonl", tmp_path / "o.jsonl", items_only=True)
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [r["id"] for r in rows] == ["a", "b"] and rows[1]["links"] == []
    found = rows[0]["links"][0]
    assert found["text"] == "Pulp Fiction" and (found["start"], found["end"]) == (14, 26) and found["reason"] == "exact"
