from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.files import read_jsonl
from rerank_programs.equality import MODES, clusters, equal
from rerank_programs.results import Outcome, Verdict, decode, encode, failed

cells = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from(["a", "b", "1"]), st.sampled_from([0.5, 1.0, 2.0]))


def table(rows, columns=None, **more) -> Outcome:
    width = len(rows[0]) if rows else 1
    return Outcome(Verdict.OK, "table", tuple(columns or map(str, range(width))), tuple(map(tuple, rows)), **more)


@st.composite
def tables(draw):
    width = draw(st.integers(1, 4))
    return table(draw(st.lists(st.tuples(*[cells] * width), min_size=1, max_size=6)))


@pytest.mark.shared_data
def test_spider_mode_agrees_with_the_reference_comparison(shared_data):
    wrong = []
    n = 0
    for _, case in read_jsonl(shared_data("programs/oracle/result_eq_cases.jsonl.gz")):
        n += 1
        got = equal(table(case["gold"]), table(case["pred"]), "spider", ordered=case["order_matters"])
        if got != case["equal"]:
            wrong.append((case["id"], case["source"]))
    assert n == 542
    assert not wrong


@given(tables(), st.randoms(use_true_random=False))
def test_spider_ignores_row_and_column_order(a: Outcome, rng: random.Random):
    order = list(range(len(a.columns)))
    rng.shuffle(order)
    rows = [tuple(r[i] for i in order) for r in a.rows]
    rng.shuffle(rows)
    b = table(rows)
    assert equal(a, b, "spider")
    assert MODES["spider"].key(a) == MODES["spider"].key(b)


@given(tables(), tables())
def test_equal_results_have_equal_keys_in_every_mode(a: Outcome, b: Outcome):
    for mode in MODES.values():
        assert mode.same(a, a)
        assert mode.same(a, b) == mode.same(b, a)
        if mode.same(a, b):
            assert mode.key(a) == mode.key(b)


def test_the_modes_differ_where_they_should():
    twice, once = table([(1, 2), (1, 2)]), table([(1, 2)])
    assert equal(twice, once, "bird") and equal(twice, once, "set")
    assert not equal(twice, once, "bag") and not equal(twice, once, "spider")
    assert equal(table([(1, 2)]), table([(2, 1)]), "spider") and not equal(table([(1, 2)]), table([(2, 1)]), "bag")
    up, down = table([(1,), (2,)]), table([(2,), (1,)])
    assert equal(up, down, "bag") and not equal(up, down, "ordered")
    assert not equal(up, down, "spider", ordered=True)
    assert equal(table([(0.1 + 0.2,)]), table([(0.3,)]), "approx") and not equal(table([(0.1 + 0.2,)]), table([(0.3,)]))
    assert equal(table([(1,)]), table([(1.0,)])) and not equal(table([(1,)]), table([("1",)]))
    assert equal(table([(float("nan"),)]), table([(float("nan"),)]))


def test_frames_count_labels_but_not_row_numbers():
    a = Outcome(Verdict.OK, "frame", ("x",), ((1,), (2,)))
    assert equal(a, Outcome(Verdict.OK, "frame", ("x",), ((1.0,), (2.0,))), "frame")
    assert not equal(a, Outcome(Verdict.OK, "frame", ("y",), ((1,), (2,))), "frame")
    assert not equal(a, Outcome(Verdict.OK, "frame", ("x",), ((1,), (2,)), index=("p", "q")), "frame")


def test_many_look_alike_columns_do_not_explode():
    rows = [tuple((i * j) % 2 for j in range(12)) for i in range(40)]
    shuffled = [tuple(reversed(r)) for r in rows]
    assert equal(table(rows), table(shuffled), "spider")
    assert not equal(table(rows), table([(*r[:-1], 2) for r in rows]), "spider")


def test_failed_and_nondeterministic_runs_form_no_majority():
    chance = table([(1,)], flags=frozenset({"nondeterministic"}))
    outcomes = [chance, chance, table([(1,)]), failed(Verdict.ERROR, "x"), table([(1,)])]
    assert clusters(outcomes) == [[0], [1], [2, 4]]
    assert not equal(failed(Verdict.ERROR, "x"), failed(Verdict.ERROR, "x"))


@given(tables())
def test_outcomes_survive_the_wall(a: Outcome):
    assert decode(encode(a)) == a


def test_bytes_survive_and_damage_is_noticed():
    a = table([(b"\x00\xff", None, 1.5)])
    assert decode(encode(a)).rows == a.rows
    for bad in (b"", b"[]", b'{"v":"ok","c":["a"],"r":[[1,2]]}', b'{"v":"nonsense"}', b"\xff"):
        with pytest.raises(ValueError):
            decode(bad)
