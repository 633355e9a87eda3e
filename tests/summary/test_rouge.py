"""ROUGE: equal to the reference implementation, whichever path computes it."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_core.errors import InputError, UsageError
from rerank_summary.corpus import corpus_rouge, read_texts
from rerank_summary.porter import original, rouge_tokens, stem
from rerank_summary.rouge import MEASURES, Rouge, combine, flavour, lcs_length
from rerank_summary.text import sentence_lines, sentences

Find = Callable[[str], Path]
BACKENDS = ("native", "python")
text = st.text(alphabet="ab cdé.-'\n12ABsing", max_size=60)


def reference_scorer(measures: tuple[str, ...] = MEASURES, stemmed: bool = True):
    from rouge_score import rouge_scorer

    return rouge_scorer.RougeScorer(list(measures), use_stemmer=stemmed)


@pytest.mark.shared_data
@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_to_the_oracle(shared_data: Find, backend: str) -> None:
    rouge = Rouge(flavour(backend=backend))
    with gzip.open(shared_data("summary/summeval/summeval.jsonl.gz"), "rt") as file:
        documents = {d["doc_id"]: d for d in map(json.loads, file)}
    oracle = json.loads(shared_data("summary/oracle/rouge_score.json").read_text())
    worst = 0.0
    for case in oracle["cases"]:
        document = documents[case["doc_id"]]
        candidate = next(c["text"] for c in document["candidates"] if c["system"] == case["system"])
        scores = rouge.score(sentence_lines(document["reference"]), sentence_lines(candidate))
        worst = max(worst, *(abs(a - b) for m in MEASURES for a, b in zip(scores[m], case[m], strict=True)))
    for case in oracle["edge"]:
        scores = rouge.score(case["target"], case["prediction"])
        worst = max(worst, *(abs(a - b) for m in MEASURES for a, b in zip(scores[m], case[m], strict=True)))
    print(f"worst difference {worst:.1e}")
    assert worst < 1e-9


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["rouge-score", "rouge-score-nostem"])
@settings(max_examples=60, deadline=None)
@given(target=text, prediction=text)
def test_equal_to_rouge_score_on_any_text(backend: str, name: str, target: str, prediction: str) -> None:
    mine = Rouge(flavour(name, backend=backend)).score(target, prediction)
    theirs = reference_scorer(stemmed=name == "rouge-score").score(target, prediction)
    for m in MEASURES:
        assert mine[m] == pytest.approx(tuple(theirs[m]), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(text, min_size=1, max_size=5))
def test_matrices_equal_pair_by_pair_scores(texts: list[str]) -> None:
    found = Rouge(flavour()).matrices(texts)
    scorer = reference_scorer()
    for i, a in enumerate(texts):
        for j, b in enumerate(texts):
            pair = scorer.score(a, b)
            for m in MEASURES:
                assert found[m][i, j] == pytest.approx(pair[m].fmeasure, abs=1e-9)


def test_matrices_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["the cat sat on the mat", "a cat sat", "dogs ran and ran and ran", ""]
    whole = Rouge(flavour()).matrices(texts)
    monkeypatch.setattr("rerank_summary.rouge.BLOCK", 1)
    for m, matrix in Rouge(flavour()).matrices(texts).items():
        np.testing.assert_array_equal(matrix, whole[m])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=80), st.lists(st.sampled_from("abc"), max_size=80))
def test_bit_parallel_lcs_equals_the_table(a: list[str], b: list[str]) -> None:
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = table[i, j] + 1 if x == y else max(table[i, j + 1], table[i + 1, j])
    assert lcs_length(a, b) == table[-1, -1]


def test_the_plain_stemmer_equals_nltks() -> None:
    from nltk.stem.porter import PorterStemmer

    theirs, published = PorterStemmer(), PorterStemmer(mode=PorterStemmer.ORIGINAL_ALGORITHM)
    roots = "sk fl tr agre pony caress motor happ enjoy relat condition digit vile analog geo archaeo hope"
    ends = "ies y ing ed eed ies ied s ss sses ational tional izer abli alli fulli logi ousness ication ement ion e ll"
    vocabulary = {a + b for a in roots.split() for b in ends.split()} | set(Path(__file__).read_text().lower().split())
    vocabulary = {w for w in vocabulary if w.isalpha()}
    assert len(vocabulary) > 400
    assert [w for w in vocabulary if stem(w) != theirs.stem(w)] == []
    assert [w for w in vocabulary if len(w) > 2 and original(w) != published.stem(w)] == []


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=14))
def test_the_plain_stemmer_equals_nltks_on_any_word(word: str) -> None:
    from nltk.stem.porter import PorterStemmer

    assert stem(word) == PorterStemmer().stem(word)


@pytest.mark.shared_data
def test_corpus_figures_of_xsum_outputs_in_seconds(shared_data: Find) -> None:
    path = shared_data("summary/xsum_outputs/xsum_test_outputs.jsonl.gz")
    expected = {"brio_tok": (48.83, 25.52, 40.28), "simcls_tok": (47.38, 24.50, 39.30)}
    start = time.process_time()
    for system, figures in expected.items():
        rows = corpus_rouge(read_texts(path, system), read_texts(path, "reference_tok"), flavour(), n_boot=100)
        found = {r["measure"]: r["value"] for r in rows}
        assert {r["n"] for r in rows} == {11_334} and {r["flavour"] for r in rows} == {"rouge-score"}
        assert (found["rouge1"], found["rouge2"], found["rougeLsum"]) == pytest.approx(figures, abs=0.01)
    assert time.process_time() - start < 20  # CPU seconds on a busy machine; the bar is 10 s of a quiet one


def test_perl_flavour_looks_irregular_words_up(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="perl-data"):
        flavour("perl")
    with pytest.raises(InputError, match=r"\.exc"):
        flavour("perl", perl_data=tmp_path)
    (tmp_path / "verb.exc").write_text("went go\nwomen woman\n")
    rouge = Rouge(flavour("perl", perl_data=tmp_path), ("rouge1",))
    plain = Rouge(flavour(), ("rouge1",))
    assert rouge.score("women go home", "woman go home")["rouge1"].f == 1
    assert plain.score("women go home", "woman go home")["rouge1"].f == pytest.approx(2 / 3)
    assert rouge.score("a b c", "a b d")["rouge1"].f == 0.66667  # five digits, as printed by the Perl script


def test_unknown_names_are_named() -> None:
    with pytest.raises(UsageError, match="rouge9000"):
        Rouge(flavour(), ("rouge9000",))
    with pytest.raises(UsageError, match="unknown ROUGE flavour 'rouge'"):
        flavour("rouge")
    with pytest.raises(UsageError, match="2 references but 1 hypotheses"):
        Rouge(flavour()).score_batch(["a", "b"], ["a"])


def test_combined_quality_of_nothing_is_zero_not_nan() -> None:
    assert combine({"rouge1": 0.0, "rouge2": 0.0}, "harmonic") == 0.0
    assert combine({"rouge1": 0.4, "rouge2": 0.2}, "harmonic") == pytest.approx(2 * 0.08 / 0.6)


def test_several_references_take_the_best_of_each_measure() -> None:
    best = Rouge(flavour(), ("rouge1", "rouge2")).best(["x y", "the cat sat"], "the cat sat")
    assert best["rouge1"].f == best["rouge2"].f == 1


def test_a_text_of_ten_thousand_words_takes_no_time_at_all() -> None:
    long = " ".join(f"word{i % 700} and" for i in range(5000))
    start = time.process_time()
    matrix = Rouge(flavour(), ("rouge1", "rouge2", "rougeL")).matrices([long, "word1 and word2", long])
    assert matrix["rougeL"][0, 2] == 1 and time.process_time() - start < 5


@pytest.mark.parametrize(
    ("running", "cut"),
    [
        ("Dr. Smith left. He was late.", ["Dr. Smith left.", "He was late."]),
        ("it ended . then it began .", ["it ended .", "then it began ."]),
        ("He said 'no.' Then went", ["He said 'no.'", "Then went"]),
        ("Version 2.0 is out! Try it?\nYes", ["Version 2.0 is out!", "Try it?", "Yes"]),
        ("", []),
    ],
)
def test_sentences(running: str, cut: list[str]) -> None:
    assert sentences(running) == cut


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="ab.!? \n'", max_size=80))
def test_sentence_splitting_loses_nothing_but_white_space(running: str) -> None:
    assert "".join("".join(sentences(running)).split()) == "".join(running.split())


def test_tokens_are_ascii_runs() -> None:
    assert rouge_tokens("Naïve U.S. 7minutes", None) == ["na", "ve", "u", "s", "7minutes"]
