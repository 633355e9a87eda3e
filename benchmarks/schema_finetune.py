"""What self-supervised fine-tuning is worth: Magneto's ranking before and after, for every table pair.

``python benchmarks/schema_finetune.py DATA -o OUT.json [--families multi-table omap]``. The encoder is tuned on the target's
columns alone (no correspondences), once a pair, with settings fixed beforehand. Differences are over source columns that have
a counterpart, paired.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from rerank_core.statistics import paired_bootstrap
from rerank_schema.decide import decide_as_valentine
from rerank_schema.encode import load_encoder
from rerank_schema.finetune import FinetuneParams, finetune
from rerank_schema.magneto import MagnetoParams
from rerank_schema.matchers import Magneto
from rerank_schema.measures import Judged, reciprocal_ranks
from rerank_schema.results import Match
from schema import load

REPAIRED = MagnetoParams(encoding="header_values_repeat", sampling="priority_sampling", official=False)


def ranks(pair, encoder) -> dict[str, float]:
    scored = Magneto(encoder, REPAIRED).score(pair.source.columns, pair.target.columns)
    tops = scored.top(20)
    decided = decide_as_valentine(scored, tops)
    matches = []
    for s, row in enumerate(tops):
        for rank, t in enumerate(row, start=1):
            a, b = pair.source.columns[s], pair.target.columns[t]
            score = float(scored.scores[s, t])
            matches.append(Match(a.table, a.name, b.table, b.name, score, rank, None, decided[s, t].decision))
    return {str(k): v for k, v in reciprocal_ranks(Judged(matches, pair.gold)).items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--families", nargs="*", default=["multi-table", "omap"])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--loss", default="triplet")
    args = parser.parse_args()
    before: dict[str, float] = {}
    after: dict[str, float] = {}
    notes = []
    for family, pairs in load(args.data).items():
        for pair in pairs if family in args.families else []:
            name = f"{family}/{pair.name}"
            start = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                params = FinetuneParams(loss=args.loss, epochs=args.epochs)
                out = finetune(pair.target.columns, Path(folder) / "m", params, say=lambda t: print(t, flush=True))
                spent = time.process_time() - start
                one = ranks(pair, load_encoder(precision="fp32", cache=False))
                two = ranks(pair, load_encoder(str(out.folder), precision="fp32", cache=False))
            before |= {f"{name} {k}": v for k, v in one.items()}
            after |= {f"{name} {k}": v for k, v in two.items()}
            note = {
                "pair": name, "columns": out.columns, "n": len(one), "before": sum(one.values()) / len(one),
                "after": sum(two.values()) / len(two), "epoch": out.best_epoch, "cpu": spent,
                "unseen": [out.before, *out.after],
            }  # fmt: skip
            notes.append(note)
            print(note, flush=True)
            args.out.write_text(json.dumps(notes, indent=1), encoding="utf-8")
    difference, low, high, p = paired_bootstrap(after, before, seed=0)
    print(f"MRR after - before {difference:+.4f} [{low:+.4f}, {high:+.4f}], p {p:.3f}, {len(before)} source columns")


if __name__ == "__main__":
    main()
