"""Judges of every domain that renders, by the names that a domain gives them."""

from __future__ import annotations

import pytest

from rerank_core.domain import load
from rerank_core.errors import UsageError
from rerank_core.reranker import FirstStage


def test_a_judge_whose_name_a_domain_uses_itself_is_asked_for_with_a_prefix() -> None:
    summary, passages = load("summary"), load("passages")
    assert (summary.judge_name("first"), passages.judge_name("first")) == ("judge:first", "first")
    assert isinstance(summary.method("first"), FirstStage)
    judge, same = summary.method("judge:first", {"seed": 1}), passages.method("first", {"seed": 1})
    assert type(judge) is type(same) and not isinstance(judge, FirstStage)
    assert type(summary.method("judge:yes-no")) is type(summary.method("yes-no"))
    with pytest.raises(UsageError, match="judge:first"):
        summary.method("judge:nobody")
