from __future__ import annotations

import importlib.util
import os
import signal
import sys

import numpy as np
import pytest

from rerank_core import Budget, Candidate, Request, Scores
from rerank_core.domain import PlainCodec
from rerank_core.engine import run
from rerank_core.errors import InputError, UsageError
from rerank_core.parquet import (
    read_rankings_parquet,
    read_requests_parquet,
    write_rankings_parquet,
    write_requests_parquet,
)

CODEC = PlainCodec()


def requests(n):
    rng = np.random.default_rng(0)
    return [
        Request(
            f"q{i}",
            {"text": f"query {i}"},
            tuple(
                Candidate(f"d{j}", int(x), float(x), {"x": 0.5} if j else {})
                for j, x in enumerate(rng.integers(0, 99, 5))
            ),
            f"g{i // 3}" if i % 2 else None,
        )
        for i in range(n)
    ]


def content_modulo(items):
    return [np.array([c.content * 7 % 31 for c in r.candidates], dtype=float) for r in items]


def test_sharded_parquet_round_trips_and_streams(tmp_path):
    asked = requests(25)
    parts = write_requests_parquet(tmp_path / "in", asked, CODEC, per_shard=10)
    assert [p.name for p in parts] == [f"part-0000{i}.parquet" for i in range(3)]
    assert list(read_requests_parquet(tmp_path / "in", CODEC)) == asked
    rankings = list(run(asked, Scores("m", content_modulo), progress=False, batch_size=1000))
    write_rankings_parquet(tmp_path / "out", rankings, per_shard=10)
    back = list(read_rankings_parquet(tmp_path / "out"))
    assert [(r.id, r.items, r.status) for r in back] == [(r.id, r.items, r.status) for r in rankings]


def test_a_dataframe_can_feed_a_run_and_read_it(tmp_path):
    import pandas as pd

    write_requests_parquet(tmp_path / "in", requests(4), CODEC)
    frame = pd.read_parquet(tmp_path / "in")
    assert list(frame.columns) == ["id", "query", "group", "candidates"]
    frame[frame.id != "q0"].to_parquet(tmp_path / "less.parquet")
    assert [r.id for r in read_requests_parquet(tmp_path / "less.parquet", CODEC)] == ["q1", "q2", "q3"]


def test_what_is_no_parquet_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no Parquet"):
        list(read_requests_parquet(tmp_path, CODEC))
    (tmp_path / "x.parquet").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="no readable Parquet"):
        list(read_requests_parquet(tmp_path / "x.parquet", CODEC))


@pytest.fixture(scope="module")
def on_ray():
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs the extra rerank-core[ray]")
    from rerank_core.ray_executor import ray_executor

    with ray_executor(2) as executor:
        from ray import cloudpickle

        # Workers cannot import this test module: its functions travel by value.
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield executor


def as_bytes(tmp_path, name, items, reranker, **options):
    out = tmp_path / f"{name}.jsonl"
    list(run(items, reranker, out=out, batch_size=50, progress=False, **options))
    return out.read_bytes()


@pytest.mark.slow
def test_ray_gives_the_same_bytes_as_this_process(on_ray, tmp_path):
    items = requests(1000)
    reranker = Scores("m", content_modulo)
    assert as_bytes(tmp_path, "ray", items, reranker, executor=on_ray) == as_bytes(tmp_path, "local", items, reranker)


@pytest.mark.slow
def test_a_killed_worker_does_not_lose_a_batch(on_ray, tmp_path):
    flag = tmp_path / "died"

    def dies_once(batch):
        if any(r.id == "q500" for r in batch) and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return content_modulo(batch)

    items = requests(1000)
    got = as_bytes(tmp_path, "ray", items, Scores("m", dies_once), executor=on_ray)
    assert flag.exists()
    assert got == as_bytes(tmp_path, "local", items, Scores("m", content_modulo))


@pytest.mark.slow
def test_a_budget_that_is_counted_in_one_place_is_refused(on_ray):
    with pytest.raises(UsageError, match="engine 'local'"):
        list(run(requests(3), Scores("m", content_modulo), executor=on_ray, budget=Budget(calls=1), progress=False))
