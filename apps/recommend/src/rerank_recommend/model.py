"""A fitted recommender: the catalogue, the experts, the ranker on top; one folder of safetensors, parquet and JSON."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from rerank_core.errors import InputError, UsageError
from rerank_core.learning import LambdaRank
from rerank_core.reranker import digest
from rerank_recommend import stack
from rerank_recommend.data import Catalogue, Reference, Turn
from rerank_recommend.encoding import CachedEncoder
from rerank_recommend.experts import (
    Context,
    CoOccurrence,
    EntityTarget,
    Expert,
    GraphNeighbours,
    Log,
    Popularity,
    encode,
    make_log,
)
from rerank_recommend.factors import ALS, BPR
from rerank_recommend.grounding import Grounder
from rerank_recommend.linking import Linker
from rerank_recommend.readers import Interactions
from rerank_recommend.texts import BM25, DenseItems, DenseTurns, TfidfTurns

FORMAT = 1
SERVE_BATCH = 16
CLASSICAL = (
    "popularity",
    "co-occurrence",
    "entity-target",
    "entity-target-now",
    "als",
    "bpr",
    "bm25",
    "tfidf-turns",
)
DENSE = ("dense-turns", "dense-items")
DENSE_TURNS, DENSE_ITEMS = 2000, 5000
INTERACTION_EXPERTS = ("als",)
EXPERTS = (*CLASSICAL, "graph", *DENSE, "transformer")


def default_experts(n_turns: int, n_items: int, graph: bool) -> tuple[str, ...]:
    """Return the experts that suit a data set's size: those that encode only where that is quick with any encoder."""
    small = n_turns <= DENSE_TURNS and n_items <= DENSE_ITEMS
    return (*CLASSICAL, *(("graph",) if graph else ()), *(DENSE if small else ()))


def make_expert(name: str, *, encoder: CachedEncoder, seed: int = 0, threads: int = 1) -> Expert:
    """Make an unfitted expert.

    Raises
    ------
    UsageError
        When there is none of that name.
    """
    if name == "transformer":
        from rerank_recommend.sequence import EntityTransformer

        return EntityTransformer(seed=seed, threads=threads)
    simple: dict[str, Expert] = {
        "popularity": Popularity(),
        "co-occurrence": CoOccurrence(),
        "entity-target": EntityTarget(),
        "entity-target-now": EntityTarget("entity-target-now", recent=True),
        "als": ALS(seed=seed, threads=threads),
        "bpr": BPR(seed=seed),
        "bm25": BM25(),
        "tfidf-turns": TfidfTurns(),
        "graph": GraphNeighbours(),
        "dense-turns": DenseTurns(encoder),
        "dense-items": DenseItems(encoder),
    }
    if name not in simple:
        raise UsageError(f"unknown expert {name!r}; known: {', '.join(EXPERTS)}")
    return simple[name]


@dataclass(frozen=True)
class Recommended:
    """Items best first with scores."""

    columns: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class Recommender:
    """A fitted recommender.

    Parameters
    ----------
    ranker
        None where there was nothing to learn from: candidates then come in the order of reciprocal rank fusion.
    popularity
        Training frequency of every item.
    dialogues
        The training dialogues' ids, to notice test turns that training has seen.
    """

    catalogue: Catalogue
    experts: tuple[Expert, ...]
    ranker: LambdaRank | None
    popularity: NDArray[np.float64]
    params: stack.StackParams = field(default_factory=stack.StackParams)
    dialogues: frozenset[str] = frozenset()
    encoder: CachedEncoder = field(default_factory=CachedEncoder)
    seed: int = 0

    @classmethod
    def fit(
        cls,
        turns: Sequence[Turn],
        gold: Mapping[str, Sequence[Reference]],
        catalogue: Catalogue,
        *,
        graph: NDArray[np.int64] | None = None,
        experts: Sequence[str] | None = None,
        encoder: CachedEncoder | None = None,
        params: stack.StackParams | None = None,
        seed: int = 0,
        threads: int = 1,
    ) -> Recommender:
        """Fit experts and ranker on turns and their truth."""
        p, enc = params or stack.StackParams(), encoder or CachedEncoder()
        columns = make_log(turns, gold, catalogue, Linker(catalogue)).popularity
        log = make_log(turns, gold, catalogue, Linker(catalogue, columns), graph)
        if not log.popularity.any():
            raise InputError("nothing to learn: no training turn recommends an item of the catalogue")
        names = experts or default_experts(len(turns), catalogue.n_items, graph is not None)
        fresh = [make_expert(n, encoder=enc, seed=seed, threads=threads) for n in names]
        fitted = stack.fit_experts(fresh, log)
        ranker = None
        if len(set(log.dialogues)) >= 2 * p.folds:
            gathered, positions = stack.out_of_fold(log, fresh, p, seed)
            ranker = stack.fit_ranker(gathered, [log.targets[i] for i in positions], p, seed, threads)
        return cls(catalogue, tuple(fitted), ranker, log.popularity, p, frozenset(log.dialogues), enc, seed)

    @classmethod
    def fit_interactions(
        cls, data: Interactions, *, experts: Sequence[str] = INTERACTION_EXPERTS, seed: int = 0, threads: int = 1
    ) -> Recommender:
        """Fit on users by items; there are no conversations, so experts that read learn from titles only."""
        n_users = data.user_items.shape[0]
        known = [tuple(data.user_items.indices[a:b].tolist()) for a, b in pairwise(data.user_items.indptr.tolist())]
        rows = data.catalogue.item_rows
        contexts = tuple(Context(tuple(rows[list(k)].tolist()), "", k) for k in known)
        dialogues = tuple(f"user {u}" for u in range(n_users))
        log = Log(data.catalogue, contexts, tuple(known), dialogues)
        enc = CachedEncoder()
        fresh = [make_expert(n, encoder=enc, seed=seed, threads=threads) for n in experts]
        fitted = tuple(e.fit_matrix(data.user_items) if isinstance(e, ALS) else e.fit(log) for e in fresh)
        popularity = np.asarray(data.user_items.sum(axis=0), dtype=np.float64).ravel()
        return cls(data.catalogue, fitted, None, popularity, stack.StackParams(), frozenset(), enc, seed)

    def recommend_known(self, known: Sequence[Sequence[int]], n: int = 10) -> list[list[tuple[str, float]]]:
        """Return n new items (id, score) for users who know these item columns, best first."""
        rows = self.catalogue.item_rows
        contexts = [Context(tuple(rows[list(k)].tolist()), "", tuple(dict.fromkeys(k))) for k in known]
        if self.ranker is None and len(self.experts) == 1:
            return self._best_new(contexts, n)
        out = []
        for context, r in zip(contexts, self.recommend(contexts, n + max(map(len, known), default=0)), strict=True):
            gone = set(context.known)
            pairs = zip(r.columns.tolist(), r.scores.tolist(), strict=True)
            out.append([(self.catalogue.items[c].id, s) for c, s in pairs if c not in gone][:n])
        return out

    def _best_new(self, contexts: Sequence[Context], n: int) -> list[list[tuple[str, float]]]:
        """Take the best items of the only expert, without ranks and features: the fast way of serving."""
        out = []
        for start in range(0, len(contexts), SERVE_BATCH):
            part = contexts[start : start + SERVE_BATCH]
            scores = self.experts[0].score(part)
            for row, context in zip(scores, part, strict=True):
                row[list(context.known)] = -np.inf
                k = min(n, len(row) - len(context.known))
                best = np.argpartition(row, len(row) - k)[len(row) - k :] if k > 0 else np.empty(0, dtype=np.int64)
                best = best[np.lexsort((best, -row[best]))]
                out.append([(self.catalogue.ids[int(self.catalogue.item_rows[c])], float(row[c])) for c in best])
        return out

    @cached_property
    def linker(self) -> Linker:
        """Links text to entities; namesakes by popularity."""
        return Linker(self.catalogue, self.popularity)

    @cached_property
    def grounder(self) -> Grounder:
        """Grounds titles; namesakes by popularity."""
        return Grounder(self.catalogue, self.popularity)

    def contexts(self, turns: Sequence[Turn]) -> list[Context]:
        """Encode turns."""
        return [encode(t, self.catalogue, self.linker) for t in turns]

    def gather(self, contexts: Sequence[Context], n: int | None = None) -> stack.Gathered:
        """Return candidates with features."""
        wanted = min(n or self.params.candidates, self.catalogue.n_items)
        return stack.gather(contexts, self.experts, self.popularity, self.params, wanted)

    def recommend(self, contexts: Sequence[Context], n: int | None = None) -> list[Recommended]:
        """Return each context's items best first; items mentioned before may be among them."""
        return [Recommended(c, s) for c, s in stack.scored(self.gather(contexts, n), self.ranker)]

    def fingerprint(self) -> str:
        """Return the digest of catalogue, ranker and popularity."""
        return digest(
            "recommender",
            self.catalogue.ids,
            self.popularity,
            [e.name for e in self.experts],
            self.ranker.fingerprint() if self.ranker else None,
            self.params,
        )

    def save(self, folder: str | Path) -> None:
        """Write the folder as a whole: it appears, or replaces an older one, only when it is complete."""
        target = Path(folder)
        if target.exists() and not (target / "model.json").is_file() and (not target.is_dir() or any(target.iterdir())):
            raise InputError("exists and holds something that is no saved recommender", target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            fresh = Path(temporary) / "fresh"
            fresh.mkdir()
            self._write(fresh)
            if target.exists():
                target.rename(Path(temporary) / "old")
            fresh.rename(target)

    def _write(self, folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from safetensors.numpy import save_file

        c = self.catalogue
        weight = np.zeros(len(c.ids))
        weight[c.item_rows] = self.popularity
        table = pa.table(
            {
                "id": list(c.ids),
                "name": list(c.names),
                "year": pa.array(c.years, type=pa.int32()),
                "is_item": (c.item_of >= 0).tolist(),
                "text": [c.texts.get(i) for i in c.ids],
                "popularity": weight,
            }
        )
        pq.write_table(table, folder / "catalogue.parquet")
        arrays: dict[str, NDArray[Any]] = {}
        experts = []
        for expert in self.experts:
            values: dict[str, NDArray[Any]] = {}
            plain: dict[str, Any] = {}
            for key, value in expert.state().items():
                if sp.issparse(value):
                    m = value.tocsr()
                    values |= {f"{key}.data": m.data, f"{key}.indices": m.indices, f"{key}.indptr": m.indptr}
                    values[f"{key}.shape"] = np.array(m.shape, dtype=np.int64)
                elif isinstance(value, np.ndarray):
                    values[key] = value
                else:
                    plain[key] = value
            arrays |= {f"{expert.name}/{k}": np.ascontiguousarray(v) for k, v in values.items()}
            experts.append({"name": expert.name, "state": plain})
        save_file(arrays, folder / "experts.safetensors")
        if self.ranker is not None:
            (folder / "ranker").mkdir()
            self.ranker.save(folder / "ranker")
        config = {
            "format": FORMAT,
            "experts": experts,
            "params": asdict(self.params),
            "encoder": self.encoder.name,
            "seed": self.seed,
            "ranker": self.ranker is not None,
            "dialogues": sorted(self.dialogues),
        }
        (folder / "model.json").write_text(json.dumps(config, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
        for path in folder.rglob("*"):
            if path.is_file():
                path.chmod(0o644)

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 1, encoder: CachedEncoder | None = None) -> Recommender:
        """Read a folder written by `save`.

        Raises
        ------
        InputError
            When it is no such folder or is damaged.
        """
        folder = Path(folder)
        path = folder / "model.json"
        try:
            config = json.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"is no saved recommender ({error})", path) from error
        if config.get("format") != FORMAT:
            raise InputError(f"has format {config.get('format')!r}, this version reads {FORMAT}", path)
        try:
            return cls._read(folder, config, threads, encoder)
        except (KeyError, TypeError, ValueError, OSError, IndexError) as error:
            raise InputError(f"is damaged: {error}", folder) from error

    @classmethod
    def _read(cls, folder: Path, config: Mapping[str, Any], threads: int, encoder: CachedEncoder | None) -> Recommender:
        import pyarrow.parquet as pq
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        t = pq.read_table(folder / "catalogue.parquet").to_pydict()
        item_rows = np.flatnonzero(np.array(t["is_item"], dtype=bool))
        texts = {i: x for i, x in zip(t["id"], t["text"], strict=True) if x}
        catalogue = Catalogue(tuple(t["id"]), tuple(t["name"]), tuple(t["year"]), item_rows, texts)
        try:
            arrays = load_file(folder / "experts.safetensors")
        except SafetensorError as error:
            raise ValueError(f"experts.safetensors: {error}") from error
        enc = encoder or CachedEncoder(config["encoder"])
        experts = []
        for saved in config["experts"]:
            prefix = saved["name"] + "/"
            own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
            state = {**saved["state"], **_unpack(own)}
            fresh = make_expert(saved["name"], encoder=enc, seed=config["seed"], threads=threads)
            experts.append(fresh.restore(state, catalogue))
        ranker = LambdaRank.load(folder / "ranker") if config["ranker"] else None
        popularity = np.array(t["popularity"], dtype=np.float64)[item_rows]
        params = stack.StackParams(**config["params"])
        return cls(
            catalogue, tuple(experts), ranker, popularity, params, frozenset(config["dialogues"]), enc, config["seed"]
        )


def _unpack(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Put sparse matrices together again."""
    state: dict[str, Any] = {}
    for key, value in arrays.items():
        name, _, part = key.rpartition(".")
        if part == "data" and f"{name}.indptr" in arrays:
            shape = tuple(arrays[f"{name}.shape"].tolist())
            state[name] = sp.csr_matrix((value, arrays[f"{name}.indices"], arrays[f"{name}.indptr"]), shape=shape)
        elif not (part in {"indices", "indptr", "shape"} and f"{name}.indptr" in arrays):
            state[key] = value
    return state
