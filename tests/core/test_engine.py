from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core import Budget, Candidate, FirstStage, Request, Scores, Status
from rerank_core.cache import Cached, Store
from rerank_core.domain import PlainCodec
from rerank_core.engine import cut, run
from rerank_core.errors import InputError
from rerank_core.io import read_rankings, read_run

CODEC = PlainCodec()


def requests(n=20, groups=None):
    return [
        Request(f"q{i}", f"query {i}", tuple(Candidate(f"d{j}", j) for j in range(4)), groups[i] if groups else None)
        for i in range(n)
    ]


class Counting:
    name = "counting"

    def __init__(self, version="1"):
        self.seen: list[list[str]] = []
        self.version = version

    def rerank(self, items):
        self.seen.append([r.id for r in items])
        return Scores("s", lambda rs: [np.array([c.content for c in r.candidates]) for r in rs]).rerank(items)

    def fingerprint(self):
        return f"counting {self.version}"


@given(st.lists(st.one_of(st.none(), st.sampled_from("abc")), max_size=30), st.integers(1, 7))
def test_batches_keep_groups_whole_and_lose_nothing(groups, size):
    items = requests(len(groups), groups)
    batches = cut(items, size)
    assert sorted(r.id for b in batches for r in b) == sorted(r.id for r in items)
    for g in set(groups) - {None}:
        assert sum(any(r.group == g for r in b) for b in batches) == 1
    assert all(len(b) <= size or len({r.group for r in b}) == 1 for b in batches)


def test_long_lists_are_saved_and_reported_after_few_requests():
    def lists(n, length):
        return [Request(f"q{i}", "", tuple(Candidate(str(j), j) for j in range(length))) for i in range(n)]

    assert [len(b) for b in cut(lists(200, 1))] == [64, 64, 64, 8]
    assert [len(b) for b in cut(lists(12, 100))] == [2] * 6
    assert [len(b) for b in cut(lists(2, 5000))] == [1, 1]


def test_output_appears_whole_with_its_provenance(tmp_path):
    out = tmp_path / "o.jsonl"
    list(run(requests(), Counting(), out=out, batch_size=3, progress=False))
    assert [r.id for r in read_rankings(out)] == [f"q{i}" for i in range(20)]
    meta = json.loads((tmp_path / "o.jsonl.meta.json").read_text())
    assert meta["reranker"] == "counting"
    assert meta["statuses"] == {"ok": 20}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["o.jsonl", "o.jsonl.meta.json"]


def test_trec_output_by_name(tmp_path):
    list(run(requests(2), Counting(), out=tmp_path / "o.trec.gz", progress=False))
    assert set(read_run(tmp_path / "o.trec.gz")) == {"q0", "q1"}


def test_an_interrupted_run_resumes_and_equals_an_undisturbed_one(tmp_path):
    class Dies(Counting):
        def rerank(self, items):
            if len(self.seen) == 3:
                raise KeyboardInterrupt
            return super().rerank(items)

    out = tmp_path / "o.jsonl"
    with pytest.raises(KeyboardInterrupt):
        list(run(requests(), Dies(), out=out, batch_size=4, progress=False))
    assert not out.exists()
    second = Counting()
    list(run(requests(), second, out=out, batch_size=4, progress=False))
    assert [i for b in second.seen for i in b] == [f"q{i}" for i in range(12, 20)], "finished batches are not redone"
    list(run(requests(), Counting(), out=tmp_path / "p.jsonl", batch_size=4, progress=False))
    assert out.read_bytes() == (tmp_path / "p.jsonl").read_bytes()


SCRIPT = """
import sys, time, numpy as np
from rerank_core import Candidate, Request, Scores
from rerank_core.engine import run
items = [Request(f"q{i}", "x", tuple(Candidate(f"d{j}", j) for j in range(5))) for i in range(40)]
def score(rs):
    time.sleep(float(sys.argv[2]))
    return [np.array([hash_(r.id, c.id) for c in r.candidates]) for r in rs]
def hash_(a, b):
    return (int(a[1:]) * 7 + int(b[1:]) * 13) % 11
list(run(items, Scores("slow", score), out=sys.argv[1], batch_size=2, progress=False))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_then_the_same_command_again(tmp_path, how):
    out = tmp_path / "o.jsonl"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(out), "0.05"], stderr=subprocess.DEVNULL)
    parts = Path(f"{out}.parts")
    deadline = time.time() + 60
    while len(list(parts.glob("part-*"))) < 4 and time.time() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, how)
    process.wait()
    finished = len(list(parts.glob("part-*.jsonl")))
    assert 4 <= finished < 20
    assert not out.exists()
    subprocess.run([sys.executable, "-c", SCRIPT, str(out), "0"], check=True)
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "p.jsonl"), "0"], check=True)
    assert out.read_bytes() == (tmp_path / "p.jsonl").read_bytes()
    assert not parts.exists()


def test_a_checkpoint_of_other_input_or_another_reranker_is_refused(tmp_path):
    class Dies(Counting):
        def rerank(self, items):
            if self.seen:
                raise KeyboardInterrupt
            return super().rerank(items)

    out = tmp_path / "o.jsonl"
    with pytest.raises(KeyboardInterrupt):
        list(run(requests(), Dies(), out=out, batch_size=4, progress=False))
    for items, reranker in ((requests(19), Counting()), (requests(), Counting("2"))):
        with pytest.raises(InputError, match="unfinished run of another input"):
            list(run(items, reranker, out=out, batch_size=4, progress=False))
    assert len(list(run(requests(19), Counting(), out=out, batch_size=4, progress=False, resume=False))) == 19


def test_a_half_written_part_is_done_again(tmp_path):
    class Dies(Counting):
        def rerank(self, items):
            if len(self.seen) == 2:
                raise KeyboardInterrupt
            return super().rerank(items)

    out = tmp_path / "o.jsonl"
    with pytest.raises(KeyboardInterrupt):
        list(run(requests(), Dies(), out=out, batch_size=4, progress=False))
    part = Path(f"{out}.parts") / "part-000001.jsonl"
    part.write_bytes(part.read_bytes()[:-20])
    again = Counting()
    list(run(requests(), again, out=out, batch_size=4, progress=False))
    assert again.seen[0] == ["q4", "q5", "q6", "q7"]


def test_two_writers_do_not_mix(tmp_path):
    out = tmp_path / "o.jsonl"
    first = run(requests(), Counting(), out=out, batch_size=4, progress=False)
    next(first)
    with pytest.raises(InputError, match="another process"):
        list(run(requests(), Counting(), out=out, batch_size=4, progress=False))
    list(first)
    assert out.exists()


def test_a_spent_budget_keeps_the_first_stage_and_says_so():
    rankings = list(run(requests(), Counting(), budget=Budget(seconds=0), progress=False))
    assert all(r.status is Status.BUDGET for r in rankings)
    assert [r.ids for r in rankings] == [r.ids for r in FirstStage().rerank(requests())]


def test_a_reranker_that_loses_a_candidate_is_caught():
    class Lossy(Counting):
        def rerank(self, items):
            return FirstStage().rerank([r.take(r.ids[1:]) for r in items])

    with pytest.raises(AssertionError, match="permutation"):
        list(run(requests(1), Lossy(), progress=False))


# -- cache ---------------------------------------------------------------------------------------------------------


def test_the_second_identical_run_asks_nothing(tmp_path):
    items = requests(6)
    inner = Counting()
    first = Cached(inner, tmp_path, CODEC).rerank(items)
    again = Counting()
    second = Cached(again, tmp_path, CODEC).rerank(items)
    assert again.seen == []
    assert [r.items for r in first] == [r.items for r in second]
    assert all(r.cost.calls == 0 for r in second)


def test_only_what_changed_is_asked_again(tmp_path):
    items = requests(6)
    Cached(Counting(), tmp_path, CODEC).rerank(items)
    items[3] = Request("q3", "another query", items[3].candidates)
    again = Counting()
    Cached(again, tmp_path, CODEC).rerank(items)
    assert again.seen == [["q3"]]
    other = Counting("2")
    Cached(other, tmp_path, CODEC).rerank(items)
    assert len(other.seen[0]) == 6, "another reranker shares nothing"


def test_a_group_is_asked_as_a_whole(tmp_path):
    items = requests(4, ["t", "t", "u", "u"])
    Cached(Counting(), tmp_path, CODEC).rerank(items)
    items[0] = Request("q0", "changed", items[0].candidates, "t")
    again = Counting()
    Cached(again, tmp_path, CODEC).rerank(items)
    assert again.seen == [["q0", "q1"]]


def test_a_corrupt_entry_is_noticed_and_rebuilt(tmp_path):
    items = requests(2)
    Cached(Counting(), tmp_path, CODEC).rerank(items)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    files[0].write_bytes(files[0].read_bytes()[:-1] + b"?")
    files[1].write_bytes(b"")
    again = Counting()
    Cached(again, tmp_path, CODEC).rerank(items)
    assert len(again.seen[0]) == 2
    last = Counting()
    Cached(last, tmp_path, CODEC).rerank(items)
    assert last.seen == []


def test_two_processes_may_share_a_cache(tmp_path):
    code = (
        "import sys; from rerank_core.cache import Store; s = Store(sys.argv[1])\n"
        "for i in range(300):\n"
        "    s.put(f'k{i % 50}', b'v%d' % (i % 50) * 100)\n"
        "    v = s.get(f'k{i % 50}'); assert v == b'v%d' % (i % 50) * 100, i"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(2)]
    assert [p.wait() for p in both] == [0, 0]
    assert Store(tmp_path).get("k7") == b"v7" * 100
    assert Store(tmp_path).get("absent") is None
    assert not list(tmp_path.rglob(".tmp*")), "no temporary file is left"
