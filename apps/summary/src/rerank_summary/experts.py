"""A multi-task mixture of experts that re-ranks for several metrics at once.

Source: M. Ravaut et al., "SummaReranker: A Multi-Task Mixture-of-Experts Re-ranking Framework for Abstractive
Summarization", ACL 2022, and its released code: shared bottom (Linear-ReLU-Linear), experts (Linear-ReLU-Linear), per
task noisy top-k gates combined as ``log(sum gate * exp(expert))``, one Linear tower a task, binary labels (1 for the
candidates with the highest metric), mean of the tasks' cross-entropies, argmax of the mean of their sigmoids. Training
keeps the best and the worst candidate. There the input is RoBERTa-large's first state; here it is any vector: the
method ``experts`` feeds the reference-free features, so that it trains in seconds on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rerank_core.errors import InputError, UsageError
from rerank_core.io import atomic_path, read_json, write_json
from rerank_core.learning import feature_table
from rerank_core.reranker import digest
from rerank_core.types import Ranking, Request
from rerank_summary.data import Record
from rerank_summary.evaluate import candidate_values
from rerank_summary.learned import list_features
from rerank_summary.rouge import Rouge, flavour


@dataclass(frozen=True)
class ExpertParams:
    """Sizes and training; the paper's are hidden 1024, experts 6, k 3, Adafactor 1e-5 over RoBERTa-large."""

    tasks: tuple[str, ...] = ("rouge1", "rouge2", "rougeL")
    hidden: int = 32
    experts: int = 6
    k: int = 3
    balance: float = 0.0
    epochs: int = 40
    lr: float = 1e-3
    batch: int = 16


class NoisyTopK(nn.Module):
    """A gate over experts: the k largest of (clean + softplus noise) logits, softmax over those (Shazeer et al. 2017)."""

    def __init__(self, width: int, experts: int, k: int) -> None:
        super().__init__()
        self.k = min(k, experts)
        self.clean, self.noise = nn.Linear(width, experts, bias=False), nn.Linear(width, experts, bias=False)
        nn.init.zeros_(self.noise.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Gates, shape (n, n_experts); rows sum to 1 and have k entries."""
        logits = self.clean(x)
        if self.training:
            logits = logits + torch.randn_like(logits) * (nn.functional.softplus(self.noise(x)) + 1e-2)
        top, where = logits.topk(self.k, dim=-1)
        return torch.zeros_like(logits).scatter(-1, where, top.softmax(-1))


class Mixture(nn.Module):
    """Shared bottom, experts, a gate and a tower a task."""

    def __init__(self, width: int, params: ExpertParams) -> None:
        super().__init__()
        h = params.hidden
        self.bottom = nn.Sequential(nn.Linear(width, h), nn.ReLU(), nn.Linear(h, h))
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(h, h), nn.ReLU(), nn.Linear(h, h)) for _ in range(params.experts)
        )
        self.gates = nn.ModuleList(NoisyTopK(h, params.experts, params.k) for _ in params.tasks)
        self.towers = nn.ModuleList(nn.Linear(h, 1) for _ in params.tasks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Task logits, shape (n, n_tasks), and gates, shape (n, n_tasks, n_experts)."""
        shared = self.bottom(x)
        answers = torch.stack([e(shared) for e in self.experts], dim=1)
        gates = torch.stack([g(shared) for g in self.gates], dim=1)
        # log(sum_e gate * exp(expert)), stable: the largest expert is taken out of the exponent
        top = answers.amax(1, keepdim=True)
        mixed = torch.einsum("nte,neh->nth", gates, (answers - top).exp()).clamp(min=1e-12).log() + top
        return torch.cat([tower(mixed[:, i]) for i, tower in enumerate(self.towers)], dim=-1), gates


def balance_loss(gates: Tensor) -> Tensor:
    """Squared coefficient of variation of the experts' total load, summed over tasks."""
    load = gates.sum(0)
    return (load.var(-1, unbiased=False) / (load.mean(-1) ** 2 + 1e-10)).sum()


@dataclass(frozen=True)
class FittedExperts:
    """A trained mixture with the names of its inputs."""

    model: Mixture
    names: tuple[str, ...]
    params: ExpertParams

    @torch.inference_mode()
    def scores(self, values: Any) -> Any:
        """Mean of the tasks' sigmoids, shape (n,)."""
        logits, _ = self.model.eval()(torch.from_numpy(np.nan_to_num(values)).float())
        return logits.sigmoid().mean(-1).double().numpy()

    def save(self, folder: str | Path) -> None:
        """Write ``experts.safetensors`` and ``experts.json``."""
        from safetensors.torch import save_file

        folder = Path(folder)
        with atomic_path(folder / "experts.safetensors") as path:
            save_file({k: v.contiguous() for k, v in self.model.state_dict().items()}, path)
        write_json(
            folder / "experts.json", {"kind": "experts", "names": list(self.names), "params": asdict(self.params)}
        )

    @classmethod
    def load(cls, folder: str | Path) -> FittedExperts:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            When the folder holds no such model.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        value = read_json(folder / "experts.json")
        if not isinstance(value, dict) or value.get("kind") != "experts":
            raise InputError("is no mixture of experts", folder / "experts.json")
        try:
            params = ExpertParams(**{**value["params"], "tasks": tuple(value["params"]["tasks"])})
            model = Mixture(len(value["names"]), params)
            model.load_state_dict(load_file(folder / "experts.safetensors"))
        except (KeyError, TypeError, RuntimeError, OSError, SafetensorError) as error:
            raise InputError(f"damaged model: {error}", folder) from None
        return cls(model.eval(), tuple(value["names"]), params)

    def fingerprint(self) -> str:
        """Return the digest of weights."""
        return digest("experts", self.names, self.params, [v.numpy() for v in self.model.state_dict().values()])


def fit_experts(records: Sequence[Record], params: ExpertParams | None = None, seed: int = 0) -> FittedExperts:
    """Train on features: of each document the best and the worst candidate of every task.

    Raises
    ------
    UsageError
        When no document has all the tasks' metrics.
    """
    params = params or ExpertParams()
    rouge = Rouge(flavour(), ("rouge1", "rouge2", "rougeL", "rougeLsum"))
    table = feature_table([r.request for r in records], list_features)
    inputs, labels = [], []
    for i, record in enumerate(records):
        values = candidate_values(record, rouge)
        if not all(t in values for t in params.tasks) or len(record.request.candidates) < 2:
            continue
        rows = table.values[table.offsets[i] : table.offsets[i + 1]]
        metrics = np.stack([values[t] for t in params.tasks], 1)
        truth = (metrics >= metrics.max(0) - 1e-12).astype(np.float32)
        total = ((metrics - metrics.mean(0)) / (metrics.std(0) + 1e-9)).sum(1)
        keep = list(dict.fromkeys([int(total.argmax()), int(total.argmin())]))
        inputs.append(rows[keep])
        labels.append(truth[keep])
    if not inputs:
        raise UsageError(f"no document has {', '.join(params.tasks)} and two candidates")
    torch.manual_seed(seed)
    x = torch.from_numpy(np.nan_to_num(np.concatenate(inputs))).float()
    y = torch.from_numpy(np.concatenate(labels))
    model = Mixture(x.shape[1], params)
    optimiser = torch.optim.AdamW(model.parameters(), lr=params.lr, weight_decay=1e-3)
    for _ in range(params.epochs):
        for rows in torch.randperm(len(x)).split(params.batch * 2):
            logits, gates = model(x[rows])
            loss = nn.functional.binary_cross_entropy_with_logits(logits, y[rows])
            if params.balance:
                loss = loss + params.balance * balance_loss(gates)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return FittedExperts(model.eval(), table.names, params)


@dataclass(frozen=True)
class ExpertsReranker:
    """Ranks by the mean of the tasks' probabilities."""

    name: str
    fitted: FittedExperts
    explain: bool = False

    def rerank(self, requests: Sequence[Request[Any, Any]]) -> list[Ranking]:
        """Extract features, score, sort."""
        if not requests:
            return []
        table = feature_table(requests, list_features, names=self.fitted.names)
        scores = table.split(np.round(self.fitted.scores(table.values), 7))
        tasks = "/".join(self.fitted.params.tasks)
        out = []
        for request, s in zip(requests, scores, strict=True):
            why = {i: f"P(best) over {tasks} {v:.3f}" for i, v in zip(request.ids, s, strict=True)}
            out.append(Ranking.from_scores(request, s, reasons=why if self.explain else None))
        return out

    def fingerprint(self) -> str:
        """Return the digest of the model."""
        return digest("experts-reranker", self.fitted.fingerprint(), self.explain)


def experts_reranker(config: Mapping[str, Any]) -> ExpertsReranker:
    """Build the reranker of method ``experts``."""
    if not config["model"]:
        raise UsageError("method 'experts' needs a model of `rerank-summary train experts`: --set model=FOLDER")
    return ExpertsReranker("experts", FittedExperts.load(config["model"]), config["explain"])
