"""Rerankers of candidate summaries on files with human scores, and the speed of ROUGE matrices.

python benchmarks/summary.py table FILE.jsonl.gz ... [--methods a,b]   every reranker, ROUGE and human means
python benchmarks/summary.py speed FILE.jsonl.gz                       matrices against rouge-score, in CPU seconds
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rerank_summary.data import read_records
from rerank_summary.domain import domain
from rerank_summary.evaluate import evaluate, noise_note
from rerank_summary.rouge import Rouge, flavour

METHODS = (
    "median-length", "lead", "source-overlap", "faithful", "lexrank", "mbr-rouge1", "mbr-rouge2", "mbr-rougeL",
    "mbr-mean", "mbr-chrf", "learned", "default",
)  # fmt: skip
COLUMNS = (
    "rouge1", "rouge2", "rougeL", "rougeLsum", "human_mean", "human_mean_length_controlled", "kendall_tau",
    "kendall_tau_length_controlled", "words",
)  # fmt: skip


def table(path: Path, methods: list[str]) -> None:
    records = list(read_records(path))
    systems = {}
    for m in methods:
        systems[m] = {r.id: r for r in domain.method(m).rerank([r.request for r in records])}
    figures = evaluate(records, systems, flavour())
    print(f"\n### {path.name}, n = {len(records)}, ROUGE flavour rouge-score, ties to the lowest input index\n")
    print("| system | " + " | ".join(COLUMNS) + " | R1 - first [95 %] | human - first [95 %] |")
    print("|" + "---|" * (len(COLUMNS) + 3))
    by = {(f.row.system, f.row.measure): f for f in figures}
    for name in dict.fromkeys(f.row.system for f in figures):
        cells = [f"{by[name, c].row.value:.3f}" if (name, c) in by else "" for c in COLUMNS]
        for measure in ("rouge1", "human_mean"):
            paired = by[name, measure].against.get("first") if (name, measure) in by else None
            cells.append(f"{paired[0]:+.2f} [{paired[1]:+.2f}, {paired[2]:+.2f}]" if paired else "")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(f"\n{noise_note(figures)}")


def speed(path: Path, documents: int) -> None:
    from rouge_score import rouge_scorer

    names = ("rouge1", "rouge2", "rougeL")
    mine = Rouge(flavour(), names)
    scorer = rouge_scorer.RougeScorer(list(names), use_stemmer=True)
    lists = [[c.content for c in r.request.candidates] for r in read_records(path)][:documents]
    mine.matrices(lists[0])
    ours = theirs = worst = 0.0
    for texts in lists:
        start = time.process_time()
        found = mine.matrices(texts)
        ours += time.process_time() - start
        start = time.process_time()
        pairs = [[scorer.score(a, b) for b in texts] for a in texts]
        theirs += time.process_time() - start
        n = range(len(texts))
        worst = max(worst, *(abs(found[m][i, j] - pairs[i][j][m].fmeasure) for m in names for i in n for j in n))
    k = len(lists)
    print(
        f"{k} lists of {len(lists[0])}: ours {1000 * ours / k:.2f} ms, rouge-score {1000 * theirs / k:.0f} ms a list "
        f"(CPU): {theirs / ours:.0f} x; worst difference {worst:.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["table", "speed"])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--documents", type=int, default=10)
    args = parser.parse_args()
    for path in args.files:
        if args.what == "table":
            table(path, args.methods.split(","))
        else:
            speed(path, args.documents)


if __name__ == "__main__":
    main()
