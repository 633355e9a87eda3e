"""Fine-tuning the packaged cross-encoder in another domain: two folds over groups, each tested by the other's model.

    python benchmarks/training_groups.py programs SPIDER_FOLDER -o WORK

No group (a database, a table) is both trained on and tested on. Figures: the first place's gain and nDCG@10 over all
requests, with a paired bootstrap against the starting point; the order given and a random one stand beside.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.domain import load
from rerank_core.measures import parse
from rerank_core.statistics import paired_bootstrap
from rerank_core.types import Ranking
from rerank_lm.encoders import CrossEncoder
from rerank_lm.training import Recipe
from rerank_lm.training.data import lists_of
from rerank_lm.training.trainer import train

MEASURES = ("nDCG@1", "nDCG@10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domain")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="ms-marco-minilm-l12")
    parser.add_argument("--loss", default="ranknet")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=5e-5)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--precision", default="bf16", help="of testing; training is fp32")
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    domain = load(args.domain)
    dataset = domain.load(args.folder)  # type: ignore[misc]
    groups = sorted({dataset.group_of(r.id) for r in dataset.requests})
    order = np.random.default_rng(0).permutation(len(groups))
    folds = [{groups[i] for i in order[k::2]} for k in range(2)]
    requests = [r.take(r.ids[: args.depth]) for r in dataset.requests]
    gold = {r.id: dict(dataset.gold.get(r.id, {})) for r in requests}
    useful = [r for r in requests if len({gold[r.id].get(c, 0.0) for c in r.ids}) > 1]  # others have no better order

    def scored(model: str, chosen: list[Any]) -> dict[str, Ranking]:
        encoder = CrossEncoder.load(model, precision=args.precision)
        text = domain.rendering
        scores = encoder.score([(text.query(r.query), text.candidate(c)) for r in chosen for c in r.candidates])
        at, out = 0, {}
        for r in chosen:
            out[r.id] = Ranking.from_scores(r, scores[at : at + len(r.candidates)])
            at += len(r.candidates)
        return out

    rng = np.random.default_rng(0)
    systems: dict[str, dict[str, Ranking]] = {
        f"start, {args.model}": scored(args.model, useful),
        "order given": {r.id: Ranking.from_scores(r, -np.arange(len(r.candidates))) for r in useful},
        "random order": {r.id: Ranking.from_scores(r, rng.random(len(r.candidates))) for r in useful},
    }
    trained: dict[str, Ranking] = {}
    for k, fold in enumerate(folds):
        recipe = Recipe(
            name=f"{args.domain} fold {k}", kind="cross-encoder", model=args.model,
            data={"domain": args.domain, "depth": args.depth, "list_size": 10, "held_out": 0.2},
            loss={"name": args.loss},
            train={"epochs": args.epochs, "batch": 4, "learning_rate": args.rate, "evaluate_every": 20, "patience": 3,
                   "save_every": 1000, "threads": 1},
        )  # fmt: skip
        mine = replace(dataset, requests=tuple(r for r in dataset.requests if dataset.group_of(r.id) in fold))
        begun = time.process_time()
        outcome = train(recipe, args.out / str(k), lists=lists_of(mine, domain.rendering, recipe.data, 0))
        print(f"fold {k}: {outcome.n_train} lists, {outcome.steps} steps, {time.process_time() - begun:.0f} CPU-s")
        others = [r for r in useful if dataset.group_of(r.id) not in fold]
        trained |= scored(str(args.out / str(k)), others)
    systems = {f"trained, {args.loss}": trained, **systems}

    by_id = {r.id: r for r in useful}
    kept = {i: gold[i] for i in by_id}
    base = {m: parse(m).rows(kept, systems[f"start, {args.model}"], by_id) for m in MEASURES}
    print(f"{len(requests) - len(useful)} of {len(requests)} requests have no better order and are left out")
    print(f"| system (n = {len(useful)}, {len(groups)} groups) | {' | '.join(MEASURES)} |\n|---|---|---|")
    for name, rankings in systems.items():
        cells = []
        for m in MEASURES:
            rows = parse(m).rows(kept, rankings, by_id)
            values, start = ({i: x[i][0] for i in by_id} for x in (rows, base[m]))
            difference, low, high, p = paired_bootstrap(values, start, seed=0)
            cells.append(
                f"{np.mean(list(values.values())):.4f} ({difference:+.4f} [{low:+.4f}, {high:+.4f}], p {p:.3f})"
            )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
