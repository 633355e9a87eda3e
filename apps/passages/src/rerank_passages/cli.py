"""The command ``rerank-passages``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rerank_core.cli import (
    BudgetCalls,
    BudgetSeconds,
    BudgetTokens,
    ConfigOption,
    MethodOption,
    OutOption,
    ResumeFlag,
    SeedOption,
    ThreadsOption,
    app_for,
    budget_of,
    eval_command,
    fuse_command,
    rerank_to,
    run,
    set_threads,
    settings,
)
from rerank_core.domain import Domain
from rerank_core.errors import UsageError


def _domain() -> Domain[str, str]:
    from rerank_passages.domain import domain

    return domain


app = app_for(
    _domain,
    help_text="Rerank passages and documents: search, rerank, claims, screening, multi-hop questions.",
    without=("rerank", "eval"),
)
app.command("eval")(eval_command)
app.command("fuse")(fuse_command)

QueriesOption = Annotated[Path, typer.Option("--queries", help="TSV id<TAB>text, or JSONL (.gz).")]
PassagesOption = Annotated[Path, typer.Option("--passages", help="JSONL {docid|id, text, title?} (.gz).")]
ModelOption = Annotated[str | None, typer.Option("--model", help="Alias, model folder or hub name.")]


@app.command("search")
def search_command(
    queries: QueriesOption,
    passages: PassagesOption,
    out: OutOption,
    top: Annotated[int, typer.Option("--top", "-k", min=1, help="Passages a query.")] = 100,
    k1: Annotated[float, typer.Option("--k1", min=0)] = 0.9,
    b: Annotated[float, typer.Option("--b", min=0, max=1)] = 0.4,
    language: Annotated[str, typer.Option("--language", help="en, zh (jieba), or characters.")] = "en",
) -> None:
    """Search passages with BM25 and write a TREC run."""
    from rerank_core.io import write_run
    from rerank_core.reranker import FirstStage
    from rerank_passages.data import read_passages, read_queries
    from rerank_passages.retrieve import Bm25Index, Bm25Params, english_terms
    from rerank_passages.t2ranking import character_terms, chinese_terms

    cuts = {"en": english_terms, "zh": chinese_terms, "characters": character_terms}
    if language not in cuts:
        raise UsageError(f"search knows no language {language!r}; known: {', '.join(cuts)}")
    asked, texts = read_queries(queries), read_passages(passages)
    requests = Bm25Index.build(texts, Bm25Params(k1, b), cut=cuts[language]).requests(asked, texts, top)
    write_run(out, FirstStage().rerank(requests), tag="bm25")
    _say(f"{len(requests)} of {len(asked)} queries found something in {len(texts)} passages -> {out}")


@app.command("rerank")
def rerank_command(
    queries: QueriesOption,
    passages: PassagesOption,
    run_file: Annotated[Path, typer.Option("--run", help="First stage: TREC run (.gz).")],
    out: OutOption,
    method: MethodOption = "default",
    model: ModelOption = None,
    precision: Annotated[str | None, typer.Option("--precision", help="auto, fp32, bf16, fp16 or int8.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Candidates a query to keep and rerank.")] = 100,
    window: Annotated[int | None, typer.Option("--window", min=2, help="Window of listwise judges.")] = None,
    stride: Annotated[int | None, typer.Option("--stride", min=1, help="Stride of the window.")] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="OpenAI-compatible server of the judge.")] = None,
    record: Annotated[Path | None, typer.Option("--record", help="Record the model's answers here.")] = None,
    replay: Annotated[Path | None, typer.Option("--replay", help="Answer from this record, without a model.")] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Remember a judge's answers on disk.")] = True,
    config: ConfigOption = None,
    resume: ResumeFlag = True,
    budget_seconds: BudgetSeconds = None,
    budget_calls: BudgetCalls = None,
    budget_tokens: BudgetTokens = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
) -> None:
    """Rerank a TREC run; writes a TREC run, or JSONL where OUT ends in .jsonl."""
    set_threads(threads)
    from rerank_core.io import read_run
    from rerank_passages.data import read_passages, read_queries, requests_from_run, run_ids

    domain = _domain()
    flags = {
        "model": model,
        "precision": precision,
        "window": window,
        "stride": stride,
        "endpoint": endpoint,
        "record": record,
        "replay": replay,
        "seed": seed or None,
        "cache": None if cache else False,
    }
    chosen = _settings(domain, method, flags, settings(config))
    first = read_run(run_file)
    asked, texts = read_queries(queries), read_passages(passages, run_ids(first, top))
    requests = requests_from_run(asked, texts, first, top=top)
    budget = budget_of(budget_calls, budget_tokens, budget_seconds)
    rerank_to(domain, requests, method, chosen, out, resume, budget)


ArticlesOption = Annotated[Path, typer.Option("--articles", help="JSONL {article_id, title, claim, sentences} (.gz).")]
PostsOption = Annotated[Path, typer.Option("--queries", help="JSONL {query_id, text, ocr?} (.gz).")]


@app.command("fit-claims")
def fit_claims_command(
    queries: PostsOption,
    articles: ArticlesOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model.")],
    split: Annotated[str | None, typer.Option("--split", help="Use only posts of this split.")] = None,
    mtm_encoder: Annotated[
        str, typer.Option("--mtm-encoder", help="Sentence vectors of method mtm: static, or rouge (trained here).")
    ] = "static",
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
) -> None:
    """Fit the ranker of previously fact-checked claims on posts with gold."""
    set_threads(threads)
    from rerank_passages.claims.commands import fit

    _say(fit(queries, articles, split, out, seed, mtm_encoder))


@app.command("claims")
def claims_command(
    queries: PostsOption,
    articles: ArticlesOption,
    out: OutOption,
    method: Annotated[str, typer.Option("--method", help="bm25, mtm, features, default or memory.")] = "default",
    model: Annotated[Path | None, typer.Option("--model", help="Folder that fit-claims wrote.")] = None,
    known: Annotated[Path | None, typer.Option("--known", help="Posts with gold; for method memory alone.")] = None,
    threads: ThreadsOption = 0,
) -> None:
    """Find the fact-checks of posts; a TREC run, or JSONL with the key sentences where OUT ends in .jsonl."""
    set_threads(threads)
    from rerank_passages.claims.commands import rank

    _say(rank(queries, articles, method, model, out, known))


@app.command("screen")
def screen_command(
    review: Annotated[str, typer.Option("--review", help="Title of the systematic review.")],
    documents: Annotated[Path, typer.Option("--documents", help="JSONL {id, text | title + abstract} (.gz).")],
    out: OutOption,
    method: Annotated[str, typer.Option("--method", help="default (cross-encoder and BM25) or bm25.")] = "default",
    model: ModelOption = None,
    threads: ThreadsOption = 0,
) -> None:
    """Order a review's whole result set, likely relevant studies first."""
    set_threads(threads)
    from rerank_core.io import write_run
    from rerank_passages.data import read_passages
    from rerank_passages.rerank import CROSS_ENCODER, ENCODER_DEFAULTS, cross_encoder
    from rerank_passages.screening import screening_request, screening_reranker

    if method not in ("default", "bm25"):
        raise UsageError(f"screen has no method {method!r}; methods: default, bm25")
    request = screening_request(review, read_passages(documents))
    config = {**ENCODER_DEFAULTS, "model": model or CROSS_ENCODER}
    reranker = screening_reranker(cross_encoder(config) if method == "default" else None)
    write_run(out, reranker.rerank([request]), tag=f"screen-{method}")
    _say(f"{len(request.candidates)} documents ordered -> {out}")


@app.command("decompose")
def decompose_command(
    question: Annotated[str, typer.Option("--question", help="A question with several parts.")],
    passages: PassagesOption,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="TREC run; without it the passages are printed.")
    ] = None,
    method: MethodOption = "default",
    depth: Annotated[int, typer.Option("--depth", min=1, help="Passages a part.")] = 10,
    threads: ThreadsOption = 0,
) -> None:
    """Split a question, search for its parts, and rank what is found against the whole question."""
    set_threads(threads)
    from rerank_core.io import write_run
    from rerank_passages.data import read_passages
    from rerank_passages.decompose import by_rules, pooled_request
    from rerank_passages.retrieve import Bm25Index

    if not question.strip():
        raise UsageError("the question is empty")
    texts = read_passages(passages)
    for part in by_rules(question):
        _say(f"part: {part}")
    request = pooled_request("question", question, Bm25Index.build(texts), texts, by_rules, depth=depth)
    if not request.candidates:
        raise UsageError("no passage shares a word with the question")
    (ranking,) = _domain().method(method).rerank([request])
    if out is not None:
        write_run(out, [ranking], tag="decompose")
        return
    for rank, item in enumerate(ranking.items[:10], 1):
        typer.echo(f"{rank:>2} {item.id}  {' '.join(texts[item.id].split()[:30])}")


def _settings(domain: Domain[str, str], method: str, flags: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return the method's settings: the flags that it knows, and ``--set`` over them."""
    known = domain.methods[method].default if method in domain.methods else {}
    given = {k: v for k, v in flags.items() if v is not None}
    foreign = sorted(k for k in given if k not in known and method in domain.methods and k not in ("seed", "cache"))
    if foreign:
        raise UsageError(
            f"method {method!r} takes no --{foreign[0]}; its settings: {', '.join(sorted(known)) or 'none'}"
        )
    if "options" in known:  # a judge: --set names its own options, except where they are the builder's
        options = {k: v for k, v in config.items() if k not in known}
        config = {k: v for k, v in config.items() if k in known} | {"options": options}
    return {k: v for k, v in given.items() if k in known} | config


def _say(text: str) -> None:
    typer.echo(text, err=True)


def main() -> None:
    """Entry point of ``rerank-passages``."""
    run(app, prog_name="rerank-passages")
