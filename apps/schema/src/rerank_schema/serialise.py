"""Magneto's column texts (magneto-python 0.2.0, ``ColumnEncoder``).

The special tokens stand in the text itself and are tokenised again, so an encoded text starts with two ``[CLS]``;
BERT tokenisers have no end token, so the word ``None`` ends some texts. Both are the original's behaviour and are kept,
for these texts are what its released models were trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Serialiser = Callable[[str, str, Sequence[str]], str]

CLS, SEP, EOS = "[CLS]", "[SEP]", "None"


def _default(header: str, kind: str, samples: Sequence[str]) -> str:
    return CLS + SEP.join([header, kind, *samples])


def _prefix(header: str, kind: str, samples: Sequence[str]) -> str:
    return f"{CLS}header:{header}{SEP}datatype:{kind}{SEP}values:{', '.join(samples)}"


def _repeat(header: str, kind: str, samples: Sequence[str]) -> str:
    return CLS + SEP.join([*[header] * 5, kind, *samples])


def _verbose(header: str, kind: str, samples: Sequence[str]) -> str:
    return f"{CLS}Column: {header}{SEP}Type: {kind}{SEP}Values: {SEP.join(samples)}{SEP}"


def _header_only(header: str, kind: str, samples: Sequence[str]) -> str:
    return f"{CLS}{header}{EOS}"


def _verbose_notype(header: str, kind: str, samples: Sequence[str]) -> str:
    return f"{CLS}Column: {header}{SEP}Values: {SEP.join(samples)}{SEP}{EOS}"


def _pairs_notype(header: str, kind: str, samples: Sequence[str]) -> str:
    return _verbose_notype(header, kind, [f"{header}:{s}" for s in samples])


ENCODINGS: dict[str, Serialiser] = {
    "header_values_default": _default,
    "header_values_prefix": _prefix,
    "header_values_repeat": _repeat,
    "header_values_verbose": _verbose,
    "header_only": _header_only,
    "header_values_verbose_notype": _verbose_notype,
    "header_values_columnvaluepair_notype": _pairs_notype,
    # The original keeps the type in these two as well.
    "header_header_values_repeat_notype": _repeat,
    "header_values_default_notype": _default,
}
"""Encoding name -> ``f(header, type, samples)``."""


def serialise(header: str, kind: str, samples: Sequence[str], encoding: str = "header_values_verbose") -> str:
    """Return a column as text.

    Raises
    ------
    ValueError
        When the encoding is unknown.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"unknown encoding {encoding!r}; encodings: {', '.join(ENCODINGS)}")
    return ENCODINGS[encoding](header, kind, samples)
