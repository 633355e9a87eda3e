"""Budgets of runs, and small frames that tell two pandas programs apart."""

from __future__ import annotations

import json

from rerank_core.budget import Budget
from rerank_core.types import Candidate, Request
from rerank_programs.cache import OutcomeCache
from rerank_programs.data import Inputs, Program, Task
from rerank_programs.domain import domain
from rerank_programs.execution import Executor
from rerank_programs.explain import as_json, explain
from rerank_programs.frames import cuts, distinguish_frames
from rerank_programs.output import evidence_to_json
from rerank_programs.rerank import ByOutcome, vote
from rerank_programs.results import Verdict
from rerank_programs.sample import sample

FRAME = "pd.DataFrame({'k': list('aabbccdd'), 'v': [1, 2, 3, None, 5, 6, 7, 8]})"


def test_a_budget_of_runs_is_kept_and_the_cache_is_free(tmp_path):
    data = sample(tmp_path / "databases")
    requests = data.requests[:6]
    whole = Executor().outcomes(requests)
    cache = OutcomeCache(tmp_path / "c.sqlite")
    for calls in (0, 5):
        executor = Executor(cache=cache, budget=Budget(calls=calls))
        seen = [o for row in executor.outcomes(requests) for o in row]
        assert executor.executed == calls
        assert all(o == w for o, w in zip(seen, [o for r in whole for o in r], strict=True) if o.verdict != "not_run")
        assert any(o.verdict is Verdict.NOT_RUN for o in seen)
    rest = Executor(cache=cache)
    assert rest.outcomes(requests) == whole  # nothing about what was not run is remembered
    again = Executor(cache=cache, budget=Budget(calls=0))
    assert again.outcomes(requests) == whole
    assert all(o.verdict is Verdict.NOT_RUN for o in Executor(budget=Budget(seconds=0)).outcomes(requests)[0])


def test_what_was_not_run_goes_last_and_says_why(tmp_path):
    data = sample(tmp_path / "databases")
    reranker = domain.method("vote", {"budget_calls": 3})
    first, *_, last = reranker.rerank(data.requests[:8])
    assert first.status == "ok" and last.status == "fallback"
    assert [c.id for c in data.requests[7].candidates] == last.ids
    assert all("not_run" in (c.reason or "") for c in last.items)
    assert domain.executes  # so a server refuses these methods unless told otherwise


def test_frames_are_reduced_to_what_tells_two_programs_apart():
    assert cuts({"df": [(0,), (3,)]}) == "df = df.iloc[[0, 3]]\n"
    inputs = [{"variables": {"df": FRAME, "other": "pd.DataFrame({'z': range(50)})"}, "output": "out"}]
    found = distinguish_frames(inputs, None, "out = df.groupby('k')['v'].count()", "out = df.groupby('k')['v'].size()")
    assert found is not None and found.minimal
    assert (found.n_rows == 1 and found.tables == {"df": (("k", "v"), (("b", None),))}) or found.n_rows == 1
    assert found.results[0] != found.results[1]
    assert distinguish_frames(inputs, None, "out = len(df)", "out = df.shape[0]") is None
    assert distinguish_frames(inputs, None, "out = len(df)", "out = 1 / 0") is None
    assert distinguish_frames([{"variables": {"n": "3"}, "output": None}], None, "n", "n + 1") is None


def test_folder_tables_are_reduced_as_well(tmp_path):
    (tmp_path / "sales.csv").write_text("k,v\n" + "".join(f"{'ab'[i % 2]},{i}\n" for i in range(30)))
    found = distinguish_frames([], tmp_path, "sales['v'].max()", "sales['v'].sum()")
    assert found is not None and list(found.tables) == ["sales"]
    assert 1 <= found.n_rows <= 2


def test_a_pandas_record_explains_itself_with_one_question():
    programs = ["out = df['v'].count()", "out = df['v'].count()", "out = len(df)"]
    task = Task("How many values are there?", "pandas", inputs=(Inputs({"df": FRAME}, {}, "out"),))
    request = Request("q", task, tuple(Candidate(str(i), Program(p)) for i, p in enumerate(programs)))
    [evidence] = ByOutcome(vote(), Executor()).evidence([request])
    record = json.loads(json.dumps(evidence_to_json(evidence)))
    found = as_json(explain(record))
    assert found["witness"]["results"] == [[[0]], [[1]]]
    assert "which answer to 'How many values are there?' do you mean?" in found["question"]
