"""Every reranker on plain arrays, by name: what the command line, the index and the chooser share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from rerank_core.errors import UsageError
from rerank_image.arrays import Matrix, as_pair, order
from rerank_image.diffusion import DiffusionParams, diffusion
from rerank_image.expansion import alpha_qe, dba
from rerank_image.gnn import GnnParams, gnn
from rerank_image.kreciprocal import KReciprocalParams, k_reciprocal
from rerank_image.search import Hits, search
from rerank_image.similarities import zscores
from rerank_image.superglobal import SuperGlobalParams, superglobal
from rerank_image.whiten import fit_whitening

WHOLE = 100_000  # databases up to this size are ranked to the end


@dataclass(frozen=True)
class ExpansionParams:
    """Parameters of alphaQE: how many neighbours, and the power of their similarity (0 is plain average expansion)."""

    neighbours: int = 10
    alpha: float = 3.0

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.alpha < 0:
            raise UsageError("expansion needs neighbours >= 1 and alpha >= 0")


@dataclass(frozen=True)
class FuseParams:
    """Parameters of the fusion.

    Parameters
    ----------
    methods
        Methods, with their defaults, whose z-scores are added.
    dims
        PCA whitenings under which each of them runs: numbers of dimensions, 0 for none.
    """

    methods: tuple[str, ...] = ("k-reciprocal", "gnn")
    dims: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not self.methods or not self.dims:
            raise UsageError("fuse needs at least one method and one entry of dims")
        if "fuse" in self.methods:
            raise UsageError("fuse cannot hold itself")


@dataclass(frozen=True)
class NoParams:
    """No parameters."""


@dataclass(frozen=True)
class ArrayMethod:
    """A reranker on arrays.

    Parameters
    ----------
    scope
        ``list``: needs one query and its candidates only. ``graph``: scores a whole database for all queries
        together, so its cost grows with the database.
    params
        The dataclass of its parameters.
    """

    name: str
    title: str
    source: str
    scope: Literal["list", "graph"]
    params: type
    cost: str
    run: Callable[[Matrix, Matrix, Any], Matrix] | None = field(default=None, repr=False)

    def configure(self, settings: Mapping[str, Any]) -> Any:
        """Make the parameters from settings.

        Raises
        ------
        UsageError
            When a setting is unknown or has the wrong type.
        """
        known = {f.name for f in fields(self.params)}
        unknown = sorted(set(settings) - known)
        if unknown:
            raise UsageError(
                f"{self.name} has no setting {unknown[0]!r}; settings: {', '.join(sorted(known)) or 'none'}"
            )
        try:
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
            return self.params(**values)
        except TypeError as error:
            raise UsageError(f"{self.name}: {error}") from None


def _fused(queries: Matrix, db: Matrix, p: FuseParams) -> Matrix:
    parts = []
    for dims in p.dims:
        q, x = (queries, db) if not dims else whitened(queries, db, dims)
        parts += [score_all(name, q, x, {}) for name in p.methods]
    return zsum(parts)


def whitened(queries: Matrix, db: Matrix, dims: int, power: float = 0.5) -> tuple[Matrix, Matrix]:
    """Learn a PCA whitening on the database and apply it to both."""
    whitening = fit_whitening(db, dims, power)
    return whitening.apply(queries), whitening.apply(db)


def zsum(scores: list[Matrix]) -> Matrix:
    """Add each method's scores after scaling every query's to mean 0 and deviation 1; shape (n_queries, n_db)."""
    total = np.zeros(scores[0].shape)
    for s in scores:
        total += zscores(s)
    return total.astype(np.float32)


def _expanded(queries: Matrix, db: Matrix, p: ExpansionParams) -> Matrix:
    return alpha_qe(queries, db, p.neighbours, p.alpha) @ db.T


def _augmented(queries: Matrix, db: Matrix, p: ExpansionParams) -> Matrix:
    return _expanded(queries, dba(db, p.neighbours, p.alpha), p)


METHODS: dict[str, ArrayMethod] = {
    m.name: m
    for m in (
        ArrayMethod("none", "inner product of the descriptors", "first stage", "list", NoParams, "0"),
        ArrayMethod(
            "superglobal",
            "candidates and query refined by their nearest candidates",
            "Shao et al., ICCV 2023",
            "list",
            SuperGlobalParams,
            "one M x M Gram matrix",
            lambda q, x, p: np.stack([superglobal(one, x, p) for one in q]),
        ),
        ArrayMethod(
            "alpha-qe",
            "query expanded by its nearest, weighted by similarity^alpha",
            "Radenovic et al., TPAMI 2018",
            "graph",
            ExpansionParams,
            "a second search",
            _expanded,
        ),
        ArrayMethod(
            "dba-alpha-qe",
            "database vectors averaged with their nearest, then alpha-qe",
            "Arandjelovic & Zisserman, CVPR 2012",
            "graph",
            ExpansionParams,
            "all-pairs search once",
            _augmented,
        ),
        ArrayMethod(
            "k-reciprocal",
            "Jaccard distance of expanded k-reciprocal neighbour sets",
            "Zhong et al., CVPR 2017",
            "graph",
            KReciprocalParams,
            "all-pairs search once",
            k_reciprocal,
        ),
        ArrayMethod(
            "gnn",
            "two rounds of message passing on the neighbour graph",
            "Zhang et al., 2020",
            "graph",
            GnnParams,
            "all-pairs search once",
            gnn,
        ),
        ArrayMethod(
            "diffusion",
            "diffusion on the mutual neighbour graph, late truncation",
            "Yang et al., AAAI 2019",
            "graph",
            DiffusionParams,
            "20 conjugate-gradient steps a vector",
            diffusion,
        ),
        ArrayMethod(
            "fuse",
            "z-scores of k-reciprocal and gnn added",
            "ours",
            "graph",
            FuseParams,
            "its parts together",
            _fused,
        ),
    )
}


def method(name: str) -> ArrayMethod:
    """Find a method.

    Raises
    ------
    UsageError
        When there is none of that name.
    """
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; methods: {', '.join([*METHODS, 'auto'])}")
    return METHODS[name]


def score_all(name: str, queries: Matrix, db: Matrix, settings: Mapping[str, Any]) -> Matrix:
    """Score every database vector, shape (n_queries, n_db)."""
    chosen = method(name)
    params = chosen.configure(settings)
    return queries @ db.T if chosen.run is None else chosen.run(queries, db, params)


def split_settings(settings: Mapping[str, Any]) -> tuple[int, float, dict[str, Any]]:
    """Take the settings every method knows (``whiten``: PCA dimensions, 0 for none; ``power``) from the others."""
    rest = dict(settings)
    dims, power = rest.pop("whiten", 0), rest.pop("power", 0.5)
    if not isinstance(dims, int) or dims < 0:
        raise UsageError(f"whiten is a number of dimensions (0 for none), not {dims!r}")
    return dims, float(power), rest


def rank(
    name: str,
    queries: ArrayLike,
    db: ArrayLike,
    *,
    top: int = 400,
    keep: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Hits:
    """Rank a database for queries by a named method.

    Parameters
    ----------
    queries, db
        Shapes (n_queries, d) and (n_db, d), unit norm.
    top
        Candidates a list method reranks (M); the rest follows in first-stage order, its scores shifted below.
    keep
        Length of the rankings; by default the whole database up to 100,000 vectors, else ``top``.
    settings
        The method's parameters, and ``whiten`` / ``power`` for a PCA whitening learned on the database.

    Returns
    -------
    Hits
        Best first; scores fall along each row and compare within a query only.
    """
    q, x = as_pair(queries, db)
    if top < 1:
        raise UsageError("top must be at least 1")
    length = min(len(x), keep if keep is not None else (len(x) if len(x) <= WHOLE else top))
    dims, power, rest = split_settings(settings or {})
    chosen = method(name)
    params = chosen.configure(rest)
    if dims:
        q, x = whitened(q, x, dims, power)
    if chosen.run is not None and chosen.scope == "graph":
        scores = chosen.run(q, x, params)
        ids = order(scores)[:, :length]
        return Hits(ids, np.take_along_axis(scores, ids, axis=1))
    first = search(q, x, length)
    if chosen.run is None:
        return first
    parts = [_rerank_head(chosen, params, q[i], x, first.ids[i], first.scores[i], top) for i in range(len(q))]
    return Hits(np.stack([p[0] for p in parts]), np.stack([p[1] for p in parts])) if parts else first


def _rerank_head(
    chosen: ArrayMethod, params: Any, query: Matrix, db: Matrix, ids: Any, scores: Any, top: int
) -> tuple[Any, Matrix]:
    assert chosen.run is not None
    head, tail = ids[:top], ids[top:]
    new = chosen.run(query[None], db[head], params)[0]
    best = np.argsort(-new, kind="stable")
    return np.concatenate([head[best], tail]), append_tail(new[best], scores[top:])


def append_tail(head: Matrix, tail: Matrix) -> Matrix:
    """Put first-stage scores below reranked ones: shifted, so that the whole row falls."""
    if not len(tail):
        return head
    return np.concatenate([head, tail - tail[0] + head[-1] - np.float32(1e-3)])


def describe(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a method's complete parameters, defaults included, for files that record what was run."""
    dims, power, rest = split_settings(settings)
    out = dict(asdict(method(name).configure(rest)))
    return out | ({"whiten": dims, "power": power} if dims else {})
