"""CARE's strategies on recorded answers: accuracy, item-space validity, popularity bias, and spoiled recordings.

    python benchmarks/recommend_care.py DATA --model FOLDER

DATA holds test.jsonl.gz, entities.jsonl.gz and llm_outputs/*.jsonl.gz; FOLDER was written by `rerank-recommend fit`.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from rerank_recommend.care import STRATEGIES, popularity_bias
from rerank_recommend.data import read_gold, read_turns
from rerank_recommend.evaluation import ground_recorded, list_cases, read_answers, validity
from rerank_recommend.measures import difference, summarise
from rerank_recommend.model import Recommender
from rerank_recommend.rerank import run_strategy

SHOWN = ("R@1", "R@5", "R@10", "R@20", "R@50", "nDCG@10")


def spoiled(answers: dict[str, str], seed: int = 0) -> dict[str, dict[str, str]]:
    """Return recordings that a fusion should notice: other turns' answers, cut answers, lines in random order."""
    rng = random.Random(seed)
    ids = list(answers)
    other = ids[:]
    rng.shuffle(other)
    lines = {i: a.splitlines() for i, a in answers.items()}
    mixed = {i: rng.sample(x, len(x)) for i, x in lines.items()}
    return {
        "shuffled turns": {i: answers[j] for i, j in zip(ids, other, strict=True)},
        "cut to 40 characters": {i: a[:40] for i, a in answers.items()},
        "cut to 12 characters": {i: a[:12] for i, a in answers.items()},
        "cut to half": {i: a[: len(a) // 2] for i, a in answers.items()},
        "shuffled lines": {i: "\n".join(x) for i, x in mixed.items()},
        "shuffled turns, cut": {i: answers[j][:100] for i, j in zip(ids, other, strict=True)},
        "empty": dict.fromkeys(ids, ""),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--match", default="name")
    args = parser.parse_args()
    model = Recommender.load(args.model)
    turns, gold = read_turns(args.data / "test.jsonl.gz"), read_gold(args.data / "test.jsonl.gz")
    recommended = model.recommend(model.contexts(turns))

    def outcome(strategy: str, answers: dict[str, str] | None):
        done = run_strategy(model, turns, strategy, answers, recommended=recommended)
        column = model.catalogue.column_of
        lists = {r.id: [column[i] for i in r.ids] for r in done.rankings}
        known = {t.id: set(c.known) for t, c in zip(turns, done.contexts, strict=True)}
        fresh = [[c for c in lists[t.id] if c not in known[t.id]] for t in turns]
        bias = popularity_bias(fresh, model.popularity.tolist())
        return list_cases(turns, gold, lists, model.catalogue, args.match), bias, done

    def line(name: str, cases, bias) -> None:
        value = {(r.subset, r.row.measure): r.row for r in summarise(name, cases)}
        for subset in ("new", "all"):
            figures = "  ".join(f"{value[subset, m].value:.3f}" for m in SHOWN)
            low, high = value[subset, "R@10"].ci_low, value[subset, "R@10"].ci_high
            tail = "  ".join(f"{k} {v:.3f}" for k, v in bias.items()) if subset == "new" else ""
            n = value[subset, "R@10"].n
            print(
                f"{name if subset == 'new' else '':34} {subset:4} n={n:4} {figures}  R@10 [{low:.3f}, {high:.3f}]  {tail}"
            )

    print(f"{'system':34} {'':11} {'  '.join(SHOWN)}")
    expert, bias, _ = outcome("experts", None)
    line("experts", expert, bias)
    for path in sorted((args.data / "llm_outputs").glob("*.jsonl.gz")):
        answers = read_answers(path)
        audit = validity(ground_recorded(answers, model.grounder))
        print(f"\n{path.name}: {audit['lines']} lines, {audit['valid']:.3f} lead to an item")
        cases = {}
        for strategy in STRATEGIES[1:]:
            cases[strategy], bias, _ = outcome(strategy, answers)
            line(strategy, cases[strategy], bias)
        for other, name in ((cases["direct"], "the model alone"), (expert, "the experts alone")):
            for k in (1, 10, 20, 50):
                d = difference(cases["fuse"], other, "R", k)
                print(f"fuse - {name}: R@{k} {d.value:+.3f} [{d.ci_low:+.3f}, {d.ci_high:+.3f}] (n={d.n})")
        for what, bad in spoiled(answers).items():
            fused, bias, done = outcome("fuse", bad)
            line(f"fuse, {what}", fused, bias)
            worst = min(difference(fused, expert, "R", k, s).value for k in (1, 5, 10, 20, 50) for s in ("new", "all"))
            assert done.reliability is not None
            print(
                f"    worst R difference to the experts {worst:+.3f}; "
                f"z {done.reliability.z:.1f}, trust {done.reliability.value:.2f}"
            )


if __name__ == "__main__":
    main()
