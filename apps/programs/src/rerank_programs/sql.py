"""Looking at SQL through sqlglot: what kind of statement, which tables, canonical text, what differs.

Nothing here is ever executed: the candidate's own text runs, canonical text only names it. Nothing is edited with
regular expressions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Mapping[str, str]]
"""Table -> column -> type, all names lower-case."""


def parse(sql: str, dialect: str = "sqlite") -> Any | None:
    """Return the one statement as a tree, or None where it is none, several, or does not parse."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        trees = [t for t in sqlglot.parse(sql, read=dialect) if t is not None]
    except (SqlglotError, RecursionError, ValueError):
        return None
    return trees[0] if len(trees) == 1 else None


def is_query(sql: str, dialect: str = "sqlite") -> bool:
    """Whether the text is one statement that only reads."""
    from sqlglot import expressions as exp

    tree = parse(sql, dialect)
    return isinstance(tree, exp.Query)


def schema_of(database: str) -> dict[str, dict[str, str]]:
    """Read a SQLite file's tables and columns, names lower-cased."""
    import sqlite3
    from contextlib import closing
    from urllib.parse import quote

    with closing(sqlite3.connect(f"file:{quote(database)}?mode=ro&immutable=1", uri=True)) as db:
        names = [r[0] for r in db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
        return {
            name.lower(): {
                row[1].lower(): (row[2] or "TEXT").upper()
                for row in db.execute("SELECT * FROM pragma_table_info(?)", (name,))
            }
            for name in names
            if not name.startswith("sqlite_")
        }


def unknown_names(sql: str, schema: Schema, dialect: str = "sqlite") -> list[str]:
    """Return tables and columns that the schema does not have; empty where the text does not parse."""
    from sqlglot import expressions as exp

    tree = parse(sql, dialect)
    if tree is None:
        return []
    own = _own_names(tree)
    tables = [t.name for t in tree.find_all(exp.Table)]
    missing = [t for t in tables if t.lower() not in schema and t.lower() not in own]
    known = {c for t in schema.values() for c in t} | own
    missing += [c.name for c in tree.find_all(exp.Column) if c.name.lower() not in known and not _quoted(c)]
    return list(dict.fromkeys(missing))


def _own_names(tree: Any) -> set[str]:
    from sqlglot import expressions as exp

    names = {a.alias.lower() for a in tree.find_all(exp.Alias)}
    names |= {a.name.lower() for a in tree.find_all(exp.TableAlias)}
    return (
        names | {c.name.lower() for t in tree.find_all(exp.TableAlias) for c in t.columns} | {"rowid", "oid", "_rowid_"}
    )


def _quoted(column: Any) -> bool:
    return bool(getattr(column.this, "quoted", False))


def repair_quotes(tree: Any, schema: Schema) -> Any:
    """Turn double-quoted names that name nothing into the string literals SQLite takes them for.

    SQLite reads ``"x"`` as a column where there is one and as text where there is none; sqlglot does not.
    """
    from sqlglot import expressions as exp

    known = {c for t in schema.values() for c in t} | set(schema) | _own_names(tree)

    def mend(node: Any) -> Any:
        if isinstance(node, exp.Column) and not node.table and _quoted(node) and node.name.lower() not in known:
            return exp.Literal.string(node.name)
        return node

    return tree.transform(mend)


def canonical(sql: str, schema: Schema, dialect: str = "sqlite") -> str | None:
    """Return a text that queries with the same meaning often share, or None where there is none.

    Names are qualified and lower-cased, conditions simplified and sorted. Two queries with equal canonical text give
    equal results; the reverse does not hold.
    """
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer import optimize
    from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

    tree = parse(sql, dialect)
    if tree is None:
        return None
    try:
        tree = normalize_identifiers(repair_quotes(tree, schema), dialect=dialect)
    except (SqlglotError, RecursionError):
        return None
    try:
        better = optimize(tree.copy(), schema={t: dict(c) for t, c in schema.items()}, dialect=dialect)
        return str(_sorted_conditions(_plain_aliases(better)).sql(dialect=dialect, comments=False, normalize=True))
    except (SqlglotError, RecursionError, ValueError, KeyError, AttributeError, TypeError, IndexError):
        # SQLite runs queries that the optimizer refuses (a join that names a later table): their own text will do.
        return str(tree.sql(dialect=dialect, comments=False, normalize=True))


def _plain_aliases(tree: Any) -> Any:
    """Drop the outermost aliases: they name columns and change no value."""
    from sqlglot import expressions as exp

    if isinstance(tree, exp.Select) and not tree.args.get("order"):
        selected = [e.this if isinstance(e, exp.Alias) else e for e in tree.expressions]
        tree.set("expressions", selected)
    return tree


def _sorted_conditions(tree: Any) -> Any:
    from sqlglot import expressions as exp

    def sort(node: Any) -> Any:
        if isinstance(node, exp.And | exp.Or) and not isinstance(node.parent, type(node)):
            kind = type(node)
            parts = sorted((p.copy() for p in node.flatten()), key=lambda p: p.sql())
            return (kind.__name__ == "And" and exp.and_(*parts)) or exp.or_(*parts)
        return node

    return tree.transform(sort)


def edits(first: str, second: str, dialect: str = "sqlite") -> tuple[str, ...]:
    """Say clause by clause what differs between two queries; empty where one does not parse."""
    a, b = parse(first, dialect), parse(second, dialect)
    if a is None or b is None:
        return ()
    return tuple(_clause_edits(a, b, dialect))


_CLAUSES = ("distinct", "expressions", "from_", "from", "joins", "where", "group", "having", "order", "limit")


def _clause_edits(a: Any, b: Any, dialect: str) -> list[str]:
    if type(a) is not type(b):
        return [f"{type(a).__name__.lower()} against {type(b).__name__.lower()}"]
    out = []
    for name in _CLAUSES:
        left, right = _clause(a, name, dialect), _clause(b, name, dialect)
        if left.lower() != right.lower():
            label = {"expressions": "select", "from_": "from", "joins": "join"}.get(name, name)
            out.append(f"{label}: {left or '(none)'} | {right or '(none)'}")
    if not out and a != b:
        out.append(f"{a.sql(dialect=dialect)} | {b.sql(dialect=dialect)}")
    return out


def _clause(tree: Any, name: str, dialect: str) -> str:
    value = tree.args.get(name)
    parts = value if isinstance(value, list) else [value] if value else []
    return ", ".join(p.sql(dialect=dialect, comments=False) if hasattr(p, "sql") else str(p) for p in parts)
