"""The RewardRanker loop with trees, on CPU, over a pool of sampled programs.

A  the generator is the pool's own sampling distribution (counts);
B  the reward model is LambdaRank (pairwise logistic, that is Bradley-Terry with nDCG weights) on programs sampled from
   it, passing against failing;
C  the policy is the closed form of the KL-regularised objective that PPO climbs: p(x) exp(r(x) / beta), normalised;
D  programs are sampled from the policy and tested; failing ones with high reward are hard negatives;
E  the reward model is trained anew with them; a new policy starts from the generator.

The product is the reward model. Features: static ones of text and syntax tree, and, where model-written tests ran,
CodeT's consensus.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rerank_core.learning import FeatureTable, LambdaRank, LambdaRankParams
from rerank_core.types import FloatArray, Request
from rerank_programs.codet import ConsensusSet, consensus
from rerank_programs.data import Program, Task

STATIC = (
    "parses", "lines", "characters", "statements", "returns", "loops", "conditions", "calls", "comprehensions", "depth",
    "constants", "names", "arguments_used", "ends_with_return", "prints", "comments", "words_of_prompt", "own_name",
    "passes", "count", "text_share",
)  # fmt: skip
AGREEMENT = (
    "codet_score", "codet_rank", "codet_share", "set_size", "tests_passed", "tests_share", "passes_any", "alike",
)  # fmt: skip


@dataclass(frozen=True)
class LoopConfig:
    """Settings of the loop; all ours.

    Parameters
    ----------
    samples
        Programs drawn a problem in steps A and D.
    hard_negatives
        Failing programs of highest reward kept a problem.
    beta
        Temperature of the policy, in units of the reward's standard deviation.
    rounds
        Times that hard negatives are added.
    models
        Reward models of different seeds whose rewards are averaged.
    """

    samples: int = 50
    hard_negatives: int = 15
    beta: float = 1.0
    rounds: int = 1
    models: int = 5
    params: LambdaRankParams = field(
        default_factory=lambda: LambdaRankParams(
            n_estimators=120,
            num_leaves=7,
            min_child_samples=50,
            colsample_bytree=0.5,
            reg_lambda=10.0,
            truncation_level=100,
        )
    )


def static_features(prompt: str, program: Program) -> FloatArray:
    """Features of one completion's text and syntax tree, shape (len(STATIC),)."""
    text = program.text
    try:
        tree = ast.parse(prompt + text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    nodes = list(ast.walk(tree)) if tree is not None else []
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef)]
    main = functions[-1] if functions else None
    arguments = [a.arg for a in main.args.args] if main else []
    loaded = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    words = set(re.findall(r"[a-z]{4,}", prompt.lower()))
    said = set(re.findall(r"[a-z]{4,}", text.lower()))

    def number(*kinds: type[ast.AST]) -> float:
        return float(sum(isinstance(n, kinds) for n in nodes))

    values = {
        "parses": float(tree is not None),
        "lines": float(len(text.strip().splitlines())),
        "characters": math.log1p(len(text)),
        "statements": number(ast.stmt),
        "returns": number(ast.Return),
        "loops": number(ast.For, ast.While),
        "conditions": number(ast.If, ast.IfExp),
        "calls": number(ast.Call),
        "comprehensions": number(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
        "depth": float(max((len(x) - len(x.lstrip())) // 4 for x in (text.splitlines() or [""]))),
        "constants": number(ast.Constant),
        "names": float(len(loaded)),
        "arguments_used": sum(a in loaded for a in arguments) / len(arguments) if arguments else 1.0,
        "ends_with_return": float(bool(main and main.body and isinstance(main.body[-1], ast.Return))),
        "prints": float("print(" in text),
        "comments": float(text.count("#")),
        "words_of_prompt": len(words & said) / len(words) if words else 0.0,
        "own_name": float(bool(main and main.name in loaded)),
        "passes": number(ast.Pass),
        "count": math.log(program.count),
        "text_share": 0.0,
    }
    return np.array([values[n] for n in STATIC])


def agreement_features(
    passed: NDArray[np.bool_], programs: Sequence[int], tests: Sequence[int], sets: Sequence[ConsensusSet]
) -> FloatArray:
    """Features of one problem's consensus with model-written tests, shape (n_programs, len(AGREEMENT))."""
    n = len(programs)
    out = np.zeros((n, len(AGREEMENT)))
    best = sets[0].score if sets else 1.0
    total = sum(s.score for s in sets) or 1.0
    weight = np.asarray(tests, dtype=np.float64)
    mass = passed @ weight if passed.shape[1] else np.zeros(n)
    all_tests = weight.sum() or 1.0
    for rank, group in enumerate(sets):
        size = sum(programs[i] for i in group.members)
        for i in group.members:
            out[i, :4] = group.score / best, rank, group.score / total, math.log(size)
    out[:, 4] = mass / all_tests
    out[:, 5] = mass / (mass.max() or 1.0)
    out[:, 6] = passed.any(axis=1)
    if passed.shape[1]:
        as_number = passed.astype(np.float64)
        same = as_number @ as_number.T + (1 - as_number) @ (1 - as_number).T
        out[:, 7] = (same @ np.asarray(programs, float)) / (passed.shape[1] * sum(programs))
    unset = [i for i in range(n) if not out[i, 6]]
    out[unset, 1] = len(sets)
    return out


def features(
    requests: Sequence[Request[Task, Program]],
    matrices: Mapping[str, NDArray[np.bool_]] | None = None,
    tests: Mapping[str, Sequence[int]] | None = None,
) -> FeatureTable:
    """Return one row a program; with matrices also the consensus features."""
    names = STATIC + (AGREEMENT if matrices is not None else ())
    names += tuple(f"{n}_relative" for n in names)
    rows, offsets = [], [0]
    for request in requests:
        static = np.array([static_features(request.query.prefix, c.content) for c in request.candidates])
        counts = [c.content.count for c in request.candidates]
        static[:, STATIC.index("text_share")] = np.array(counts) / sum(counts)
        if matrices is not None and tests is not None:
            passed = matrices[request.id]
            sets = consensus(passed, counts, tests[request.id])
            static = np.hstack([static, agreement_features(passed, counts, tests[request.id], sets)])
        # Which of a problem's programs is better is what counts: each feature also relative to its problem.
        spread = static.std(axis=0)
        rows.append(np.hstack([static, (static - static.mean(axis=0)) / np.where(spread > 0, spread, 1.0)]))
        offsets.append(offsets[-1] + len(static))
    return FeatureTable(names, np.vstack(rows), np.array(offsets))


@dataclass(frozen=True)
class RewardModel:
    """The mean of several LambdaRank models."""

    members: tuple[LambdaRank, ...]

    def predict(self, table: FeatureTable) -> FloatArray:
        """Return rewards, shape (n_rows,)."""
        return np.asarray(np.mean([m.predict(table) for m in self.members], axis=0))


@dataclass(frozen=True)
class Round:
    """One reward model and what it was trained on.

    Parameters
    ----------
    model
        The reward model.
    chosen
        One array a problem: positions of the programs it was trained on.
    hard
        One array a problem: the hard negatives among them.
    """

    model: RewardModel
    chosen: tuple[NDArray[np.int64], ...]
    hard: tuple[NDArray[np.int64], ...]


def run_loop(
    table: FeatureTable, right: FloatArray, counts: FloatArray, config: LoopConfig | None = None, seed: int = 0
) -> list[Round]:
    """Run steps A to E; the last round's model is the product.

    Parameters
    ----------
    right, counts
        Shape (n_rows,): whether a program passes, how often it was sampled.
    """
    config = config or LoopConfig()
    rng = np.random.default_rng(seed)
    problems = [np.arange(a, b) for a, b in zip(table.offsets[:-1], table.offsets[1:], strict=True)]
    chosen = [_draw(rng, p, counts[p] / counts[p].sum(), config.samples) for p in problems]
    hard: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64) for _ in problems]
    rounds = [Round(_reward_model(table, right, chosen, config, seed), tuple(chosen), tuple(hard))]
    for _ in range(config.rounds):
        reward = rounds[-1].model.predict(table)
        for k, p in enumerate(problems):
            policy = kl_policy(counts[p] / counts[p].sum(), reward[p], config.beta)
            drawn = _draw(rng, p, policy, config.samples)
            hard[k] = hard_negatives(drawn, right, reward, config.hard_negatives)
            chosen[k] = np.union1d(np.union1d(chosen[k], hard[k]), drawn[right[drawn] > 0.5])
        rounds.append(Round(_reward_model(table, right, chosen, config, seed), tuple(chosen), tuple(hard)))
    return rounds


def kl_policy(prior: FloatArray, reward: FloatArray, beta: float) -> FloatArray:
    """Return argmax over p of E_p[reward] - beta * KL(p, prior): prior * exp(reward / beta), normalised.

    Rewards are put on unit scale first.
    """
    scale = float(np.std(reward)) or 1.0
    logits = np.log(prior) + reward / (beta * scale)
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def hard_negatives(drawn: NDArray[np.int64], right: FloatArray, reward: FloatArray, most: int) -> NDArray[np.int64]:
    """Return the failing ones of highest reward, best first."""
    failing = drawn[right[drawn] < 0.5]
    return np.asarray(failing[np.argsort(-reward[failing], kind="stable")][:most])


def _draw(rng: np.random.Generator, rows: NDArray[np.int64], chance: FloatArray, n: int) -> NDArray[np.int64]:
    return np.unique(rng.choice(rows, n, p=chance))


def _reward_model(
    table: FeatureTable, right: FloatArray, chosen: Sequence[NDArray[np.int64]], config: LoopConfig, seed: int
) -> RewardModel:
    useful = [c for c in chosen if 0 < right[c].sum() < len(c)]
    if not useful:
        raise ValueError("no problem has both passing and failing programs")
    rows = np.concatenate(useful)
    offsets = np.cumsum([0, *(len(c) for c in useful)])
    part = FeatureTable(table.names, table.values[rows], offsets)
    return RewardModel(tuple(LambdaRank(config.params).fit(part, right[rows], seed + k) for k in range(config.models)))


def pair_accuracy(scores: Sequence[FloatArray], right: Sequence[FloatArray], counts: Sequence[FloatArray]) -> float:
    """Mean over problems of the share of (passing, failing) pairs ordered rightly, weighted by counts; ties count half."""
    shares = []
    for s, y, w in zip(scores, right, counts, strict=True):
        good, bad = y > 0.5, y < 0.5
        if good.any() and bad.any():
            gap = s[good][:, None] - s[bad][None, :]
            weight = w[good][:, None] * w[bad][None, :]
            shares.append(float((weight * ((gap > 0) + 0.5 * (gap == 0))).sum() / weight.sum()))
    return float(np.mean(shares)) if shares else math.nan
