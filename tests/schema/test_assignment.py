"""Assignment and the bipartite reranks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_schema.bipartite import _assign_sparse, assign, rerank_official, rerank_repaired
from rerank_schema.hubness import csls

pairs_strategy = st.dictionaries(
    st.tuples(st.integers(0, 3), st.integers(0, 3)), st.floats(0.01, 1, allow_nan=False), max_size=12
)


@given(pairs_strategy)
def test_assignment_is_one_to_one_and_best(pairs: dict[tuple[int, int], float]) -> None:
    chosen = assign(pairs)
    assert len({s for s, _ in chosen}) == len(chosen) == len({t for _, t in chosen})
    rows, columns = sorted({s for s, _ in pairs}), sorted({t for _, t in pairs})
    n = min(len(rows), len(columns))
    best = max(
        (
            sum(pairs.get((r, c), 0.0) for r, c in zip(rs, cs, strict=True))
            for rs in itertools.combinations(rows, n)
            for cs in itertools.permutations(columns, n)
        ),
        default=0.0,
    )
    assert sum(pairs.get(p, 0.0) for p in chosen) == pytest.approx(best)


@given(pairs_strategy)
def test_the_sparse_assignment_is_as_good(pairs: dict[tuple[int, int], float]) -> None:
    dense, sparse = assign(pairs), _assign_sparse(pairs)
    assert len({s for s, _ in sparse}) == len(sparse) == len({t for _, t in sparse})
    assert sum(pairs[p] for p in sparse) == pytest.approx(sum(pairs.get(p, 0.0) for p in dense), abs=1e-6)


@given(pairs_strategy)
def test_official_rerank_puts_assigned_pairs_on_top(pairs: dict[tuple[int, int], float]) -> None:
    out = rerank_official(pairs)
    assert set(pairs) <= set(out)
    assigned = set(assign(pairs))
    rest = [v for p, v in out.items() if p not in assigned]
    if rest and min(out[p] for p in assigned) > 0.01:
        assert max(rest) < min(out[p] for p in assigned)


@given(pairs_strategy)
def test_repaired_rerank_invents_nothing_and_keeps_scores(pairs: dict[tuple[int, int], float]) -> None:
    out = rerank_repaired(pairs)
    assert set(out) == set(pairs)
    assert all(out[p] == pytest.approx(pairs[p]) or p in assign(pairs) for p in pairs)
    for source in {s for s, _ in pairs}:
        assert max(v for (s, _), v in out.items() if s == source) == pytest.approx(
            max(v for (s, _), v in pairs.items() if s == source)
        )


@pytest.mark.parametrize("pairs", [{}, {(0, 0): 0.5}, {(0, 0): 0.5, (1, 1): 0.4}])
def test_what_crashes_the_original_has_a_result(pairs: dict[tuple[int, int], float]) -> None:
    assert rerank_official(pairs) == pairs


def test_hubs_are_lowered() -> None:
    import numpy as np

    similarity = np.array([[0.9, 0.8, 0.1], [0.9, 0.1, 0.8], [0.9, 0.2, 0.2]], dtype=np.float32)
    scaled = csls(similarity, k=2)
    # Column 0 resembles everything; the columns that resemble one source only win there.
    assert scaled[0].argmax() == 1
    assert scaled[1].argmax() == 2
    assert csls(similarity[:0], 2).shape == (0, 3)
