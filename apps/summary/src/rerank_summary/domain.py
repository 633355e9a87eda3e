"""The registration of summary: methods, measures, sample, and how to load a data folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rerank_core.domain import Domain, Method, PlainCodec, TextRendering
from rerank_core.errors import InputError
from rerank_core.reranker import FirstStage, Reranker
from rerank_core.types import Candidate, Dataset
from rerank_summary import rerank
from rerank_summary.measures import MEASURES

Config = Mapping[str, Any]
_EXPLAIN: Config = {"explain": False}


def _list(name: str, scorer: rerank.ListScorer, title: str, source: str = "ours", unit: str = "score") -> Method:
    def make(config: Config) -> Reranker:
        return rerank.ListReranker(name, scorer, name, unit, config["explain"])

    return Method(make, title, source, default=_EXPLAIN, cost="no model")


def _mbr(name: str, utility: str, title: str) -> Method:
    def make(config: Config) -> Reranker:
        scorer = rerank.mbr(config["utility"], config["weighting"])
        settings = (config["utility"], config["weighting"])
        unit = f"mean {config['utility']} with the other candidates"
        return rerank.ListReranker(name, scorer, settings, unit, config["explain"])

    default = {**_EXPLAIN, "utility": utility, "weighting": "uniform"}
    return Method(make, title, "Kumar and Byrne 2004; Eikema and Aziz 2022", default=default, cost="no model")


def _random(config: Config) -> Reranker:
    return rerank.ListReranker("random", rerank.shuffled(config["seed"]), config["seed"])


def _learned(name: str, mbr: float) -> Any:
    def make(config: Config) -> Reranker:
        from rerank_summary.learned import LearnedReranker, load, packaged

        ensemble = load(config["model"]) if config["model"] else packaged()
        return LearnedReranker(name, ensemble, config["mbr"], config["explain"])

    return Method(
        make,
        "LambdaRank over reference-free features" + (", with MBR" if mbr else ""),
        "Burges 2010; targets as in SummaReranker, Ravaut et al. 2022",
        ("lightgbm",),
        {**_EXPLAIN, "model": "", "mbr": mbr},
        "no model, about 20 ms a list",
    )


def _embedding(name: str, kind: str, title: str, source: str) -> Method:
    def make(config: Config) -> Reranker:
        from rerank_summary import embedding

        scorer = getattr(embedding, kind)(config["model"])
        return rerank.ListReranker(name, scorer, config["model"], kind, config["explain"])

    default = {**_EXPLAIN, "model": "all-minilm-l6-v2"}
    return Method(make, title, source, ("model: all-minilm-l6-v2",), default, "1 forward a candidate")


def _nli(config: Config) -> Reranker:
    from rerank_summary.entailment import nli_scorer

    return rerank.ListReranker("nli", nli_scorer(config["model"]), config["model"], "entailment", config["explain"])


def _seq2seq(config: Config) -> Reranker:
    from rerank_summary.likelihood import seq2seq_reranker

    return seq2seq_reranker(config)


def _simcls(config: Config) -> Reranker:
    from rerank_summary.simcls import simcls_reranker

    return simcls_reranker(config)


def _experts(config: Config) -> Reranker:
    from rerank_summary.experts import experts_reranker

    return experts_reranker(config)


_NEEDS_MODEL = ("a local folder or hub name given by --set model=...",)

METHODS: Mapping[str, Method] = {
    "default": _learned("default", 0.5),
    "first": Method(lambda c: FirstStage(), "the file's order", cost="nothing"),
    "random": Method(_random, "a seeded random order: a baseline", default={"seed": 0}, cost="nothing"),
    "longest": _list("longest", rerank.longest, "most words: a baseline", unit="words"),
    "median-length": _list("median-length", rerank.median_length, "nearest the list's median length: a baseline"),
    "lead": _list("lead", rerank.lead, "ROUGE-1 F1 to the first three source sentences", unit="ROUGE-1 with the lead"),
    "source-overlap": _list(
        "source-overlap", rerank.source_overlap, "ROUGE-2 precision to the source", unit="bigrams found in the source"
    ),
    "lexrank": _list(
        "lexrank", rerank.central, "most central candidate by tf-idf", "LexRank, Erkan and Radev 2004", "centrality"
    ),
    "faithful": _list("faithful", rerank.faithful, "supported bigrams, numbers and names, no repetition"),
    "mbr-rouge1": _mbr("mbr-rouge1", "rouge1", "minimum Bayes risk under ROUGE-1"),
    "mbr-rouge2": _mbr("mbr-rouge2", "rouge2", "minimum Bayes risk under ROUGE-2"),
    "mbr-rougeL": _mbr("mbr-rougeL", "rougeL", "minimum Bayes risk under ROUGE-L"),
    "mbr-mean": _mbr("mbr-mean", "mean", "minimum Bayes risk under the mean of ROUGE-1, 2 and L"),
    "mbr-chrf": _mbr("mbr-chrf", "chrf", "minimum Bayes risk under chrF"),
    "mbr-bertscore": _embedding(
        "mbr-bertscore", "embedding_mbr", "minimum Bayes risk under token-embedding F1", "BERTScore, Zhang et al. 2020"
    ),
    "source-cosine": _embedding(
        "source-cosine", "source_cosine", "cosine of sentence vectors to the source", "Reimers and Gurevych 2019"
    ),
    "nli": Method(
        _nli, "entailment of each sentence by the source", "SummaC-ZS, Laban et al. 2022", _NEEDS_MODEL,
        {**_EXPLAIN, "model": None}, "sentences x source sentences forwards",
    ),
    "learned": _learned("learned", 0.0),
    "brio": Method(
        _seq2seq, "length-normalised likelihood under a seq2seq model", "BRIO, Liu et al. 2022", _NEEDS_MODEL,
        {**_EXPLAIN, "model": None, "length_penalty": 2.0, "max_source": 1024, "max_candidate": 512, "normalise": True},
        "1 encoder pass, 1 decoder pass a candidate",
    ),
    "simcls": Method(
        _simcls, "cosine of document and candidate vectors, trained", "SimCLS, Liu and Liu 2021", _NEEDS_MODEL,
        {**_EXPLAIN, "model": None, "max_length": 512}, "1 forward a text",
    ),
    "experts": Method(
        _experts, "mixture of experts over several metrics", "SummaReranker, Ravaut et al. 2022", _NEEDS_MODEL,
        {**_EXPLAIN, "model": None}, "no transformer: features",
    ),
}  # fmt: skip


def _query(query: str) -> str:
    return query


def _candidate(candidate: Candidate[str]) -> str:
    return candidate.content


RENDERING: TextRendering[str, str] = TextRendering(
    "The query is a document. Find the candidate that summarises it best: faithful, relevant, coherent and fluent.",
    _query,
    _candidate,
)


def _sample() -> Dataset[str, str]:
    from rerank_summary.sample import sample

    return sample()


def load(folder: Path) -> Dataset[str, str]:
    """Read a data folder: every ``*.jsonl`` or ``*.jsonl.gz`` in it and one level below that holds candidates.

    Raises
    ------
    InputError
        When there is none.
    """
    from rerank_summary.data import dataset_of, read_records

    files = sorted(
        p for pattern in ("*.jsonl", "*.jsonl.gz", "*/*.jsonl", "*/*.jsonl.gz") for p in folder.glob(pattern)
    )
    wanted = [p for p in files if p.parent.name in ("summeval", "realsumm") or p.parent == folder]
    if not wanted:
        raise InputError("holds no candidate files (*.jsonl, *.jsonl.gz)", folder)
    records = [r for p in wanted for r in read_records(p)]
    return dataset_of(records, folder.name)


domain: Domain[str, str] = Domain(
    name="summary",
    title="Candidate summaries and answers",
    methods=METHODS,
    measures=MEASURES,
    codec=PlainCodec(),
    rendering=RENDERING,
    sample=_sample,
    load=load,
    demo_methods=("default", "mbr-rouge1", "lexrank", "lead", "longest"),
    notes={
        "sample": "Long descriptions of the installed packages as documents, their one-line summaries as references, "
        "extracts by salient plans as candidates; gain is mean ROUGE-1/2/L. The numbers change with the installation."
    },
)
