"""What each stage of semantic reranking adds, on several pools of systems.

    python benchmarks/programs_ablation.py CANDIDATES DATABASES LABELS

Every row is one more stage; EX@1 and EX@3 with 95 % intervals, and McNemar against plain voting.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rerank_core.statistics import bootstrap
from rerank_core.types import Request
from rerank_programs.data import read_candidates, read_labels
from rerank_programs.execution import Executor
from rerank_programs.measures import mcnemar
from rerank_programs.semantic import VOTE, SemanticConfig, pick

STAGES = {
    "vote, not interleaved": SemanticConfig(lints=None, expectation_weight=0, interleave=False),
    "vote": VOTE,
    "+ lints": SemanticConfig(expectation_weight=0),
    "+ predicted output": SemanticConfig(),
}


def main(candidates: Path, databases: Path, labels: Path) -> None:
    requests = read_candidates(candidates, databases)
    gold = read_labels(labels)
    outcomes = Executor().outcomes(requests)
    n = min(len(r.candidates) for r in requests)
    rng = np.random.default_rng(0)
    pools = {"all": np.arange(n)}
    pools |= {f"random {m}": np.sort(rng.choice(n, m, replace=False)) for m in range(4, n)}
    print("pool\tstage\tEX@1\t95 % interval\tEX@3\tonly it / only vote right\tMcNemar p")
    for name, members in pools.items():
        voted: list[float] = []
        for stage, config in {"vote": VOTE, **STAGES}.items():
            one, three = [], []
            for r, seen in zip(requests, outcomes, strict=True):
                part = Request(r.id, r.query, tuple(r.candidates[i] for i in members))
                order = pick(part, [seen[i] for i in members], config).order
                marks = [gold[r.id][part.candidates[i].id] for i in order]
                one.append(marks[0])
                three.append(max(marks[:3]))
            if stage == "vote" and not voted:
                voted = one
            low, high = bootstrap(np.array(one)[:, None], lambda m: float(m.mean()))
            a, b, p = mcnemar(one, voted)
            print(
                f"{name}\t{stage}\t{100 * np.mean(one):.2f}\t[{100 * low:.2f}, {100 * high:.2f}]\t"
                f"{100 * np.mean(three):.2f}\t{a} / {b}\t{p:.3f}"
            )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
