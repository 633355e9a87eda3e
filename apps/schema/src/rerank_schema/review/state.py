"""What a reviewer has answered so far; every step is saved and can be taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rerank_core.errors import InputError, UsageError
from rerank_core.files import read_json, write_json
from rerank_schema.gold import Name
from rerank_schema.match import MATCH, Match

Action = Literal["accept", "reject", "clear"]
FORMAT = "rerank-schema review 1"


@dataclass(frozen=True)
class Answer:
    """A reviewer's word on one source column: its targets; none means "no match"."""

    targets: tuple[Name, ...]


@dataclass
class Review:
    """A result under review.

    Parameters
    ----------
    candidates
        Source column -> its candidates, best first, in the order of the result.
    targets
        All target columns that may be chosen.
    path
        Where answers are saved after every step; None keeps them in memory.
    """

    candidates: dict[Name, list[Match]]
    targets: Sequence[Name]
    path: Path | None = None
    answers: dict[Name, Answer] = field(default_factory=dict)
    history: list[tuple[Name, Answer | None]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        matches: Sequence[Match],
        *,
        path: Path | None = None,
        sources: Sequence[Name] = (),
        targets: Sequence[Name] = (),
    ) -> Review:
        """Begin a review, or go on with the one saved at ``path``.

        Parameters
        ----------
        sources, targets
            All columns of the two sides, where they are known; by default those in the result.
        """
        candidates: dict[Name, list[Match]] = {s: [] for s in sources}
        for match in matches:
            candidates.setdefault(match.source, []).append(match)
        for row in candidates.values():
            row.sort(key=lambda m: m.rank)
        known = dict.fromkeys([*targets, *(m.target for m in matches)])
        review = cls(candidates, list(known), path)
        if path is not None and path.exists():
            review._load(path)
        return review

    def answer(self, source: Name, targets: Sequence[Name] | None) -> None:
        """Answer a source column: its targets, an empty list for "no match", None to take the answer back.

        Raises
        ------
        UsageError
            When the source or a target is unknown.
        """
        if source not in self.candidates:
            raise UsageError(f"no source column {'.'.join(source)}")
        if unknown := [t for t in targets or () if t not in set(self.targets)]:
            raise UsageError(f"no target column {'.'.join(unknown[0])}")
        self.history.append((source, self.answers.get(source)))
        if targets is None:
            self.answers.pop(source, None)
        else:
            self.answers[source] = Answer(tuple(dict.fromkeys(targets)))
        self._save()

    def undo(self) -> Name | None:
        """Take the last step back; returns the column it was about, or None where there is none."""
        if not self.history:
            return None
        source, before = self.history.pop()
        if before is None:
            self.answers.pop(source, None)
        else:
            self.answers[source] = before
        self._save()
        return source

    def reorder(self, matches: Sequence[Match]) -> None:
        """Put new candidates in place of those of columns that are not answered yet."""
        fresh: dict[Name, list[Match]] = {}
        for match in matches:
            fresh.setdefault(match.source, []).append(match)
        for source, row in fresh.items():
            if source in self.candidates and source not in self.answers:
                self.candidates[source] = sorted(row, key=lambda m: m.rank)

    def mapping(self) -> list[tuple[Name, Name]]:
        """Return what is accepted: answered columns by their answer, others by the matcher's own decision."""
        out = []
        for source, row in self.candidates.items():
            answer = self.answers.get(source)
            chosen = answer.targets if answer else tuple(m.target for m in row if m.decision == MATCH)
            out += [(source, target) for target in chosen]
        return out

    def confirmed(self) -> list[tuple[Name, Name | None]]:
        """Return the answers alone, None for "no match": what a ranker may learn from."""
        out: list[tuple[Name, Name | None]] = []
        for source, answer in self.answers.items():
            out += [(source, t) for t in answer.targets] or [(source, None)]
        return out

    @staticmethod
    def answers_of(path: Path) -> dict[Name, tuple[Name, ...]]:
        """Return the answers saved at a path, whatever result they belong to.

        Raises
        ------
        InputError
            When the file is no saved review.
        """
        review = Review({}, ())
        review._load(path, check=False)
        return {source: answer.targets for source, answer in review.answers.items()}

    def _save(self) -> None:
        if self.path is not None:
            write_json(self.path, {"format": FORMAT, "answers": _plain(self.answers), "history": _steps(self.history)})

    def _load(self, path: Path, *, check: bool = True) -> None:
        value = read_json(path)
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise InputError("is no saved review; move it away to begin anew", path)
        try:
            self.answers = {_name(a["source"]): Answer(tuple(map(_name, a["targets"]))) for a in value["answers"]}
            self.history = [
                (_name(h["source"]), None if h["before"] is None else Answer(tuple(map(_name, h["before"]))))
                for h in value["history"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"a damaged review: {error}", path) from error
        if check:
            self.answers = {s: a for s, a in self.answers.items() if s in self.candidates}


def _name(value: Any) -> Name:
    table, column = value
    return str(table), str(column)


def _plain(answers: Mapping[Name, Answer]) -> list[dict[str, Any]]:
    return [{"source": list(s), "targets": [list(t) for t in a.targets]} for s, a in answers.items()]


def _steps(history: Sequence[tuple[Name, Answer | None]]) -> list[dict[str, Any]]:
    return [{"source": list(s), "before": None if a is None else [list(t) for t in a.targets]} for s, a in history]
