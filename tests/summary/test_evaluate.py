"""Evaluation, data files, audit, importers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rerank_core.errors import InputError, UsageError
from rerank_core.types import Candidate, Ranking, Request
from rerank_summary.audit import audit
from rerank_summary.data import Record, gains, read_records, write_records
from rerank_summary.evaluate import evaluate, noise_note, partial_tau
from rerank_summary.importers import read, with_run, write_best
from rerank_summary.rouge import flavour

Find = Callable[[str], Path]


def record(
    identity: str, texts: list[str], reference: str | None = "the cat sat", humans: list[float] | None = None
) -> Record:
    request = Request(identity, "the cat sat on the mat", tuple(Candidate(f"c{i}", t) for i, t in enumerate(texts)))
    human = {f"c{i}": {"coherence": h, "relevance": h} for i, h in enumerate(humans)} if humans else {}
    return Record(request, (reference,) if reference else (), human)


def by_measure(figures, system: str) -> dict[str, float]:
    return {f.row.measure: f.row.value for f in figures if f.row.system == system}


def test_chosen_candidates_are_what_counts() -> None:
    records = [record("a", ["the cat sat", "dogs"], humans=[1, 5]), record("b", ["dogs", "the cat sat"], humans=[2, 4])]
    rankings = {r.id: Ranking.from_scores(r.request, [0.0, 1.0]) for r in records}
    figures = evaluate(records, {"mine": rankings}, flavour())
    mine = by_measure(figures, "mine")
    assert mine["rouge1"] == 50 and mine["human_mean"] == 4.5 and mine["kendall_tau"] == 1.0
    assert by_measure(figures, "random")["human_mean"] == 3
    assert by_measure(figures, "oracle")["rouge1"] == 100
    row = next(f for f in figures if f.row.system == "mine" and f.row.measure == "rouge1")
    assert row.flavour == "rouge-score" and row.row.n == 2
    assert row.as_dict()["against"]["first"]["difference"] == 0
    assert "noise" in (noise_note(figures) or "")


def test_ties_go_to_the_lowest_index_or_are_averaged() -> None:
    r = record("a", ["x", "y", "z"], humans=[1, 3, 5])
    ranking = {"a": Ranking.from_scores(r.request, [0.0, 2.0, 2.0])}
    assert by_measure(evaluate([r], {"s": ranking}, flavour()), "s")["human_mean"] == 3
    assert by_measure(evaluate([r], {"s": ranking}, flavour(), ties="average"), "s")["human_mean"] == 4
    with pytest.raises(UsageError, match="ties"):
        evaluate([r], {"s": ranking}, flavour(), ties="last")


def test_a_document_without_a_ranking_counts_zero() -> None:
    records = [record("a", ["x", "y"], humans=[4, 2]), record("b", ["x", "y"], humans=[4, 2])]
    figures = evaluate(records, {"s": {"a": Ranking.from_scores(records[0].request, [1.0, 0.0])}}, flavour())
    assert by_measure(figures, "s")["human_mean"] == 2


def test_foreign_rankings_and_missing_truth_are_refused() -> None:
    r = record("a", ["x", "y"])
    with pytest.raises(InputError, match="not over the data's candidates"):
        evaluate([r], {"s": {"a": Ranking.from_order(Request("a", "", (Candidate("q", ""),)), ["q"])}}, flavour())
    with pytest.raises(InputError, match="neither a reference nor human scores"):
        evaluate([record("a", ["x", "y"], reference=None)], {}, flavour())


def test_length_control_takes_out_what_length_explains() -> None:
    rng = np.random.default_rng(0)
    records, rankings = [], {}
    for k in range(30):
        sizes = rng.permutation([5, 10, 20, 40])
        texts = [" ".join(["w"] * int(n)) for n in sizes]
        r = record(str(k), texts, humans=[float(np.log1p(n)) for n in sizes])
        records.append(r)
        rankings[r.id] = Ranking.from_scores(r.request, sizes.astype(float))
    figures = evaluate(records, {"longest one": rankings}, flavour())
    mine, random = by_measure(figures, "longest one"), by_measure(figures, "random")
    assert mine["human_mean"] > random["human_mean"] + 0.5
    assert mine["human_mean_length_controlled"] == pytest.approx(random["human_mean_length_controlled"], abs=1e-9)
    assert mine["kendall_tau"] == pytest.approx(1) and mine["kendall_tau_length_controlled"] == 0


def test_partial_tau_without_a_third_variable_is_tau() -> None:
    x, y = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])
    assert partial_tau(x, y, np.ones(4)) == pytest.approx(2 / 3)


def test_references_all_takes_the_best() -> None:
    r = record("a", ["the dog ran"])
    r = Record(r.request, ("the cat sat", "the dog ran"))
    assert by_measure(evaluate([r], {}, flavour()), "first")["rouge1"] < 50
    assert by_measure(evaluate([r], {}, flavour(), references="all"), "first")["rouge1"] == 100


# -- files ---------------------------------------------------------------------------------------------------------


def test_records_survive_a_round_trip(tmp_path: Path) -> None:
    records = [record("a", ["x é", "y"], humans=[1, 2]), record("b", ["", "z"], reference=None)]
    write_records(tmp_path / "f.jsonl.gz", records)
    again = list(read_records(tmp_path / "f.jsonl.gz"))
    assert [(r.request, r.references, r.human) for r in again] == [(r.request, r.references, r.human) for r in records]


def test_labels_never_reach_a_request(tmp_path: Path) -> None:
    write_records(tmp_path / "f.jsonl", [record("a", ["x", "y"], humans=[1, 2])])
    blind = next(iter(read_records(tmp_path / "f.jsonl", labels=False)))
    assert blind.references == () and not blind.human
    seen = next(iter(read_records(tmp_path / "f.jsonl")))
    assert blind.request == seen.request
    assert not any(c.features or c.score for c in seen.request.candidates)


FAULTS = {
    "no candidates": ({"id": "a", "source": "s", "candidates": []}, "has no candidates"),
    "candidates absent": ({"id": "a", "source": "s"}, "has no candidates"),
    "duplicate candidate": (
        {"id": "a", "candidates": [{"id": "x", "text": "1"}, {"id": "x", "text": "2"}]}, "'x' occurs twice",
    ),
    "text is no text": ({"id": "a", "candidates": [{"id": "x", "text": 3}]}, "must be text"),
    "candidate is a number": ({"id": "a", "candidates": [7]}, "candidate 0"),
    "NaN human score": (
        {"id": "a", "candidates": [{"id": "x", "text": "t", "human": {"coherence": float("nan")}}]}, "finite number",
    ),
    "NaN first-stage score": ({"id": "a", "candidates": [{"id": "x", "text": "t", "score": float("inf")}]}, "finite"),
    "unknown human": ({"id": "a", "candidates": ["t"], "human": {"zz": {"c": 1}}}, "'zz', which is no candidate"),
    "source is a list": ({"id": "a", "source": [], "candidates": ["t"]}, "'source' must be text"),
    "reference is a number": ({"id": "a", "reference": 4, "candidates": ["t"]}, "'reference' must be text"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults_name_file_and_line(name: str, tmp_path: Path) -> None:
    value, message = FAULTS[name]
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps({"id": "ok", "candidates": ["t"]}) + "\n" + json.dumps(value) + "\n")
    with pytest.raises(InputError, match=message) as error:
        list(read_records(path))
    assert f"{path}:2:" in str(error.value)


def test_invalid_utf8_doubled_documents_and_empty_files(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'{"id": "a", "candidates": ["\xff"]}\n')
    with pytest.raises(InputError, match=r"f\.jsonl:1: invalid UTF-8"):
        list(read_records(path))
    path.write_text('{"id": "a", "candidates": ["t"]}\n' * 2)
    with pytest.raises(InputError, match="document id 'a' occurs twice"):
        list(read_records(path))
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no documents"):
        list(read_records(path))


def test_gains_are_human_means_or_rouge() -> None:
    assert gains(record("a", ["x", "y"], humans=[1, 2])) == {"c0": 1, "c1": 2}
    assert gains(record("a", ["the cat sat", "y"])) == {"c0": 1, "c1": 0}
    assert gains(record("a", ["x"], reference=None)) == {}


# -- other formats -------------------------------------------------------------------------------------------------


@pytest.mark.shared_data
def test_brio_files_in_both_forms(shared_data: Find) -> None:
    folder = shared_data("summary/brio_example")
    raw = list(read(folder / "test.out"))
    assert len(raw) == 2 and all(len(r.request.candidates) == 16 and r.references for r in raw)
    sample = next(iter(read(folder / "simcls_0.json")))
    assert len(sample.request.candidates) == 16
    assert all(c.score is None for c in sample.request.candidates)  # the file's scores are ROUGE with the reference


def test_line_files_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.source").write_text("a\nb\n")
    (tmp_path / "t.out").write_text("1\n2\n3\n")
    with pytest.raises(InputError, match="3 candidate lines for 2 sources"):
        list(read(tmp_path / "t.out"))


def test_edu_sum_tables(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('dataset_idx,source,abstract,reference\n7,"<e>a b</e> c","one<cand>two, three","ref"\n')
    (found,) = read(path)
    assert found.id == "7" and found.request.query == "a b c"
    assert [c.content for c in found.request.candidates] == ["one", "two, three"] and found.references == ("ref",)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column 'abstract'"):
        list(read(path))


def test_a_trec_run_gives_scores_and_order(tmp_path: Path) -> None:
    (tmp_path / "r.trec").write_text("a Q0 c1 1 9 t\na Q0 c0 2 3 t\n")
    (found,) = with_run([record("a", ["x", "y", "z"])], tmp_path / "r.trec")
    assert [(c.id, c.score) for c in found.request.candidates] == [("c1", 9), ("c0", 3), ("c2", 2)]
    with pytest.raises(InputError, match="no line for document 'b'"):
        list(with_run([record("b", ["x"])], tmp_path / "r.trec"))


def test_one_best_text_has_a_line_a_document(tmp_path: Path) -> None:
    r = record("a", ["one\ntwo", "three"])
    write_best(
        tmp_path / "best.txt", [Ranking.from_scores(r.request, [1, 0])], {"a": {"c0": "one\ntwo", "c1": "three"}}
    )
    assert (tmp_path / "best.txt").read_text() == "one two\n"


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown format 'xml'"):
        read(tmp_path, "xml")


# -- audit ---------------------------------------------------------------------------------------------------------


def kinds(records: list[Record]) -> dict[str, str]:
    return {f.kind: f.level for f in audit(records)}


def test_audit_finds_references_among_candidates() -> None:
    found = kinds([record("a", ["The  cat sat", "dogs"])])
    assert found["reference-among-candidates"] == "leak"


def test_audit_finds_a_gold_that_is_always_last() -> None:
    records = [record(str(i), ["x", f"dogs {i}", f"the cat {i}"]) for i in range(40)]
    (leak,) = [f for f in audit(records) if f.kind == "best-position"]
    assert leak.level == "leak" and "from the" in leak.text and leak.count == 40


def test_audit_is_calm_about_honest_lists() -> None:
    rng = np.random.default_rng(0)
    records = []
    for i in range(40):
        texts = [f"the cat {i}", f"some dogs {i}", f"one bird {i}", f"a few fish {i}"]
        candidates = tuple(Candidate(f"c{j}", texts[k]) for j, k in enumerate(rng.permutation(4)))
        records.append(Record(Request(str(i), f"the cat {i} and the dogs", candidates), ("the cat sat",)))
    assert not {k: v for k, v in kinds(records).items() if v == "leak"}
    assert "best-position" not in kinds(records)


def test_audit_names_doubles_tied_truth_and_empties() -> None:
    found = kinds([record("a", ["x y", "x  Y", ""], humans=[1, 2, 3])])
    assert {"duplicate-candidates", "tied-truth", "empty"} <= set(found)
    assert "few" in kinds([record("a", ["x"])])
    assert "no-reference" in kinds([record("a", ["x", "y"], reference=None)])
