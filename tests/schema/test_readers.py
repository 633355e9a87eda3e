"""Tables from everywhere, odd ones included."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.errors import InputError, RerankError
from rerank_schema.readers import Limits, read_schema
from rerank_schema.readers.layouts import read_description, read_descriptions
from rerank_schema.readers.text import decode

FRAME = pd.DataFrame(
    {"id": [1, 2, 3], "name": ["Ann", "Bob", None], "born": ["1990-01-02", "1991-05-06", "1980-07-08"]}
)


def _names(schema) -> list[str]:
    return [c.name for c in schema.columns]


def test_every_kind_of_file_gives_the_same_columns(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "a.csv", index=False)
    FRAME.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    FRAME.to_csv(tmp_path / "semi.csv", index=False, sep=";")
    FRAME.to_csv(tmp_path / "a.csv.gz", index=False)
    FRAME.to_parquet(tmp_path / "a.parquet")
    FRAME.to_excel(tmp_path / "a.xlsx", index=False)
    FRAME.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    FRAME.to_json(tmp_path / "a.json", orient="records")
    for path in tmp_path.iterdir():
        schema = read_schema(path)
        assert _names(schema) == ["id", "name", "born"], path
        assert schema.columns[1].values == ("Ann", "Bob"), path
        assert schema.columns[1].n_rows == 3, path


def test_a_folder_is_a_table_set(tmp_path: Path) -> None:
    for name in ("one", "two"):
        FRAME.to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / "notes.md").write_text("not a table")
    schema = read_schema(tmp_path)
    assert schema.tables == ["one", "two"]
    assert len(schema.columns) == 6


def test_databases_bring_keys_and_types(tmp_path: Path) -> None:
    path = tmp_path / "shop.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT)")
        db.execute(
            'CREATE TABLE "order lines" (id INTEGER PRIMARY KEY, customer INTEGER REFERENCES customer(id), empty TEXT)'
        )
        db.executemany("INSERT INTO customer VALUES (?, ?)", [(i, f"c{i}") for i in range(50)])
    for source in (path, f"sqlite:///{path}"):
        schema = read_schema(source, limits=Limits(rows=20))
        by_id = {c.id: c for c in schema.columns}
        assert set(by_id) == {
            "customer.id",
            "customer.name",
            "order lines.id",
            "order lines.customer",
            "order lines.empty",
        }
        assert by_id["customer.id"].key == "primary"
        assert by_id["order lines.customer"].key == "foreign"
        assert by_id["customer.name"].declared_type == "TEXT"
        assert 0 < by_id["customer.name"].n_rows <= 20
    before = path.read_bytes()
    read_schema(path)
    assert path.read_bytes() == before


def test_duckdb(tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "d.duckdb"
    with duckdb.connect(str(path)) as db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, label VARCHAR)")
        db.execute("INSERT INTO t VALUES (1, 'x'), (2, 'y')")
        db.execute("COMMENT ON COLUMN t.label IS 'what it says'")
    for source in (path, f"duckdb:///{path}"):
        columns = read_schema(source).columns
        assert [c.name for c in columns] == ["id", "label"]
        assert columns[0].key == "primary"
        assert columns[1].description == "what it says"


def test_a_locked_database_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rerank_schema.readers.databases._LOCK_SECONDS", 0.1)
    path = tmp_path / "busy.sqlite"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (a TEXT)")
    db.commit()
    db.execute("BEGIN EXCLUSIVE")
    with pytest.raises(InputError, match="locked"):
        read_schema(path)
    db.rollback()
    db.close()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a,a,,b\n1,2,3,4\n", ["a", "a.1", "Unnamed: 2", "b"]),
        ("1,2,3\nx,y,z\n", ["1", "2", "3"]),
        ("a,b\n", ["a", "b"]),
        ("a\n1\n2\n", ["a"]),
        ("\ufeffa,b\n1,2\n", ["a", "b"]),
        ("a,b\n1,2,3\n4,5\n", ["a", "b", "Unnamed: 2"]),  # cells beyond the header become a column
        ("a,b,c\n1,2\n4,5,6,7\n", ["a", "b", "c", "Unnamed: 3"]),
        ('a,b\n"never closed,2\n3,4\n', ["a", "b"]),
        ("a,b\n\n,\n,\n", ["a", "b"]),
    ],
)
def test_odd_text_loses_no_column(tmp_path: Path, text: str, names: list[str]) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(text, encoding="utf-8")
    assert _names(read_schema(path)) == names


@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
def test_any_header_survives(tmp_path_factory: pytest.TempPathFactory, header: list[str]) -> None:
    import csv

    path = tmp_path_factory.mktemp("h") / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows([[f"v{i}{j}" for j in range(len(header))] for i in range(3)])
    if len(header) > 1:
        assert len(read_schema(path).columns) == len(header)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("größe,naïve\n".encode(), "größe,naïve\n"),
        ("größe,naïve\n".encode("cp1252"), "größe,naïve\n"),
        ("größe\n".encode() + "naïve\n".encode("cp1252"), "größe\nnaïve\n"),
        ("größe\n".encode("utf-16"), "größe\n"),
    ],
)
def test_encodings(data: bytes, text: str) -> None:
    assert decode(data)[0] == text


def test_large_files_are_sampled_within_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    with path.open("w") as stream:
        stream.write("row,kind\n")
        stream.writelines(f"{i},{'early' if i < 100_000 else 'late'}\n" for i in range(600_000))
    packed = tmp_path / "large.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    for source in (path, packed):
        schema = read_schema(source, limits=Limits(bytes=3 << 20))
        assert _names(schema) == ["row", "kind"]
        assert schema.columns[0].n_rows < 500_000
        assert set(schema.columns[1].values) == {"early", "late"}  # the end of the file is seen as well
        assert schema.columns[0].storage == "int"  # no row was cut in two
        assert "sampled" in schema.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.csv", None, "does not exist"),
        ("empty.csv", b"", "is empty"),
        ("x.parquet", b"no parquet", "not a Parquet"),
        ("x.xlsx", b"no workbook", "not an Excel"),
        ("x.sqlite", b"no database at all, really", "not a database"),
        ("x.json", b"{", "not valid JSON"),
        ("x.doc", b"?", "unknown kind"),
        ("x.csv.gz", b"no gzip", "gzip"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RerankError, match=words) as caught:
        read_schema(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_urls_and_drivers() -> None:
    with pytest.raises(RerankError):
        read_schema("nonsense://host/db")
    with pytest.raises(RerankError, match=r"\*\*\*|psycopg|driver|installed"):
        read_schema("postgresql://me:secret@localhost/db")


def test_schema_only_layouts(tmp_path: Path) -> None:
    omap = tmp_path / "left.csv"
    omap.write_text("element,table_description,column_description\nperson-birth_date,people,when born\n")
    omop = tmp_path / "omop.csv"
    omop.write_text(
        "\ufeffTableName,TableDesc,ColumnName,ColumnDesc,ColumnType,IsPK,IsFK,FK\n"
        "PERSON,people,person_id,the id,INTEGER,YES,NO,\n",
        encoding="utf-8",
    )
    plain = tmp_path / "plain.csv"
    plain.write_text("Field Name,Data Type,Definition\nage,int,years since birth\nNA,text,no answer\n")
    a, b, c = (read_description(p).columns for p in (omap, omop, plain))
    assert (a[0].table, a[0].name, a[0].description) == ("person", "birth_date", "when born")
    assert (b[0].table, b[0].name, b[0].key, b[0].declared_type) == ("PERSON", "person_id", "primary", "INTEGER")
    assert [x.name for x in c] == ["age", "NA"]
    bad = tmp_path / "bad.csv"
    bad.write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="row a column"):
        read_description(bad)


def test_descriptions(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(
        json.dumps(
            {"a": "one", "b": {"column_description": "two"}, "t.c": {"description": "three"}, "d": None},
        )
    )
    assert read_descriptions(path) == {"a": "one", "b": "two", "t.c": "three", "d": ""}
    path.write_text(json.dumps([{"column": "a", "description": "one"}]))
    assert read_descriptions(path) == {"a": "one"}
    path.write_text("[1]")
    with pytest.raises(InputError):
        read_descriptions(path)
