from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rerank_core.errors import InputError
from rerank_core.types import Dataset
from rerank_peptide.config import FitAxial, read_config
from rerank_peptide.lists import Example, examples
from rerank_peptide.masses import parse_peptide
from rerank_peptide.proteins import TEXTBOOK
from rerank_peptide.shards import ListStore, prepare

KINDS = ("mutated",)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> FitAxial:
    folder = tmp_path_factory.mktemp("shards")
    (folder / "p.fasta").write_text("".join(f">p{i}\n{s}\n" for i, s in enumerate(TEXTBOOK.values())))
    path = folder / "c.yaml"
    path.write_text("task: axial\nsimulated: {proteins: p.fasta, n: 110}\nlists: [mutated]\nmax_peaks: 30\n")
    made: FitAxial = read_config(path, FitAxial)
    return made


@pytest.fixture(scope="module")
def lists(config: FitAxial) -> list[Example]:
    return examples(config, KINDS)


@pytest.fixture(scope="module")
def store(config: FitAxial, tmp_path_factory: pytest.TempPathFactory) -> ListStore:
    return prepare(config, tmp_path_factory.mktemp("lists"), KINDS)


def test_shards_hold_what_the_lists_hold(lists: Sequence[Example], store: ListStore) -> None:
    assert len(store) == len(lists) > 100 and len(store.shards) == 2
    assert [KINDS[k] for k in store.column("kind")] == [e.kind for e in lists]
    assert np.array_equal(store.column("mass"), [e.request.query.mass for e in lists])
    same = {(a.group == b.group) == (x == y) for a, x in zip(lists[:20], store.column("group")[:20], strict=True)
            for b, y in zip(lists[:20], store.column("group")[:20], strict=True)}  # fmt: skip
    assert same == {True}
    for i in (0, 7, len(lists) - 1):
        assert np.array_equal(store.gains(i), lists[i].gains())


def test_a_batch_is_what_the_reranker_makes_of_the_same_lists(lists: Sequence[Example], store: ListStore) -> None:
    from rerank_peptide.axial import collate, preprocess, tokenise
    from rerank_peptide.evidence import evidence

    requests = [lists[i].request for i in (0, 3, 9)]
    contents = [[c.content for c in r.candidates] for r in requests]
    made = collate(
        [preprocess(r.query, 30) for r in requests], [r.query.mass for r in requests],
        [r.query.charge for r in requests], [tokenise(c) for c in contents],
        [evidence(r.query, c) for r, c in zip(requests, contents, strict=True)],
    )  # fmt: skip
    batch = store.batch([0, 3, 9], 10**6, None)
    for name, value in zip(("peaks", "mass", "charge", "tokens", "sites", "summary"), made, strict=True):
        # Sites are stored in half precision.
        assert np.allclose(batch[name], value.numpy(), atol=2e-3 if name == "sites" else 1e-4), name
    assert batch["is_row"].sum(axis=1).tolist() == [len(c) for c in contents]
    assert batch["is_residue"].sum() == sum(len(t) for c in contents for t in c)
    assert (batch["pmd"][batch["match"] == 1] < 0.01).all()


def test_a_draw_keeps_the_nearest_and_repeats_with_its_seed(store: ListStore) -> None:
    many = list(range(len(store)))
    a, b = (store.batch(many, 4, np.random.default_rng(3)) for _ in range(2))
    assert all(np.array_equal(a[k], b[k]) for k in a) and a["tokens"].shape[1] == 4
    whole = store.batch(many, 10**6, None)
    nearest = np.where(whole["is_row"], whole["pmd"], np.inf).min(axis=1)
    assert np.array_equal(np.where(a["is_row"], a["pmd"], np.inf).min(axis=1), nearest)


def test_two_processes_make_what_one_makes_and_nothing_is_made_twice(
    config: FitAxial, store: ListStore, tmp_path: Path
) -> None:
    two = prepare(config.model_copy(update={"workers": 2}), tmp_path / "l", KINDS)
    whole: list[dict[str, Any]] = [s.batch(list(range(len(store))), 10**6, None) for s in (store, two)]
    assert all(np.array_equal(whole[0][k], whole[1][k]) for k in whole[0])
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "l").rglob("*.npy")}
    prepare(config, tmp_path / "l", KINDS)
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "l").rglob("*.npy")}
    with pytest.raises(InputError, match="other data or settings"):
        prepare(config.model_copy(update={"seed": 9}), tmp_path / "l", KINDS)


def _labelled(small: Dataset[Any, Any]) -> tuple[list[Any], list[str]]:
    spectra = [r.query for r in small.requests if r.candidates]
    return spectra, [next(r.candidates[0].id for r in small.requests if r.id == s.id) for s in spectra]


@pytest.mark.parametrize("kind", ["parquet", "folder", "lance"])
def test_collections_are_read_a_batch_at_a_time(small: Dataset[Any, Any], tmp_path: Path, kind: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rerank_peptide.spectra import stream_spectra

    spectra, names = _labelled(small)
    table = pa.table(
        {
            "scan_id": [s.title for s in spectra], "precursor_mz": [s.precursor_mz for s in spectra],
            "precursor_charge": [s.charge for s in spectra], "mz_array": [s.mz for s in spectra],
            "intensity_array": [s.intensity for s in spectra], "seq": names,
        }
    )  # fmt: skip
    if kind == "lance":
        path = tmp_path / "s.lance"
        pytest.importorskip("lance").write_dataset(table, str(path))
    else:
        path = tmp_path / ("s.parquet" if kind == "parquet" else "s")
        (tmp_path / "s").mkdir()
        pq.write_table(table, path if kind == "parquet" else path / "part-0.parquet")
    parts = list(stream_spectra(path, batch=6))
    assert [len(p.spectra) for p in parts] == [6] * (len(spectra) // 6) + [len(spectra) % 6] * bool(len(spectra) % 6)
    again = [s for p in parts for s in p.spectra]
    assert len({s.id for s in again}) == len(spectra)
    for s, a in zip(spectra, again, strict=True):
        assert np.allclose(s.mz, a.mz) and np.allclose(s.intensity, a.intensity) and a.charge == s.charge
    labels = {k: v for p in parts for k, v in p.labels.items()}
    assert [parse_peptide(labels[s.id]) for s in again] == [parse_peptide(n) for n in names]


def test_collections_without_columns_or_parquet_are_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from rerank_peptide.spectra import stream_spectra

    pq.write_table(pa.table({"precursor_mz": [1.0], "seq": ["AK"]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"nothing")
    for name, message in (("a", "lacks the column intensity_array"), ("b", "no Parquet"), ("c", "no such file")):
        with pytest.raises(InputError, match=message) as error:
            list(stream_spectra(tmp_path / f"{name}.parquet"))
        assert "\n" not in str(error.value)
