"""Cleaning, types, sampling and texts: properties that hold for any column."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_schema.cleaning import clean, clean_cell
from rerank_schema.sampling import SAMPLING_MODES, murmur3, sample
from rerank_schema.serialise import ENCODINGS, serialise
from rerank_schema.tables import column_from_values

cells = st.lists(
    st.one_of(st.none(), st.text(max_size=12), st.integers(-99, 99), st.floats(allow_nan=True)), max_size=60
)


@pytest.mark.parametrize(
    ("data", "seed", "value"),
    [(b"", 0, 0), (b"", 1, 0x514E28B7), (b"test", 0, 0xBA6BD213), (b"test", 0x9747B28C, 0x704B81DC),
     (b"Hello, world!", 0x9747B28C, 0x24884CBA), (b"The quick brown fox jumps over the lazy dog", 0x9747B28C, 0x2FA826CD)],
)  # fmt: skip
def test_murmur3_gives_the_published_values(data: bytes, seed: int, value: int) -> None:
    assert murmur3(data, seed) & 0xFFFFFFFF == value


@given(cells, st.sampled_from(SAMPLING_MODES), st.integers(1, 12))
def test_samples_come_from_the_cleaned_values(values: list[object], mode: str, n: int) -> None:
    cleaned = clean(column_from_values("t", "c", values))
    picked = sample(cleaned, mode, n)
    known = {str(v) for v in cleaned.values}
    assert set(picked) <= known
    assert len(picked) <= n
    assert len(picked) == len(set(picked)) or len(known) < len(cleaned.values)
    if len(cleaned.values) <= n:
        assert picked == sorted(str(v) for v in cleaned.values)
    assert picked == sample(cleaned, mode, n)


@given(cells)
def test_cleaning_loses_no_row(values: list[object]) -> None:
    column = column_from_values("t", "c", values)
    cleaned = clean(column)
    assert cleaned.counts.sum() <= column.counts.sum() <= len(values)
    assert len(cleaned.values) == len(cleaned.counts)
    kept = sum(int(n) for v, n in zip(column.values, column.counts, strict=True) if clean_cell(v) is not None)
    assert cleaned.counts.sum() == kept


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("a", ["x", "1", "y"], "numerical"),  # one number is enough, as in the original
        ("gene_name", ["TP53"] * 9, "gene"),
        ("start_date", ["spring"] * 9, "date"),
        ("code", ["a", "b", "c"], "key"),  # all distinct
        ("patient_id", ["a"] * 9, "key"),
        ("flag", ["Yes", "No"] * 9, "binary"),
        ("colour", ["red", "blue", "green"] * 9, "categorical"),
        ("nothing", [None, "unknown", "N/A"], "unknown"),
        ("empty", [], "unknown"),
    ],
)
def test_types(name: str, values: list[object], kind: str) -> None:
    assert clean(column_from_values("t", name, values)).type == kind


def test_cell_cleaning() -> None:
    assert clean_cell("StageIIa-b") == "stage iia b"
    assert clean_cell("Not Reported") is None
    assert clean_cell("  --  ") is None or clean_cell("  --  ").strip() == ""
    assert clean_cell(3.5) == 3.5


def test_texts_hold_header_and_samples() -> None:
    for encoding in ENCODINGS:
        text = serialise("Age", "numerical", ["1", "2"], encoding)
        assert "Age" in text
        assert ("2" in text) == (encoding != "header_only")
    with pytest.raises(ValueError, match="unknown encoding"):
        serialise("a", "key", [], "nothing")
    with pytest.raises(ValueError, match="unknown sampling"):
        sample(clean(column_from_values("t", "c", ["a"])), "nothing")


def test_million_character_cells_are_cut() -> None:
    column = column_from_values("t", "c", ["x" * 1_000_000, "y"])
    assert max(len(v) for v in column.values) <= 10_000
    assert column.counts.tolist() == [1, 1]


def test_lists_and_dicts_in_cells_become_text() -> None:
    column = column_from_values("t", "c", [[1, 2], {"a": 1}, [1, 2], b"raw"])
    assert column.values == ("[1, 2]", "{'a': 1}", "raw")
    assert np.array_equal(column.counts, [2, 1, 1])
