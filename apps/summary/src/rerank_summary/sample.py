"""The embedded sample: what the installed packages say about themselves.

The long description in a package's METADATA is a document, its one-line summary the reference, and extracts of the
description by salient plans are the candidates. Real text, no network, other numbers on another installation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions

from rerank_core.reranker import digest
from rerank_core.types import Candidate, Dataset, Request
from rerank_summary.data import Record, dataset_of
from rerank_summary.edu import ClauseSegmenter, units_of
from rerank_summary.plans import salient_plans

N_DOCUMENTS = 80
N_CANDIDATES = 8
_BLOCKS = re.compile(
    r"```.*?```|~~~.*?~~~|<!--.*?-->|<(?:table|details|picture)\b.*?</(?:table|details|picture)>", re.DOTALL
)
_INLINE = (
    (re.compile(r"!\[[^\]]*\]\([^)]*\)|!\[[^\]]*\]\[[^\]]*\]"), ""),
    (re.compile(r"\[([^\]]*)\]\([^)]*\)|\[([^\]]*)\]\[[^\]]*\]"), r"\1\2"),
    (re.compile(r":\w+:`~?([^`<]*?)\s*(?:<[^>]*>)?`"), r"\1"),
    (re.compile(r"`+([^`<]*?)\s*(?:<[^>]*>)?`+_{0,2}"), r"\1"),
    (re.compile(r"<[^>]+>"), ""),
    (re.compile(r"https?://\S+"), ""),
    (re.compile(r"(\*\*|__|\*)(?=\S)(.+?)(?<=\S)\1"), r"\2"),
    (re.compile(r"\s+"), " "),
)
_NOT_PROSE = re.compile(
    r"^\s*(?:#|\||\.\.|>>>|\$|[-=~^*+#\"'`_]{3,}|:\w[\w-]*:|\[!|!\[|\[[^\]]+\]:|<|@|import |from |pip )"
)
_ITEM = re.compile(r"^\s*(?:[-*+•]|\d+[.)])\s+")


def prose(description: str) -> str:
    """The running text of a Markdown or reStructuredText description: no headings, code, badges, tables, lists."""
    paragraphs: list[str] = []
    current: list[str] = []
    for line in [*_BLOCKS.sub("\n\n", description).splitlines(), ""]:
        keep = bool(line.strip()) and not _NOT_PROSE.match(line) and not line.startswith(("    ", "\t"))
        if keep and not _ITEM.match(line):
            current.append(line.strip())
        elif current:
            paragraphs.append(" ".join(current))
            current = []
    cleaned = []
    for p in paragraphs:
        for pattern, replacement in _INLINE:
            p = pattern.sub(replacement, p)
        p = p.strip()
        if len(p.split()) >= 6 and p[-1] in ".!?:" and sum(c.isalpha() or c == " " for c in p) > 0.85 * len(p):
            cleaned.append(p.rstrip(":") + "." if p.endswith(":") else p)
    return "\n".join(cleaned)


def _one(distribution: Distribution) -> tuple[str, str, str] | None:
    metadata = distribution.metadata
    name, summary = metadata["Name"], metadata["Summary"]
    body = metadata["Description"] or metadata.get_payload()  # type: ignore[attr-defined]
    if not name or not summary or not isinstance(body, str) or len(summary.split()) < 4:
        return None
    text = prose(body)
    return (name.lower(), text, " ".join(summary.split())) if len(text.split()) >= 60 else None


def documents(found: Iterable[Distribution] | None = None) -> list[tuple[str, str, str]]:
    """(name, text, summary) of installed packages with enough prose, by name; each name once."""
    out: dict[str, tuple[str, str, str]] = {}
    for d in distributions() if found is None else found:
        entry = _one(d)
        if entry is not None:
            out.setdefault(entry[0], entry)
    return [out[k] for k in sorted(out)]


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")


def records(limit: int = N_DOCUMENTS, candidates: int = N_CANDIDATES) -> list[Record]:
    """The sample's documents with their extractive candidates, in an order that gives nothing away."""
    out: list[Record] = []
    for name, text, summary in documents():
        if _plain(summary) in _plain(text):  # an extract could be the reference itself
            continue
        units = units_of(text, ClauseSegmenter(), limit=40)
        lead = units_of(text).texts[:1]
        plans = (units.realise(p) for p in salient_plans(units, beams=2 * candidates, longest=3))
        texts = list({_plain(t): t for t in reversed([*lead, *plans])}.values())[::-1][:candidates]
        if len(texts) < 4:
            continue
        texts.sort(key=lambda t: digest(name, t))
        request = Request(name, text, tuple(Candidate(f"c{i}", t) for i, t in enumerate(texts)))
        out.append(Record(request, (summary,)))
        if len(out) == limit:
            break
    return out


def sample() -> Dataset[str, str]:
    """The embedded dataset of the demo."""
    return dataset_of(records(), "descriptions of installed packages")
