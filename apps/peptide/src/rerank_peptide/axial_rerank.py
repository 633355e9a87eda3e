"""The axial network as a reranker: one head ranks, predicted RMD says which residues are doubtful."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.calibration import Isotonic
from rerank_core.errors import ModelNotFound, UsageError
from rerank_core.reranker import digest
from rerank_core.types import FloatArray, Ranking
from rerank_peptide.data import PeptideRequest


def pick_device(name: str) -> str:
    """Return ``cuda`` where there is one and ``auto`` is asked, else the name."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


class AxialRanker:
    """Ranks by the logit that a candidate is right, or by RankNovo's rule: the lowest predicted PMD comes first.

    Parameters
    ----------
    model
        A safetensors file of ``rerank-peptide fit`` or its folder; None takes the packaged one.
    head
        ``match`` or ``pmd``; None takes ``match`` where the network has it.

    Raises
    ------
    ModelNotFound
        When there is no such file.
    UsageError
        When the network lacks the head, or there is no such head.

    Attributes
    ----------
    residue_deviation
        (request id, candidate id) -> predicted RMD a token, of the last calls.
    """

    name = "axial"

    def __init__(
        self, model: str | None = None, batch_size: int = 32, device: str = "auto", head: str | None = None
    ) -> None:
        from rerank_peptide.axial_io import load_model

        path = Path(model) if model else None
        if path is not None and path.is_dir():
            path = path / "axial.safetensors"
        if path is not None and not path.is_file():
            raise ModelNotFound(f"no axial checkpoint at {path}; make one with rerank-peptide fit")
        if path is None:
            with resources.as_file(resources.files("rerank_peptide") / "weights" / "axial.safetensors") as packaged:
                if not packaged.is_file():
                    raise ModelNotFound("the package's axial checkpoint is missing; reinstall rerank-peptide")
                self.model, self.meta = load_model(packaged)
        else:
            self.model, self.meta = load_model(path)
        self.head = head or ("match" if self.model.params.match else "pmd")
        if self.head not in ("match", "pmd") or (self.head == "match" and not self.model.params.match):
            raise UsageError(
                f"this network ranks by {'match or pmd' if self.model.params.match else 'pmd'}, not {head!r}"
            )
        self.device = pick_device(device)
        self.model.to(self.device)
        self.batch_size = batch_size
        self.residue_deviation: dict[tuple[str, str], tuple[float, ...]] = {}
        self.calibration = self._calibration()

    def _calibration(self) -> Isotonic | None:
        import json

        name = "match_calibration" if self.head == "match" else "calibration"
        if name not in self.meta:
            return None
        value = json.loads(self.meta[name])
        return Isotonic(tuple(value["knots"]), tuple(value["values"]))

    def scores(self, requests: Sequence[PeptideRequest]) -> list[FloatArray]:
        """Return every candidate's match logit, or minus its predicted PMD, one array a request."""
        import torch

        from rerank_peptide.axial import collate, preprocess, tokenise
        from rerank_peptide.axial_predict import predict
        from rerank_peptide.evidence import evidence

        out: list[FloatArray] = [np.empty(0) for _ in requests]
        # Lists of similar shape share a batch; padding is the cost.
        order = sorted(
            (i for i, r in enumerate(requests) if r.candidates),
            key=lambda i: (len(requests[i].candidates), max(len(c.content) for c in requests[i].candidates)),
        )
        limit = self.model.params.max_peaks
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            chosen = [requests[i] for i in part]
            batch = collate(
                [preprocess(r.query, limit) for r in chosen],
                [r.query.mass for r in chosen],
                [r.query.charge for r in chosen],
                [tokenise([c.content for c in r.candidates]) for r in chosen],
                [evidence(r.query, [c.content for c in r.candidates]) for r in chosen]
                if self.model.params.evidence
                else None,
            )
            with torch.inference_mode():
                said = predict(self.model, *(x.to(self.device) for x in batch))
            by = said.match if self.head == "match" and said.match is not None else -said.pmd
            scores, rmd = by.float().cpu().numpy(), said.rmd.float().cpu().numpy()
            for row, i in enumerate(part):
                request = requests[i]
                out[i] = scores[row, : len(request.candidates)].astype(np.float64)
                for k, c in enumerate(request.candidates):
                    values = rmd[row, k, 1 : len(c.content) + 1]
                    self.residue_deviation[request.id, c.id] = tuple(float(v) for v in values)
        return out

    def rerank(self, requests: Sequence[PeptideRequest]) -> list[Ranking]:
        """Predict and sort."""
        return [Ranking.from_scores(r, s) for r, s in zip(requests, self.scores(requests), strict=True)]

    def probabilities(self, request: PeptideRequest, scores: FloatArray) -> FloatArray | None:
        """Return calibrated probabilities of a request's scores, in its order, or None without calibration."""
        from rerank_peptide.probabilities import confidence, posterior

        if self.calibration is None or not scores.size:
            return None
        return self.calibration.predict((posterior if self.head == "match" else confidence)(scores))

    def fingerprint(self) -> str:
        """Return the digest of the weights."""
        state: dict[str, Any] = {k: v.cpu().numpy() for k, v in self.model.state_dict().items()}
        return digest("axial", self.model.params, state, self.head)
