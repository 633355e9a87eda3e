"""Fine-tuning the packaged cross-encoder on one TREC year and testing it on the other, loss by loss.

    python benchmarks/training.py TRAIN_FOLDER TEST_FOLDER --losses ranknet,listnet --depth 30 -o WORK
    python benchmarks/training.py TRAIN_FOLDER TEST_FOLDER --layers 6 --losses margin-mse,ranknet --epochs 12 --rate 1e-4 -o WORK

``--layers`` starts from so many of the model's layers, evenly chosen: a student that has yet to learn.

Every trained model stands beside its starting point with a paired bootstrap over the test queries, and beside the
first stage and an untrained bi-encoder. The test year is never used for stopping: held-out queries of the training
year are.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.domain import load
from rerank_core.measures import parse
from rerank_core.statistics import paired_bootstrap
from rerank_core.types import Ranking
from rerank_lm.encoders import BiEncoder, CrossEncoder
from rerank_lm.models import MODELS, resolve_model
from rerank_lm.training import Recipe
from rerank_lm.training.trainer import train


def per_query(model: str, folder: Path, depth: int, precision: Any) -> dict[str, float]:
    """nDCG@10 a query; ``first-stage`` and bi-encoders are models too."""
    dataset = load("passages").load(folder)  # type: ignore[misc]
    requests = [r for r in dataset.requests if r.id in dataset.gold]
    heads = [r.take(r.ids[:depth]) for r in requests]
    scores: Any
    if model == "first-stage":
        scores = [float(s) for r in heads for s in r.first_stage()]
    elif model in MODELS and MODELS[model].kind == "bi-encoder":
        encoder = BiEncoder.load(model, precision=precision)
        queries = encoder.encode([r.query for r in heads])
        texts = encoder.encode([c.content for r in heads for c in r.candidates])
        scores = np.einsum("nd,nd->n", np.repeat(queries, [len(r.candidates) for r in heads], axis=0), texts)
    else:
        pairs = [(r.query, c.content) for r in heads for c in r.candidates]
        scores = CrossEncoder.load(model, precision=precision).score(pairs)
    at, rankings = 0, {}
    for r in heads:
        n = len(r.candidates)
        rankings[r.id] = Ranking.from_scores(r, scores[at : at + n])
        at += n
    gold = {r.id: dataset.gold[r.id] for r in heads}
    rows = parse("nDCG@10").rows(gold, rankings, {r.id: r for r in heads})
    return {r.id: rows[r.id][0] for r in heads}


def student(model: str, layers: int, folder: Path) -> str:
    """Write a cross-encoder with some of its layers, evenly chosen."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    source = resolve_model(model).folder()
    whole = AutoModelForSequenceClassification.from_pretrained(source)
    stack = whole.bert.encoder.layer
    keep = np.linspace(0, len(stack) - 1, layers).round().astype(int)
    whole.bert.encoder.layer = torch.nn.ModuleList([stack[i] for i in keep])
    whole.config.num_hidden_layers = layers
    whole.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return str(folder)


def mean(values: dict[str, float]) -> float:
    return float(np.mean(list(values.values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--losses", default="ranknet,listnet,lambda,distil,yes-no,contrastive")
    parser.add_argument("--model", default="ms-marco-minilm-l12")
    parser.add_argument("--teacher", default="ms-marco-minilm-l12")
    parser.add_argument("--baselines", default="first-stage,all-minilm-l6-v2")
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--test-depth", type=int, default=50)
    parser.add_argument("--precision", default="bf16", help="of testing; training is fp32")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--list-size", type=int, default=12)
    parser.add_argument("--rate", type=float, default=2e-5)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--patience", type=int, default=4)
    parser.add_argument("--rewrite-terms", type=int, default=0, help="CAR: terms added to the training queries")
    parser.add_argument("--layers", type=int, help="start from a student of so many layers")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()

    import torch

    torch.set_num_threads(args.threads)

    def test(model: str) -> dict[str, float]:
        return per_query(model, args.test, args.test_depth, args.precision)

    if args.layers:
        args.model = student(args.model, args.layers, args.out / "student")
    start = test(args.model)
    print("| loss | nDCG@10 | difference to the start [95 %] | p | train CPU-s |\n|---|---|---|---|---|", flush=True)
    print(f"| (start, {args.model}) | {mean(start):.4f} (n = {len(start)}) | | | |", flush=True)
    for name in filter(None, args.baselines.split(",")):
        show(f"({name})", test(name), start, "")
    for name in args.losses.split(","):
        recipe = Recipe(
            name=f"{name} on {args.train.name}",
            kind="cross-encoder",
            model=args.model,
            data={
                "folder": str(args.train), "depth": args.depth, "list_size": args.list_size, "held_out": 0.15,
                "teacher": args.teacher if name in ("distil", "margin-mse", "dear") else None,
                "rewrite_terms": args.rewrite_terms,
                # These losses only tell relevant from not, and TREC DL's grade 1 is "related".
                "least_gain": 2.0 if name in ("yes-no", "contrastive") else 0.0,
            },
            loss={"name": name, "temperature": 2.0 if name in ("distil", "dear") else 1.0},
            train={"epochs": args.epochs, "batch": args.batch, "learning_rate": args.rate,
                   "evaluate_every": 12, "patience": args.patience,
                   "save_every": 1000, "threads": args.threads},
        )  # fmt: skip
        begun = time.process_time()
        train(recipe, args.out / name)
        spent = time.process_time() - begun
        show(name, test(str(args.out / name)), start, f"{spent:.0f}")


def show(name: str, values: dict[str, float], start: dict[str, float], spent: str) -> None:
    difference, low, high, p = paired_bootstrap(values, start, seed=0)
    print(
        f"| {name} | {mean(values):.4f} | {difference:+.4f} [{low:+.4f}, {high:+.4f}] | {p:.3f} | {spent} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
