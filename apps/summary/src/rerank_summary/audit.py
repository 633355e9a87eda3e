"""Finding what makes a candidate file lie: leaks, doubles, empty texts, a gold that is always in the same place."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rerank_summary.data import Record, gains
from rerank_summary.rouge import Rouge, flavour

NEAR = 0.95


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found.

    Parameters
    ----------
    kind
        ``reference-among-candidates``, ``duplicate-candidates``, ``best-position``, ``empty``, ``long``, ``few``,
        ``no-source``, ``no-reference``, ``copies-source``, ``length-correlates``, ``tied-truth``.
    level
        ``leak`` (figures on this file would be wrong), ``warning``, or ``note``.
    share, count, n
        How much of the file: documents or candidates, as the text says.
    examples
        Up to five ids.
    """

    kind: str
    level: str
    text: str
    count: int
    n: int
    examples: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as ``audit --json`` prints it."""
        return {
            "kind": self.kind,
            "level": self.level,
            "text": self.text,
            "count": self.count,
            "n": self.n,
            "share": self.count / self.n if self.n else None,
            "examples": list(self.examples),
        }


class Auditor:
    """Looks at one document after the other; `findings` says what came together."""

    def __init__(self) -> None:
        self.documents = self.candidates = 0
        self._hits: dict[str, list[str]] = {}
        self._places: list[tuple[int, int]] = []
        self._systems: Counter[str] = Counter()
        self._sizes: Counter[int] = Counter()
        self._near: Counter[str] = Counter()
        self._length_taus: list[float] = []
        self._seen_sources: dict[str, str] = {}
        self._rouge = Rouge(flavour(), ("rouge2",))

    def _hit(self, kind: str, where: str) -> None:
        self._hits.setdefault(kind, []).append(where)

    def add(self, record: Record) -> None:
        """Look at one document."""
        from rerank_core.statistics import kendall_tau

        request = record.request
        texts = [c.content for c in request.candidates]
        self.documents += 1
        self.candidates += len(texts)
        self._sizes[len(texts)] += 1
        normal = [" ".join(t.lower().split()) for t in texts]
        source = " ".join(request.query.lower().split())
        if not source:
            self._hit("no-source", record.id)
        elif source in self._seen_sources:
            self._hit("duplicate-documents", record.id)
        self._seen_sources.setdefault(source, record.id)
        if len(texts) == 1:
            self._hit("few", record.id)
        self._add_texts(record, normal, source)
        if len(set(normal)) < len(normal):
            self._hit("duplicate-candidates", record.id)
            if record.human and self._tied_differently(record, normal):
                self._hit("tied-truth", record.id)
        if record.references:
            self._add_references(record, normal)
        else:
            self._hit("no-reference", record.id)
        worth = gains(record)
        if worth and len(worth) == len(texts) > 1 and len(set(worth.values())) > 1:
            values = [worth[i] for i in request.ids]
            self._places.append((int(np.argmax(values)), len(texts)))
            tau = kendall_tau(values, [float(len(t.split())) for t in texts])
            if not math.isnan(tau):
                self._length_taus.append(tau)

    def _add_texts(self, record: Record, normal: list[str], source: str) -> None:
        for c, text in zip(record.request.candidates, normal, strict=True):
            where = f"{record.id}/{c.id}"
            if not text:
                self._hit("empty", where)
            elif len(text.split()) > 2000 or (source and len(text.split()) > max(50, len(source.split()))):
                self._hit("long", where)
            elif len(text) > 60 and text in source:
                self._hit("copies-source", where)

    def _add_references(self, record: Record, normal: list[str]) -> None:
        known = {" ".join(r.lower().split()) for r in record.references}
        reference = record.references[0]
        scores = self._rouge.score_batch([reference] * len(normal), normal)
        for c, text, score in zip(record.request.candidates, normal, scores, strict=True):
            if text and text in known:
                self._hit("reference-among-candidates", f"{record.id}/{c.id}")
                self._systems[c.id] += 1
            elif score["rouge2"].f >= NEAR:
                self._hit("nearly-reference", f"{record.id}/{c.id}")
                self._near[c.id] += 1

    @staticmethod
    def _tied_differently(record: Record, normal: list[str]) -> bool:
        means = record.human_means()
        by_text: dict[str, set[float]] = {}
        for i, text in zip(record.request.ids, normal, strict=True):
            if i in means:
                by_text.setdefault(text, set()).add(round(means[i], 9))
        return any(len(v) > 1 for v in by_text.values())

    def findings(self) -> list[Finding]:
        """What was found, leaks first."""
        out = [
            self._finding(kind, level, text, self.candidates if per == "candidate" else self.documents)
            for kind, level, per, text in _TEXTS
            if kind in self._hits
        ]
        out += [*self._position(), *self._length()]
        if not out:
            out.append(Finding("clean", "note", "nothing suspicious was found", 0, self.documents))
        rank = {"leak": 0, "warning": 1, "note": 2}
        return sorted(out, key=lambda f: rank[f.level])

    def _finding(self, kind: str, level: str, text: str, n: int) -> Finding:
        hits = self._hits[kind]
        counter = {"reference-among-candidates": self._systems, "nearly-reference": self._near}.get(kind)
        if counter:
            name, count = counter.most_common(1)[0]
            text += f"; most from candidate {name!r} ({count} times)"
        return Finding(kind, level, text, len(hits), n, tuple(hits[:5]))

    def _position(self) -> list[Finding]:
        """Is the best candidate in one place more often than chance allows? Bonferroni over the places."""
        from scipy.stats import binom

        n = len(self._places)
        if n < 5:
            return []
        out = []
        for label, places in (
            ("from the front", Counter(p for p, _ in self._places)),
            ("from the end", Counter(s - 1 - p for p, s in self._places)),
        ):
            place, count = places.most_common(1)[0]
            chance = float(np.mean([1 / s for _, s in self._places]))
            p = float(binom.sf(count - 1, n, chance)) * max(s for _, s in self._places)
            if p < 1e-6 and count / n > 0.2:
                level = "leak" if count / n > 0.8 else "warning"
                out.append(
                    Finding(
                        "best-position", level,
                        f"the best candidate is number {place + 1} {label} in {count} of {n} documents "
                        f"({chance:.0%} by chance): position gives the answer away; shuffle or re-sort the lists",
                        count, n,
                    )
                )  # fmt: skip
        return sorted(out, key=lambda f: -f.count)[:1]

    def _length(self) -> list[Finding]:
        if len(self._length_taus) < 5:
            return []
        tau = float(np.mean(self._length_taus))
        if abs(tau) < 0.2:
            return []
        return [
            Finding(
                "length-correlates", "warning",
                f"the truth correlates with length (mean Kendall tau {tau:+.2f}): report a length-controlled figure too",
                len(self._length_taus), self.documents,
            )
        ]  # fmt: skip


_TEXTS = (
    ("reference-among-candidates", "leak", "candidate", "a reference itself is among the candidates"),
    ("nearly-reference", "leak", "candidate", f"a candidate is the reference in all but name (ROUGE-2 >= {NEAR})"),
    (
        "duplicate-documents",
        "warning",
        "document",
        "the same source text occurs more than once: split by text, not by line",
    ),
    (
        "duplicate-candidates",
        "warning",
        "document",
        "a list holds the same text more than once; ties go to the lowest index",
    ),
    ("tied-truth", "warning", "document", "identical texts carry different human scores: use --ties average"),
    ("empty", "warning", "candidate", "a candidate is empty"),
    ("long", "warning", "candidate", "a candidate is longer than its source or than 2,000 words"),
    ("few", "note", "document", "a list has one candidate: there is nothing to choose"),
    ("no-source", "warning", "document", "there is no source text: lead, overlap and learned scores mean little"),
    ("no-reference", "note", "document", "there is no reference: only human scores can be evaluated"),
    ("copies-source", "note", "candidate", "a candidate is a verbatim piece of its source"),
)


def audit(records: Iterable[Record]) -> list[Finding]:
    """Audit a candidate file."""
    auditor = Auditor()
    for record in records:
        auditor.add(record)
    return auditor.findings()


__all__ = ["Auditor", "Finding", "audit"]
