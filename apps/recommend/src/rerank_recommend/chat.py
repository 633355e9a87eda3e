"""A small conversation in the terminal: link what was said, recommend, and let a language model word it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TextIO

from rerank_core.errors import RerankError
from rerank_recommend.data import Turn
from rerank_recommend.grounding import listed
from rerank_recommend.live import ask
from rerank_recommend.model import Recommender
from rerank_recommend.prompts import PromptParams
from rerank_recommend.rerank import run_strategy

SHOWN = 20


class Chat:
    """A conversation's state: what was said, and what was recommended already.

    Parameters
    ----------
    backend
        A back end of `rerank_lm.backends` that reorders the expert's list (CARE's select), or None.
    max_tokens
        Longest answer of the back end; what it does not get to keeps the expert's order.
    """

    def __init__(self, model: Recommender, backend: Any = None, k: int = 5, max_tokens: int = 512) -> None:
        self.model, self.backend, self.k, self.max_tokens = model, backend, k, max_tokens
        self.said: list[str] = []
        self.shown: set[str] = set()

    def answer(self, utterance: str) -> str:
        """Take what the user says and return what the recommender answers."""
        self.said.append(utterance)
        turn = Turn("chat", "chat", tuple(self.said))
        context = self.model.contexts([turn])[0]
        expert = self.model.recommend([context])
        known = {self.model.catalogue.items[c].id for c in context.known}
        strategy, answers = "experts", None
        if self.backend is not None:
            labels = [self.model.catalogue.items[c].label for c in expert[0].columns.tolist()[:SHOWN]]
            params = PromptParams(wanted=self.k)
            answers = ask(self.backend, "select", [turn], [labels], params=params, max_tokens=self.max_tokens)
            strategy = "select"
        outcome = run_strategy(self.model, [turn], strategy, answers, recommended=expert)
        items = self.model.catalogue.items
        column = self.model.catalogue.column_of
        fresh = [i for i in outcome.rankings[0].ids if i not in known and i not in self.shown][: self.k]
        chosen = set(listed(outcome.grounded.get("chat", ())))
        lines = [
            f"  {n}. {items[column[i]].label}{' *' if column[i] in chosen else ''}" for n, i in enumerate(fresh, 1)
        ]
        self.shown.update(fresh)
        heard = [items[c].label for c in context.known]
        opening = f"You mentioned {', '.join(heard[-3:])}. " if heard else ""
        if not fresh:
            reply = f"{opening}I have nothing further to recommend."
        else:
            reply = f"{opening}How about one of these?\n" + "\n".join(lines)
        self.said.append(" ".join(items[column[i]].label for i in fresh))
        return reply


def talk(
    folder: Path,
    lines: TextIO,
    out: TextIO,
    *,
    llm: str | None = None,
    endpoint: str | None = None,
    k: int = 5,
    max_tokens: int = 512,
) -> None:
    """Read utterances line by line until an empty one or the end; answer each."""
    model = Recommender.load(folder)
    backend = None
    if llm is not None or endpoint is not None:
        from rerank_lm.backends.opening import open_backend

        backend = open_backend(llm or "smollm2", endpoint=endpoint)
    chat = Chat(model, backend, k, max_tokens)
    tty = lines.isatty()
    out.write("What do you like, or what are you looking for? (an empty line ends)\n")
    while True:
        if tty:
            out.write("> ")
            out.flush()
        line = lines.readline()
        if not line.strip():
            return
        try:
            out.write(chat.answer(line.strip()) + "\n")
        except RerankError as error:
            out.write(f"{error}\n")
        out.flush()
