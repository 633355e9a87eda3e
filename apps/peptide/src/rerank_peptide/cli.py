"""``rerank-peptide``: candidates, rerank, fit, eval, simulate, ablate, plot."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rerank_core.cli import (
    ConfigOption,
    JsonFlag,
    MethodOption,
    OutOption,
    ResumeFlag,
    SeedOption,
    ThreadsOption,
    app_for,
    budget_of,
    print_rows,
    rerank_to,
    set_threads,
    settings,
)
from rerank_core.cli import run as run_app
from rerank_core.errors import InputError, UsageError


def _domain() -> Any:
    from rerank_peptide.domain import domain

    return domain


app = app_for(
    _domain, help_text="Rerank de novo peptide candidates for tandem mass spectra.", without=("rerank", "eval")
)

SpectraArgument = Annotated[Path, typer.Argument(help="Spectra: .mgf or .mzML, optionally .gz.")]


def _named(pairs: Sequence[str] | None) -> dict[str, Path]:
    out: dict[str, Path] = {}
    for pair in pairs or ():
        name, equals, file = pair.partition("=")
        if not equals or not name or not file:
            raise UsageError(f"--candidates wants NAME=FILE, not {pair!r}")
        if name in out:
            raise UsageError(f"--candidates names {name!r} twice")
        out[name] = Path(file)
    return out


@app.command("rerank")
def rerank_command(
    spectra: SpectraArgument,
    out: OutOption,
    candidates: Annotated[
        list[str] | None, typer.Option("--candidates", "-c", help="NAME=FILE of an engine; repeat. None: graph engine.")
    ] = None,
    method: MethodOption = "default",
    config: ConfigOption = None,
    top_match: Annotated[int, typer.Option("--top-match", min=0, help="Candidates written a spectrum; 0 = all.")] = 0,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Rerank only so many a spectrum.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print what speaks for each top candidate.")] = False,
    resume: ResumeFlag = True,
    budget_seconds: Annotated[float | None, typer.Option("--budget-seconds", min=0)] = None,
    budget_calls: Annotated[int | None, typer.Option("--budget-calls", min=0)] = None,
    threads: ThreadsOption = 0,
) -> None:
    """Rerank engines' candidates into one mzTab (CSV, JSONL), with probabilities and q-values."""
    set_threads(threads)
    from rerank_peptide.data import tell
    from rerank_peptide.mztab import VALIDITY, write
    from rerank_peptide.pipeline import make_requests, results

    files = _named(candidates)
    _check_output(out)
    joined = make_requests(spectra, files, limit)
    tell(joined.notes)
    if not any(r.candidates for r in joined.requests):
        raise InputError("no spectrum has a candidate; nothing to rerank", spectra)
    chosen = settings(config)
    domain = _domain()
    reranker = domain.method(method, chosen)

    def save(path: Path, rankings: list[Any]) -> None:
        found = results(joined.requests, rankings, reranker, top_match or None)
        facts = {"candidates": ", ".join(f"{n}={p}" for n, p in files.items()) or "graph engine", **chosen}
        write(path, found, spectra=str(spectra), method=method, settings=facts)

    rankings = rerank_to(
        domain, joined.requests, method, chosen, out, resume, budget_of(budget_calls, None, budget_seconds), write=save
    )
    print(f"note: {VALIDITY}", file=sys.stderr)
    if explain:
        from rerank_peptide.pipeline import explanations

        for line in explanations(joined.requests, rankings):
            print(line, file=sys.stderr)


def _check_output(out: Path) -> None:
    if not out.name.lower().removesuffix(".gz").endswith((".mztab", ".csv", ".tsv", ".jsonl")):
        raise UsageError(f"{out}: unknown output format; give .mztab, .csv, .tsv or .jsonl")


@app.command("eval")
def eval_command(
    result: Annotated[Path, typer.Argument(help="mzTab or JSONL of `rerank`, or any engine's mzTab.")],
    gold: Annotated[
        Path, typer.Option("--gold", help="Annotated spectra (SEQ= in MGF), or CSV of index and sequence.")
    ],
    by: Annotated[str | None, typer.Option("--by", help="Also by charge, length or missing (sites).")] = None,
    as_json: JsonFlag = False,
    seed: SeedOption = 0,
) -> None:
    """Judge a result against labels: peptide and amino-acid recall, AUC, oracle, calibration; misses count."""
    from rerank_peptide.measures import judge, strata
    from rerank_peptide.mztab import read_predictions
    from rerank_peptide.pipeline import gold_labels, missing_sites

    if by is not None and by not in ("charge", "length", "missing"):
        raise UsageError(f"--by is charge, length or missing, not {by!r}")
    labels, file = gold_labels(gold)
    found = read_predictions(result)
    if not set(found) & set(labels):
        raise InputError("names no spectrum that has a label; is it another file's result?", result)
    system = result.name.split(".")[0]
    rows = judge(labels, found, system=system, seed=seed)
    if by is not None:
        absent = missing_sites(labels, file) if by == "missing" else {}
        charges = {s.id: s.charge for s in file.spectra}
        for name, ids in strata(by, labels, absent, charges).items():
            part = {i: labels[i] for i in ids}
            rows += judge(
                part, found, system=f"{system} {name}", seed=seed, names=("peptide_recall", "aa_recall", "oracle@20")
            )
    print_rows(rows, as_json)


@app.command("candidates")
def candidates_command(
    spectra: SpectraArgument,
    out: OutOption,
    engine: Annotated[str, typer.Option("--engine", help="graph, transformer or compnovo.")] = "graph",
    top: Annotated[int, typer.Option("--top", min=1, help="Candidates a spectrum.")] = 20,
    expand: Annotated[
        int, typer.Option("--expand", min=0, help="Also so many mass-preserving variants of the best.")
    ] = 0,
    model: Annotated[str | None, typer.Option("--model", help="Folder of a fitted transformer.")] = None,
    threads: ThreadsOption = 0,
) -> None:
    """Sequence spectra with an engine that needs no download; writes Parquet, CSV or TSV."""
    set_threads(threads)
    from rerank_peptide.pipeline import run_engine, write_candidates
    from rerank_peptide.spectra import read_spectra

    file = read_spectra(spectra)
    for index, title, why in file.skipped:
        print(f"note: spectrum {index} ({title}) skipped: {why}", file=sys.stderr)
    found = run_engine(engine, file.spectra, top, expand=expand, model=model)
    n = write_candidates(out, file.spectra, found, engine)
    print(f"{n} candidates of {sum(map(bool, found))} of {len(found)} spectra -> {out}", file=sys.stderr)


@app.command("simulate")
def simulate_command(
    proteins: Annotated[Path, typer.Argument(help="FASTA, optionally .gz.")],
    out: OutOption,
    n: Annotated[int, typer.Option("-n", min=1, help="Spectra.")] = 1000,
    seed: SeedOption = 0,
    intensity: Annotated[str, typer.Option("--intensity", help="packaged or ms2pip (extra).")] = "packaged",
) -> None:
    """Simulate annotated HCD spectra from proteins; MGF with SEQ=."""
    from rerank_peptide.pipeline import simulate_file

    count = simulate_file(proteins, out, n, seed, intensity)
    print(f"{count} simulated spectra -> {out}", file=sys.stderr)


@app.command("fit")
def fit_command(
    config: Annotated[Path, typer.Argument(help="YAML; docs/peptide.md lists the keys.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the fitted model.")],
    resume: ResumeFlag = True,
    threads: ThreadsOption = 0,
) -> None:
    """Fit a reranker (features, axial) or an engine (transformer) on your own and simulated spectra."""
    set_threads(threads)
    from rerank_peptide.fit import fit

    fit(config, out, resume=resume)


@app.command("ablate")
def ablate_command(
    config: Annotated[Path, typer.Argument(help="YAML; docs/peptide.md lists the keys.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the table.")],
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
) -> None:
    """Switch parts of the rerankers off, one a row, on the same spectra."""
    set_threads(threads)
    from rerank_peptide.ablate import ablate

    ablate(config, out, seed=seed)


@app.command("plot")
def plot_command(
    result: Annotated[Path, typer.Argument(help="mzTab of `rerank`.")],
    spectra: Annotated[Path, typer.Option("--spectra", help="The spectra it was made from.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the pictures and index.html.")],
    index: Annotated[
        list[int] | None, typer.Option("--index", help="Spectrum index; repeat. Default: first ten.")
    ] = None,
) -> None:
    """Draw annotated mirror spectra: the first candidate above, the second below, doubtful residues coloured."""
    from rerank_peptide.plot import plot

    n = plot(result, spectra, out, index)
    print(f"{n} pictures -> {out}", file=sys.stderr)


def main() -> None:
    """Entry point of ``rerank-peptide``."""
    run_app(app, prog_name="rerank-peptide")
