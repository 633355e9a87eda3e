"""Peers on the same table pairs: magneto-python and Valentine's matchers, with seconds and memory; ours beside them.

Peers run in environments of their own, since they need packages that do not go with ours:

    uv venv MAGNETO && uv pip install --python MAGNETO/bin/python magneto-python==0.2.0 "valentine<1" "pandas<3"
    uv venv VALENTINE && uv pip install --python VALENTINE/bin/python valentine==1.0.1 "pandas<3" scikit-learn
    MAGNETO/bin/python benchmarks/schema_peers.py run DATA OUT --model WEIGHTS --systems magneto-python
    NLTK_DATA=WORDS VALENTINE/bin/python benchmarks/schema_peers.py run DATA OUT --systems coma coma-instances jaccard ...
    python benchmarks/schema_peers.py run DATA OUT --systems header magneto-official magneto default [learned MODEL]
    python benchmarks/schema_peers.py judge DATA OUT -o PEERS.json                # then schema.py DATA --peers PEERS.json
    python benchmarks/schema_peers.py race DATA OUT --model WEIGHTS --peer MAGNETO/bin/python

DATA as for ``schema.py``; WEIGHTS is the folder of the MiniLM weights, MODEL one that ``rerank-schema fit`` wrote (only its
time is taken). Cupid needs WORDS/corpora/wordnet: the files of WordNet 3.0 (Debian's wordnet-base and wordnet-sense-index)
and its list ``lexnames``. Every pair and system runs in a process of its own with a limit of CPU seconds (imports included)
and an empty vector cache; imports are left out of the seconds, loading weights is not. Peers see table after table (all pairs
of tables) where a side has several, and tables without rows where there is only a schema; those that compare values alone are
not asked then. Their scores are judged by our measures and decided by Valentine's one-to-one filter, as Magneto and names
alone are.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OURS = ("header", "magneto-official", "magneto", "default", "learned")
PEERS = ("magneto-python", "coma", "coma-instances", "jaccard", "distribution", "similarity-flooding", "cupid")
NEED_VALUES = ("coma-instances", "jaccard", "distribution")
LIMIT = 150
Row = tuple[str, str, str, str, float]
Sides = tuple[dict[str, Any], dict[str, Any]]


def pairs(data: Path) -> list[tuple[str, Path, Path]]:
    """Return (name, source, target) of all pairs: files, or folders of files."""
    out = []
    for gold in sorted([*data.rglob("ground_truth.csv"), *data.rglob("*Mapping.csv")]):
        here, family = gold.parent, gold.parent.parent
        if gold.name != "ground_truth.csv":
            out.append((here.name, here / "MIMIC_III_Schema.csv", here / "OMOP_Schema.csv"))
            continue
        source = next(p for n in ("source*", "left*") for p in here.glob(n))
        target = next(p for folder in (here, family) for n in ("target*", "right*") for p in folder.glob(n))
        out.append((f"{family.name}/{here.name}", source, target))
    return out


def schema_only(source: Path) -> bool:
    """Whether the rows of a source describe columns."""
    return source.parent.name == "mimic-omop" or source.name.startswith("left")


def frames(path: Path) -> dict[str, Any]:
    """Read one side as data frames by table name; a schema gives frames without rows."""
    import pandas as pd

    if path.is_dir():
        return {p.name.split(".")[0]: pd.read_csv(p, low_memory=False) for p in sorted(path.iterdir())}
    frame = pd.read_csv(path, low_memory=False)
    names = frame["element"].str.partition("-")[[0, 2]] if "element" in frame else None
    names = frame[["TableName", "ColumnName"]] if "ColumnName" in frame else names
    if names is None:
        return {path.name.split(".")[0]: frame}
    tables: dict[str, list[str]] = {}
    for table, column in names.dropna().itertuples(index=False):
        tables.setdefault(table, []).append(column)
    return {t: pd.DataFrame({c: pd.Series(dtype=str) for c in columns}) for t, columns in tables.items()}


def magneto(model: Path) -> Callable[[Sides], list[Row]]:
    from magneto import Magneto
    from magneto.embedding_matcher import DEFAULT_MODELS

    DEFAULT_MODELS["minilm"] = str(model)  # the released table knows hub names only

    def match(sides: Sides) -> list[Row]:
        matcher = Magneto(embedding_model="minilm")
        return _all_tables(sides, lambda a, b, s, t: matcher.get_matches(a, b))

    return match


def valentine(system: str) -> Callable[[Sides], list[Row]]:
    from nltk.tokenize import NLTKWordTokenizer
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
    from valentine import algorithms, valentine_match
    from valentine.algorithms.coma.similarity import tfidf
    from valentine.algorithms.cupid import linguistic_matching

    # NLTK's list is fetched at run time, which fails without a network; scikit-learn ships one. So is the model that
    # splits sentences before words are split, which names have none of.
    tfidf._english_stopwords = linguistic_matching._english_stopwords = lambda: frozenset(ENGLISH_STOP_WORDS)
    linguistic_matching.nltk.word_tokenize = NLTKWordTokenizer().tokenize
    made = {
        "coma": lambda: algorithms.Coma(),
        "coma-instances": lambda: algorithms.Coma(use_instances=True),
        "jaccard": lambda: algorithms.JaccardDistanceMatcher(),
        "distribution": lambda: algorithms.DistributionBased(),
        "similarity-flooding": lambda: algorithms.SimilarityFlooding(),
        "cupid": lambda: algorithms.Cupid(),
    }[system]

    def run(a: Any, b: Any, s: str, t: str) -> dict[Any, float]:
        return {((p[0], p[1]), (p[2], p[3])): v for p, v in _quads(valentine_match([a, b], made(), [s, t]))}

    return lambda sides: _all_tables(sides, run)


def _quads(found: Any) -> list[tuple[tuple[str, str, str, str], float]]:
    return [((p.source_table, p.source_column, p.target_table, p.target_column), v) for p, v in found.items()]


def _all_tables(sides: Sides, match: Callable[..., Any]) -> list[Row]:
    """Match every source table with every target table; sides are told apart by a mark before their names."""
    out: list[Row] = []
    for s, a in sides[0].items():
        for t, b in sides[1].items():
            for (left, right), score in match(a, b, f"source_{s}", f"target_{t}").items():
                if left[0].startswith("target_"):
                    left, right = right, left
                out.append((s, str(left[1]), t, str(right[1]), float(score)))
    return out


def one(system: str, model: Path, source: Path, target: Path, out: Path) -> None:
    """Match one pair and write matches, CPU and wall seconds, and this process's peak memory."""
    if system in OURS:
        match, sides = ours(system, model, source, target)
    else:
        match = magneto(model) if system == "magneto-python" else valentine(system)
        sides = (frames(source), frames(target))
    spent, begun = cpu_seconds(), time.perf_counter()
    rows = match(sides)
    figures: dict[str, Any] = {"cpu": cpu_seconds() - spent, "wall": time.perf_counter() - begun}
    figures["mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out.write_text(json.dumps({**figures, "matches": rows}), encoding="utf-8")


def cpu_seconds() -> float:
    """Return what this process and its finished children have spent (Distribution solves in one)."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def ours(system: str, model: Path, source: Path, target: Path) -> tuple[Callable[[Any], list[Row]], Any]:
    if system != "header":
        import torch  # noqa: F401  (imports are not counted for peers either)
        import transformers  # noqa: F401

    from rerank_schema.readers import read_schema
    from rerank_schema.rerank import make_matcher

    sides = [read_schema(p, schema_only=schema_only(source)) for p in (source, target)]

    def match(both: Any) -> list[Row]:
        config = {} if system in ("header", "learned") else {"cache": False}
        left, right = (s.columns for s in both)
        scored = make_matcher(str(model) if system == "learned" else system, config).score(left, right)
        return [
            (left[s].table, left[s].name, right[t].table, right[t].name, float(scored.scores[s, t]))
            for s, row in enumerate(scored.top(20))
            for t in row
        ]

    return match, sides


def run(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    for name, source, target in pairs(args.data):
        for system in args.systems:
            place = args.out / f"{system}@{name.replace('/', '@')}.json"
            if place.exists() or (args.only and args.only not in name):
                continue
            if system in NEED_VALUES and schema_only(source):
                place.write_text(json.dumps({"valueless": True}), "utf-8")
                continue
            command = [sys.executable, __file__, "one", system, args.model or "-", source, target, place]
            with tempfile.TemporaryDirectory() as cache:
                env = dict(os.environ, XDG_CACHE_HOME=cache)
                limits = lambda: resource.setrlimit(resource.RLIMIT_CPU, (args.limit, args.limit + 5))  # noqa: E731
                done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=env, preexec_fn=limits)
            said = done.stderr.strip().splitlines()[-1:] if done.returncode else ["done"]
            if not place.exists():
                late = done.returncode in (-signal.SIGXCPU, -signal.SIGKILL)
                said = [f"no answer in {args.limit} CPU-s"] if late else said
                place.write_text(json.dumps({"late" if late else "failed": args.limit if late else said}), "utf-8")
            print(system, name, *said, flush=True)


def judge(args: argparse.Namespace) -> None:
    from rerank_schema.scored import from_pairs
    from schema import load, with_valentine_decision

    class Stored:
        name = "stored"

        def __init__(self, rows: list[list], several: tuple[bool, bool]) -> None:
            self.rows, self.several = rows, several

        def score(self, sources, targets):
            left, right = (
                {(c.table if several else "", c.name): i for i, c in enumerate(side)}
                for side, several in zip((sources, targets), self.several, strict=True)
            )
            known = {}
            for a, b, c, d, score in self.rows:
                source, target = (a if self.several[0] else "", b), (c if self.several[1] else "", d)
                if source in left and target in right:
                    known[left[source], right[target]] = score
            return from_pairs(known, len(sources), len(targets))

    table: dict[str, dict] = {}
    for family, group in load(args.data).items():
        for pair in group:
            whole = family if family == pair.name else f"{family}@{pair.name}"
            for place in sorted(args.folder.glob(f"*@{whole}.json")):
                system, found = place.name.split("@")[0], json.loads(place.read_text("utf-8"))
                row = {k: found[k] for k in ("cpu", "wall", "mib", "late", "failed", "valueless") if k in found}
                if system not in OURS and "matches" in found:
                    several = tuple(len({c.table for c in s.columns}) > 1 for s in (pair.source, pair.target))
                    row |= with_valentine_decision(pair, Stored(found["matches"], several))[0]
                table.setdefault(system, {})[f"{family}/{pair.name}"] = row
    args.out.write_text(json.dumps(table, indent=1), encoding="utf-8")
    for system, rows in table.items():
        for name, row in rows.items():
            print(system, name, {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})


def studies(system: str, model: Path, data: Path, out: Path) -> None:
    """Match all GDC studies one after another in this process, reading included, and write the matches."""
    rows = {}
    for name, source, target in pairs(data):
        if name.startswith("gdc/"):
            if system in OURS:
                from rerank_schema.readers import read_schema
                from rerank_schema.rerank import make_matcher

                left, right = read_schema(source).columns, read_schema(target).columns
                scored = make_matcher(system).score(left, right)
                kept = [(s, t) for s, row in enumerate(scored.top(20)) for t in row]
                rows[name] = [("", left[s].name, "", right[t].name, float(scored.scores[s, t])) for s, t in kept]
            else:
                rows[name] = magneto(model)((frames(source), frames(target)))
            print(name, round(time.process_time(), 1), "CPU-s so far", file=sys.stderr, flush=True)
    out.write_text(json.dumps(rows), encoding="utf-8")


def race(args: argparse.Namespace) -> None:
    """Run `studies` for the released Magneto and for ours, beginning to end, and compare."""
    args.out.mkdir(parents=True, exist_ok=True)
    spent, found = {}, {}
    with tempfile.TemporaryDirectory() as cache:
        for what, python, system in (
            ("magneto-python", args.peer, "magneto-python"),
            ("ours, empty cache", sys.executable, "magneto-official"),
            ("ours, again", sys.executable, "magneto-official"),
        ):
            place, begun = args.out / f"race {what}.json", time.perf_counter()
            command = [python, __file__, "studies", system, args.model, args.data, place]
            process = subprocess.Popen([*map(str, command)], env=dict(os.environ, XDG_CACHE_HOME=cache))
            _, status, used = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"{what} failed")
            wall, cpu = time.perf_counter() - begun, used.ru_utime + used.ru_stime
            spent[what], found[what] = (cpu, wall), json.loads(place.read_text("utf-8"))
            print(f"{what}: {cpu:.1f} CPU-s, {wall:.1f} s, {used.ru_maxrss / 1024:.0f} MiB", flush=True)
    theirs = spent.pop("magneto-python")
    for what, mine in spent.items():
        print(f"magneto-python / {what}: {theirs[0] / mine[0]:.1f} x CPU, {theirs[1] / mine[1]:.1f} x wall")
    for name, rows in found["magneto-python"].items():
        a, b = ({(r[1], r[3]): r[4] for r in side} for side in (rows, found["ours, empty cache"][name]))
        worst = max(abs(a[p] - b[p]) for p in a.keys() & b.keys())
        print(f"{name}: {len(a)} and {len(b)} pairs, {len(a.keys() ^ b.keys())} not in both, scores off by {worst:.1e}")


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        return one(sys.argv[2], *map(Path, sys.argv[3:7]))
    if sys.argv[1:2] == ["studies"]:
        return studies(sys.argv[2], *map(Path, sys.argv[3:6]))
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    runs = commands.add_parser("run")
    runs.add_argument("data", type=Path)
    runs.add_argument("out", type=Path)
    runs.add_argument("--model", type=Path)
    runs.add_argument("--systems", nargs="*", choices=[*OURS, *PEERS], required=True)
    runs.add_argument("--limit", type=int, default=LIMIT)
    runs.add_argument("--only", default="")
    runs.set_defaults(call=run)
    judges = commands.add_parser("judge")
    judges.add_argument("data", type=Path)
    judges.add_argument("folder", type=Path)
    judges.add_argument("-o", "--out", type=Path, required=True)
    judges.set_defaults(call=judge)
    races = commands.add_parser("race")
    races.add_argument("data", type=Path)
    races.add_argument("out", type=Path)
    races.add_argument("--model", type=Path, required=True)
    races.add_argument("--peer", type=Path, required=True)
    races.set_defaults(call=race)
    args = parser.parse_args()
    return args.call(args)


if __name__ == "__main__":
    main()
