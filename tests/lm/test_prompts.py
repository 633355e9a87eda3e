"""Prompts as they are sent, word for word, in ``shared/prompts``; ``python tests/lm/test_prompts.py`` writes them anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_lm import prompts
from rerank_lm.backends.base import Prompt

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "prompts"
TASK = "Rank passages by how well they answer the query."
QUERY = "how long does a flea live [2]"
TEXTS = ["Cats sleep {a lot}.", "A flea lives about a year [1] > [3].", ""]
NUMBERS, LETTERS = ["1", "2", "3"], ["A", "B", "C"]
PROMPTS: dict[str, Prompt] = {
    "yes-no": prompts.yes_no(TASK, QUERY, TEXTS[0]),
    "binary": prompts.binary(TASK, QUERY, TEXTS[0]),
    "graded": prompts.graded(TASK, QUERY, TEXTS[0], 0, 9, reasoning=False),
    "graded-reasoning": prompts.graded(TASK, QUERY, TEXTS[0], 0, 10, reasoning=True),
    "query-likelihood": prompts.query_likelihood(TASK, TEXTS[0]),
    "pairwise": prompts.pairwise(TASK, QUERY, *TEXTS[:2]),
    "setwise": prompts.setwise(TASK, QUERY, LETTERS, TEXTS, reasoning=False),
    "rank-r1": prompts.setwise(TASK, QUERY, NUMBERS, TEXTS, reasoning=True),
    "first": prompts.first(TASK, QUERY, LETTERS, TEXTS),
    "letters": prompts.letters(TASK, QUERY, LETTERS, TEXTS),
    "permutation": prompts.permutation(TASK, QUERY, NUMBERS, TEXTS),
    "reasonrank": prompts.permutation(TASK, QUERY, NUMBERS, TEXTS, reasoning=True),
    "dear": prompts.permutation(TASK, QUERY, NUMBERS, TEXTS, reasoning=True, turns=True),
    "insertrank": prompts.permutation(TASK, QUERY, NUMBERS, TEXTS, notes=["score 100", "score 40", "score 0"]),
    "groupwise": prompts.groupwise(TASK, QUERY, TEXTS, 0, 10, reasoning=False),
    "e2rank": prompts.pseudo_query(TASK, QUERY, TEXTS),
    "faireval": prompts.pair_scores(TASK, QUERY, *TEXTS[:2], evidence_first=True),
    "icr": Prompt.plain(
        prompts.icr_context(TEXTS, NUMBERS)[0] + prompts.icr_suffix(QUERY, prompts.ICR_INSTRUCTIONS["find"])
    ),
}


def written(prompt: Prompt) -> str:
    turns = [f"### {m.role}\n{''.join(str(p) for p in m.parts)}\n" for m in prompt.messages]
    return "\n".join(turns) + (f"\n### answer begins with\n{prompt.prefill}\n" if prompt.prefill else "")


@pytest.mark.parametrize("name", PROMPTS)
def test_prompts_are_as_published(name):
    assert written(PROMPTS[name]) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@given(st.text(max_size=40))
@settings(deadline=None)
def test_no_label_survives_in_a_candidate(text):
    import re

    assert not re.search(r"\[\w{1,4}\]", prompts.escape(text + "[3]"))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=6), st.integers(130, 300))
@settings(deadline=None, max_examples=60)
def test_what_does_not_fit_shrinks_evenly(sizes, limit):
    contents = ["w " * n for n in sizes]
    prompt, cut = prompts.fit(
        lambda c: Prompt.plain("|".join(c)), contents, words=300, limit=limit, count=lambda t: len(t.split())
    )
    kept = [len(c.split()) for c in prompt.messages[0].content.split("|")]
    assert cut == (kept != sizes)
    if cut:
        most = max(kept)
        assert all(k == min(n, most) for k, n in zip(kept, sizes, strict=True))


if __name__ == "__main__":
    for key, value in PROMPTS.items():
        (GOLDEN / f"{key}.txt").write_text(written(value), encoding="utf-8")
