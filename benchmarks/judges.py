"""Every judge on real lists with the packaged model: calls, tokens, CPU seconds and nDCG@10 beside naive orders.

    python benchmarks/judges.py noveleval FOLDER --queries 5
    python benchmarks/judges.py dl FOLDER --run bm25.top100.trec.gz --queries 5

The packaged model has 135 million parameters and was never trained to rank. The figures show that every judge runs
and what it costs; they say nothing about how good a judge is with a model made for it. ``SMALL`` holds what a few
judges are held to; mm-r5 needs a model that sees, mvp a checkpoint and clue labelled traces.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.measures import evaluate, parse
from rerank_core.rendering import TextRendering
from rerank_core.types import Candidate, Ranking, Request

METHODS = [
    "yes-no", "binary", "graded", "query-likelihood", "first", "letters", "icr", "e2rank",
    "permutation", "insertrank", "groupwise", "setwise", "pairwise", "gmr", "reasonrank", "dear", "rank-r1", "faireval",
]  # fmt: skip
# What keeps the long-winded ones to minutes on a CPU; the defaults are the papers'.
SMALL: dict[str, dict[str, Any]] = {
    "pairwise": {"k": 5},
    "setwise": {"k": 5},
    "groupwise": {"window": 5, "stride": 5},
    "rank-r1": {"k": 1, "max_tokens": 64},
    "reasonrank": {"max_tokens": 96},
    "dear": {"max_tokens": 96, "temperature": 0.0},
    "faireval": {"k": 1, "samples": 1, "temperature": 0.0, "max_tokens": 32, "top": 8},
}
RENDERING = TextRendering("Rank passages by how well they answer the query.", str, lambda c: str(c.content))


def noveleval(folder: Path, depth: int) -> list[Request]:
    with gzip.open(folder / "candidates.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    return [
        Request(
            str(r["qid"]),
            r["query"],
            tuple(Candidate(str(c["docid"]), c["text"], -float(c["rank"])) for c in r["candidates"][:depth]),
        )
        for r in rows
    ]


def trec(folder: Path, run: str, depth: int) -> list[Request]:
    queries = dict(line.rstrip("\n").split("\t", 1) for line in (folder / "queries.tsv").open())
    with gzip.open(folder / "passages.jsonl.gz", "rt") as file:
        passages = {p["docid"]: p["text"] for p in map(json.loads, file)}
    lists: dict[str, list[Candidate]] = {}
    with gzip.open(folder / "runs" / run, "rt") as file:
        for line in file:
            q, _, d, rank, score, _ = line.split()
            if int(rank) <= depth:
                lists.setdefault(q, []).append(Candidate(d, passages[d], float(score)))
    return [Request(q, queries[q], tuple(c)) for q, c in lists.items()]


def gold_of(path: Path) -> dict[str, dict[str, float]]:
    gold: dict[str, dict[str, float]] = {}
    for line in path.read_text().splitlines():
        q, _, d, g = line.split()
        gold.setdefault(q, {})[d] = float(g)
    return gold


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["noveleval", "dl"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", default="bm25.top100.trec.gz")
    parser.add_argument("--queries", type=int, default=5)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--words", type=int, default=50)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--methods", default=",".join(METHODS))
    args = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    from rerank_lm.backends.local import LocalBackEnd
    from rerank_lm.judges.building import build

    requests = (
        noveleval(args.folder, args.depth) if args.kind == "noveleval" else trec(args.folder, args.run, args.depth)
    )
    requests = requests[: args.queries]
    gold = {q.id: gold_of(args.folder / "qrels.txt").get(q.id, {}) for q in requests}
    backend = LocalBackEnd("smollm2-135m-instruct", dtype=args.dtype)
    _ = backend.model, backend.tokenizer
    rng = np.random.default_rng(0)
    systems = {
        "first stage": ([Ranking.from_scores(r, r.first_stage()) for r in requests], 0.0, 0),
        "random order": ([Ranking.from_scores(r, rng.random(len(r.candidates))) for r in requests], 0.0, 0),
    }
    print(
        "| judge | calls | prompt tokens | output tokens | CPU-s a query | prefix saved | nDCG@10 [95 %] |", flush=True
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    rows = list(systems.items())
    for name, (rankings, _, _) in rows:
        show(name, rankings, gold, requests, 0.0, "")
    for name in args.methods.split(","):
        settings = {"window": 20, "top": args.depth, "words": args.words, **SMALL.get(name, {})}
        ranker = build(name, rendering=RENDERING, backend=None if name == "e2rank" else backend, **settings)
        backend.prefix_tokens_saved = backend.scored_tokens = 0
        start = time.process_time()
        rankings = ranker.rerank(requests)
        spent = time.process_time() - start
        saved = backend.prefix_tokens_saved
        share = f"{saved / (saved + backend.scored_tokens):.0%}" if saved else ""
        show(name, rankings, gold, requests, spent, share)
        print(f"{name}: {dict(ranker.judge.report)}", file=sys.stderr, flush=True)


def show(name: str, rankings: list[Ranking], gold: dict, requests: list[Request], seconds: float, saved: str) -> None:
    [row] = evaluate([parse("nDCG@10")], gold, rankings, requests, system=name)
    n = len(requests)
    calls, prompt, output = (
        sum(getattr(r.cost, k) for r in rankings) / n for k in ("calls", "prompt_tokens", "output_tokens")
    )
    print(
        f"| {name} | {calls:.0f} | {prompt:.0f} | {output:.0f} | {seconds / n:.1f} | {saved} "
        f"| {row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}] |",
        flush=True,
    )


if __name__ == "__main__":
    main()
