from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from pathlib import Path

import psutil
import pytest

from rerank_programs.results import Verdict
from rerank_programs.sandbox import walls as walls_module
from rerank_programs.sandbox.abuse import CASES
from rerank_programs.sandbox.check import run_check
from rerank_programs.sandbox.limits import Limits
from rerank_programs.sandbox.pool import Pool
from rerank_programs.sandbox.walls import NoIsolation, Walls, detect

HERE = detect()
CROWDED = 5.0  # tests run beside others; `sandbox-check` itself allows 0.5 s
needs_walls = pytest.mark.skipif(not HERE.enough_for_code, reason=f"no isolation for code here: {HERE.label}")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "d.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x INTEGER, y TEXT)")
        db.executemany("INSERT INTO t VALUES (?, ?)", [(i, f"r{i % 3}") for i in range(100)])
    db.close()
    return path


def ask(pool: Pool, program: str, database: Path | None = None, **more):
    return pool.run([{"program": program, "database": None if database is None else str(database), **more}])[0]


@pytest.mark.parametrize("engine", ["sqlite", "python"])
@needs_walls
def test_every_abuse_case_is_contained(engine):
    report = run_check([engine], limits=Limits(seconds=0.6, memory_mib=256), slack=CROWDED)
    assert [c for c in report["cases"] if not c["ok"]] == []
    assert report["leaked"] == 0
    assert len(report["cases"]) == sum(c.engine == engine for c in CASES)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["pandas", "duckdb", "m"])
@needs_walls
def test_every_abuse_case_of_the_heavy_engines_is_contained(engine):
    report = run_check([engine], slack=CROWDED)
    if engine in report["skipped"]:
        pytest.skip(report["skipped"][engine])
    assert [c for c in report["cases"] if not c["ok"]] == []


@pytest.mark.slow
@pytest.mark.skipif(not (HERE.landlock and HERE.seccomp), reason="needs Landlock and seccomp")
def test_without_bubblewrap_the_kernels_own_walls_hold():
    walls = Walls(None, HERE.landlock, HERE.seccomp)
    report = run_check(["sqlite", "python"], walls=walls, limits=Limits(seconds=0.6, memory_mib=256), slack=CROWDED)
    assert [c for c in report["cases"] if not c["ok"]] == []
    assert report["isolation"]["python"] == "landlock+seccomp+rlimit"


def test_bubblewrap_can_be_absent(monkeypatch):
    monkeypatch.setenv("RERANK_PROGRAMS_NO_BWRAP", "1")
    assert detect().bwrap is None
    monkeypatch.setattr(walls_module, "bwrap_candidates", lambda: ["/nonexistent/bwrap"])
    monkeypatch.delenv("RERANK_PROGRAMS_NO_BWRAP")
    assert detect().bwrap is None


def test_code_is_refused_without_walls_and_sql_is_not(database):
    bare = Walls(None, False, False)
    with pytest.raises(NoIsolation, match="--unsafe-local"):
        Pool("python", walls=bare)
    with Pool("python", walls=bare, unsafe_local=True, workers=1) as pool:
        assert pool.isolation == "unsafe-local+rlimit"
        assert ask(pool, "1 + 1").rows == ((2,),)
    with Pool("sqlite", walls=bare, readable=[database], workers=1) as pool:
        assert ask(pool, "SELECT count(*) FROM t", database).rows == ((100,),)
        assert ask(pool, "DELETE FROM t", database).verdict is Verdict.DENIED


def test_sql_gives_typed_results_and_leaves_the_file_alone(database):
    before = hashlib.sha256(database.read_bytes()).hexdigest()
    with Pool("sqlite", readable=[database]) as pool:
        o = ask(pool, "SELECT 1 AS a, 2.5 AS b, 'x' AS c, NULL AS d, x'00ff' AS e", database)
        assert o.columns == ("a", "b", "c", "d", "e") and o.rows == ((1, 2.5, "x", None, b"\x00\xff"),)
        assert ask(pool, "SELECT nothing FROM t", database).verdict is Verdict.ERROR
        assert ask(pool, "SELECT random()", database).nondeterministic
        clock = ask(pool, "SELECT date('now'), CURRENT_TIMESTAMP, strftime('%Y', 'now')", database)
        assert clock.rows == (("2020-01-01", "2020-01-01 00:00:00", "2020"),) and clock.nondeterministic
        dated = ask(pool, "SELECT date('2011-02-03', '+1 day')", database)
        assert dated.rows == (("2011-02-04",),) and not dated.nondeterministic
    assert hashlib.sha256(database.read_bytes()).hexdigest() == before
    assert sorted(p.name for p in database.parent.iterdir()) == ["d.sqlite"]


def test_bad_bytes_in_the_database_are_read(tmp_path):
    path = tmp_path / "bad.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x TEXT)")
        db.execute("INSERT INTO t VALUES (CAST(x'41ff42' AS TEXT))")
    db.close()
    with Pool("sqlite", readable=[path]) as pool:
        assert ask(pool, "SELECT x FROM t", path).rows == (("AB",),)
        assert ask(pool, "SELECT 1", tmp_path / "absent.sqlite").verdict is Verdict.ERROR


def test_a_killed_worker_is_replaced_and_the_rest_is_unharmed(database):
    hang = "SELECT length(replace(hex(zeroblob(1)), '0', y)) FROM t"  # denied
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    jobs = [{"database": str(database), "program": p} for p in ("SELECT 1", endless, "SELECT 2", hang, "SELECT 3")]
    with Pool("sqlite", readable=[database], limits=Limits(seconds=0.3)) as pool:
        got = pool.run(jobs)
        os.kill(next(p.pid for p in psutil.Process().children()), 9)
        time.sleep(0.1)
        again = pool.run(jobs)
    assert [o.verdict for o in got] == [Verdict.OK, Verdict.TIMEOUT, Verdict.OK, Verdict.DENIED, Verdict.OK]
    assert [o.rows for o in again] == [o.rows for o in got]
    assert psutil.Process().children(recursive=True) == []


@needs_walls
def test_python_programs_start_clean_every_time():
    with Pool("python", workers=1) as pool:
        assert ask(pool, "import math\nmath.pi = 3\nopen('left', 'w').write('x')\n1").ok
        assert ask(pool, "import math, os\n(math.pi > 3.1, os.listdir('.'))").rows == (([True, []],),)
        assert ask(pool, "x = 1").verdict is Verdict.ERROR
        assert ask(pool, "def f(n): return n * 2", calls=["f(2)", "f('a')", "f(None)"]).rows == (
            (4,),
            ("aa",),
            ({"$error": "TypeError"},),
        )
        assert ask(pool, "import random\nrandom.random()").nondeterministic
        assert ask(pool, "{1, 2} | {3}").rows == (({"$set": [1, 2, 3]},),)


@needs_walls
def test_memory_does_not_grow_over_rounds(database):
    process = psutil.Process()
    with Pool("sqlite", readable=[database], workers=1) as pool:
        jobs = [{"database": str(database), "program": f"SELECT {i}, x, y FROM t"} for i in range(200)]
        pool.run(jobs)
        start = process.memory_info().rss
        for _ in range(10):
            pool.run(jobs)
        assert process.memory_info().rss <= 1.1 * start
    assert process.children(recursive=True) == []


@pytest.mark.slow
@needs_walls
def test_pandas_inputs_are_fresh_and_frames_come_back_whole():
    inputs = [{"variables": {"df": "pd.DataFrame({'a': [3, 1], 'b': ['x', None]})"}, "output": "out"}]
    with Pool("pandas", workers=1) as pool:
        first = ask(pool, "df.loc[0, 'a'] = 99\nout = df", inputs=inputs)
        assert first.rows == ((99, "x"), (1, None)) and first.kind == "frame"
        second = ask(pool, "out = df.sort_values('a')", inputs=inputs)
        assert second.rows == ((1, None), (3, "x")) and second.index is None
        assert "same_as_input" in ask(pool, "out = df.copy()", inputs=inputs).flags
        labelled = ask(pool, "out = df.groupby('b').a.sum()", inputs=inputs)
        assert labelled.kind == "series" and labelled.index == ("x",)
