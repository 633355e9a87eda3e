"""Linking: where a text mentions entities of the catalogue, in order.

CARE concatenates every name matched in the dialogue, in order (arXiv 2508.13889); CRSLab, UniCRS and He et al. store
the mentioned entities as a set, on which a sequence model is meaningless. So the order is taken from the text.

Matching is by whole words of the normal form (`rerank_recommend.grounding.normal_form`), longest first, left to
right; "spiderman" and "Spider-Man" are the same. Names of one word need evidence beyond the word: a capital letter
inside a sentence, quotation marks, a year behind it, a genre word, or, in text written without capitals, a verb of
watching before it; common English words need the stronger kinds. That keeps "It", "Her", "Up" and "Drama" from being
everywhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rerank_recommend.data import Catalogue, plain_title
from rerank_recommend.grounding import ROMAN, normal_form

MAX_WORDS = 12
_TOKEN = re.compile(r"&|\w+(?:['’`]\w+)*")
_YEAR_BEHIND = re.compile(r"[\"'”’]?\s*[(\[]\s*((?:18|19|20)\d\d)\s*[)\]]|[\"'”’]?,?\s+((?:19|20)\d\d)\b")
_QUOTES = '"“”‘«»*_'
_SENTENCE_END = ".!?:;\n…"
_CUE_WORDS = """
saw watch watched watching seen loved love like liked enjoy enjoyed called recommend titled named movie film
films movies show see suggest about
"""
_GENRE_WORDS = """
action adventure animation animated anime biography biopic comedy comedies crime documentary documentaries
drama dramas fantasy horror musical musicals mystery noir romance romantic satire scifi slasher superhero
suspense thriller thrillers western westerns
"""
# Frequent English words that are also names in film catalogues.
_COMMON_WORDS = """
a about above actor actress after again age all alone alive also always am america american an and animals
another any anything are arrival art as at away baby back bad be beach beautiful beauty because been before
best better between big bird birds black blue book boss both box boy boys bring brother brothers but by call
can car cars cast cat chance change chicago child children christmas city close cold color come coming contact
cool could crash crazy date day days dead death did different director do dog dogs dream dreams drive duck
dune during each east easy election end english enough even ever every everything evil exam family fan far
fast father fear few film find fire first five fly for four free freedom friday friend friends from frozen fun
funny fury future game games gene get ghost gift girl girls give glass go god going gold gone good grace
gravity great green had halloween hand happiness happy hard has have he head heat heaven hell hello help her
here hero heroes hey him his history hit holiday holidays home honey hook hope horror hot hour house how human
i ice idea if in inside into is island it jaws job joy judge juice just kid kids kill kind king kiss know lady
last late laugh law lead less let life light like line little live long look lost lot love lucky lucy mad made
magic make man many marriage mars matter may me memory men milk mind miss mom moon more morning most mother
mouse movie movies mr much music must my name need never new news next nice night no nobody not nothing now of
off office old on once one only open or orphan other our out over parents part party passengers past paul
people perfect pi play please pretty queen rain ray read real rebel red ride right ring river road rock room
run safe said same saw school score sea see seven she shine ship show shrek sign signs silence sing sister six
sky sleep small snow so some someone something soldier son soon soul space speed spirit split spy star stars
start stay still stop story strange street student sugar summer super sure taken takers talk team ted tell ten
than thanks that the their them then there they thing things think this three time to today together tomorrow
too top touch toy traffic train trip trouble true trust truth try twins two unbreakable under unknown up us
very wall wanted war was watch water way we weekend well were west what when where white who whole why wife
wild will wind wish with witness woman women wonder word words work world would yeah year years yes yesterday
yet you young your zero awesome loved romance justice maybe okay oh haha lol hmm wow action comedy drama crime
fantasy thriller western
"""
_CUES = frozenset(_CUE_WORDS.split())
ARTICLES = frozenset(("the", "a", "an"))
GENRES = frozenset(_GENRE_WORDS.split())
COMMON = frozenset(_COMMON_WORDS.split())


@dataclass(frozen=True, slots=True)
class Link:
    """A mention: ``text[start:end]`` names the entity in ``row``; score 0 to 1, reason in a word."""

    row: int
    start: int
    end: int
    score: float
    reason: str


@dataclass(frozen=True, slots=True)
class _Token:
    form: str
    start: int
    end: int
    capital: bool
    first: bool  # of its sentence


class Linker:
    """An index of a catalogue's names.

    Parameters
    ----------
    popularity
        Shape (n_items,); among items of one name the more popular one is meant. By default all equal.
    """

    def __init__(self, catalogue: Catalogue, popularity: ArrayLike | None = None) -> None:
        self.catalogue = catalogue
        counts = np.zeros(catalogue.n_items) if popularity is None else np.asarray(popularity, dtype=np.float64)
        is_item = catalogue.item_of >= 0
        weight = np.zeros(len(catalogue.ids))
        weight[catalogue.item_rows] = counts
        order = np.lexsort((np.arange(len(weight)), -weight, ~is_item))
        self._rows: dict[str, list[int]] = {}
        self._words: dict[str, int] = {}  # squashed name -> number of words as spelled
        forms: dict[str, str] = {}
        for row in order.tolist():
            name = catalogue.names[row]
            form = forms.get(name) or forms.setdefault(name, normal_form(plain_title(name)))
            words = form.split()
            if not words or len(words) > MAX_WORDS or not any(c.isalnum() for c in form):
                continue
            key = "".join(words)
            self._rows.setdefault(key, []).append(row)
            self._words[key] = max(self._words.get(key, 0), len(words))
        self._longest = max(self._words.values(), default=1)
        self._starts: dict[str, int] = {}  # first characters -> longest name that starts so
        for key, n in self._words.items():
            self._starts[key[:3]] = max(self._starts.get(key[:3], 0), n)
        self._chosen: dict[tuple[str, int | None], int] = {}

    def link(self, text: str) -> list[Link]:
        """Return the mentions in a text, left to right, not overlapping."""
        tokens = _tokens(text)
        lowercase = not any(t.capital for t in tokens)
        links: list[Link] = []
        at = 0
        while at < len(tokens):
            found = self._longest_at(text, tokens, at, lowercase)
            if found is None:
                at += 1
            else:
                link, used = found
                links.append(link)
                at += used
        return links

    def rows(self, texts: Iterable[str]) -> list[int]:
        """Return the rows of the entities mentioned in utterances, in order, repeats kept."""
        return [link.row for text in texts for link in self.link(text)]

    def _longest_at(self, text: str, tokens: Sequence[_Token], at: int, lowercase: bool) -> tuple[Link, int] | None:
        key, best = "", None
        limit = min(len(tokens) - at, self._longest + 2)
        for n in range(1, limit + 1):
            form = tokens[at + n - 1].form
            key += form if n == 1 else ROMAN.get(form, form)
            if len(key) >= 3 and key[:3] not in self._starts:
                break
            if key in self._rows and (link := self._accept(text, tokens, at, n, key, lowercase)):
                best = link, n
        return best

    def _accept(self, text: str, tokens: Sequence[_Token], at: int, n: int, key: str, lowercase: bool) -> Link | None:
        first, last = tokens[at], tokens[at + n - 1]
        if n == 1 and first.form in ARTICLES:
            return None
        year_behind = _YEAR_BEHIND.match(text, last.end)
        year = int(year_behind.group(1) or year_behind.group(2)) if year_behind else None
        quoted = text[first.start - 1 : first.start] in _QUOTES and text[last.end : last.end + 1] in _QUOTES
        quoted = quoted and first.start > 0 and last.end < len(text)
        single = self._words[key] == 1 or (n == 1 and len(key) < 6)
        row = self._choose(key, year if year_behind and year_behind.group(1) else None)
        own_year = self.catalogue.years[row]
        reason, score = "exact" if n == self._words[key] else "spacing", 1.0
        if single:
            evidence = self._evidence(tokens, at, key, quoted, year is not None and year == own_year, lowercase)
            if evidence is None:
                return None
            reason, score = evidence
            if reason == "genre":
                row = next(r for r in self._rows[key] if self.catalogue.item_of[r] < 0)
        start, end = first.start, last.end
        if at and text[tokens[at - 1].start : start].strip().casefold() in ARTICLES:
            article = tokens[at - 1].form
            if self.catalogue.names[row].casefold().startswith(f"{article} "):
                start = tokens[at - 1].start
        if year_behind and year == own_year:
            end, reason = year_behind.end(), f"{reason}+year" if reason != "year" else reason
        return Link(row, start, end, score, reason)

    def _evidence(
        self, tokens: Sequence[_Token], at: int, key: str, quoted: bool, year: bool, lowercase: bool
    ) -> tuple[str, float] | None:
        """Say what speaks for a name of one word, with how sure that is; None where nothing does."""
        token = tokens[at]
        if year:
            return "year", 1.0
        if quoted:
            return "quoted", 0.95
        if token.form in GENRES:
            return ("genre", 0.9) if self.catalogue.item_of[self._rows[key][-1]] < 0 else None
        common = token.form in COMMON or len(key) < 3
        before = tokens[at - 1] if at else None
        if token.capital and before is not None and before.capital and not before.first and before.form in ARTICLES:
            return "capital", 0.8  # "The Ring" inside a sentence
        if token.capital and not token.first:
            neighbours = [t for t in tokens[max(0, at - 1) : at + 2] if t is not token]
            # A title in a heading-like run of capitals says nothing of a common word.
            if common and (token.form == "i" or len(key) < 2 or all(t.capital for t in neighbours)):
                return None
            return ("capital", 0.85) if not common else ("capital", 0.6)
        if token.capital and not common:
            return "capital", 0.7
        if lowercase and not common and len(key) >= 4:
            cue = any(t.form in _CUES for t in tokens[max(0, at - 3) : at])
            return ("cue", 0.6) if cue or len(key) >= 8 else None
        return None

    def _choose(self, key: str, year: int | None) -> int:
        """Return the row meant by a name: the item of that year, else the first in order (items, popularity, row)."""
        rows = self._rows[key]
        if len(rows) == 1:
            return rows[0]
        if (key, year) not in self._chosen:
            same = [r for r in rows if self.catalogue.years[r] == year] if year is not None else []
            self._chosen[key, year] = (same or rows)[0]
        return self._chosen[key, year]


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    end = 0
    for found in _TOKEN.finditer(text):
        word = found.group(0)
        gap = text[end : found.start()]
        first = not tokens or any(c in _SENTENCE_END for c in gap)
        end = found.end()
        tokens.append(_Token(_form(word), found.start(), end, word[0].isupper(), first))
    return tokens


def _form(word: str) -> str:
    if word == "&":
        return "and"
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", word)).casefold()
    plain = "".join(c for c in text if not unicodedata.combining(c))
    return re.sub(r"['’`_]", "", plain)
