"""Multimodal documents: candidates that are page pictures or text, ranked for a question by a judge that sees.

The judges are rerank-lm's: ``mm-r5`` (Xu et al. 2025, arXiv 2506.12364) lists all candidates in one answer, ``gmr``
(arXiv 2510.14824) scores one by one, text and pictures alike. Measures follow MMDocIR as MM-R5 reports it: a question's
recall at k is the share of its gold pages among the first k; *micro* averages over questions, *macro* over domains of
documents first.
"""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rerank_core.domain import NO_CONFIG, Domain, Method
from rerank_core.errors import InputError, UsageError
from rerank_core.measures import PerRequest, Row, mean
from rerank_core.rendering import Content, Picture
from rerank_core.reranker import FirstStage, Reranker
from rerank_core.statistics import bootstrap
from rerank_core.types import Candidate, Dataset, Ranking, Request

KS = (1, 3, 5)


@dataclass(frozen=True)
class Page:
    """A question or a candidate.

    Parameters
    ----------
    text
        Words, or what stands below a picture.
    picture
        Encoded picture (JPEG, PNG).
    path
        File of the picture, if not in ``picture``; opened when it is shown.
    """

    text: str = ""
    picture: bytes | None = None
    path: str | None = None


class PageCodec:
    """JSON form: a text, or ``{"text"?, "picture"? (base64), "path"?}`` with at least one of them."""

    def encode_query(self, query: Page) -> Any:
        """Return the JSON form."""
        if query.picture is None and query.path is None:
            return query.text
        out: dict[str, Any] = {"text": query.text} if query.text else {}
        if query.picture is not None:
            out["picture"] = base64.b64encode(query.picture).decode("ascii")
        if query.path is not None:
            out["path"] = query.path
        return out

    def decode_query(self, value: Any) -> Page:
        """Read the JSON form.

        Raises
        ------
        InputError
            When it is neither a text nor an object of texts with something to show.
        """
        if isinstance(value, str):
            return Page(value)
        known = {k: value[k] for k in ("text", "picture", "path") if k in value} if isinstance(value, dict) else {}
        if not known or not all(isinstance(v, str) for v in known.values()):
            raise InputError("a page is a text, or an object with 'text', 'picture' (base64) or 'path'")
        try:
            data = base64.b64decode(known["picture"], validate=True) if "picture" in known else None
        except (binascii.Error, ValueError):
            raise InputError("a page's picture is no base64") from None
        return Page(known.get("text", ""), data, known.get("path"))

    encode_content = encode_query
    decode_content = decode_query


@dataclass(frozen=True)
class PageRendering:
    """Shows pages to judges; pictures are made no larger than ``side`` pixels.

    Pictures from files are opened as an index opens them (turned upright, damaged ones named).
    """

    instruction: str = "Find the pages that help to answer the question."
    side: int = 1120

    def query(self, query: Page) -> Content:
        """Return the question."""
        return self._content(query, "query")

    def candidate(self, candidate: Candidate[Page]) -> Content:
        """Return the candidate's picture, or its text where it has none."""
        return self._content(candidate.content, candidate.id)

    def _content(self, page: Page, name: str) -> Content:
        if page.picture is None and page.path is None:
            return page.text
        from PIL import Image

        from rerank_image.pictures import open_picture

        if page.path is not None:
            image = open_picture(Path(page.path))
        else:
            try:
                image = Image.open(io.BytesIO(page.picture or b"")).convert("RGB")
            except (OSError, ValueError) as error:
                raise InputError(f"page {name!r}: not a readable picture ({error})") from None
        image.thumbnail((self.side, self.side))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return Picture(buffer.getvalue(), page.text)


def recall_measure(k: int) -> PerRequest:
    """Share of a question's gold pages among the first ``k``."""

    def judge(gains: Mapping[str, float], ranking: Ranking, request: Request[Any, Any] | None) -> float:
        wanted = {i for i, g in gains.items() if g > 0}
        return len(wanted & set(ranking.ids[:k])) / len(wanted) if wanted else float("nan")

    return PerRequest(f"R@{k}", judge)


def page_recall(
    gold: Mapping[str, Mapping[str, float]],
    rankings: Sequence[Ranking],
    *,
    domain_of: Callable[[str], str] = lambda q: q.rpartition("/")[0],
    ks: Sequence[int] = KS,
    system: str = "ranking",
    seed: int = 0,
    n_boot: int = 1000,
) -> list[Row]:
    """Recall at k, micro and macro, with bootstrap intervals over questions; a question without a ranking scores 0.

    Parameters
    ----------
    domain_of
        From a question's id to its domain of documents; by default what stands before the id's last ``/``.
    """
    questions = sorted(q for q, gains in gold.items() if any(g > 0 for g in gains.values()))
    if not questions:
        raise InputError("the gold names no relevant page")
    found = {r.id: r.ids for r in rankings}
    domains = {d: n for n, d in enumerate(sorted({domain_of(q) for q in questions}))}
    group = np.array([domains[domain_of(q)] for q in questions])
    rows = []
    for k in ks:
        values = np.empty(len(questions))
        for i, q in enumerate(questions):
            wanted = {p for p, g in gold[q].items() if g > 0}
            values[i] = len(wanted & set(found.get(q, ())[:k])) / len(wanted)
        table = np.stack([values, group], axis=1)
        for name, aggregate in (("micro", mean), ("macro", _macro)):
            data = table[:, :1] if name == "micro" else table
            low, high = bootstrap(data, aggregate, seed=seed, n_boot=n_boot)
            rows.append(Row(system, f"R@{k}-{name}", aggregate(data), len(questions), low, high))
    return rows


def _macro(table: NDArray[Any]) -> float:
    """Mean over domains (column 1) of the mean value (column 0)."""
    group = table[:, 1].astype(int)
    counts, sums = np.bincount(group), np.bincount(group, table[:, 0])
    return float((sums[counts > 0] / counts[counts > 0]).mean())


def _no_sample() -> Dataset[Page, Page]:
    raise UsageError("documents have no embedded sample; give a file of requests")


_first = Method(lambda config: FirstStage(), "the candidates' own order", "first stage", cost="0")


@dataclass(frozen=True)
class DocumentDomain(Domain[Page, Page]):
    """The domain of pages; a server that is asked here is taken to read pictures."""

    def method(self, name: str, config: Mapping[str, Any] = NO_CONFIG) -> Reranker:
        """Build a reranker by name."""
        if config.get("endpoint") is not None:
            config = {**config, "backend_options": {"images": True, **config.get("backend_options", {})}}
        return super().method(name, config)


domain = DocumentDomain(
    name="documents",
    title="Multimodal documents: page pictures and text",
    methods={"none": _first, "default": _first},
    measures=tuple(recall_measure(k) for k in KS),
    codec=PageCodec(),
    rendering=PageRendering(),
    sample=_no_sample,
)
