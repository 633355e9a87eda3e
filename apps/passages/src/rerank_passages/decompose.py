"""Question decomposition for retrieval: ask the parts, pool the findings, rank them against the whole question.

Ammann et al., "Question Decomposition for Retrieval-Augmented Generation", ACL SRW 2025: sub-questions come from a language
model; each one and the question itself retrieve; the union is reranked against the *original* question. Offline, a rule-based
decomposer stands in: it cuts comparisons and conjunctions and unfolds relative clauses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rerank_core.errors import InputError
from rerank_core.io import read_json, read_jsonl
from rerank_core.reranker import Reranker
from rerank_core.types import Candidate, Dataset, Ranking, Request

if TYPE_CHECKING:
    from rerank_passages.retrieve import Bm25Index


class Decomposer(Protocol):
    """Turns a question into simpler ones; may return none."""

    def __call__(self, question: str) -> Sequence[str]: ...


_BETWEEN = re.compile(
    r"^(?P<head>.*?)\b(?:between|of both|both)\s+(?P<a>.+?)\s+and\s+(?P<b>.+?)(?P<tail>,.*)?\??$", re.IGNORECASE
)
_OR = re.compile(r"^(?P<head>.*?)[,:]\s*(?P<a>[^,:]+?),?\s+or\s+(?P<b>[^,]+?)\??$", re.IGNORECASE)
_RELATIVE = re.compile(
    r"\b(?:who|which|that|whose|where)\s+(?P<clause>[^,?]+?)(?=,|\?|$|\s+(?:and|but|while)\b)", re.IGNORECASE
)
_CLAUSES = re.compile(
    r",?\s+(?:and|while|but|whereas|as well as)\s+(?=(?:what|who|when|where|which|how|did|does|is|was|the)\b)",
    re.IGNORECASE,
)
_NAMED = re.compile(r"['\"“‘]([^'\"”’]{3,})['\"”’]|\b((?:[A-Z][\w&.-]+)(?:\s+(?:of|the|for|and)?\s*[A-Z][\w&.-]+)*)")


def by_rules(question: str, limit: int = 4) -> list[str]:
    """Cut a question into parts without a model.

    Returns
    -------
    list of str
        At most ``limit``, none equal to the question: parts of a comparison, conjoined questions, relative clauses,
        and, for a question that names several things, one part a name.
    """
    question = " ".join(question.split())
    parts: list[str] = []
    for pattern in (_OR, _BETWEEN):
        match = pattern.match(question)
        if match:
            tail = (match.groupdict().get("tail") or "").strip(" ,?")
            parts += [" ".join(f"{match['head'].strip()} {match[x].strip()} {tail}".split()) for x in ("a", "b")]
            break
    clauses = [c.strip(" ,?") for c in _CLAUSES.split(question)]
    if len(clauses) > 1:
        parts += clauses
    else:  # a question word that opens the question, or a clause of its own, introduces no relative clause
        parts += [m["clause"].strip() for m in _RELATIVE.finditer(question, 1)]
    names = list(dict.fromkeys((a or b) for a, b in _NAMED.findall(question[1:])))
    if len(names) > 1 and not parts:
        parts += names
    seen = {question.lower().rstrip("?")}
    out = []
    for part in parts:
        key = part.lower().rstrip("?")
        if len(part.split()) >= (1 if part in names else 3) and key not in seen:
            seen.add(key)
            out.append(part)
    return out[:limit]


PROMPT = (
    "Split the question into at most {limit} simpler questions that can be answered on their own. "
    "Answer with a JSON list of strings and nothing else.\nQuestion: {question}"
)


@dataclass(frozen=True)
class ByModel:
    """Decompose with a language model; an answer that is no list falls back to the rules.

    Parameters
    ----------
    generate
        ``generate(prompt) -> text``.
    """

    generate: Callable[[str], str]
    limit: int = 4

    def __call__(self, question: str) -> Sequence[str]:
        """Return sub-questions."""
        answer = self.generate(PROMPT.replace("{limit}", str(self.limit)).replace("{question}", question))
        match = re.search(r"\[.*\]", answer, re.DOTALL)
        try:
            found: Any = json.loads(match.group()) if match else None
        except json.JSONDecodeError:
            found = None
        if not isinstance(found, list):
            return by_rules(question, self.limit)
        parts = [" ".join(p.split()) for p in found if isinstance(p, str) and p.strip()]
        return list(dict.fromkeys(parts))[: self.limit]


def pooled_request(
    qid: str,
    question: str,
    index: Bm25Index,
    passages: Mapping[str, str],
    decomposer: Decomposer | None = by_rules,
    *,
    depth: int = 10,
) -> Request[str, str]:
    """Retrieve for the question and its parts and pool what they find.

    Candidates stand in the order of their best rank in any list, the question's own list first; without a decomposer
    this is plain retrieval of the same depth.
    """
    asked = [question, *(decomposer(question) if decomposer else ())]
    lists = [index.search(text, depth) for text in asked]
    pooled: dict[str, float] = {}
    for rank in range(depth):
        for found in lists:
            if rank < len(found):
                pooled.setdefault(found[rank][0], 1.0 / (1 + rank))
    return Request(qid, question, tuple(Candidate(i, passages[i], s) for i, s in pooled.items()))


def decomposed_search(
    questions: Mapping[str, str],
    index: Bm25Index,
    passages: Mapping[str, str],
    reranker: Reranker,
    decomposer: Decomposer | None = by_rules,
    *,
    depth: int = 10,
) -> list[Ranking]:
    """Pool for every question, then rerank against the original question."""
    requests = [pooled_request(q, text, index, passages, decomposer, depth=depth) for q, text in questions.items()]
    return reranker.rerank([r for r in requests if r.candidates])


def read_multihop_rag(
    questions: str | Path, corpus: str | Path, *, words: int = 120
) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, float]]]:
    """Read MultiHop-RAG: ``MultiHopRAG.json`` and ``corpus.json``.

    Articles are cut into chunks of ``words`` words; a chunk is relevant when it holds one of the question's facts.

    Returns
    -------
    tuple
        Questions, chunks, gold.
    """
    chunks: dict[str, str] = {}
    for n, article in enumerate(_list(corpus)):
        text = str(_get(article, "body", corpus, n)).split()
        for start in range(0, max(1, len(text)), words):
            chunks[f"{n}-{start // words}"] = f"{article.get('title', '')}. {' '.join(text[start : start + words])}"
    asked: dict[str, str] = {}
    gold: dict[str, dict[str, float]] = {}
    plain = {i: " ".join(t.lower().split()) for i, t in chunks.items()}
    for n, item in enumerate(_list(questions)):
        asked[str(n)] = str(_get(item, "query", questions, n))
        facts = [" ".join(str(e.get("fact", "")).lower().split()) for e in item.get("evidence_list", [])]
        gold[str(n)] = {i: 1.0 for i, t in plain.items() if any(f and f in t for f in facts)}
    return asked, chunks, gold


def read_hotpotqa(path: str | Path) -> Dataset[str, str]:
    """Read HotpotQA's distractor setting: ten paragraphs a question, those with supporting facts are relevant."""
    requests, gold = [], {}
    for n, item in enumerate(_list(path)):
        qid = str(_get(item, "_id", path, n))
        paragraphs = _get(item, "context", path, n)
        requests.append(
            Request(
                qid,
                str(_get(item, "question", path, n)),
                tuple(Candidate(t, f"{t}. {' '.join(s)}") for t, s in paragraphs),
            )
        )
        gold[qid] = {title: 1.0 for title, _ in _get(item, "supporting_facts", path, n)}
    return Dataset(requests, gold, name="hotpotqa")


def _list(path: str | Path) -> list[dict[str, Any]]:
    if Path(path).name.removesuffix(".gz").endswith(".jsonl"):
        return [value for _, value in read_jsonl(path)]
    found = read_json(path)
    if not isinstance(found, list) or not all(isinstance(x, dict) for x in found):
        raise InputError("must be a JSON list of objects", path)
    return found


def _get(item: Mapping[str, Any], name: str, path: str | Path, number: int) -> Any:
    if name not in item:
        raise InputError(f"item {number + 1}: field {name!r} is missing", path)
    return item[name]
