"""Asking a model which of two answers is better, and recording what it said.

Prompts in our own words after FairEval (Wang et al., ACL 2024): evidence first, then one score line an answer, in both
orders, several samples; or, ``vanilla``, scores first in one order, as uncalibrated judges do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_core.errors import InputError, UsageError
from rerank_core.io import atomic_write, read_jsonl

if TYPE_CHECKING:
    from rerank_lm.backends.base import BackEnd

_CRITERIA = "helpfulness, relevance, accuracy and level of detail"
_HEAD = (
    "Compare two answers to a question.\n\n[Question]\n{question}\n\n[Assistant 1]\n{first}\n[End of Assistant 1]\n\n"
    "[Assistant 2]\n{second}\n[End of Assistant 2]\n\n"
)
VANILLA = _HEAD + (
    f"Rate each answer from 1 to 10 by {_CRITERIA}. The first line of your reply must hold nothing but the two scores, "
    "Assistant 1 first, separated by a space. Then explain. Do not let the order of the answers sway you."
)
EVIDENCE_FIRST = _HEAD + (
    f"First explain how the answers compare in {_CRITERIA}; do not let their order sway you. Then end with exactly two "
    "lines, each with a score from 1 to 10:\nScore of Assistant 1: \nScore of Assistant 2: "
)


def prompts(question: str, a: str, b: str, *, vanilla: bool = False) -> list[tuple[bool, str]]:
    """(whether the answers are swapped, prompt): one order for vanilla, both for the calibrated judge."""
    template = VANILLA if vanilla else EVIDENCE_FIRST
    out = [(False, template.format(question=question, first=a, second=b))]
    if not vanilla:
        out.append((True, template.format(question=question, first=b, second=a)))
    return out


def ask(
    backend: BackEnd,
    rows: Sequence[Mapping[str, Any]],
    pair: tuple[str, str],
    *,
    samples: int = 1,
    vanilla: bool = False,
    seed: int = 0,
    max_tokens: int = 512,
) -> list[dict[str, Any]]:
    """Ask about each question; one reply row a sample and order, in FastChat's form.

    Parameters
    ----------
    rows
        ``{"question_id", "question", "answers": {name: text}}``.
    samples
        k of MEC; more than one is sampled at temperature 1.
    """
    from rerank_lm.backends.base import Prompt, Sampling

    a, b = pair
    asked, meta = [], []
    for row in rows:
        for swapped, text in prompts(row["question"], row["answers"][a], row["answers"][b], vanilla=vanilla):
            asked.append(Prompt.user(text))
            meta.append((row["question_id"], (b, a) if swapped else (a, b)))
    out = []
    for sample in range(samples):
        sampling = Sampling(max_tokens, 1.0 if samples > 1 else 0.0, seed + sample)
        for (question, (first, second)), reply in zip(meta, backend.generate(asked, sampling), strict=True):
            out.append(
                {
                    "judge": backend.name, "question_id": question, "model_1": first, "model_2": second,
                    "sample": sample, "review": reply.text,
                }
            )  # fmt: skip
    return out


def ask_file(
    questions: Path,
    out: Path,
    pair: str | None,
    model: str | None,
    endpoint: str | None,
    *,
    samples: int,
    vanilla: bool,
    seed: int,
    max_tokens: int = 512,
) -> None:
    """Ask about every question of a file and write the replies.

    Raises
    ------
    UsageError
        Without a pair.
    InputError
        Where a question lacks one of the two answers.
    """
    names = tuple(x.strip() for x in (pair or "").split(","))
    if len(names) != 2 or not all(names):
        raise UsageError("--pair must name two answerers, for example --pair gpt35,vicuna-13b")
    rows = []
    for line, row in read_jsonl(questions):
        answers = row.get("answers")
        if not isinstance(row.get("question"), str) or not isinstance(answers, dict):
            raise InputError("a row needs 'question_id', 'question' and 'answers'", questions, line)
        for name in names:
            if not isinstance(answers.get(name), str):
                raise InputError(f"no answer of {name!r}; answers: {', '.join(map(str, answers))}", questions, line)
        rows.append({"question_id": row.get("question_id", line), **row})
    from rerank_core.cache import cache_home
    from rerank_lm.backends.opening import open_backend

    backend = open_backend(model or "smollm2-135m-instruct", endpoint=endpoint, cache=cache_home() / "answers")
    with atomic_write(out) as file:
        asked = ask(
            backend, rows, (names[0], names[1]), samples=samples, vanilla=vanilla, seed=seed, max_tokens=max_tokens
        )
        for reply in asked:
            file.write(json.dumps(reply, ensure_ascii=False) + "\n")
