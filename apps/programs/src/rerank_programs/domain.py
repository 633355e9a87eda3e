"""Registration of the domain ``programs``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rerank_core.domain import Domain, Method, TextRendering
from rerank_core.reranker import FirstStage, Reranker
from rerank_core.types import Candidate, Dataset
from rerank_programs.data import Program, ProgramCodec, Task, read_candidates, read_labels
from rerank_programs.measures import OFFICIAL

RUNNING: Mapping[str, Any] = {
    "mode": "spider",
    "seconds": 2.0,
    "memory_mib": 512,
    "workers": 2,
    "cache": None,
    "unsafe_local": False,
    "budget_calls": None,
    "budget_seconds": None,
}
"""Settings of every method that runs programs."""


def _executor(config: Mapping[str, Any]) -> Any:
    from rerank_core.budget import Budget
    from rerank_programs.cache import OutcomeCache
    from rerank_programs.execution import Executor
    from rerank_programs.sandbox.limits import Limits

    cache = OutcomeCache(config["cache"]) if config["cache"] else None
    limits = Limits(seconds=config["seconds"], memory_mib=config["memory_mib"])
    calls, seconds = config["budget_calls"], config["budget_seconds"]
    budget = None if calls is None and seconds is None else Budget(calls=calls, seconds=seconds)
    return Executor(limits, config["workers"], cache, config["unsafe_local"], budget=budget)


def _running(scorer: Any, config: Mapping[str, Any]) -> Reranker:
    from rerank_programs.rerank import ByOutcome

    return ByOutcome(scorer, _executor(config), config["mode"])


def _vote(config: Mapping[str, Any]) -> Reranker:
    from rerank_programs.rerank import vote

    return _running(vote(config["mode"]), config)


def _semantic(config: Mapping[str, Any]) -> Reranker:
    from rerank_programs.rerank import Semantic
    from rerank_programs.semantic import SemanticConfig

    settings = SemanticConfig(
        mode=config["mode"],
        expectation_weight=config["expectation_weight"],
        interleave=config["interleave"],
        order=config["order"],
        use_scores=config["use_scores"],
    )
    return _running(Semantic(settings), config)


def _mbr_exec(config: Mapping[str, Any]) -> Reranker:
    from rerank_programs.rerank import MbrExec

    return _running(MbrExec(config["mode"]), config)


def _learned(config: Mapping[str, Any]) -> Reranker:
    from rerank_core.errors import UsageError
    from rerank_programs.learned import load_scorer

    if not config["model"]:
        raise UsageError("the learned ranker needs a model: --model DIR, a folder that `rerank-programs fit` wrote")
    return _running(load_scorer(config["model"], config["mode"]), config)


def _coder_reviewer(config: Mapping[str, Any]) -> Reranker:
    from rerank_programs.lm import CoderReviewer, Lazy

    model = Lazy(config["lm"], config["endpoint"])
    return _running(CoderReviewer(model, config["lm"], config["mode"], config["mean"]), config)


def _lever(config: Mapping[str, Any]) -> Reranker:
    from rerank_programs.lm import Lazy, Lever

    model = Lazy(config["lm"], config["endpoint"])
    return _running(Lever(model, config["lm"], config["mode"], config["lm_weight"]), config)


def _clue(config: Mapping[str, Any]) -> Reranker:
    from rerank_core.errors import UsageError
    from rerank_programs.clue import Centroids, Clue, read_states

    if not config["centroids"] or not config["states"]:
        raise UsageError("clue needs two files: --set centroids=FILE --set states=FILE")
    return Clue(Centroids.load(config["centroids"]), read_states(config["states"]))


def _ngram(config: Mapping[str, Any]) -> Reranker:
    from rerank_programs.rerank import NGram

    return NGram(config["order"])


def _first(config: Mapping[str, Any]) -> Reranker:
    return FirstStage()


def _sample() -> Dataset[Task, Program]:
    from rerank_programs.sample import sample

    return sample()


def load(folder: Path) -> Dataset[Task, Program]:
    """Read a folder with ``candidates.jsonl.gz``, ``labels.jsonl.gz`` and ``databases/`` (as ``spider_sql``)."""
    folder = folder / "spider_sql" if (folder / "spider_sql").is_dir() else folder
    requests = read_candidates(folder / "candidates.jsonl.gz", folder / "databases")
    gold = read_labels(folder / "labels.jsonl.gz")
    return Dataset(requests, gold, {r.id: r.query.database or r.id for r in requests})


def _render_query(task: Task) -> str:
    return task.question


def _render_candidate(candidate: Candidate[Program]) -> str:
    return candidate.content.text


_SEMANTIC = {**RUNNING, "expectation_weight": 0.1, "interleave": True, "order": "mass", "use_scores": True}

METHODS: dict[str, Method] = {
    "first": Method(_first, "The order given", "baseline", cost="nothing"),
    "vote": Method(
        _vote,
        "Most frequent result first, one program per result",
        "C3 2023, DAIL-SQL 2023",
        default=RUNNING,
        cost="1 run a program",
    ),
    "semantic": Method(
        _semantic,
        "Filter, lints, predicted output, interleaving",
        "From Words to Code (Khatry et al. 2023)",
        default=_SEMANTIC,
        cost="1 run a program",
    ),
    "mbr-exec": Method(
        _mbr_exec,
        "Program whose result most others agree with",
        "MBR-exec (Shi et al. 2022)",
        default=RUNNING,
        cost="1 run a program",
    ),
    "learned": Method(
        _learned,
        "LightGBM on votes, result and text, trained with pool dropout; leans on the vote",
        "ours",
        needs=("lightgbm", "model: `rerank-programs fit`"),
        default={**RUNNING, "model": None},
        cost="1 run a program",
    ),
    "ngram": Method(
        _ngram,
        "Overlap of n-grams with the other candidates; runs nothing",
        "Jain et al. 2023",
        default={"order": 3},
        cost="nothing",
    ),
}
_LM: Mapping[str, Any] = {**RUNNING, "lm": "smollm2-135m-instruct", "endpoint": None}
METHODS["coder-reviewer"] = Method(
    _coder_reviewer,
    "log p(program | question) + log p(question | program), among those that run",
    "Coder-Reviewer (Zhang et al. 2022)",
    needs=("rerank-programs[lm]", "a causal language model"),
    default={**_LM, "mean": False},
    cost="1 run and 2 log-probabilities a program",
)
METHODS["lever"] = Method(
    _lever,
    "A verifier reads question, program and result; equal results add up",
    "LEVER (Ni et al. 2023)",
    needs=("rerank-programs[lm]", "a verifier: T5 or an instruct model"),
    default={**_LM, "lm_weight": 1.0},
    cost="1 run and 1 forward a program",
)
METHODS["clue"] = Method(
    _clue,
    "Nearest to past successes by saved hidden states; runs nothing",
    "CLUE (Tencent 2025)",
    needs=("centroids and states files",),
    default={"centroids": None, "states": None},
    cost="1 distance a program",
)
METHODS["default"] = METHODS["semantic"]

domain: Domain[Task, Program] = Domain(
    name="programs",
    title="Generated programs: SQL, Python and pandas, Power Query M",
    methods=METHODS,
    measures=OFFICIAL,
    codec=ProgramCodec(),
    rendering=TextRendering(
        "Given a question about data, retrieve the program that answers it", _render_query, _render_candidate
    ),
    sample=_sample,
    load=load,
    demo_methods=("first", "ngram", "mbr-exec", "vote", "semantic"),
    executes=True,
)
