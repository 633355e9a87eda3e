"""Parsers: RankLLM's oracle in strict mode, the right answer in ours, and no exception on anything."""

from __future__ import annotations

import gzip
import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_core.types import Status
from rerank_lm.parsing import (
    parse_grade,
    parse_image_order_official,
    parse_label,
    parse_pair_scores,
    parse_pair_scores_official,
    parse_permutation,
    parse_scores,
    parse_yes_no,
    strict_rankllm,
)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("part", "labels", "n"), [("rankllm_numeric", "numbers", 24), ("rankllm_alpha", "letters", 10)]
)
def test_strict_mode_is_rankllm(shared_data, part, labels, n):
    cases = json.loads(shared_data("text/oracle/permutation_parsing.json").read_text())[part]
    assert len(cases) == n
    for case in cases:
        assert strict_rankllm(case["text"], 5, labels=labels) == case["order0"], case["text"]
        assert list(parse_permutation(case["text"], 5, labels=labels, official=True).permutation) == case["order0"]


@pytest.mark.parametrize(
    ("text", "labels", "order", "status"),
    [
        ("1. [4]\n2. [2]\n3. [1]", "numbers", (3, 1, 0, 2, 4), Status.REPAIRED),
        ("[BA]", "letters", (1, 0, 2, 3, 4), Status.REPAIRED),
        ("[b] > [a]", "letters", (1, 0, 2, 3, 4), Status.REPAIRED),
        ("CABDE", "letters", (2, 0, 1, 3, 4), Status.OK),
        ("<think> unfinished [2] > [1]", "numbers", (0, 1, 2, 3, 4), Status.FALLBACK),
        ("[2.5] > [1]", "numbers", (0, 1, 2, 3, 4), Status.REPAIRED),
        ("[-2] > [3] > [1]", "numbers", (2, 0, 1, 3, 4), Status.REPAIRED),
        ("In 2023 the best of 5 was [4], then [2]", "numbers", (3, 1, 0, 2, 4), Status.REPAIRED),
        ("<think>a</think><answer>[5, 4, 3, 2, 1]</answer>", "numbers", (4, 3, 2, 1, 0), Status.OK),
        ("<answer>[2] > [1] > [3] > [4] > [5]\r\n</answer>\r\n", "numbers", (1, 0, 2, 3, 4), Status.OK),
        ('{"ranking": [3, 1, 2, 5, 4]}', "numbers", (2, 0, 1, 4, 3), Status.OK),
        ("**B** > **A** > **C** > **D** > **E**", "letters", (1, 0, 2, 3, 4), Status.OK),
        ("I cannot help with that.", "numbers", (0, 1, 2, 3, 4), Status.FALLBACK),
        ("A good answer would need more context", "letters", (0, 1, 2, 3, 4), Status.FALLBACK),
        ("Die beste Passage ist die dritte.", "numbers", (0, 1, 2, 3, 4), Status.FALLBACK),
        ("", "numbers", (0, 1, 2, 3, 4), Status.FALLBACK),
    ],
)
def test_default_mode_reads_what_is_meant(text, labels, order, status):
    parsed = parse_permutation(text, 5, labels=labels)
    assert (parsed.permutation, parsed.status) == (order, status)


def test_a_cut_answer_says_truncated():
    assert parse_permutation("[3] > [1] > [", 5, cut=True).status is Status.TRUNCATED


def test_ten_thousand_random_strings():
    rng = random.Random(0)
    pools = ["0123456789[]>, \n.AaBbCZ", "<think></think><answer>{}\"':", "①²３٣ÄßЖ中🙂\x00\ud800\u202e"]
    for i in range(10_000):
        pool = "".join(rng.sample(pools, k=rng.randint(1, 3)))
        text = "".join(rng.choice(pool) for _ in range(rng.randint(0, 60)))
        n = rng.randint(0, 26)
        for labels in ("numbers", "letters"):
            assert sorted(parse_permutation(text, n, labels=labels).permutation) == list(range(n))
            assert sorted(strict_rankllm(text, n, labels=labels)) == list(range(n))
        if i % 5 == 0:
            assert -1 <= parse_label(text, n) < max(n, 1)
            assert parse_scores(text, n, 0, 10).shape == (n,)
            parse_grade(text, 0, 10), parse_yes_no(text), parse_pair_scores(text), parse_pair_scores_official(text)


@given(st.text(max_size=80), st.integers(0, 20))
@settings(max_examples=150, deadline=None)
def test_any_text_gives_a_permutation(text, n):
    parsed = parse_permutation(text, n)
    assert sorted(parsed.permutation) == list(range(n))
    assert (parsed.status is Status.OK) == (not parsed.flags)


@given(st.permutations(range(20)))
@settings(max_examples=50, deadline=None)
def test_written_rankings_are_read_back(order):
    text = " > ".join(f"[{i + 1}]" for i in order)
    parsed = parse_permutation(text, 20)
    assert (list(parsed.permutation), parsed.status) == (list(order), Status.OK)


def test_scores_need_every_candidate_exactly_once():
    assert parse_scores('{"1": 7, "[2]": 3.5}', 2, 0, 10).tolist() == [7, 3.5]
    assert parse_scores("<think>x</think>[7, 3]", 2, 0, 10).tolist() == [7, 3]
    assert parse_scores("[1]: 7\n[2]: 3", 2, 0, 10).tolist() == [7, 3]
    assert parse_scores('Sure! ```json\n{"scores": {"1": 1, "2": 0}}\n```', 2, 0, 10).tolist() == [1, 0]
    for broken in (
        '{"1": 7}',
        '{"1": 7, "2": 11}',
        '{"1": 7, "2": "x"}',
        '{"1": 7, "2": NaN}',
        '{"1": 7, "3": 1}',
        "[1",
    ):
        assert np.isnan(parse_scores(broken, 2, 0, 10)).all(), broken


def test_grades_labels_and_yes_no():
    assert parse_grade("<think>3 of 4</think><answer>7/10</answer>", 0, 10) == 7
    assert math.isnan(parse_grade("<think>I lean to 8", 0, 10))
    assert math.isnan(parse_grade("excellent", 0, 10))
    assert parse_label("<think>..</think><answer>[3]</answer>", 5, labels="numbers") == 2
    assert parse_label("none of them", 5, labels="numbers") == -1
    assert (parse_yes_no("Yes, because no"), parse_yes_no("No."), math.isnan(parse_yes_no("maybe"))) == (1, 0, True)


@pytest.mark.parametrize(
    ("text", "official", "ours"),
    [
        ("<think>a</think><answer>[2, 1, 3]</answer>", [1, 0, 2], (1, 0, 2)),
        ("<answer>[1, 1, 2]</answer>", [0, 0, 1, 2], (0, 1, 2)),
        ("<answer>[3, x, 1]</answer>", [0, 1, 2], (2, 0, 1)),
        ("<answer>[9, 2]</answer>", [1, 0, 2], (1, 0, 2)),
        ("<answer>[3]</answer>", [2, 0, 1], (2, 0, 1)),
        ("no answer", [0, 1, 2], (0, 1, 2)),
        ("<answer>[2,\r\n1,3]\r\n</answer>", [1, 0, 2], (1, 0, 2)),
        ("<answer><answer>[2, 3, 1]</answer></answer>", [1, 2, 0], (1, 2, 0)),
    ],
)
def test_mm_r5_table(text, official, ours):
    assert parse_image_order_official(text, 3) == official
    assert parse_permutation(text, 3).permutation == ours


@pytest.mark.shared_data
def test_fastchat_reviews_are_read_or_abstained(shared_data):
    with gzip.open(shared_data("summary/faireval/fastchat_reviews.jsonl.gz"), "rt") as file:
        reviews = [json.loads(line) for line in file]
    assert len(reviews) == 320
    read = [(r, parse_pair_scores(r["review"])) for r in reviews]
    assert all(p.scores is not None or p.reason for _, p in read)
    assert sum(p.first_line for _, p in read) == 296
    given = [(r, p) for r, p in read if p.scores is not None]
    wrong = [r["question_id"] for r, p in given if list(p.scores) != [float(x) for x in r["score_field"]]]
    assert len(given) >= 315
    assert len(wrong) <= 2  # two reviews state other scores in their text than the original authors wrote down


@pytest.mark.shared_data
def test_faireval_script_is_reproduced(shared_data):
    for case in json.loads(shared_data("summary/oracle/faireval.json").read_text())["parse"]:
        assert list(parse_pair_scores_official(case["review"])) == case["official"]
