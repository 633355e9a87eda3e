from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rerank_core.errors import InputError, UsageError
from rerank_peptide.axial import AxialModel, AxialParams, Prediction
from rerank_peptide.axial_fit import axial_loss, fit_axial
from rerank_peptide.axial_io import load_model, save_model
from rerank_peptide.axial_rerank import AxialRanker
from rerank_peptide.config import FitAxial, read_config
from rerank_peptide.probabilities import posterior
from rerank_peptide.proteins import TEXTBOOK
from rerank_peptide.shards import ListStore

TINY = (
    "task: axial\nsimulated: {proteins: p.fasta, n: 26}\nlists: [graph, mutated]\ndim: 16\nheads: 2\nfeedforward: 16\n"
    "encoder_layers: 1\ndecoder_layers: 1\nmax_peaks: 20\nrows: 4\nbatch_size: 4\nsteps: 3\nseed: 5\n"
)


def config(folder: Path, text: str) -> FitAxial:
    (folder / "p.fasta").write_text("".join(f">p{i}\n{s}\n" for i, s in enumerate(TEXTBOOK.values())))
    (folder / "c.yaml").write_text(text)
    made: FitAxial = read_config(folder / "c.yaml", FitAxial)
    return made


def said(match: list[list[float]]) -> Prediction:
    m = torch.tensor(match)
    return Prediction(torch.zeros_like(m), torch.zeros(*m.shape, 3), m)


def test_match_loss_is_the_cross_entropy_of_this_one_or_none(tmp_path: Path) -> None:
    only = config(tmp_path, TINY + "pmd_weight: 0\nrmd_weight: 0\nlist_weight: 0\n")
    rows = torch.tensor([[True, True, True], [True, True, False], [True, True, True]])
    batch = {
        "is_row": rows, "is_residue": torch.zeros(3, 3, 3, dtype=torch.bool), "pmd": torch.zeros(3, 3),
        "rmd": torch.zeros(3, 3, 3), "match": torch.tensor([[0, 1.0, 0], [0, 0, 0], [1.0, 0, 1.0]]),
    }  # fmt: skip
    logits = [[0.5, 2.0, -1.0], [1.0, -0.3, 50.0], [0.0, 0.0, 0.0]]
    # By hand: the right one, none of two (the third is padding), and two right ones with half the weight each.
    z = [math.exp(0) + sum(math.exp(v) for v in row) for row in ([0.5, 2.0, -1.0], [1.0, -0.3], [0.0] * 3)]
    expected = (-(2.0 - math.log(z[0])) + math.log(z[1]) + math.log(z[2])) / 3
    assert float(axial_loss(said(logits), batch, only)) == pytest.approx(expected, rel=1e-5)
    off = only.model_copy(update={"match_weight": 0.0})
    assert float(axial_loss(said(logits), batch, off)) == 0


def test_posterior_leaves_room_for_none() -> None:
    assert posterior(np.array([0.0])) == pytest.approx([0.5])
    assert posterior(np.array([800.0, -800.0])) == pytest.approx([1.0, 0.0])
    assert posterior(np.array([-800.0, -800.0])) == pytest.approx([0.0, 0.0])
    assert posterior(np.empty(0)).size == 0


def test_cross_fit_scores_every_list_by_a_model_that_saw_nothing_of_its_group(tmp_path: Path) -> None:
    settings = config(tmp_path, TINY + "cross_fit: true\nfolds: 2\n")
    fit_axial(settings, tmp_path / "m")
    store = ListStore.open(tmp_path / "m" / "lists")
    z = np.load(tmp_path / "m" / "out_of_fold.npz")
    folds: dict[int, set[int]] = {}
    for group, fold in zip(store.column("group"), z["fold"], strict=True):
        folds.setdefault(int(group), set()).add(int(fold))
    assert len(folds) > 2 and all(len(f) == 1 for f in folds.values())
    assert z["sizes"].tolist() == [len(store.gains(i)) for i in range(len(store))]
    # The scores of fold 0 are those of the model of fold 0's complement, and not those of the final model.
    from rerank_peptide.axial_fit import predict

    held = np.flatnonzero(z["fold"] == 0)
    parts = np.split(z["match"], np.cumsum(z["sizes"])[:-1])
    for name, same in (("fold0/", True), ("", False)):
        model, meta = load_model(tmp_path / "m" / f"{name}axial.safetensors")
        again = [match for _, match in predict(model, store.select(held), "cpu")]
        close = all(np.allclose(a, parts[i], atol=1e-4) for a, i in zip(again, held, strict=True))
        assert close is same
    assert "match_calibration" in meta and str(tmp_path) not in meta["config"]


def test_either_head_ranks_and_a_missing_one_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "plain.safetensors", AxialModel(AxialParams(16, 2, 16, 1, 1, 0.0)))
    assert AxialRanker(str(tmp_path / "plain.safetensors")).head == "pmd"
    assert AxialRanker().head == "match" and AxialRanker(head="pmd").head == "pmd"
    for model, head in ((str(tmp_path / "plain.safetensors"), "match"), (None, "wonder")):
        with pytest.raises(UsageError, match="ranks by"):
            AxialRanker(model, head=head)


def test_checkpoints_of_another_make_are_one_line(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    small = AxialModel(AxialParams(16, 2, 16, 1, 1, 0.0))
    save_file({"x": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "newer.safetensors", {"params": '{"dim": 16, "wonder": 1}'})
    save_model(tmp_path / "whole.safetensors", small)
    from safetensors import safe_open

    with safe_open(tmp_path / "whole.safetensors", "pt") as file:
        meta, state = dict(file.metadata()), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    # Weights of a network without the evidence part, under the architecture of one that has it.
    meta["params"] = meta["params"].replace('"evidence": false', '"evidence": true')
    save_file(state, tmp_path / "older.safetensors", meta)
    for name in ("foreign", "newer", "older"):
        with pytest.raises(InputError, match="no axial checkpoint of this program") as error:
            AxialRanker(str(tmp_path / f"{name}.safetensors"))
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_two_processes_share_the_batches_and_one_writes(tmp_path: Path) -> None:
    config(tmp_path, TINY.replace("graph, mutated", "mutated") + "checkpoint_every: 2\n")
    script = tmp_path / "fit.py"
    script.write_text("from rerank_peptide.cli import main\nmain()\n")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), "fit",
         str(tmp_path / "c.yaml"), "-o", str(tmp_path / "m")],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("step 0/3") == 1, "one process talks"
    assert all(torch.isfinite(p).all() for p in load_model(tmp_path / "m" / "axial.safetensors")[0].parameters())
