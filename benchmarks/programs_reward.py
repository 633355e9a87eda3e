"""RewardRanker's loop with trees on sampled completions: out-of-fold pass@1 and pairwise accuracy.

    python benchmarks/programs_reward.py HUMANEVAL_FOLDER PASS_MATRIX.jsonl[.gz]

The folder holds tasks, candidates, generated_tests and labels; the matrix is what `rerank-programs codet --save-matrix`
wrote. Problems are split into folds; every figure is of problems that no model of their fold saw.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from rerank_core.learning import group_folds
from rerank_core.statistics import bootstrap
from rerank_programs.codet import consensus, pass_at_k, random_pass_at_k, read_matrices, read_problems, read_tests
from rerank_programs.data import read_labels
from rerank_programs.reward.surrogate import LoopConfig, features, pair_accuracy, run_loop


def main(folder: Path, matrix: Path, folds: int = 5, seed: int = 0) -> None:
    requests = read_problems(folder / "tasks.jsonl.gz", folder / "candidates.jsonl.gz")
    tests = read_tests(folder / "generated_tests.jsonl.gz", folder / "tasks.jsonl.gz")
    gold = read_labels(folder / "labels.jsonl.gz")
    passed = read_matrices(matrix, requests, tests)
    weights = {k: [t.count for t in v] for k, v in tests.items()}
    counts = [np.array([float(c.content.count) for c in r.candidates]) for r in requests]
    right = [np.array([gold[r.id][c.id] for c in r.candidates]) for r in requests]
    fold = group_folds([r.id for r in requests], folds, seed)
    print("system\tpass@1\t95 % interval\tpairwise accuracy\tproblems")
    rows = {
        "random": [random_pass_at_k(c.astype(int).tolist(), y.tolist(), 1) for c, y in zip(counts, right, strict=True)],
        "codet": [
            pass_at_k(
                consensus(passed[r.id], c.astype(int).tolist(), weights[r.id]), c.astype(int).tolist(), y.tolist(), 1
            )
            for r, c, y in zip(requests, counts, right, strict=True)
        ],
    }
    scores = {"codet": [_codet_scores(passed[r.id], c, weights[r.id]) for r, c in zip(requests, counts, strict=True)]}
    for name, table in (("static", features(requests)), ("static+consensus", features(requests, passed, weights))):
        for round_ in (0, 1):
            scores[f"{name}, round {round_ + 1}"] = [np.zeros(0)] * len(requests)
        for f in range(folds):
            train, test = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
            rounds = run_loop(
                table.take(train),
                np.concatenate([right[i] for i in train]),
                np.concatenate([counts[i] for i in train]),
                LoopConfig(),
                seed,
            )
            for round_, made in enumerate(rounds):
                part = table.take(test)
                for i, s in zip(test, part.split(made.model.predict(part)), strict=True):
                    scores[f"{name}, round {round_ + 1}"][i] = s
    for name, found in scores.items():
        if name != "codet":
            rows[name] = [_best(s, y, c) for s, y, c in zip(found, right, counts, strict=True)]
    for name, values in rows.items():
        column = np.array(values)[:, None]
        low, high = bootstrap(column, lambda m: float(m.mean()), seed=seed)
        pairs = f"{pair_accuracy(scores[name], right, counts):.3f}" if name in scores else "-"
        print(f"{name}\t{100 * column.mean():.2f}\t[{100 * low:.2f}, {100 * high:.2f}]\t{pairs}\t{len(column)}")


def _codet_scores(passed: np.ndarray, counts: np.ndarray, weights: list[int]) -> np.ndarray:
    out = np.zeros(len(counts))
    for s in consensus(passed, counts.astype(int).tolist(), weights):
        out[list(s.members)] = s.score
    return out


def _best(scores: np.ndarray, right: np.ndarray, counts: np.ndarray) -> float:
    top = scores == scores.max()
    return float(np.average(right[top], weights=counts[top]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
