"""Grounding: from a title as somebody wrote it to an item of the catalogue, or to nothing, with the reason.

Titles are compared in a normal form (compatibility characters, case, accents, punctuation, "&" and "and", leading
articles also when trailing, Roman sequel numbers). Equal normal forms match; otherwise a close spelling does, unless
the numbers in the two titles differ ("Iron Man 3" is never "Iron Man 2"; "300" is never "31") or the title is short.
A year in the text decides between films of one title. What is still tied goes to the spelling that is the same to the
letter, then to the more popular item, then to the smaller row; the namesakes are kept, and a list of recommendations
puts them at its end (see `listed`).
"""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from rerank_recommend.data import Catalogue

ROMAN = {"ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6", "vii": "7", "viii": "8", "ix": "9", "x": "10"}
_TRAILING_ARTICLE = re.compile(r"^(.*\S)\s*,\s*(?:the|a|an)$")
_APOSTROPHES = re.compile(r"['’‘`´]")
_NO_WORD = re.compile(r"[^\w]+|_+")
_YEAR = re.compile(r"\(\s*((?:18|19|20)\d\d)\s*\)")
_BRACKETS = re.compile(r"\s*[(\[][^()\[\]]*[)\]]")
_REMARK = re.compile(r"\s+[-–—|]\s+|,?\s+directed by\b|\s+starring\b", re.IGNORECASE)
MAX_NAMESAKES = 2
MIN_REMARK = 4  # shorter tails are subtitles rather than remarks
_ARTICLES = ("the ", "a ", "an ")


def normal_form(title: str) -> str:
    """Return the form in which titles are compared; titles that are nothing but punctuation keep their characters."""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", title)).casefold()
    text = "".join(c for c in text if not unicodedata.combining(c)).strip()
    if found := _TRAILING_ARTICLE.match(text):
        text = found.group(1)
    words = _NO_WORD.sub(" ", _APOSTROPHES.sub("", text.replace("&", " and "))).strip()
    for article in _ARTICLES:
        if words.startswith(article) and len(words) > len(article):
            words = words[len(article) :]
            break
    first, *rest = words.split() or [""]
    return " ".join([first, *(ROMAN.get(w, w) for w in rest)]) or " ".join(text.split())


def numbers_in(normal: str) -> tuple[str, ...]:
    """Return the numbers of a normal form, in order, without leading zeros."""
    return tuple(n.lstrip("0") or "0" for n in re.findall(r"\d+", normal))


@dataclass(frozen=True, slots=True)
class Grounded:
    """Where a text leads.

    Parameters
    ----------
    item
        Column of the item, or None.
    score
        Likeness of the spellings, 0 to 100.
    reason
        ``exact`` or ``fuzzy``, with ``+year`` where the year agreed and ``-year`` where every item of that title is of
        another year; or why not: ``number``, ``unknown``, ``empty``.
    namesakes
        Columns of other items that the text may mean as well, best first, `MAX_NAMESAKES` at most.
    """

    raw: str
    item: int | None
    score: float
    reason: str
    namesakes: tuple[int, ...] = ()


class Grounder:
    """An index of a catalogue's titles.

    Parameters
    ----------
    popularity
        Shape (n_items,); breaks ties. By default all equal.
    min_ratio, min_length
        A spelling counts as close from this normalised indel similarity (0 to 100), in titles longer than this.
    year_slack
        Years up to this far apart count as the same film (release dates differ between countries).
    """

    def __init__(
        self,
        catalogue: Catalogue,
        popularity: ArrayLike | None = None,
        *,
        min_ratio: float = 92.0,
        min_length: int = 4,
        year_slack: int = 1,
    ) -> None:
        self.catalogue = catalogue
        self.min_ratio, self.min_length, self.year_slack = min_ratio, min_length, year_slack
        counts = np.zeros(catalogue.n_items) if popularity is None else np.asarray(popularity, dtype=np.float64)
        self._years = [i.year for i in catalogue.items]
        by_form: dict[str, list[int]] = {}
        for column in np.argsort(-counts, kind="stable").tolist():
            by_form.setdefault(normal_form(catalogue.items[column].title), []).append(column)
        self._by_form = by_form
        self._forms = [f for f in by_form if len(f) > min_length]
        self._rank = {c: r for r, c in enumerate(np.argsort(-counts, kind="stable").tolist())}
        self._close: dict[str, tuple[str, float] | None] = {}
        self._chosen: dict[tuple[int, int | None, str], Grounded] = {}

    def ground(self, texts: Iterable[str]) -> list[Grounded]:
        """Ground texts one by one; spellings that are not in the catalogue are compared in one pass."""
        texts = list(texts)
        variants = [_variants(t) for t in texts]
        open_forms = {forms[0][0] for forms in variants if forms and not any(f in self._by_form for f, _ in forms)}
        self._compare(sorted(open_forms - self._close.keys()))
        return [self._one(t, v) for t, v in zip(texts, variants, strict=True)]

    def _one(self, raw: str, variants: Sequence[tuple[str, int | None]]) -> Grounded:
        if not variants:
            return Grounded(raw, None, 0.0, "empty")
        for form, year in variants:
            if form in self._by_form:
                return self._choose(raw, self._by_form[form], year, 100.0, "exact")
        close = self._close.get(variants[0][0])
        if close is None:
            return Grounded(raw, None, 0.0, "unknown")
        form, score = close
        if score < 0:
            return Grounded(raw, None, -score, "number")
        return self._choose(raw, self._by_form[form], variants[0][1], score, "fuzzy")

    def _choose(self, raw: str, columns: Sequence[int], year: int | None, score: float, reason: str) -> Grounded:
        """Pick among items of one title, given in order of popularity."""
        if len(columns) == 1 and year is None:
            return Grounded(raw, columns[0], score, reason)
        spelling = _YEAR.sub(" ", raw).strip().casefold()
        memo = (columns[0], year, spelling)
        if memo in self._chosen:
            return replace(self._chosen[memo], raw=raw, score=score, reason=reason + self._chosen[memo].reason)

        def distance(column: int) -> tuple[int, bool]:
            own = self._years[column]
            if year is None:
                near = 0
            elif own is None:  # may be it; an item of another time is less likely
                near = 1
            else:
                near = 0 if abs(own - year) <= self.year_slack else 2
            return near, self.catalogue.items[column].title.casefold() != spelling

        best, *others = heapq.nsmallest(MAX_NAMESAKES + 1, columns, key=distance)
        suffix = ""
        if year is not None and (own := self._years[best]) is not None:
            suffix = "+year" if abs(own - year) <= self.year_slack else "-year"
        self._chosen[memo] = Grounded(raw, best, score, suffix, () if suffix == "+year" else tuple(others))
        return self._choose(raw, columns, year, score, reason)

    def _compare(self, forms: Sequence[str]) -> None:
        """Find the closest title of each form; remember -score where only the numbers forbid it."""
        from rapidfuzz import fuzz
        from rapidfuzz.process import cdist

        wanted = [f for f in forms if len(f) > self.min_length]
        self._close.update((f, None) for f in forms)
        step = max(1, 20_000_000 // max(1, len(self._forms)))
        for start in range(0, len(wanted), step):
            part = wanted[start : start + step]
            ratios = cdist(part, self._forms, scorer=fuzz.ratio, score_cutoff=self.min_ratio, dtype=np.float32)
            for form, row in zip(part, ratios, strict=True):
                found = np.flatnonzero(row)
                if not len(found):
                    continue
                best = sorted(found.tolist(), key=lambda k: (-row[k], self._rank[self._by_form[self._forms[k]][0]]))
                fitting = [k for k in best if numbers_in(self._forms[k]) == numbers_in(form)]
                self._close[form] = (
                    (self._forms[fitting[0]], float(row[fitting[0]])) if fitting else (form, -float(row[best[0]]))
                )


def listed(grounded: Sequence[Grounded]) -> list[int]:
    """Return the item columns that a grounded answer recommends: repeats dropped, namesakes at the end."""
    found = dict.fromkeys(g.item for g in grounded if g.item is not None)
    found.update(dict.fromkeys(n for g in grounded for n in g.namesakes))
    return list(found)


def _variants(text: str) -> list[tuple[str, int | None]]:
    """Return (normal form, year): the whole title first, then without brackets, then without a trailing remark.

    A part that holds a number is never cut off, for it may tell a sequel.
    """
    years = _YEAR.findall(text)
    year = int(years[-1]) if years else None
    whole = _YEAR.sub(" ", text)
    bare = _BRACKETS.sub(" ", whole)
    title, *remark = _REMARK.split(bare, maxsplit=1)
    long_remark = bool(remark) and len(remark[0].split()) >= MIN_REMARK
    forms = dict.fromkeys(normal_form(t) for t in (whole, bare, title if long_remark else bare))
    numbers = numbers_in(normal_form(whole))
    return [(f, year) for f in forms if f and numbers_in(f) == numbers]
