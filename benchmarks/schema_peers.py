"""Peers on the same table pairs: magneto-python and Valentine's matchers, with seconds and memory.

They run in an environment of their own, since they need packages that do not go with ours:

    uv venv PEERS && uv pip install --python PEERS/bin/python magneto-python==0.2.0 "valentine<1" "pandas<3"
    PEERS/bin/python benchmarks/schema_peers.py run DATA MODEL_FOLDER OUT_FOLDER [--systems Magneto Coma ...]
    python benchmarks/schema_peers.py judge DATA OUT_FOLDER -o PEERS.json     # in ours; then schema.py --peers PEERS.json

DATA as for ``schema.py``; MODEL_FOLDER holds the MiniLM weights. Every pair runs in a process of its own with a time
limit. The scores are judged by our measures and decided by Valentine's one-to-one filter, as Magneto and names alone are.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

SYSTEMS = ("Magneto", "Coma", "Jaccard", "Distribution", "SimilarityFlooding")
LIMIT = 150
SINGLE = ("gdc", "valentine-wikidata", "valentine-magellan")


def pairs(data: Path) -> list[tuple[str, Path, Path]]:
    """Return (name, source file, target file) of the pairs of single tables."""
    out = []
    for family in SINGLE:
        for folder in sorted(p for p in (data / family).iterdir() if p.is_dir()):
            source = next(folder.glob("source.csv*"))
            target = next(iter([*folder.glob("target.csv*"), *(data / family).glob("target.csv*")]))
            out.append((f"{family}/{folder.name}", source, target))
    return out


def one(system: str, model: Path, source: Path, target: Path, out: Path) -> None:
    import pandas as pd

    left, right = pd.read_csv(source, low_memory=False), pd.read_csv(target, low_memory=False)
    match = magneto(model) if system == "Magneto" else valentine(system)
    spent, begun = time.process_time(), time.perf_counter()
    found = match(left, right)
    figures = {"cpu": time.process_time() - spent, "wall": time.perf_counter() - begun}
    figures["mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = [[str(a[1]), str(b[1]), float(score)] for (a, b), score in found.items()]
    out.write_text(json.dumps({**figures, "matches": rows}), encoding="utf-8")


def magneto(model: Path):
    from magneto import Magneto
    from magneto.embedding_matcher import DEFAULT_MODELS

    DEFAULT_MODELS["minilm"] = str(model)  # the released table knows hub names only
    return lambda a, b: Magneto(embedding_model="minilm").get_matches(a, b)


def valentine(system: str):
    from valentine import valentine_match
    from valentine.algorithms import Coma, DistributionBased, JaccardDistanceMatcher, SimilarityFlooding

    made = {
        "Coma": Coma, "Jaccard": JaccardDistanceMatcher, "Distribution": DistributionBased,
        "SimilarityFlooding": SimilarityFlooding,
    }[system]  # fmt: skip
    return lambda a, b: valentine_match(a, b, made(), "source", "target")


def run(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    for name, source, target in pairs(args.data):
        for system in args.systems:
            place = args.out / f"{system}@{name.replace('/', '@')}.json"
            if place.exists() or (args.only and args.only not in name):
                continue
            command = [sys.executable, __file__, "one", system, args.model, source, target, place]
            try:
                done = subprocess.run([*map(str, command)], timeout=args.limit, capture_output=True, text=True)
                said = done.stderr.strip().splitlines()[-1:] if done.returncode else ["done"]
            except subprocess.TimeoutExpired:
                said = [f"no answer in {args.limit} s"]
                place.write_text(json.dumps({"late": args.limit, "matches": []}), encoding="utf-8")
            print(system, name, *said, flush=True)


def judge(args: argparse.Namespace) -> None:
    from rerank_schema.scored import from_pairs
    from schema import load, with_valentine_decision

    class Stored:
        name = "stored"

        def __init__(self, rows: list[list]) -> None:
            self.rows = rows

        def score(self, sources, targets):
            left, right = ({c.name: i for i, c in enumerate(side)} for side in (sources, targets))
            known = {(left[a], right[b]): s for a, b, s in self.rows if a in left and b in right}
            return from_pairs(known, len(sources), len(targets))

    table: dict[str, dict] = {}
    for family, group in load(args.data).items():
        for pair in group:
            for place in sorted(args.folder.glob(f"*@{family}@{pair.name}.json")):
                found = json.loads(place.read_text("utf-8"))
                if "late" in found:
                    continue
                row = with_valentine_decision(pair, Stored(found["matches"]))[0]
                system = place.name.split("@")[0]
                table.setdefault(system, {})[f"{family}/{pair.name}"] = row | {
                    k: found[k] for k in ("cpu", "wall", "mib")
                }
    args.out.write_text(json.dumps(table, indent=1), encoding="utf-8")
    for system, rows in table.items():
        for name, row in rows.items():
            print(system, name, {k: round(v, 3) for k, v in row.items()})


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        return one(sys.argv[2], *map(Path, sys.argv[3:7]))
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser("run")
    for name in ("data", "model", "out"):
        runs.add_argument(name, type=Path)
    runs.add_argument("--systems", nargs="*", default=SYSTEMS)
    runs.add_argument("--limit", type=int, default=LIMIT)
    runs.add_argument("--only", default="")
    runs.set_defaults(call=run)
    judges = commands.add_parser("judge")
    judges.add_argument("data", type=Path)
    judges.add_argument("folder", type=Path)
    judges.add_argument("-o", "--out", type=Path, required=True)
    judges.set_defaults(call=judge)
    args = parser.parse_args()
    return args.call(args)


if __name__ == "__main__":
    main()
