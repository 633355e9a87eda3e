"""Side by side on every table pair of a folder: names only, Magneto as released, ours without and with learning.

``python benchmarks/schema.py DATA -o OUT.json [--families ...] [--peers PEERS.json]``; what OUT.json holds of other families
stays, and with ``--report`` it is printed. DATA is laid out as `rerank_schema.pairs` reads it, below it one folder a family.
Learned rankers and decisions are always fitted on other table pairs of the family, the packaged decision on fabricated pairs
only. Figures of peers that run in environments of their own, and the seconds and memory of all, come from
``benchmarks/schema_peers.py``.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

from rerank_core.statistics import bootstrap
from rerank_schema.decide import decide_as_valentine, packaged_decider
from rerank_schema.encode import load_encoder
from rerank_schema.fabricate import TablePair
from rerank_schema.fit import Prepared, fit_decider, matches_of, prepare, relearn
from rerank_schema.fused import Fused
from rerank_schema.magneto import MagnetoParams
from rerank_schema.match import Match
from rerank_schema.matchers import Header, Magneto
from rerank_schema.measures import (
    Judged,
    accuracy_at,
    precision_recall_f1,
    recall_at_gold,
    recall_hits,
    reciprocal_ranks,
)
from rerank_schema.pairs import read_pairs
from rerank_schema.readers import read_schema
from rerank_schema.readers.layouts import read_descriptions

FAMILIES = ("gdc", "valentine-wikidata", "valentine-magellan", "multi-table", "omap")


def load(data: Path) -> dict[str, list[TablePair]]:
    found = {f: read_pairs(data / f) for f in FAMILIES if (data / f).is_dir()}
    omop = data / "mimic-omop"
    if omop.is_dir():
        from rerank_schema.gold import read_gold

        sides = [read_schema(omop / n, schema_only=True) for n in ("MIMIC_III_Schema.csv", "OMOP_Schema.csv")]
        found["mimic-omop"] = [TablePair("mimic-omop", *sides, read_gold(omop / "MIMIC_to_OMOP_Mapping.csv"))]
    return found


def figures(pair: TablePair, matches: list[Match]) -> dict[str, float]:
    judged = Judged(matches, pair.gold)
    return {
        "MRR": float(np.mean(list(reciprocal_ranks(judged).values()))),
        "Recall@GT": recall_at_gold(judged),
        "Recall@20": float(np.mean(list(recall_hits(judged).values()))),
        "F1": precision_recall_f1(judged.decided, judged.gold)[2],
        "Accuracy@5": float(np.mean(list(accuracy_at(judged, 5).values()))),
    }


def with_valentine_decision(pair: TablePair, matcher) -> tuple[dict[str, float], float]:
    start = time.process_time()
    scored = matcher.score(pair.source.columns, pair.target.columns)
    spent = time.process_time() - start
    tops = scored.top(20)
    decided = decide_as_valentine(scored, tops)
    matches = []
    for s, row in enumerate(tops):
        for rank, t in enumerate(row, start=1):
            a, b = pair.source.columns[s], pair.target.columns[t]
            score = float(scored.scores[s, t])
            matches.append(Match(a.table, a.name, b.table, b.name, score, rank, None, decided[s, t].decision))
    return figures(pair, matches), spent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--families", nargs="*", default=[*FAMILIES, "mimic-omop"])
    parser.add_argument("--report", action="store_true", help="print what OUT.json holds; compute nothing")
    parser.add_argument("--descriptions", action="store_true", help="also match GDC with its descriptions")
    args = parser.parse_args()
    if args.report:
        return report(json.loads(args.out.read_text("utf-8")), args.peers)
    families = {f: pairs for f, pairs in load(args.data).items() if f in args.families}
    table: dict[str, dict[str, dict[str, float]]] = json.loads(args.out.read_text("utf-8")) if args.out.exists() else {}

    def note(system: str, family: str, pair: str, found: dict[str, float]) -> None:
        table.setdefault(system, {})[f"{family}/{pair}"] = found
        args.out.write_text(json.dumps(table, indent=1), encoding="utf-8")
        print(system, family, pair, {k: round(v, 3) for k, v in found.items()}, flush=True)

    fused = Fused(load_encoder(precision=args.precision))
    prepared: dict[str, list[Prepared]] = {}
    for family, pairs in families.items():
        prepared[family] = prepare(pairs, fused)
        for p in prepared[family]:
            note("default", family, p.pair.name, figures(p.pair, matches_of(p.pair, p.scored, packaged_decider())))
    for family, pairs in families.items():
        for pair in pairs:
            note("header", family, pair.name, with_valentine_decision(pair, Header())[0])
    for family, group in prepared.items():  # decisions and rankers fitted on the other pairs of the family
        if len(group) < 3:
            continue
        learned = relearn(group)
        for system, scored in (("default, decision fitted", [p.scored for p in group]), ("learned", learned)):
            for i, p in enumerate(group):
                others = [j for j in range(len(group)) if j != i]
                decider = fit_decider([group[j] for j in others], [scored[j] for j in others])
                note(system, family, p.pair.name, figures(p.pair, matches_of(p.pair, scored[i], decider)))
    described = args.data / "gdc" / "gdc_schema.json.gz"
    if args.descriptions and described.exists():
        texts = read_descriptions(described)
        for pair in families["gdc"]:
            with_text = TablePair(pair.name, pair.source, pair.target.described(texts), pair.gold)
            p = prepare([with_text], fused)[0]
            note(
                "default, descriptions",
                "gdc",
                pair.name,
                figures(p.pair, matches_of(p.pair, p.scored, packaged_decider())),
            )
    official = load_encoder(precision="fp32")
    for family, pairs in families.items():
        for pair in pairs:
            note(
                "magneto-official",
                family,
                pair.name,
                with_valentine_decision(pair, Magneto(official, MagnetoParams()))[0],
            )
            repaired = MagnetoParams(encoding="header_values_repeat", sampling="priority_sampling", official=False)
            note("magneto", family, pair.name, with_valentine_decision(pair, Magneto(official, repaired))[0])
    args.out.write_text(json.dumps(table, indent=1), encoding="utf-8")
    report(table, args.peers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory {peak:.0f} MiB, {time.process_time():.0f} CPU-s in all")


MEASURES = ("MRR", "Recall@GT", "Recall@20", "F1", "Accuracy@5")
ORDER = (
    "header", "coma", "coma-instances", "jaccard", "distribution", "similarity-flooding", "cupid", "magneto-python",
    "magneto-official", "magneto", "default", "default, descriptions", "default, decision fitted", "learned",
)  # fmt: skip
TIMED_AS = {"default, decision fitted": "default", "default, descriptions": "default"}


def report(table: dict[str, dict[str, dict[str, float]]], peers: Path | None) -> None:
    """Print a table a family: means over table pairs with intervals, seconds and memory; what gave no answer is said."""
    for system, rows in (json.loads(peers.read_text("utf-8")) if peers else {}).items():
        for name, row in rows.items():
            table.setdefault(system, {}).setdefault(name, {}).update(row)
    for system, like in TIMED_AS.items():
        for name, row in table.get(system, {}).items():
            row.update({k: v for k, v in table.get(like, {}).get(name, {}).items() if k in ("cpu", "mib")})
    families = list(dict.fromkeys(name.split("/")[0] for rows in table.values() for name in rows))
    for family in families:
        heads = ["method", "pairs", *MEASURES, "CPU-s", "MiB"]
        print(f"\n{family}\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for system, rows in sorted(table.items(), key=lambda item: ORDER.index(item[0])):
            mine = [r for name, r in rows.items() if name.startswith(family + "/")]
            done = [r for r in mine if "MRR" in r]
            late = [
                f"{len(w)} {words}"
                for k, words in (("late", "out of time"), ("failed", "failed"), ("valueless", "without values"))
                if (w := [r for r in mine if k in r])
            ]
            if mine and (done or late):
                cells = [interval([r[m] for r in done]) for m in MEASURES]
                cpu, mib = ([r[k] for r in mine if k in r] for k in ("cpu", "mib"))
                cells += [f"{np.mean(cpu):.1f}", f"{max(mib):.0f}"] if len(cpu) == len(done) > 0 else ["–", "–"]
                print(f"| {system} | {', '.join([str(len(done)), *late])} | {' | '.join(cells)} |")


def interval(values: list[float]) -> str:
    if not values:
        return "–"
    rows = np.array(values).reshape(-1, 1)
    mean = lambda r: float(r[:, 0].mean())  # noqa: E731
    if len(rows) == 1:
        return f"{mean(rows):.3f}"
    low, high = bootstrap(rows, mean, seed=0)
    return f"{mean(rows):.3f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
