"""The command ``rerank-schema``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rerank_core.cli import (
    BudgetCalls,
    BudgetSeconds,
    ConfigOption,
    JsonFlag,
    SeedOption,
    ThreadsOption,
    app_for,
    budget_of,
    print_rows,
    set_threads,
    settings,
)
from rerank_core.cli import run as run_app
from rerank_core.errors import UsageError

if TYPE_CHECKING:
    from rerank_core.budget import Budget
    from rerank_core.domain import Domain
    from rerank_lm.backends.base import BackEnd
    from rerank_schema.llm import LlmParams
    from rerank_schema.matching import Decide
    from rerank_schema.scored import Matcher
    from rerank_schema.tables import Column, Schema


def _domain() -> Domain[Any, Any]:
    from rerank_schema.domain import domain

    return domain


app = app_for(_domain, help_text="Match the columns of one table set to another.", without=("eval",))


@app.command()
def match(
    source: Annotated[str, typer.Argument(help="A file, a folder of tables, or a database URL.")],
    target: Annotated[str, typer.Argument(help="The same for the target side.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Result: .csv, .tsv, .json or .html.")],
    method: Annotated[
        str, typer.Option("--method", help="Method (`methods` lists them) or a folder of `fit`.")
    ] = "default",
    target_descriptions: Annotated[Path | None, typer.Option(help="JSON (.gz): target column -> description.")] = None,
    source_descriptions: Annotated[Path | None, typer.Option(help="The same for source columns.")] = None,
    schema_only: Annotated[bool, typer.Option("--schema-only", help="Each row describes a column.")] = False,
    names_only: Annotated[bool, typer.Option("--names-only", help="Use names and descriptions, never a cell.")] = False,
    topk: Annotated[int, typer.Option(min=1, help="Candidates a source column.")] = 20,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Smallest probability of a match; by default where the expected F1 is largest."
        ),
    ] = None,
    several: Annotated[bool, typer.Option("--several", help="Allow 1-n and n-1 matches.")] = False,
    llm: Annotated[
        str | None, typer.Option(help="Language model that reranks: a served model's name, or a local one.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="OpenAI-compatible server of --llm.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for one answer of the endpoint.")] = 120.0,
    llm_style: Annotated[str, typer.Option(help="score (Magneto), table (ReMatch) or choice (Matchmaker).")] = "score",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what the model would be asked; ask nothing.")
    ] = False,
    record: Annotated[Path | None, typer.Option(help="Record the model's answers (JSONL).")] = None,
    replay: Annotated[Path | None, typer.Option(help="Answer from a recording.")] = None,
    budget_calls: BudgetCalls = None,
    budget_seconds: BudgetSeconds = None,
    config: ConfigOption = None,
    threads: ThreadsOption = 0,
) -> None:
    """Rank the target columns of every source column and decide which match."""
    set_threads(threads)
    from rerank_schema.matching import match_schemas, unmatched
    from rerank_schema.rerank import make_matcher
    from rerank_schema.results import WRITERS, write_matches

    if out.suffix.lower() not in WRITERS:
        raise UsageError(f"{out}: write to a file that ends in {', '.join(WRITERS)}")
    left = _read(source, schema_only, source_descriptions, names_only)
    right = _read(target, schema_only, target_descriptions, names_only)
    matcher = make_matcher(method, settings(config))
    if dry_run:
        return _print_questions(left, right, matcher, llm_style)
    if llm or replay:
        budget = budget_of(budget_calls, None, budget_seconds)
        matcher = _with_llm(matcher, _backend(llm, endpoint, record, replay, timeout), llm_style, budget)
    decide = _decision(method, threshold, several)
    found = match_schemas(left, right, matcher, decide, topk=topk, show_values=not names_only)
    write_matches(out, found, unmatched(left, found))
    _tell(matcher)
    decided = sum(m.decision == "match" for m in found)
    print(
        f"{len(left.columns)} source columns, {len(right.columns)} target columns: {decided} matches in {out}",
        file=sys.stderr,
    )


def _print_questions(left: Schema, right: Schema, matcher: Matcher, style: str) -> None:
    from rerank_schema.llm import questions
    from rerank_schema.prompts import SYSTEM

    scored = matcher.score(left.columns, right.columns)
    for question in questions(left.columns, right.columns, scored, _llm_params(style)):
        print(f"[system]\n{SYSTEM}\n[user]\n{question.text}\n")


def _llm_params(style: str) -> LlmParams:
    from rerank_schema.llm import LlmParams

    try:
        return LlmParams(style)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _with_llm(matcher: Matcher, backend: BackEnd, style: str, budget: Budget | None) -> Matcher:
    from rerank_schema.llm import LlmMatcher

    return LlmMatcher(matcher, backend, _llm_params(style), budget)


def _backend(
    model: str | None, endpoint: str | None, record: Path | None, replay: Path | None, timeout: float = 120.0
) -> BackEnd:
    import os

    from rerank_lm.backends.opening import open_backend
    from rerank_schema.encode import cache_folder

    options: dict[str, Any] = {"key": os.environ.get("OPENAI_API_KEY"), "timeout": timeout} if endpoint else {}
    cache = None if replay else cache_folder() / "answers"
    return open_backend(model or "", endpoint=endpoint, record=record, replay=replay, cache=cache, **options)


def _tell(matcher: Matcher) -> None:
    """Say what a language model cost and where its answers were mended."""
    tally = getattr(matcher, "tally", None)
    if tally is not None:
        words = [f"{tally.cost.calls} calls", f"{tally.unusable} unusable answers", f"{tally.invented} invented names"]
        words += [f"{tally.missing} names left out", f"{tally.unasked} questions over budget"]
        print(f"language model: {', '.join(words)}", file=sys.stderr)


def _read(source: str, schema_only: bool, descriptions: Path | None, names_only: bool) -> Schema:
    from rerank_schema.readers import read_schema

    schema = read_schema(source, schema_only=schema_only)
    for note in schema.notes:
        print(f"note: {note}", file=sys.stderr)
    if descriptions is not None:
        from rerank_schema.readers.layouts import read_descriptions

        schema = schema.described(read_descriptions(descriptions))
    return schema.without_values() if names_only else schema


def _decision(method: str, threshold: float | None, several: bool) -> Decide:
    from rerank_schema.decide import decide, decide_as_valentine, packaged_decider, read_decider

    if method in ("magneto-official", "magneto", "header"):
        return decide_as_valentine
    folder = Path(method)
    decider = read_decider(folder) if (folder / "decider.json").exists() else packaged_decider()
    return lambda scored, tops: decide(scored, tops, decider, threshold=threshold, several=several)


@app.command("eval")
def evaluate(
    result: Annotated[Path, typer.Argument(help="A result of `match` (CSV, TSV or JSON).")],
    gold: Annotated[Path, typer.Option("--gold", help="Gold correspondences (CSV, TSV, Valentine JSON, SSSOM).")],
    trim: Annotated[bool, typer.Option("--trim", help="Ignore blanks around the gold's names.")] = False,
    as_json: JsonFlag = False,
    seed: SeedOption = 0,
) -> None:
    """Score a result against gold: MRR, Recall@GT, Recall@20, precision, recall and F1 of decisions."""
    from rerank_schema.evaluation import evaluate as judge
    from rerank_schema.gold import read_gold
    from rerank_schema.results import read_matches

    pairs = read_gold(gold, trim=trim)
    if blank := sum(n != n.strip() for pair in pairs.pairs for name in pair for n in name):
        print(f"note: {gold}: {blank} names have blanks around them, so they match no column (--trim)", file=sys.stderr)
    print_rows(judge(read_matches(result), pairs, system=result.stem, seed=seed), as_json)


@app.command()
def fit(
    pairs: Annotated[
        Path,
        typer.Argument(
            help="Folder of table pairs, each with source, target and ground_truth.csv; or a saved review (.review.json)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model.")],
    source: Annotated[str | None, typer.Option(help="Source tables of the review.")] = None,
    target: Annotated[str | None, typer.Option(help="Target tables of the review.")] = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
) -> None:
    """Learn a ranker and a decision from table pairs; use it with `match --method FOLDER`."""
    set_threads(threads)
    if pairs.is_file():
        return _fit_review(pairs, out, source, target)
    from rerank_schema.fit import fit_folder

    report = fit_folder(pairs, out, seed=seed)
    print(f"{report['pairs']} table pairs, {report['columns']} source columns: model in {out}", file=sys.stderr)
    print_rows(report["rows"], False)


def _fit_review(path: Path, out: Path, source: str | None, target: str | None) -> None:
    from rerank_schema.feedback import learn, save
    from rerank_schema.rerank import make_matcher
    from rerank_schema.review.state import Review

    answers = Review.answers_of(path)
    if not source or not target:
        raise UsageError("to learn from a review, name its tables with --source and --target")
    left, right = _read(source, False, None, False), _read(target, False, None, False)
    lesson = learn(left, right, answers, make_matcher("default"))
    save(lesson, out, left.name)
    print(
        f"{lesson.columns} answered columns: model in {out}; MRR of columns left out {lesson.before:.3f} by the default, "
        f"{lesson.after:.3f} learned",
        file=sys.stderr,
    )


@app.command()
def finetune(
    schema: Annotated[str, typer.Argument(help="The columns to learn: a file, a folder of tables, or a database URL.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the encoder; use it with -s model=FOLDER.")],
    descriptions: Annotated[Path | None, typer.Option(help="JSON (.gz): column -> description.")] = None,
    schema_only: Annotated[bool, typer.Option("--schema-only", help="Each row describes a column.")] = False,
    model: Annotated[str, typer.Option(help="Encoder to start from.")] = "all-minilm-l6-v2",
    augmentation: Annotated[
        str, typer.Option(help="Of exact, lexical and semantic (asks --llm), joined by commas.")
    ] = "exact,lexical",
    loss: Annotated[str, typer.Option(help="triplet (batch-hard) or contrastive.")] = "triplet",
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the variants.")] = 30,
    llm: Annotated[str | None, typer.Option(help="Language model that writes semantic variants.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="OpenAI-compatible server of --llm.")] = None,
    record: Annotated[Path | None, typer.Option(help="Record the model's answers (JSONL).")] = None,
    replay: Annotated[Path | None, typer.Option(help="Answer from a recording.")] = None,
    budget_calls: BudgetCalls = None,
    budget_seconds: BudgetSeconds = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
) -> None:
    """Fine-tune the encoder on a schema's columns and their variants; no correspondences are needed."""
    set_threads(threads)
    from rerank_schema.augment import semantic
    from rerank_schema.finetune import FinetuneParams
    from rerank_schema.finetune import finetune as train

    names = tuple(n.strip() for n in augmentation.split(",") if n.strip())
    params = FinetuneParams(model, tuple(n for n in names if n != "semantic"), loss, epochs=epochs, seed=seed)
    if "semantic" in names and not (llm or replay):
        raise UsageError("semantic variants are written by a language model: name one with --llm (and --endpoint)")
    columns = _read(schema, schema_only, descriptions, names_only=False).columns
    extra: list[list[Column]] = []
    if "semantic" in names:
        budget = budget_of(budget_calls, None, budget_seconds)
        extra, unusable = semantic(columns, _backend(llm, endpoint, record, replay), budget)
        print(f"language model: {sum(map(len, extra))} variants, {unusable} unusable answers", file=sys.stderr)
    outcome = train(columns, out, params, extra=extra, say=lambda text: print(text, file=sys.stderr))
    print(
        f"encoder in {out}: epoch {outcome.best_epoch}, MRR of unseen variants {outcome.before:.4f} -> "
        f"{max((outcome.before, *outcome.after)):.4f}; use it with -s model={out}",
        file=sys.stderr,
    )


@app.command()
def review(
    result: Annotated[Path, typer.Argument(help="A result of `match` (CSV, TSV or JSON).")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 8080,
    source: Annotated[str | None, typer.Option(help="Source tables, to show sample values.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Target tables: sample values, and every column to choose from.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(help="Where answers are saved; by default RESULT.review.json.")
    ] = None,
    schema_only: Annotated[
        bool, typer.Option("--schema-only", help="Each row of source and target describes a column.")
    ] = False,
) -> None:
    """Settle a result on a local web page: accept, reject, choose another; saved after every step."""
    from rerank_schema.results import read_matches
    from rerank_schema.review.server import make_app, samples_of, serve
    from rerank_schema.review.state import Review

    left = _read(source, schema_only, None, False) if source else None
    right = _read(target, schema_only, None, False) if target else None
    state = Review.of(
        read_matches(result),
        path=answers or result.with_name(result.name + ".review.json"),
        sources=[(c.table, c.name) for c in left.columns] if left else (),
        targets=[(c.table, c.name) for c in right.columns] if right else (),
    )
    train = None
    if left and right:
        from rerank_schema.feedback import trainer
        from rerank_schema.rerank import make_matcher

        train = trainer(left, right, make_matcher("default"), result.with_name(result.name + ".model"))
    serve(make_app(state, samples_of(left, right), train=train), port)


def main() -> None:
    """Run the command."""
    run_app(app)
