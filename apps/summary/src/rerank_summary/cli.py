"""The command ``rerank-summary``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rerank_core.cli import (
    BudgetCalls,
    BudgetSeconds,
    BudgetTokens,
    ConfigOption,
    JsonFlag,
    MethodOption,
    OutOption,
    ResumeFlag,
    SeedOption,
    ThreadsOption,
    app_for,
    budget_of,
    print_json,
    print_rows,
    rerank_to,
    run,
    set_threads,
    settings,
)
from rerank_core.errors import InputError, UsageError

if TYPE_CHECKING:
    from rerank_core.domain import Domain


def _domain() -> Domain[str, str]:
    from rerank_summary.domain import domain

    return domain


app = app_for(
    _domain,
    help_text="Choose, calibrate and explain among candidate summaries and answers.",
    without=("rerank", "eval"),
)

FormatOption = Annotated[str, typer.Option("--format", help="auto, jsonl, lines, brio or edu.")]


@app.command()
def rerank(
    file: Annotated[Path, typer.Argument(help="Candidate file (.gz) or BRIO folder.")],
    out: OutOption,
    method: MethodOption = "default",
    config: ConfigOption = None,
    fmt: FormatOption = "auto",
    run_file: Annotated[Path | None, typer.Option("--run", help="TREC run with first-stage scores.")] = None,
    best: Annotated[Path | None, typer.Option("--best", help="Also write the chosen texts, one line each.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Give each candidate a reason.")] = False,
    resume: ResumeFlag = True,
    budget_seconds: BudgetSeconds = None,
    budget_calls: BudgetCalls = None,
    budget_tokens: BudgetTokens = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
) -> None:
    """Order the candidates of each document (JSONL; a TREC run where OUT ends in .trec or .run).

    References and human scores in the file are never read. Ties keep the lowest input index on top.
    """
    _threads(threads)
    from rerank_summary.importers import read, with_run, write_best

    domain = _domain()
    if method not in domain.methods:
        raise UsageError(f"no method {method!r}; methods: {', '.join(sorted(domain.methods))}")
    chosen = settings(config)
    known = domain.methods[method].default
    for key, value in (("explain", explain), ("seed", seed)):
        if key in known and value:
            chosen.setdefault(key, value)
    records = read(file, fmt, labels=False)
    if run_file is not None:
        records = with_run(records, run_file)
    requests = [r.request for r in records]
    if not requests:
        raise InputError("holds no documents", file)
    budget = budget_of(budget_calls, budget_tokens, budget_seconds)
    rankings = rerank_to(domain, requests, method, chosen, out, resume, budget)
    if best is not None:
        write_best(best, rankings, {r.id: {c.id: c.content for c in r.candidates} for r in requests})


@app.command("eval")
def evaluate(
    rankings: Annotated[list[Path], typer.Argument(help="Rankings, JSONL (.gz); several are compared.")],
    data: Annotated[Path, typer.Option("--data", help="The candidate file, with references or human scores.")],
    fmt: FormatOption = "auto",
    flavour: Annotated[str, typer.Option("--flavour", help="rouge-score, rouge-score-nostem or perl.")] = "rouge-score",
    perl_data: Annotated[
        Path | None, typer.Option("--perl-data", help="Folder with ROUGE-1.5.5's *.exc files.")
    ] = None,
    references: Annotated[str, typer.Option("--references", help="first, or all (the best counts).")] = "first",
    ties: Annotated[
        str, typer.Option("--ties", help="first: lowest input index counts; average: mean over tied tops.")
    ] = "first",
    baselines: Annotated[bool, typer.Option("--baselines/--no-baselines", help="first, random, longest.")] = True,
    as_json: JsonFlag = False,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
) -> None:
    """Score rankings: ROUGE x 100 of the chosen, human means, Kendall tau, with intervals and baselines."""
    _threads(threads)
    from rerank_core.io import read_rankings
    from rerank_summary import evaluate as judge
    from rerank_summary.importers import read
    from rerank_summary.rouge import flavour as flavour_of

    systems: dict[str, Any] = {}
    for path in rankings:
        name = path.name.removesuffix(".gz").removesuffix(".jsonl")
        systems[name if name not in systems else str(path)] = {r.id: r for r in read_rankings(path)}
    figures = judge.evaluate(
        _checked(read(data, fmt), systems, data),
        systems,
        flavour_of(flavour, perl_data=perl_data),
        references=references,
        ties=ties,
        baselines=judge.BASELINES if baselines else (),
        seed=seed,
    )
    tie_rule = "lowest input index" if ties == "first" else "mean over tied candidates"
    print(f"ROUGE flavour {flavour}, F1 x 100; ties: {tie_rule}", file=sys.stderr)
    note = judge.noise_note(figures)
    if note:
        print(note, file=sys.stderr)
    print_rows([f.as_dict() for f in figures], as_json)


def _checked(records: Any, systems: dict[str, Any], path: Path) -> Any:
    """Pass records on; afterwards complain about rankings of documents that the data does not hold."""
    seen = set()
    for record in records:
        seen.add(record.id)
        for name, by_id in systems.items():
            if record.id not in by_id:
                print(f"{name}: no ranking of document {record.id!r}, it counts 0", file=sys.stderr)
        yield record
    for name, by_id in systems.items():
        unknown = sorted(set(by_id) - seen)
        if unknown:
            raise InputError(f"{name} ranks document {unknown[0]!r}, which is not in the data", path)


@app.command()
def rouge(
    hypotheses: Annotated[
        Path, typer.Option("--hypotheses", help="One text a line, or JSONL with --hypothesis-field.")
    ],
    references: Annotated[Path, typer.Option("--references", help="One text a line, or JSONL with --reference-field.")],
    flavour: Annotated[str, typer.Option("--flavour", help="rouge-score, rouge-score-nostem or perl.")] = "rouge-score",
    perl_data: Annotated[
        Path | None, typer.Option("--perl-data", help="Folder with ROUGE-1.5.5's *.exc files.")
    ] = None,
    hypothesis_field: Annotated[str | None, typer.Option("--hypothesis-field", help="Field of a JSONL file.")] = None,
    reference_field: Annotated[str | None, typer.Option("--reference-field", help="Field of a JSONL file.")] = None,
    separator: Annotated[
        str | None, typer.Option("--separator", help="What separates sentences inside a text, for example <q>.")
    ] = None,
    split: Annotated[bool, typer.Option("--split", help="Cut texts into sentences by rule, for rougeLsum.")] = False,
    as_json: JsonFlag = False,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
) -> None:
    """Corpus ROUGE of two files, with the flavour named and bootstrap intervals."""
    _threads(threads)
    from rerank_summary.corpus import corpus_rouge, read_texts
    from rerank_summary.rouge import flavour as flavour_of

    rows = corpus_rouge(
        read_texts(hypotheses, hypothesis_field),
        read_texts(references, reference_field),
        flavour_of(flavour, perl_data=perl_data),
        system=hypothesis_field or hypotheses.name,
        separator=separator,
        by_rule=split,
        seed=seed,
    )
    print(f"ROUGE flavour {flavour}, F1 x 100", file=sys.stderr)
    print_rows(rows, as_json)


@app.command()
def fit(
    files: Annotated[list[Path], typer.Argument(help="Candidate files with references or human scores.")],
    out: OutOption,
    target: Annotated[
        list[str] | None, typer.Option("--target", help="METRIC=WEIGHT, repeatable: human_mean=0.7 rouge1=0.3.")
    ] = None,
    folds: Annotated[int, typer.Option("--folds", min=2, help="Cross-validation folds, documents never split.")] = 5,
    as_json: JsonFlag = False,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
) -> None:
    """Fit a learned reranker (one model a fold) and print what it does out of fold."""
    _threads(threads)
    from rerank_summary.fitting import fit_and_judge

    weights = {k: float(v) for k, v in settings(target).items()} if target else None
    rows = fit_and_judge(files, out, weights, folds, seed)
    print(f"model -> {out}; figures are out of fold", file=sys.stderr)
    print_rows(rows, as_json)


@app.command()
def train(
    kind: Annotated[str, typer.Argument(help="brio, simcls or experts.")],
    files: Annotated[list[Path], typer.Argument(help="Candidate files with references.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model.")],
    model: Annotated[str | None, typer.Option("--model", help="Model to start from (brio, simcls).")] = None,
    updates: Annotated[int, typer.Option("--updates", min=1, help="Optimiser updates (brio, simcls).")] = 1000,
    config: ConfigOption = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
) -> None:
    """Train a scorer on candidate lists with references; stops and says so where training collapses."""
    _threads(threads)
    from rerank_summary.fitting import train_files

    for line in train_files(kind, files, out, model, updates, settings(config), seed):
        print(line, file=sys.stderr)


@app.command()
def generate(
    file: Annotated[Path, typer.Argument(help="Candidate file or JSONL with id and source.")],
    out: OutOption,
    beams: Annotated[int, typer.Option("--beams", min=1, help="Plans, and so candidates, a document.")] = 16,
    longest: Annotated[int, typer.Option("--longest", min=1, help="Most units of a plan.")] = 4,
    shortest: Annotated[int, typer.Option("--shortest", min=1, help="Fewest units of a plan.")] = 1,
    units: Annotated[str, typer.Option("--units", help="clauses or sentences.")] = "clauses",
    model: Annotated[
        str | None, typer.Option("--model", help="Seq2seq model for diverse beams; by default extracts by plan.")
    ] = None,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="Oracle plans from the references, to see the ceiling.")
    ] = False,
    as_json: JsonFlag = False,
    threads: ThreadsOption = 0,
) -> None:
    """Make candidates: one extract a plan, or diverse beams of a seq2seq model; report adherence and diversity."""
    _threads(threads)
    from rerank_summary.generate import generate_file

    report = generate_file(
        file, out, beams=beams, shortest=shortest, longest=longest, units=units, model=model, oracle=oracle
    )
    if as_json:
        print_json(report)
    else:
        for key, value in report.items():
            print(f"{key:<24} {value:.4f}" if isinstance(value, float) else f"{key:<24} {value}")


@app.command()
def judge(
    reviews: Annotated[Path | None, typer.Argument(help="Recorded replies, JSONL (.gz).")] = None,
    human: Annotated[Path | None, typer.Option("--human", help="Human labels, JSONL (.gz).")] = None,
    doubtful: Annotated[Path | None, typer.Option("--doubtful", help="Write the most doubtful pairs here.")] = None,
    share: Annotated[float, typer.Option("--share", min=0, max=1, help="Share of pairs that a person decides.")] = 0.2,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="Ask a model: JSONL with question_id, question, answers.")
    ] = None,
    pair: Annotated[str | None, typer.Option("--pair", help="Two answerers to compare, A,B.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Judge model, with --questions.")] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="OpenAI-compatible URL.")] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples an order (MEC).")] = 1,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest reply.")] = 512,
    vanilla: Annotated[
        bool, typer.Option("--vanilla", help="Scores first, one order, as uncalibrated judges do.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Record the model's replies here.")] = None,
    as_json: JsonFlag = False,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
) -> None:
    """Read judges' replies, calibrate them (MEC, BPC, BPDE) and compare them with people."""
    _threads(threads)
    from rerank_summary import transcripts

    if questions is not None:
        from rerank_summary.asking import ask_file

        if out is None:
            raise UsageError("--questions needs --out, where the replies are recorded")
        ask_file(
            questions, out, pair, model, endpoint, samples=samples, vanilla=vanilla, seed=seed, max_tokens=max_tokens
        )
        reviews = out
    if reviews is None:
        raise UsageError("give recorded replies, or --questions to ask a model")
    replies, choices = transcripts.read_transcripts(reviews)
    labels = transcripts.read_human(human) if human is not None else None
    reports = [*transcripts.judge_reports(replies, labels, share=share), *transcripts.choice_reports(choices)]
    if doubtful is not None:
        count = transcripts.write_doubtful(doubtful, reports, share)
        print(f"{count} pairs -> {doubtful}", file=sys.stderr)
    for report in reports:
        unread = report.forms.get("abstained", 0)
        print(f"{report.name}: {report.bias.sentence}; {report.n - unread} of {report.n} read", file=sys.stderr)
    print_rows(transcripts.rows_of(reports, seed=seed), as_json)


@app.command()
def audit(
    file: Annotated[Path, typer.Argument(help="Candidate file (.gz) or BRIO folder.")],
    fmt: FormatOption = "auto",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where a leak was found.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Look for leaks: references among candidates, doubles, a best candidate always in one place, empty texts."""
    from rerank_summary.audit import audit as look
    from rerank_summary.importers import read

    findings = look(read(file, fmt))
    if as_json:
        print_json([f.as_dict() for f in findings])
    else:
        for f in findings:
            examples = f" (e.g. {', '.join(f.examples[:3])})" if f.examples else ""
            print(f"{f.level:<8} {f.kind}: {f.text}: {f.count} of {f.n}{examples}")
    if strict and any(f.level == "leak" for f in findings):
        raise typer.Exit(1)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="Any known candidate format.")],
    out: OutOption,
    fmt: FormatOption = "auto",
) -> None:
    """Write a candidate file of any known format as canonical JSONL."""
    from rerank_summary.data import write_records
    from rerank_summary.importers import read

    write_records(out, read(file, fmt))


def _threads(threads: int) -> None:
    import os

    os.environ.setdefault("RAYON_NUM_THREADS", str(set_threads(threads)))


def main() -> None:
    """Entry point of ``rerank-summary``."""
    run(app)
