"""The review: answers, undo, autosave, export, and a server that talks to its own page only."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.errors import InputError, UsageError
from rerank_schema.match import MATCH, NO, Match
from rerank_schema.review.export import to_csv, to_json, to_sql
from rerank_schema.review.page import static_page
from rerank_schema.review.server import make_app
from rerank_schema.review.state import Review

MATCHES = [
    Match("s", "age", "t", "years", 0.9, 1, 0.8, MATCH, "names mean alike"),
    Match("s", "age", "t", "name", 0.1, 2, 0.1, NO),
    Match("s", "who", "t", "name", 0.5, 1, 0.4, NO),
]
AGE, WHO, YEARS, NAME = ("s", "age"), ("s", "who"), ("t", "years"), ("t", "name")


def test_answers_replace_decisions_and_undo_takes_them_back() -> None:
    review = Review.of(MATCHES)
    assert review.mapping() == [(AGE, YEARS)]
    review.answer(WHO, [NAME])
    review.answer(AGE, [])
    assert review.mapping() == [(WHO, NAME)]
    assert review.undo() == AGE
    assert review.mapping() == [(AGE, YEARS), (WHO, NAME)]
    assert review.undo() == WHO
    assert review.undo() is None
    with pytest.raises(UsageError):
        review.answer(("s", "nobody"), [])
    with pytest.raises(UsageError):
        review.answer(AGE, [("t", "nothing")])


@given(st.lists(st.tuples(st.sampled_from([AGE, WHO]), st.sampled_from([[YEARS], [NAME], [], None])), max_size=8))
def test_undo_all_gives_the_beginning(steps: list) -> None:
    review = Review.of(MATCHES)
    for source, targets in steps:
        review.answer(source, targets)
    for _ in steps:
        review.undo()
    assert review.answers == {}
    assert review.mapping() == Review.of(MATCHES).mapping()


def test_every_step_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    review = Review.of(MATCHES, path=path)
    review.answer(WHO, [NAME, YEARS])
    review.answer(AGE, [])
    again = Review.of(MATCHES, path=path)
    assert again.answers == review.answers
    assert again.undo() == AGE
    assert again.mapping() == [(AGE, YEARS), (WHO, NAME), (WHO, YEARS)]
    path.write_text("[]")
    with pytest.raises(InputError, match="no saved review"):
        Review.of(MATCHES, path=path)


def test_exports(tmp_path: Path) -> None:
    mapping = [
        (("my table", 'a"b'), ("std", "x")),
        (("my table", "c"), ("std", "x")),
        (("my table", "d"), ("std", "y,z")),
    ]
    rows = list(csv.DictReader(io.StringIO(to_csv(mapping))))
    assert rows[2] == {"source_table": "my table", "source_column": "d", "target_table": "std", "target_column": "y,z"}
    assert len(json.loads(to_json(mapping))) == 3
    db = sqlite3.connect(":memory:")
    db.execute('CREATE TABLE "my table" ("a""b" TEXT, c TEXT, d TEXT)')
    db.execute("INSERT INTO \"my table\" VALUES ('1', '2', '3')")
    db.executescript(to_sql(mapping))
    cursor = db.execute('SELECT * FROM "std_from_my table"')
    assert [c[0] for c in cursor.description] == ["x", "x_2", "y,z"]
    assert cursor.fetchone() == ("1", "2", "3")


@pytest.fixture
def client() -> TestClient:
    app = make_app(Review.of(MATCHES), {("source", AGE): ["41", "17"]}, token="secret")
    return TestClient(app)


def test_the_server_answers_its_page(client: TestClient) -> None:
    assert "secret" in client.get("/").text
    head = {"X-Token": "secret"}
    state = client.get("/api/state", headers=head).json()
    assert [c["source"] for c in state["columns"]] == [list(AGE), list(WHO)]
    assert state["columns"][0]["samples"] == ["41", "17"]
    assert client.post("/api/answer", json={"source": WHO, "targets": [NAME]}, headers=head).json() == {"undo": 1}
    assert "s,who,t,name" in client.get("/export/csv?token=secret").text
    assert client.post("/api/undo", json={}, headers=head).json()["source"] == list(WHO)
    for bad in (
        {},
        {"source": 3, "targets": []},
        {"source": ["s", "x"], "targets": []},
        {"source": WHO, "targets": [["q", "q"]]},
    ):
        assert client.post("/api/answer", json=bad, headers=head).status_code == 422
    assert client.get("/export/exe?token=secret").status_code == 404


def test_the_server_refuses_strangers(client: TestClient) -> None:
    assert client.get("/api/state").status_code == 403
    assert client.get("/export/csv?token=guess").status_code == 403
    assert (
        client.post("/api/answer", json={"source": WHO, "targets": []}, headers={"X-Token": b"\xe9"}).status_code == 403
    )
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 403


def test_a_cell_cannot_end_the_script() -> None:
    evil = [Match("s", "</script><script>alert(1)</script>", "t", "x", 1.0, 1, None, MATCH, "<!-- <b>")]
    text = static_page(evil)
    assert text.count("</script>") == 1
    assert "<!--" not in text
