"""The page's HTML: one file without outside resources, served by `review` or written by ``match -o out.html``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from rerank_schema.gold import Name
from rerank_schema.match import Match

_DATA = "/*DATA*/null"


def page(state: Mapping[str, Any] | None = None, token: str = "") -> str:
    """Return the page; with a state it shows that and saves nothing."""
    text = files("rerank_schema.review").joinpath("page.html").read_text("utf-8")
    data = json.dumps({"state": state, "token": token}, ensure_ascii=False)
    # "</script>" or "<!--" in a cell must not end or open anything.
    return text.replace(_DATA, data.replace("<", "\\u003c"), 1)


def static_page(matches: Sequence[Match]) -> str:
    """Return a page that shows a result and lets a person answer; answers live in the browser until exported."""
    from rerank_schema.review.state import Review

    return page(state_of(Review.of([m for m in matches if m.target_column], sources=[m.source for m in matches])))


def state_of(review: Any, samples: Mapping[tuple[str, Name], Sequence[str]] | None = None) -> dict[str, Any]:
    """Return what the page shows.

    Parameters
    ----------
    samples
        (``source`` or ``target``, column) -> sample values.
    """
    shown = samples or {}
    return {
        "columns": [
            {
                "source": list(source),
                "samples": list(shown.get(("source", source), ())),
                "candidates": [_candidate(m, shown) for m in row],
                "answer": [list(t) for t in review.answers[source].targets] if source in review.answers else None,
            }
            for source, row in review.candidates.items()
        ],
        "targets": [{"target": list(t), "samples": list(shown.get(("target", t), ()))} for t in review.targets],
        "undo": len(review.history),
    }


def _candidate(match: Match, samples: Mapping[tuple[str, Name], Sequence[str]]) -> dict[str, Any]:
    return {
        "target": list(match.target),
        "score": match.score,
        "probability": match.probability,
        "decision": match.decision,
        "reason": match.reason,
        "samples": list(samples.get(("target", match.target), ())),
    }
