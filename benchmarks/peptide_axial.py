"""Quality of the axial network: ``python benchmarks/peptide_axial.py pooled|stack|simulated [--fit DIR] [--model FILE]``.

``pooled`` reads the out-of-fold scores that a cross-fitted ``rerank-peptide fit`` left in its folder (recipes in
shared/recipes/peptide) and fits linear models on the same folds; ``stack`` writes the one that ships as ``default``;
``simulated`` makes its own spectra from proteins held out of training. Figures are shares of all spectra; two methods are
compared by a paired bootstrap over spectra.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from rerank_core.calibration import Isotonic, ece
from rerank_core.files import read_json, write_json
from rerank_core.statistics import bootstrap, paired_bootstrap
from rerank_peptide.baselines import HAND
from rerank_peptide.features import BASE_NAMES
from rerank_peptide.probabilities import calibrate, confidence, posterior
from rerank_peptide.ranker import Linear

Array = np.ndarray[Any, Any]
Hits = dict[str, float]


def compare(hits: Mapping[str, Hits], of: str) -> None:
    """Print recall of every method, and what ``of`` gains over each other one."""
    for name, values in hits.items():
        line = f"    {name:<16} {np.mean(list(values.values())):.3f}"
        if name != of:
            d, low, high, p = paired_bootstrap(hits[of], values)
            line += f"   {of}: {d:+.3f} [{low:+.3f}, {high:+.3f}] p {p:.4f}"
        print(line, flush=True)


def out_of_fold_lists(folder: Path, scores: Path | None) -> dict[str, list[dict[str, Any]]]:
    """Lists of a cross-fitted folder by kind, each with its scores, features and fold."""
    from rerank_peptide.shards import ListStore

    store, z = ListStore.open(folder / "lists"), np.load(scores or folder / "out_of_fold.npz")
    kinds = read_json(folder / "lists" / "lists.json")["kinds"]
    edges = np.concatenate([[0], np.cumsum(z["sizes"])])
    out: dict[str, list[dict[str, Any]]] = {k: [] for k in kinds}
    for i, (s, j) in enumerate(store.place):
        shard = store.shards[s]
        table = np.asarray(shard["summary"][slice(*shard["row_start"][j : j + 2])], np.float64)
        rows = slice(edges[i], edges[i + 1])
        out[kinds[z["kind"][i]]].append(
            {
                "name": f"{s}:{shard['mass'][j]:.4f}:{shard['group'][j]}", "fold": int(z["fold"][i]),
                "gains": store.gains(i), "table": table, "pmd": z["pmd"][rows], "match": z["match"][rows],
            }
        )  # fmt: skip
    return out


def conditional_logit(tables: Sequence[Array], gains: Sequence[Array], prior: Array, shrinkage: float) -> Array:
    """Weights that make right candidates likely in their list, pulled to ``prior`` (McFadden 1974), shape (n_features,)."""
    from scipy.optimize import minimize

    pairs = [(x, g) for x, g in zip(tables, gains, strict=True) if g.any()]

    def loss(w: Array) -> tuple[float, Array]:
        value, gradient = shrinkage * float((w - prior) @ (w - prior)), 2 * shrinkage * (w - prior)
        for x, g in pairs:
            s = x @ w
            p = np.exp(s - s.max())
            p /= p.sum()
            right = p * g
            value -= float(np.log(right.sum()))
            gradient += x.T @ (p - right / right.sum())
        return value, gradient

    fitted: Array = minimize(loss, prior, jac=True, method="L-BFGS-B").x
    return fitted


def linear(lists: Sequence[dict[str, Any]], with_match: bool, shrinkage: float = 0.05) -> tuple[list[str], Array]:
    """Score every list by a linear model fitted on the other folds' lists of all kinds, into ``linear``.

    ``with_match`` adds the axial network's out-of-fold match logit and writes ``linear + axial``, the recipe of ``default``.

    Returns
    -------
    Names and weights, shape (n_features,), fitted on all lists.
    """
    with resources.as_file(resources.files("rerank_peptide") / "weights" / "default.json") as path:
        names = [n for n in Linear.load(path).features if n != "match"]
    for x in lists:
        columns = [Linear((n,), (1.0,)).score(x["table"], BASE_NAMES) for n in names]
        x["columns"] = np.stack([*columns, x["match"]] if with_match else columns, axis=1)
    prior = np.array([8 * HAND.get(n, 0.0) for n in names])
    if with_match:
        names, prior = [*names, "match"], np.append(prior / 4, 1.0)

    def fit(train: Sequence[dict[str, Any]]) -> Array:
        return conditional_logit([x["columns"] for x in train], [x["gains"] for x in train], prior, shrinkage)

    for k in sorted({x["fold"] for x in lists}):
        w = fit([x for x in lists if x["fold"] != k])
        for x in lists:
            if x["fold"] == k:
                x["linear + axial" if with_match else "linear"] = x["columns"] @ w
    return names, fit(lists)


def stack(folder: Path, scores: Path | None, out: Path) -> None:
    """Write the weights and the calibration of ``default``."""
    by_kind = out_of_fold_lists(folder, scores)
    by_kind.pop("mutated", None)
    lists = [x for found in by_kind.values() for x in found]
    names, weights = linear(lists, True)
    calibration, figures = calibrate([x["linear + axial"] for x in lists], [x["gains"] for x in lists])
    write_json(
        out,
        {
            "features": names, "weights": weights.tolist(),
            "calibration": {"knots": calibration.knots, "values": calibration.values},
        },
    )  # fmt: skip
    print(f"{len(lists)} lists, {figures}, {dict(zip(names, weights.round(2), strict=True))} -> {out}")


def _calibration(lists: Sequence[dict[str, Any]], head: str) -> None:
    """ECE and Brier score of probabilities that were fitted on the other folds."""
    of = posterior if head == "match" else confidence
    top = [int(np.argmax(x[head])) for x in lists]
    sure = np.array([of(x[head])[t] for x, t in zip(lists, top, strict=True)])
    right = np.array([x["gains"][t] for x, t in zip(lists, top, strict=True)])
    fold = np.array([x["fold"] for x in lists])
    p = np.zeros(len(lists))
    for k in np.unique(fold):
        p[fold == k] = Isotonic.fit(sure[fold != k], right[fold != k]).predict(sure[fold == k])
    low, high = bootstrap(np.stack([p, right], axis=1), lambda r: ece(r[:, 0], r[:, 1]))
    brier = float(np.mean((p - right) ** 2))
    print(f"    probability of {head}: ECE {ece(p, right):.3f} [{low:.3f}, {high:.3f}], Brier {brier:.4f}")


def pooled(folder: Path, scores: Path | None, n: int) -> None:
    """Every real spectrum judged by models that saw nothing of its peptide."""
    column = {name: BASE_NAMES.index(name) for name in ("pcc_log", "coverage", "explained", "ppm")}
    by_kind = out_of_fold_lists(folder, scores)
    by_kind.pop("mutated", None)
    for with_match in (False, True):
        linear([x for lists in by_kind.values() for x in lists], with_match)
    for kind, lists in by_kind.items():
        scored: dict[str, list[Array]] = {
            "engine": [-np.arange(len(x["gains"]), dtype=float) for x in lists],
            "closest mass": [-x["table"][:, column["ppm"]] for x in lists],
            "correlation": [x["table"][:, column["pcc_log"]] for x in lists],
            "coverage": [x["table"][:, column["coverage"]] for x in lists],
            "explained": [x["table"][:, column["explained"]] for x in lists],
            "hand": [sum(w * x["table"][:, BASE_NAMES.index(f)] for f, w in HAND.items()) for x in lists],  # type: ignore[misc]
            "linear": [x["linear"] for x in lists], "linear + axial": [x["linear + axial"] for x in lists],
            "axial, PMD": [x["pmd"] for x in lists], "axial": [x["match"] for x in lists],
            "oracle": [x["gains"] for x in lists],
        }  # fmt: skip
        missing = {f"none {i}": 0.0 for i in range(n - len(lists))}
        hits = {
            m: missing | {x["name"]: float(x["gains"][int(np.argmax(v))]) for x, v in zip(lists, values, strict=True)}
            for m, values in scored.items()
        }
        assert all(len(h) == n for h in hits.values()), "two lists of one name"
        print(f"{kind}: {n} spectra, {len(lists)} with two candidates or more; the others are misses of every method")
        compare(hits, "axial")
        for a, b in (("linear + axial", "linear"), ("linear + axial", "hand"), ("linear", "hand")):
            d, low, high, p = paired_bootstrap(hits[a], hits[b])
            print(f"    {a} over {b}: {d:+.3f} [{low:+.3f}, {high:+.3f}] p {p:.4f}")
        for head in ("match", "pmd"):
            _calibration(lists, head)


def simulated(proteins: Path, n: int, models: Sequence[Path]) -> None:
    """Engines of held-out proteins' simulated spectra, naive ensembles, and axial networks."""
    from rerank_peptide.axial_rerank import AxialRanker
    from rerank_peptide.config import FitBase, Simulated
    from rerank_peptide.data import gold_of, join
    from rerank_peptide.domain import domain
    from rerank_peptide.engines import compnovo, graph
    from rerank_peptide.lists import labelled
    from rerank_peptide.pipeline import as_file
    from rerank_peptide.spectra import SpectrumFile

    spectra, labels = [], {}
    for file, _, _ in labelled(FitBase(simulated=Simulated(proteins=proteins, n=n)), test=True):
        spectra += file.spectra
        labels |= file.labels
    whole = SpectrumFile(spectra, labels, path="(simulated)")
    begun = time.process_time()
    paths = [graph.paths(s) for s in spectra]
    engines = {"graph": [graph.rescored(s, found, 20) for s, found in zip(spectra, paths, strict=True)]}
    engines["paths"] = [found[:20] for found in paths]
    print(f"graph engine: {(time.process_time() - begun) / len(spectra):.3f} CPU s a spectrum")
    if compnovo.available():
        engines["compnovo"] = compnovo.candidates(spectra, 20)
    files = {name: as_file(name, spectra, found) for name, found in engines.items()}
    rankers = {"axial": AxialRanker(), **{m.parent.name or m.stem: AxialRanker(str(m)) for m in models}}
    first = {}
    for name, file in files.items():
        requests = join(whole, [file]).requests
        gold = gold_of(requests, labels)
        first[name] = {r.id: gold[r.id].get(r.candidates[0].id, 0.0) if r.candidates else 0.0 for r in requests}
    for title, members in {"graph": ["graph"], "two engines": ["graph", "paths"], "three engines": list(files)}.items():
        requests = join(whole, [files[m] for m in members]).requests
        gold = gold_of(requests, labels)
        hits: dict[str, Hits] = {f"engine {m}": first[m] for m in members}
        for name in ("score", "votes", "mass-score", "hand", "default"):
            hits[name] = _hits(domain.method(name).rerank(requests), gold)
        begun = time.process_time()
        for name, ranker in rankers.items():
            hits[name] = _hits(ranker.rerank(requests), gold)
        seconds = (time.process_time() - begun) / len(rankers) / len(spectra)
        hits["oracle"] = {i: max(g.values(), default=0.0) for i, g in gold.items()}
        print(f"{title} ({', '.join(members)}): {len(spectra)} spectra, axial {1000 * seconds:.0f} CPU ms a spectrum")
        for name in rankers:
            compare(hits, name)


def _hits(rankings: Sequence[Any], gold: Mapping[str, Mapping[str, float]]) -> Hits:
    return {r.id: gold[r.id].get(r.items[0].id, 0.0) if r.items else 0.0 for r in rankings}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("pooled", "stack", "simulated"))
    parser.add_argument("--fit", type=Path, help="folder of a cross-fitted `rerank-peptide fit`")
    parser.add_argument("--scores", type=Path, help="its out_of_fold.npz, where that lies elsewhere")
    parser.add_argument("--model", type=Path, action="append", default=[], help="further axial checkpoints")
    parser.add_argument("--out", type=Path, default=Path("default.json"), help="what `stack` writes")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/peptide"))
    parser.add_argument("-n", type=int, default=487, help="number of labelled spectra, or of simulated ones")
    arguments = parser.parse_args()
    if arguments.part == "pooled":
        pooled(arguments.fit, arguments.scores, arguments.n)
    elif arguments.part == "stack":
        stack(arguments.fit, arguments.scores, arguments.out)
    else:
        simulated(arguments.data / "fasta" / "uniprot_3000.fasta.gz", arguments.n, arguments.model)
