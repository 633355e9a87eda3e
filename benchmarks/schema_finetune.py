"""What self-supervised fine-tuning is worth: rankings before and after.

``python benchmarks/schema_finetune.py DATA -o OUT.json [--families gdc] [--epochs 6]``. The encoder is tuned on a target's
columns alone, without correspondences, once a target, with settings fixed beforehand (the released scripts'); the epoch is
picked on made-up variants. Differences are over source columns that have a counterpart, paired.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from rerank_core.statistics import paired_bootstrap
from rerank_schema.encode import Encoder, load_encoder
from rerank_schema.fabricate import TablePair
from rerank_schema.finetune import FinetuneParams, finetune
from rerank_schema.fit import matches_of
from rerank_schema.fused import Fused
from rerank_schema.magneto import MagnetoParams
from rerank_schema.matchers import Magneto
from rerank_schema.measures import Judged, reciprocal_ranks
from rerank_schema.tables import Column
from schema import load

REPAIRED = MagnetoParams(encoding="header_values_repeat", sampling="priority_sampling", official=False)


def ranks(pair: TablePair, encoder: Encoder) -> dict[str, dict[str, float]]:
    """Return method -> source column -> reciprocal rank."""
    out = {}
    for method, matcher in (("magneto", Magneto(encoder, REPAIRED)), ("default", Fused(encoder))):
        scored = matcher.score(pair.source.columns, pair.target.columns)
        judged = Judged(matches_of(pair, scored, None), pair.gold)
        out[method] = {f"{pair.name} {k}": v for k, v in reciprocal_ranks(judged).items()}
    return out


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--families", nargs="*", default=["gdc"])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--loss", default="triplet")
    args = parser.parse_args()
    pairs = [p for family, group in load(args.data).items() if family in args.families for p in group]
    plain = load_encoder(precision="fp32")
    tuned: dict[tuple[Column, ...], Encoder] = {}
    before: dict[str, dict[str, float]] = {}
    after: dict[str, dict[str, float]] = {}
    notes = []
    with tempfile.TemporaryDirectory() as folder:
        for pair in pairs:
            columns = pair.target.columns
            if columns not in tuned:
                cpu, wall = time.process_time(), time.perf_counter()
                params = FinetuneParams(loss=args.loss, epochs=args.epochs)
                out = finetune(columns, Path(folder) / str(len(tuned)), params, say=lambda t: print(t, flush=True))
                note = {
                    "target of": pair.name, "columns": out.columns, "texts": out.texts, "best epoch": out.best_epoch,
                    "CPU-s": time.process_time() - cpu, "s": time.perf_counter() - wall,
                    "MRR of unseen variants": [out.before, *out.after],
                }  # fmt: skip
                print(note, flush=True)
                notes.append(note)
                tuned[columns] = load_encoder(str(out.folder), precision="fp32")
            for store, encoder in ((before, plain), (after, tuned[columns])):
                for method, found in ranks(pair, encoder).items():
                    store.setdefault(method, {}).update(found)
            args.out.write_text(json.dumps({"runs": notes, "before": before, "after": after}, indent=1), "utf-8")
    for method in before:
        difference, low, high, p = paired_bootstrap(after[method], before[method], seed=0)
        start = sum(before[method].values()) / len(before[method])
        print(
            f"{method}: MRR {start:.4f}, after - before {difference:+.4f} [{low:+.4f}, {high:+.4f}], p {p:.3f}, "
            f"{len(before[method])} source columns of {len(pairs)} pairs"
        )


if __name__ == "__main__":
    main()
