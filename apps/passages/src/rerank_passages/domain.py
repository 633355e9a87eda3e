"""The registration of passages: methods, measures, sample, and how to load a data folder."""

from __future__ import annotations

from pathlib import Path

from rerank_core.domain import Domain, Method, PlainCodec
from rerank_core.errors import InputError
from rerank_core.reranker import FirstStage
from rerank_core.types import Dataset
from rerank_passages import judges, rerank
from rerank_passages.measures import OFFICIAL

_CROSS = {**rerank.ENCODER_DEFAULTS, "model": rerank.CROSS_ENCODER, "max_length": 512}
_BI = {**rerank.ENCODER_DEFAULTS, "model": rerank.BI_ENCODER}
_KEPT = {**_BI, "vectors": None}
_PAIRED = {**rerank.ENCODER_DEFAULTS, "model": rerank.CROSS_ENCODER, "bi_model": rerank.BI_ENCODER}
_CROSS_NEEDS = (f"model: {rerank.CROSS_ENCODER}",)
_BI_NEEDS = (f"model: {rerank.BI_ENCODER}",)

METHODS = {
    "first-stage": Method(lambda c: FirstStage(), "the first stage's order", cost="nothing"),
    "bm25": Method(
        rerank.bm25, "BM25 with statistics of the candidates at hand", "Robertson and Zaragoza 2009", cost="no model"
    ),
    "static": Method(
        rerank.static,
        "cosine of averaged token vectors",
        "WordLlama",
        (f"model: {rerank.STATIC}",),
        {"model": rerank.STATIC},
        "no forward",
    ),
    "bi-encoder": Method(
        rerank.bi_encoder,
        "cosine of sentence vectors",
        "Reimers and Gurevych 2019; all-MiniLM-L6-v2",
        _BI_NEEDS,
        _KEPT,
        "1 forward of 6 layers a distinct text; vectors: folder where passages' vectors are kept",
    ),
    "maxsim": Method(
        rerank.maxsim,
        "late interaction over token states",
        "ColBERT, Khattab and Zaharia 2020, over an encoder not trained for it",
        _BI_NEEDS,
        _BI,
        "1 forward of 6 layers a distinct text",
    ),
    "cross-encoder": Method(
        rerank.cross_encoder,
        "one joint pass of query and passage",
        "Nogueira and Cho 2019; ms-marco-MiniLM-L12-v2",
        _CROSS_NEEDS,
        _CROSS,
        "1 forward of 12 layers a candidate",
    ),
    "hybrid": Method(
        rerank.hybrid,
        "bi-encoder interpolated with the first stage",
        "ours; the share of the first stage was chosen on TREC DL 2020",
        _BI_NEEDS,
        {**_BI, "lexical": 0.2},
        "1 forward of 6 layers a distinct text",
    ),
    "default": Method(
        rerank.default,
        "cross-encoder, bi-encoder and first stage, fused",
        "ours",
        (*_CROSS_NEEDS, *_BI_NEEDS),
        {
            **{k: v for k, v in rerank.ENCODER_DEFAULTS.items() if k != "max_length"},
            "model": rerank.CROSS_ENCODER,
            "bi_model": rerank.BI_ENCODER,
            "bi": 0.1,
            "first": 0.1,
        },
        "1 forward of 12 layers and at most 1 of 6 a candidate",
    ),
    "cascade": Method(
        rerank.cascade,
        "a distilled student of cheap signals picks what the cross-encoder reads; stops when the top is settled",
        "ours",
        (*_CROSS_NEEDS, f"model: {rerank.STATIC}"),
        {
            **_PAIRED,
            "static_model": rerank.STATIC,
            "vectors": None,
            "bi": 2.0,
            "bi_depth": 0,
            "cross_depth": 30,
            "round_size": 10,
            "top": 10,
            "patience": 1,
            "words": 40,
        },
        "20 to 30 forwards of 12 layers a query, of at most 40 words",
    ),
    "cur": Method(
        rerank.cur,
        "cross-encoder on a few anchors, candidate vectors predict the rest, the best of them are read",
        "ANNCUR, Yadav et al. 2022; ADACUR, Yadav et al. 2023",
        (*_CROSS_NEEDS, *_BI_NEEDS),
        {**_PAIRED, "anchors": 20, "budget": 40, "rounds": 2, "rcond": 0.1},
        "40 forwards of 12 layers and 1 of 6 a candidate",
    ),
    "quite+cross-encoder": Method(
        rerank.quite_cross_encoder,
        "cross-encoder over query-dependent summaries",
        "Zou et al. 2021",
        _CROSS_NEEDS,
        {**_CROSS, "words": 60, "decay": 0.5},
        "1 forward of 12 layers a candidate, of at most 60 words",
    ),
    "feedback": Method(
        rerank.feedback,
        "cross-encoder; its verdict moves the query vector, which is blended in",
        "Rocchio 1971; after Reddy et al. 2024",
        (*_CROSS_NEEDS, *_BI_NEEDS),
        {**_PAIRED, "feedback_top": 5, "weight": 0.7, "blend": 0.3},
        "1 forward of 12 layers and 1 of 6 a candidate",
    ),
    **judges.METHODS,
}


def sample() -> Dataset[str, str]:
    """Build the documentation-search sample."""
    from rerank_passages.sample import documentation_search

    return documentation_search(queries=300, depth=10)


def load(folder: Path) -> Dataset[str, str]:
    """Read a folder with ``queries.tsv``, ``passages.jsonl.gz``, ``qrels.txt`` and ``runs/bm25*.trec.gz``.

    A folder with ``candidates.jsonl.gz`` (``{"qid", "query", "candidates": [{"docid", "text"}]}``) and ``qrels.txt``
    is read too.

    Raises
    ------
    InputError
        When the folder holds neither, or a file in it is malformed.
    """
    from rerank_core.io import read_qrels, read_run
    from rerank_passages.data import read_candidates, read_passages, read_queries, requests_from_run, run_ids

    folder = Path(folder)
    gold = read_qrels(folder / "qrels.txt")
    if (folder / "candidates.jsonl.gz").is_file():
        return Dataset(read_candidates(folder / "candidates.jsonl.gz"), gold, name=folder.name)
    runs = sorted(folder.glob("runs/bm25*.trec.gz"))
    if not runs:
        raise InputError("holds neither candidates.jsonl.gz nor runs/bm25*.trec.gz", folder)
    run = read_run(runs[0])
    passages = read_passages(folder / "passages.jsonl.gz", run_ids(run))
    return Dataset(requests_from_run(read_queries(folder / "queries.tsv"), passages, run), gold, name=folder.name)


domain: Domain[str, str] = Domain(
    name="passages",
    title="Passages and documents",
    methods=METHODS,
    measures=OFFICIAL,
    codec=PlainCodec(),
    rendering=judges.RENDERING,
    sample=sample,
    load=load,
    demo_methods=("bi-encoder", "default"),
    notes={
        "sample": "Documentation search: the query is the first sentence of a function's docstring, the page to find is "
        "the rest of it without the function's name, among all pages of the installed packages (BM25's top 10)."
    },
)
