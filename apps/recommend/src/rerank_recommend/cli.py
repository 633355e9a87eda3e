"""The ``rerank-recommend`` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rerank_core.cli import app_for, print_rows, run, set_threads
from rerank_core.domain import Domain
from rerank_core.errors import UsageError


def _domain() -> Domain[Any, Any]:
    from rerank_recommend.domain import domain

    return domain


app = app_for(
    _domain,
    help_text="Rerank recommendations: conversational (CARE), keyword cold start (KALM4Rec), multi-interest (kNN-Embed).",
    without=("rerank", "eval"),
)

Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
Threads = Annotated[int, typer.Option("--threads", help="Threads; 0: up to two.")]
Json = Annotated[bool, typer.Option("--json", help="Machine output on stdout.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Where to write.")]
Model = Annotated[Path, typer.Option("--model", help="Folder written by `fit`.")]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="Longest answer of the language model.")]
Llm = Annotated[str | None, typer.Option("--llm", help="Language model: alias, folder, hub name or the served name.")]
Endpoint = Annotated[str | None, typer.Option("--endpoint", help="OpenAI-compatible server of the language model.")]


@app.command("fit")
def fit(
    train: Annotated[list[Path], typer.Argument(help="Turns with their truth, JSONL (.gz); or interactions.")],
    out: Out,
    *,
    entities: Annotated[Path | None, typer.Option(help="The catalogue, JSONL (.gz).")] = None,
    kg: Annotated[
        Path | None,
        typer.Option(help="Knowledge graph triples h, r, t, JSONL (.gz); default: kg.jsonl beside the catalogue."),
    ] = None,
    iteminfo: Annotated[Path | None, typer.Option(help="Plots or other text of items, JSONL (.gz).")] = None,
    experts: Annotated[
        str | None, typer.Option(help="Experts or groups of them (classical, dense), with commas.")
    ] = None,
    encoder: Annotated[str, typer.Option(help="Dense encoder.")] = "wordllama-l2-256",
    data_format: Annotated[str, typer.Option("--format", help="auto, turns, crslab, recbole or movielens.")] = "auto",
    seed: Seed = 0,
    threads: Threads = 0,
) -> None:
    """Fit experts and the ranker on top; write one folder."""
    n = set_threads(threads)
    from rerank_recommend import commands

    model = commands.fit_any(
        train,
        out,
        entities=entities,
        graph=kg,
        iteminfo=iteminfo,
        experts=[e.strip() for e in experts.split(",")] if experts else None,
        encoder=encoder,
        data_format=data_format,
        seed=seed,
        threads=n,
    )
    _say(f"{len(model.experts)} experts over {model.catalogue.n_items} items -> {out}")


@app.command("rerank")
def rerank(
    test: Annotated[Path, typer.Argument(help="Turns, JSONL (.gz); their truth is not looked at.")],
    out: Out,
    *,
    model: Model,
    recorded: Annotated[Path | None, typer.Option(help="Recorded answers of a language model, JSONL (.gz).")] = None,
    method: Annotated[str, typer.Option(help="experts, direct, expand, rerank, select or fuse.")] = "experts",
    llm: Llm = None,
    max_tokens: MaxTokens = 512,
    endpoint: Endpoint = None,
    record: Annotated[Path | None, typer.Option(help="Record the model's answers here.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Answer from such a record, without a model.")] = None,
    strict: Annotated[bool, typer.Option(help="Stop at the first answer that fails.")] = False,
    explain: Annotated[bool, typer.Option(help="Say at every item where it comes from.")] = False,
    run_file: Annotated[Path | None, typer.Option("--run", help="Also write a TREC run.")] = None,
    threads: Threads = 0,
) -> None:
    """Rank items for turns with an expert, a language model's answers, or both."""
    n = set_threads(threads)
    from rerank_recommend import commands

    asked = commands.Ask(recorded, llm, endpoint, record, replay, strict, max_tokens)
    rows, notes = commands.rerank(test, model, out, method=method, ask=asked, explain=explain, run=run_file, threads=n)
    for note in notes:
        _say(note)
    _say(f"{len(rows)} rankings -> {out}")


@app.command("recommend")
def recommend(
    texts: Annotated[list[str], typer.Argument(help="Utterances, oldest first, the last one the user's.")],
    *,
    model: Model,
    k: Annotated[int, typer.Option("--top", "-k", min=1, help="How many items.")] = 10,
    as_json: Json = False,
) -> None:
    """Recommend items for one conversation given on the command line."""
    from rerank_recommend import commands

    print_rows(commands.recommend(texts, model, k), as_json)


@app.command("eval")
def evaluate(
    ranked: Annotated[Path | None, typer.Argument(help="Ranking file written by `rerank`.")] = None,
    *,
    test: Annotated[Path, typer.Option(help="Turns with their truth (`rec`).")],
    recorded: Annotated[Path | None, typer.Option(help="Recorded answers instead of a ranking file.")] = None,
    entities: Annotated[Path | None, typer.Option(help="The catalogue; needed for recorded answers.")] = None,
    mode: Annotated[str, typer.Option(help="Grounding of answers: default, or official (He et al.).")] = "default",
    match: Annotated[str | None, typer.Option(help="id or name: when two items count as the same.")] = None,
    against: Annotated[Path | None, typer.Option(help="A second ranking file; prints paired differences.")] = None,
    popularity: Annotated[Path | None, typer.Option(help="A model folder; adds the popularity-bias report.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Score a ranking file, or recorded answers of a language model, against the truth."""
    from rerank_recommend import commands

    if (ranked is None) == (recorded is None):
        raise UsageError("eval needs either a ranking file or --recorded ANSWERS")
    if recorded is not None:
        if entities is None:
            raise UsageError("--recorded answers are titles; --entities says what they lead to")
        rows = commands.evaluate_recorded(recorded, test, entities, mode=mode, match=match, seed=seed)
    else:
        assert ranked is not None
        rows = commands.evaluate_ranked(
            ranked, test, entities, match=match, against=against, popularity=popularity, seed=seed
        )
    print_rows(rows, as_json)


@app.command("link")
def link(
    texts: Annotated[Path, typer.Argument(help='Lines {"id", "text"}, JSONL (.gz).')],
    out: Out,
    *,
    entities: Annotated[Path, typer.Option(help="The catalogue, JSONL (.gz).")],
    items_only: Annotated[bool, typer.Option(help="Leave entities out that are no items.")] = False,
) -> None:
    """Find the entities that texts mention, with offsets and reasons."""
    from rerank_recommend import commands

    _say(f"{commands.link(texts, entities, out, items_only=items_only)} links -> {out}")


@app.command("keywords")
def keywords(
    reviews: Annotated[Path, typer.Argument(help='Reviews {"user", "item", "text", "split"?}, JSONL (.gz) or CSV.')],
    *,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write keywords and candidates of the users.")] = None,
    train: Annotated[
        str, typer.Option(help="all: everything but the test users; regular: only split `train`.")
    ] = "all",
    protocol: Annotated[
        str, typer.Option(help="official, or leave-one-out: keywords from other reviews.")
    ] = "official",
    method: Annotated[str, typer.Option(help="Retriever of the candidates written to OUT.")] = "default",
    neural: Annotated[bool, typer.Option(help="Also train and judge MF, MultVAE and CLCRec.")] = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Keywords of reviews, retrieval by them (KALM4Rec), and how well every retriever does."""
    from rerank_recommend import commands

    rows = commands.keywords(reviews, out, train=train, protocol=protocol, method=method, neural=neural, seed=seed)
    print_rows(rows, as_json)


@app.command("chat")
def chat(
    *,
    model: Model,
    llm: Llm = None,
    max_tokens: MaxTokens = 512,
    endpoint: Endpoint = None,
    k: Annotated[int, typer.Option("--top", "-k", min=1, help="How many items a turn.")] = 5,
) -> None:
    """Talk with a recommender in the terminal; an empty line or Ctrl-D ends it."""
    from rerank_recommend.chat import talk

    talk(model, sys.stdin, sys.stdout, llm=llm, endpoint=endpoint, k=k, max_tokens=max_tokens)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def main() -> None:
    """Run the command."""
    run(app)
