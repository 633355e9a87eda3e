"""Posts and fact-check articles: what is read, and that gold never reaches the ranker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.errors import InputError
from rerank_core.io import read_jsonl
from rerank_core.types import Gold
from rerank_passages.text import sentences


@dataclass(frozen=True)
class Post:
    """What somebody wrote: the text, and the text read from attached pictures."""

    id: str
    text: str
    ocr: str = ""

    @property
    def both(self) -> str:
        """Text and picture text together."""
        return f"{self.text} {self.ocr}".strip()


@dataclass(frozen=True)
class Article:
    """A fact-check: its title, the claim it checks and its sentences."""

    id: str
    title: str
    claim: str
    sentences: tuple[str, ...]

    @property
    def headline(self) -> str:
        """Title and claim together."""
        return f"{self.title} {self.claim}".strip()

    @property
    def body(self) -> str:
        """All sentences together."""
        return " ".join(self.sentences)


def read_articles(path: str | Path) -> list[Article]:
    """Read articles: JSONL ``{"article_id", "title"?, "claim"?, "sentences"? | "text"?}``.

    Raises
    ------
    InputError
        An article without id or without any text, or an id twice; with file and line.
    """
    articles: dict[str, Article] = {}
    for line, value in read_jsonl(path):
        aid = _id(value, ("article_id", "id", "docid"), path, line)
        listed = value.get("sentences")
        if listed is None:
            listed = sentences(str(value.get("text", "")))
        if not isinstance(listed, list) or not all(isinstance(s, str) for s in listed):
            raise InputError("'sentences' must be a list of texts", path, line)
        article = Article(aid, _text(value, "title"), _text(value, "claim"), tuple(s for s in listed if s.strip()))
        if not article.headline and not article.sentences:
            raise InputError(f"article {aid!r} has neither title, claim nor sentences", path, line)
        if aid in articles:
            raise InputError(f"article {aid!r} occurs twice", path, line)
        articles[aid] = article
    if not articles:
        raise InputError("holds no articles", path)
    return list(articles.values())


def read_posts(path: str | Path, split: str | None = None) -> list[Post]:
    """Read posts: JSONL ``{"query_id", "text", "ocr"?, "split"?}``. Other fields, gold above all, are not looked at.

    Raises
    ------
    InputError
        A post without id or text, an id twice, or no post of the split; with file and line.
    """
    posts: dict[str, Post] = {}
    for line, value in read_jsonl(path):
        if split is not None and value.get("split") != split:
            continue
        qid = _id(value, ("query_id", "qid", "id"), path, line)
        post = Post(qid, _text(value, "text"), _text(value, "ocr"))
        if not post.both:
            raise InputError(f"post {qid!r} has neither text nor ocr", path, line)
        if qid in posts:
            raise InputError(f"post {qid!r} occurs twice", path, line)
        posts[qid] = post
    if not posts:
        raise InputError("holds no posts" + (f" of split {split!r}" if split else ""), path)
    return list(posts.values())


def read_gold(path: str | Path, split: str | None = None) -> Gold:
    """Read the gold of a split from the posts' file (``"gold": [article ids]``); for fitting and judging only."""
    gold: dict[str, dict[str, float]] = {}
    for line, value in read_jsonl(path):
        if split is not None and value.get("split") != split:
            continue
        named = value.get("gold")
        if not isinstance(named, list) or not named:
            raise InputError("'gold' must be a list of article ids to fit on", path, line)
        gold[_id(value, ("query_id", "qid", "id"), path, line)] = {str(g): 1.0 for g in named}
    return gold


def read_candidate_lists(path: str | Path, *, seed: int = 0) -> dict[str, tuple[str, ...]]:
    """Read listed candidates (TSV ``query<TAB>article<TAB>label``) in an order that gives nothing away.

    The official lists put the true article last; whoever breaks ties "last first" wins for free. Every list is
    therefore shuffled, by the seed and the query's id, and labels are dropped.
    """
    from rerank_core.io import read_lines

    lists: dict[str, list[str]] = {}
    for line, row in read_lines(path):
        columns = row.rstrip("\r\n").split("\t")
        if len(columns) < 2:
            raise InputError("a line is query<TAB>article<TAB>label", path, line)
        if columns[1] in lists.setdefault(columns[0], []):
            raise InputError(f"article {columns[1]!r} occurs twice for query {columns[0]!r}", path, line)
        lists[columns[0]].append(columns[1])
    return {q: shuffled(ids, q, seed) for q, ids in lists.items()}


def shuffled(ids: Iterable[str], query_id: str, seed: int) -> tuple[str, ...]:
    """Shuffle a list by seed and query id; the order it came in has no influence."""
    ordered = sorted(ids)
    entropy = [seed, *query_id.encode()]
    return tuple(ordered[i] for i in np.random.default_rng(entropy).permutation(len(ordered)))


def check_gold(gold: Gold, articles: Sequence[Article], path: str | Path) -> None:
    """Refuse gold that names an article which is not there."""
    known = {a.id for a in articles}
    missing = sorted({a for g in gold.values() for a in g} - known)
    if missing:
        raise InputError(
            f"gold names {len(missing)} articles that are not in the articles file, first {missing[0]!r}", path
        )


def _id(value: Mapping[str, Any], names: tuple[str, ...], path: str | Path, line: int) -> str:
    for name in names:
        found = value.get(name)
        if isinstance(found, (str, int)) and not isinstance(found, bool) and str(found).strip():
            return str(found)
    raise InputError(f"needs one of the fields {', '.join(names)}", path, line)


def _text(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return found.strip() if isinstance(found, str) else ""
