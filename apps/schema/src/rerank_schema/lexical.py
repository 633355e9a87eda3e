"""Names as words, and how alike two sets of short texts are by their letters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

_LOWER_UPPER = re.compile(r"([a-z0-9])([A-Z])")
_ACRONYM = re.compile(r"([A-Z]+)([A-Z][a-z])")
_LETTER_DIGIT = re.compile(r"([A-Za-z])([0-9])")
_OTHER = re.compile(r"[\W_]+")


def split_name(name: str) -> str:
    """Return a name as lower-case words: ``pathStage_pT2`` becomes ``path stage p t 2``.

    Letters of every script are kept; a name without any letter or digit comes back stripped.
    """
    text = _LOWER_UPPER.sub(r"\1 \2", name)
    text = _ACRONYM.sub(r"\1 \2", text)
    text = _LETTER_DIGIT.sub(r"\1 \2", text)
    return _OTHER.sub(" ", text).strip().lower() or name.strip().lower()


def char_ngrams(text: str, low: int = 2, high: int = 4) -> list[str]:
    """Return the character n-grams of a text with a blank on either side."""
    padded = f" {text} "
    return [padded[i : i + n] for n in range(low, high + 1) for i in range(len(padded) - n + 1)]


class TfIdf:
    """TF-IDF cosine between two lists of short texts, with logarithmic term frequency and smoothed idf.

    Parameters
    ----------
    left, right
        The two sides; idf is over both.
    terms
        Turns a text into its terms.
    """

    def __init__(
        self, left: Sequence[str], right: Sequence[str], terms: Callable[[str], Sequence[str]] = char_ngrams
    ) -> None:
        from scipy import sparse

        vocabulary: dict[str, int] = {}
        rows = [
            {vocabulary.setdefault(t, len(vocabulary)): n for t, n in Counter(terms(text)).items()}
            for text in [*left, *right]
        ]
        indices = np.fromiter((k for row in rows for k in row), dtype=np.int64)
        counts = np.fromiter((n for row in rows for n in row.values()), dtype=np.float64)
        starts = np.cumsum([0, *(len(row) for row in rows)])
        frequency = np.bincount(indices, minlength=len(vocabulary))
        idf = np.log((1 + len(rows)) / (1 + frequency)) + 1
        weights = (1 + np.log(counts)) * idf[indices]
        matrix = sparse.csr_matrix((weights, indices, starts), shape=(len(rows), len(vocabulary)))
        norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        matrix = sparse.csr_matrix(sparse.diags(1 / np.where(norms > 0, norms, 1)) @ matrix, dtype=np.float32)
        self._left, self._right = matrix[: len(left)], sparse.csc_matrix(matrix[len(left) :].T)

    def rows(self, start: int, stop: int) -> Matrix:
        """Return the similarities of some left texts with all right ones, shape (stop - start, n_right)."""
        return np.asarray((self._left[start:stop] @ self._right).todense(), dtype=np.float32)
