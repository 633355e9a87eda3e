from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.errors import UsageError
from rerank_core.evaluation import fuse_runs, judge_runs
from rerank_core.fusion import FUSIONS, fuse

runs = st.lists(
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-5, 5, allow_nan=False), max_size=8), min_size=1, max_size=4
)


@pytest.mark.parametrize("method", sorted(FUSIONS))
@given(runs)
def test_every_method_scores_exactly_the_union_whatever_is_missing(method, lists):
    fused = fuse(lists, method)
    assert set(fused) == {i for run in lists for i in run}
    assert np.isfinite(list(fused.values())).all()
    assert list(fused.values()) == sorted(fused.values(), reverse=True)


@pytest.mark.parametrize("method", sorted(FUSIONS))
@given(st.permutations("abcdef"), st.integers(1, 4))
def test_lists_that_agree_keep_their_order(method, order, copies):
    run = {d: float(-i) for i, d in enumerate(order)}
    assert list(fuse([run] * copies, method)) == list(order)


def test_reciprocal_ranks_by_hand():
    fused = fuse([{"a": 9, "b": 8}, {"b": 1, "c": 0.5}], "rrf", k=60)
    assert fused == pytest.approx({"a": 1 / 61, "b": 1 / 62 + 1 / 61, "c": 1 / 62})


def test_weights_count():
    left, right = {"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}
    for method in ("rrf", "minmax", "zscore", "combsum", "borda"):
        assert next(iter(fuse([left, right], method, weights=[2, 1]))) == "a"
        assert next(iter(fuse([left, right], method, weights=[1, 2]))) == "b"


def test_missing_candidates_as_documented():
    lists = [{"a": 10.0, "b": 0.0}, {"a": 1.0}]
    assert fuse(lists, "combsum") == pytest.approx({"a": 1.5, "b": 0.0}), "constant list gives 0.5, missing 0"
    assert fuse(lists, "combmnz") == pytest.approx({"a": 3.0, "b": 0.0})
    assert fuse([{"a": 3.0, "b": 1.0}, {"b": 5.0, "c": 4.0}], "zscore")["c"] == pytest.approx(-2), "lowest z of list 1"
    # Three ids: 3, 2, 1 points; the list that holds only a leaves 2 + 1 to share.
    assert fuse([{"a": 1.0}, {"b": 2.0, "c": 1.0, "a": 0.0}], "borda") == pytest.approx({"b": 4.5, "a": 4.0, "c": 3.5})


@given(runs, st.integers(1, 5))
def test_the_trusted_list_keeps_its_head(lists, h):
    trusted = sorted(lists[0], key=lambda d: -lists[0][d])
    assert list(fuse(lists, "head", h=h))[: min(h, len(trusted))] == trusted[:h]


def test_bad_calls_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown fusion 'x'"):
        fuse([{}], "x")
    with pytest.raises(ValueError, match="1 weights for 2 lists"):
        fuse([{}, {}], weights=[1])
    with pytest.raises(UsageError, match="at least two"):
        fuse_runs([tmp_path / "a"], tmp_path / "o")


# nDCG@10 on DL19 and DL20.
FUSED = {
    ("rrf", ("bm25", "splade_pp"), None): (0.6921, 0.6447),
    ("rrf", ("bm25", "tasb"), None): (0.6930, 0.6323),
    ("rrf", ("bm25", "tasb", "splade_pp"), None): (0.7263, 0.6856),
    ("rrf", ("tasb", "splade_pp"), None): (0.7377, 0.7224),
    ("rrf", ("bm25", "bm25_rm3", "tasb", "ada2", "splade_pp"), None): (0.7203, 0.6914),
    ("minmax", ("bm25", "splade_pp"), (0.5, 0.5)): (0.7044, 0.6735),
    ("minmax", ("bm25", "tasb"), (0.5, 0.5)): (0.6997, 0.6639),
}


@pytest.mark.shared_data
@pytest.mark.parametrize(("method", "names", "weights"), FUSED)
@pytest.mark.parametrize(("column", "year"), [(0, "dl19"), (1, "dl20")])
def test_published_fusions_to_four_decimals(shared_data, tmp_path, method, names, weights, column, year):
    folder = shared_data(f"text/trec_{year}_passage")
    paths = [folder / f"runs/{n}.top100.trec.gz" for n in names]
    if not all(p.exists() for p in paths):
        pytest.skip(f"{year} has no {[p.name for p in paths if not p.exists()]}")
    fuse_runs(paths, tmp_path / "f.trec", method, weights)
    (row,) = judge_runs(folder / "qrels.txt", [tmp_path / "f.trec"], ["nDCG@10"])
    assert round(row["value"], 4) == FUSED[method, names, weights][column]
