"""Every image reranker and the chooser on a folder of photographs: `python benchmarks/image_quality.py FOLDER`.

FOLDER holds ``gnd_official.json``, ``gnd_crop.json`` (the revisited layout) and one .npz with descriptors ``X_full``,
``Q_official_full``, ``Q_crop_full``. Prints one JSON line a method and kind of query: mAP (%), its 95 % interval over
queries, paired difference from no reranking, CPU milliseconds and peak megabytes a query. A list method is measured on
one query at a time, a graph method on all queries together, divided by their number.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.statistics import paired_bootstrap
from rerank_image.arrays import l2
from rerank_image.auto import choose
from rerank_image.data import read_truth
from rerank_image.measures import per_query, summarise
from rerank_image.methods import METHODS, rank

PRESETS: list[tuple[str, dict[str, Any]]] = [
    ("none", {}),
    ("superglobal", {}),
    ("superglobal", {"neighbours": 5, "beta": 1.0}),
    ("alpha-qe", {}),
    ("dba-alpha-qe", {}),
    ("k-reciprocal", {}),
    ("gnn", {}),
    ("diffusion", {}),
    ("fuse", {}),
    ("none", {"whiten": 64}),
    ("superglobal", {"whiten": 64}),
    ("k-reciprocal", {"whiten": 64}),
    ("k-reciprocal", {"whiten": 256}),
    ("gnn", {"whiten": 64}),
    ("fuse", {"dims": (0, 64, 128, 256)}),
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    archive = np.load(next(args.folder.glob("*.npz")))

    def unit(key: str) -> np.ndarray:
        return l2(archive[key].astype(np.float32))

    db = unit("X_full")
    start = time.process_time()
    choice = choose(db)
    print(json.dumps({"auto": choice.explain(), "once_cpu_s": round(time.process_time() - start, 2)}), flush=True)
    for kind in ("official", "crop"):
        queries, truth = unit(f"Q_{kind}_full"), read_truth(args.folder / f"gnd_{kind}.json")
        base: dict[str, float] = {}
        for name, settings in [*PRESETS, ("auto", {})]:
            method, chosen = (choice.method, dict(choice.settings)) if name == "auto" else (name, settings)
            start = time.process_time()
            hits = rank(method, queries, db, settings=chosen)
            ms = 1e3 * (time.process_time() - start) / len(queries)
            one_by_one = METHODS[method].scope == "list"
            tracemalloc.start()
            rank(method, queries[:1] if one_by_one else queries, db, settings=chosen)
            mb = tracemalloc.get_traced_memory()[1] / 1e6 / (1 if one_by_one else len(queries))
            tracemalloc.stop()
            values = per_query(hits, truth)
            row = summarise(name, "mAP-M", values["mAP-M"])
            base = base or values["mAP-M"]
            diff, low, high, _ = paired_bootstrap(values["mAP-M"], base)
            percent = {s: round(100 * float(np.mean(list(values[f"mAP-{s}"].values()))), 2) for s in "EMH"}
            shown = {
                "queries": kind, "method": name, "settings": settings, "n": row.n, **percent,
                "M_interval": [round(100 * row.ci_low, 1), round(100 * row.ci_high, 1)],
                "M_gain": [round(100 * v, 1) for v in (diff, low, high)],
                "cpu_ms_a_query": round(ms, 2), "mb_a_query": round(mb, 2),
            }  # fmt: skip
            print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    main()
