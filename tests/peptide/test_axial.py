from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from rerank_core.errors import InputError
from rerank_peptide.axial import PAD, AxialModel, AxialParams, collate, tokenise
from rerank_peptide.axial_io import from_official, load_model, load_weights, save_model
from rerank_peptide.axial_predict import alike, predict
from rerank_peptide.evidence import N_SITE, N_SUMMARY
from rerank_peptide.masses import parse_peptide

SMALL = AxialParams(32, 4, 64, 2, 2, 0.0)


@pytest.fixture(scope="module")
def model() -> AxialModel:
    torch.manual_seed(0)
    return AxialModel(SMALL).eval()


def _batch(lists: list[list[str]]) -> tuple[torch.Tensor, ...]:
    rng = np.random.default_rng(1)
    peaks = [np.sort(rng.uniform(100, 900, (n, 2)), axis=0).astype(np.float32) for n in (20, 35, 28)[: len(lists)]]
    for p in peaks:
        p[:, 1] /= np.linalg.norm(p[:, 1])
    tokens = [tokenise([parse_peptide(x) for x in row]) for row in lists]
    return collate(peaks, [700.3 + i for i in range(len(lists))], [2, 3, 2][: len(lists)], tokens)


@pytest.mark.shared_data
def test_parity_with_the_official_code(shared_data: Callable[[str], Path]) -> None:
    z = np.load(shared_data("peptide/oracle/axial_decoder_small.npz"))
    net = AxialModel(AxialParams(32, 4, 64, 2, 2, 0.0, parity=True)).eval()
    load_weights(net, from_official({k[2:]: z[k] for k in z if k.startswith("w/")}))
    mass, charge = torch.tensor(z["in/precursors"])[:, :2].unbind(1)
    spectra, charge, tokens = torch.tensor(z["in/spectra"]), charge.long(), torch.tensor(z["in/tokens"])
    with torch.no_grad():
        memory, padding = net.encoder(spectra, mass)
        embedding = net.embedding(tokens, mass, charge)
        said, quick = net(spectra, mass, charge, tokens), predict(net, spectra, mass, charge, tokens)
    assert (z["out/memory_mask"] == padding.numpy()).all()
    for name, value in (
        ("memory", memory), ("embedding", embedding), ("global_pmd", said.pmd), ("local_rmd", said.rmd),
        ("global_pmd", quick.pmd), ("local_rmd", quick.rmd),
    ):  # fmt: skip
        there = {"memory": ~padding, "local_rmd": tokens != PAD}.get(name, torch.ones_like(value, dtype=torch.bool))
        worst = float(np.abs(z[f"out/{name}"] - value.numpy())[there.numpy()].max())
        print(f"{name}: worst difference {worst:.1e}")
        assert worst <= 1e-5


def test_candidates_are_a_set(model: AxialModel) -> None:
    spectra, mass, charge, tokens = _batch([["PEPTIDEK", "PEPTLDKE", "EPPTIDEK", "PETPIDEK"]])
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        a, b = model(spectra, mass, charge, tokens), model(spectra, mass, charge, tokens[:, order])
    assert torch.allclose(a.pmd[:, order], b.pmd, atol=1e-5)
    assert torch.allclose(a.rmd[:, order], b.rmd, atol=1e-5)


def test_a_list_is_judged_the_same_whatever_it_is_batched_with(model: AxialModel) -> None:
    lists = [["PEPTIDEK", "PEPK"], ["AAAAAAAAGGGGWWK", "GASPVTLNDQKEMHFRYWK", "AAK"], ["MK", "KM", "GGK", "NK"]]
    spectra, mass, charge, tokens = _batch(lists)
    with torch.no_grad():
        together = model(spectra, mass, charge, tokens)
        for i, row in enumerate(lists):
            width = max(len(x) for x in row) + 1
            real = int((spectra[i].sum(1) != 0).sum())
            alone = model(
                spectra[i : i + 1, :real], mass[i : i + 1], charge[i : i + 1], tokens[i : i + 1, : len(row), :width]
            )
            assert torch.allclose(alone.pmd[0], together.pmd[i, : len(row)], atol=1e-5)
            assert torch.allclose(alone.rmd[0], together.rmd[i, : len(row), :width], atol=1e-5)


@pytest.mark.parametrize("parity", [False, True])
def test_leaving_padding_out_changes_nothing(parity: bool) -> None:
    torch.manual_seed(0)
    net = AxialModel(AxialParams(32, 4, 64, 2, 2, 0.3, parity=parity, evidence=not parity, match=not parity)).eval()
    rng = np.random.default_rng(2)
    shapes = [(40, 6, 9), (1, 1, 3), (250, 6, 21), (90, 2, 12), (40, 6, 9), (60, 6, 8)]
    # The official program's rows are always as many; its scale counts those of the batch.
    lists = [[tuple(rng.choice(list("GASPVTL"), int(rng.integers(2, c + 1)))) for _ in range(6 if parity else r)]
             for _, r, c in shapes]  # fmt: skip
    peaks = [rng.uniform(0.01, 1, (p, 2)).astype(np.float32) * np.float32([900, 1]) for p, _, _ in shapes]
    evidence = None if parity else [
        ([rng.random((len(x), N_SITE)) for x in row], rng.random((len(row), N_SUMMARY))) for row in lists
    ]  # fmt: skip
    batch = collate(peaks, [900.0 + i for i in range(6)], [2] * 6, [tokenise(x) for x in lists], evidence)
    tokens = batch[3]
    with torch.inference_mode():
        whole, parts = net(*batch), predict(net, *batch)
    rows = tokens[:, :, 0] != PAD
    assert torch.allclose(whole.pmd[rows], parts.pmd[rows], atol=1e-5)
    assert torch.allclose(whole.rmd[tokens != PAD], parts.rmd[tokens != PAD], atol=1e-5)
    assert not parts.pmd[~rows].any() and not parts.rmd[tokens == PAD].any()
    if not parity:
        assert whole.match is not None and parts.match is not None
        assert torch.allclose(whole.match[rows], parts.match[rows], atol=1e-5)


def test_groups_are_a_partition_and_waste_little() -> None:
    rng = np.random.default_rng(0)
    shapes = [(int(r), int(c)) for r, c in rng.integers(1, 30, (60, 2))]
    groups = alike(shapes, 500)
    assert sorted(i for g in groups for i in g) == list(range(60))
    for g in groups:
        padded = len(g) * max(shapes[i][0] for i in g) * max(shapes[i][1] for i in g)
        assert len(g) == 1 or padded <= 500
        assert padded - sum(shapes[i][0] * shapes[i][1] for i in g) <= 32
    assert alike([(5,)] * 10, 20) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("change", [{"columns": False}, {"cross": False}])
def test_switched_off_parts_are_really_off(change: dict[str, bool]) -> None:
    torch.manual_seed(0)
    net = AxialModel(AxialParams(32, 4, 64, 2, 2, 0.0, **change)).eval()
    spectra, mass, charge, tokens = _batch([["PEPTIDEK", "PEPTLDKE"]])
    with torch.no_grad():
        a = net(spectra, mass, charge, tokens)
        if "cross" in change:
            b = net(spectra * 1.5, mass, charge, tokens)
            assert torch.equal(a.pmd, b.pmd)
        else:
            row_only = all(not layer.columns for layer in net.layers)
            assert row_only and torch.isfinite(a.pmd).all()


def test_one_candidate_and_padding_are_finite(model: AxialModel) -> None:
    spectra, mass, charge, tokens = _batch([["PEPTIDEK"], ["AK", "GGGGGGGGGGGGK"]])
    assert (tokens == PAD).any()
    with torch.no_grad():
        assert torch.isfinite(model(spectra, mass, charge, tokens).pmd).all()


def test_checkpoints_round_trip_and_bad_ones_are_named(model: AxialModel, tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", model, {"note": "x"})
    again, meta = load_model(tmp_path / "m.safetensors")
    batch = _batch([["PEPTIDEK", "PEPTLDKE"]])
    with torch.no_grad():
        assert torch.equal(again(*batch).pmd, model(*batch).pmd)
    assert meta["note"] == "x"
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="no axial checkpoint"):
        load_model(tmp_path / "bad.safetensors")
