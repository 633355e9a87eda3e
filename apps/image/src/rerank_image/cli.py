"""The command ``rerank-image``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rerank_core.cli import (
    ConfigOption,
    JsonFlag,
    OutOption,
    SeedOption,
    ThreadsOption,
    app_for,
    print_json,
    print_rows,
    run,
    set_threads,
    settings,
)
from rerank_core.errors import UsageError
from rerank_image import documents_cli


def _domain() -> Any:
    from rerank_image.domain import domain

    return domain


app = app_for(
    _domain,
    help_text="Image retrieval with global features: index a folder, search it, rerank anyone's candidates, judge.",
    without=("rerank", "eval"),
)

app.add_typer(documents_cli.app, name="documents")

TopOption = Annotated[int, typer.Option("--top", min=1, help="Candidates to rerank; the rest keeps its order.")]
MethodOption = Annotated[str, typer.Option("--method", help="Reranker; `methods` lists them; `auto` chooses.")]


@app.command()
def rerank(
    out: OutOption,
    descriptors: Annotated[str, typer.Option("--descriptors", help="Database (n, d): .npy, FILE.npz:KEY or .mat.")],
    queries: Annotated[str, typer.Option("--queries", help="Queries (n, d), same formats.")],
    method: MethodOption = "superglobal",
    top: TopOption = 400,
    keep: Annotated[
        int | None, typer.Option("--keep", min=1, help="Ranks to write; default all up to 100,000 images, else --top.")
    ] = None,
    config: ConfigOption = None,
    gnd: Annotated[Path | None, typer.Option("--gnd", help="Ground truth, for the names in a TREC run.")] = None,
    threads: ThreadsOption = 0,
    seed: SeedOption = 0,
) -> None:
    """Rerank arrays of descriptors (normalised here) and write ranks: OUT.npz, or a TREC run (.run, .trec)."""
    set_threads(threads)
    from rerank_image.arrays import as_matrix, l2
    from rerank_image.auto import choose
    from rerank_image.data import read_named_matrix, read_truth, write_ranks
    from rerank_image.methods import describe, rank
    from rerank_image.trec import write_trec

    db = l2(as_matrix(read_named_matrix(descriptors), descriptors))
    q = l2(as_matrix(read_named_matrix(queries), queries))
    chosen, extra = method, settings(config)
    if method == "auto":
        choice = choose(db, seed=seed)
        chosen, extra = choice.method, {**choice.settings, **extra}
        print(choice.explain(), file=sys.stderr)
    hits = rank(chosen, q, db, top=top, keep=keep, settings=extra)
    if out.suffix in (".run", ".trec"):
        write_trec(out, hits, read_truth(gnd) if gnd else None, chosen)
    else:
        write_ranks(out, hits, {"method": chosen, "top": top, "settings": describe(extra, chosen)})
    print(f"{len(q)} queries x {hits.ids.shape[1]} of {len(db)} ranks by {chosen} -> {out}", file=sys.stderr)


@app.command()
def fuse(
    scores: Annotated[
        list[str], typer.Argument(help="Similarities FILE.npy or FILE.npz:KEY, rankings FILE.npz, or TREC runs.")
    ],
    out: OutOption,
    weight: Annotated[list[float] | None, typer.Option("--weight", help="One a list, in order.")] = None,
    gnd: Annotated[Path | None, typer.Option("--gnd", help="Ground truth, for the names in TREC runs.")] = None,
) -> None:
    """Add up the z-scores of several systems' scores and write ranks: OUT.npz, or a TREC run (.run, .trec)."""
    from rerank_image.data import read_truth, write_ranks
    from rerank_image.similarities import fuse as add_up
    from rerank_image.similarities import read_scores
    from rerank_image.trec import write_trec

    truth = read_truth(gnd) if gnd else None
    hits = add_up([read_scores(s, truth) for s in scores], weight)
    if out.suffix in (".run", ".trec"):
        write_trec(out, hits, truth, "zscore")
    else:
        write_ranks(out, hits, {"method": "zscore", "of": scores, "weights": weight})
    print(f"{len(hits.ids)} queries of {len(scores)} lists -> {out}", file=sys.stderr)


@app.command("eval")
def evaluate(
    ranks: Annotated[
        list[Path], typer.Argument(help="Rankings (.npz, TREC run); from the second on, against the first.")
    ],
    gnd: Annotated[
        Path | None, typer.Option("--gnd", help="Ground truth: JSON, revisitop's .pkl, or class folders.")
    ] = None,
    landmarks: Annotated[
        Path | None, typer.Option("--gldv2", help="GLDv2 retrieval solution (CSV); rankings are submissions (CSV).")
    ] = None,
    denominator: Annotated[
        str, typer.Option("--ap-denominator", help="all positives (the protocol), or found: at most the list's length.")
    ] = "all",
    plain: Annotated[bool, typer.Option("--classes", help="Also rectangular mAP, P@k, R@k, Hit@k, N-S score.")] = False,
    qrels: Annotated[
        Path | None, typer.Option("--write-qrels", help="Also write the ground truth as TREC qrels.")
    ] = None,
    as_json: JsonFlag = False,
    seed: SeedOption = 0,
) -> None:
    """Judge rankings: Revisited Oxford/Paris (mAP-E/M/H, mP@k), GLDv2 mAP@100, class folders; paired tests."""
    from rerank_image import measures
    from rerank_image.data import read_landmarks, read_submission, read_truth
    from rerank_image.trec import names_of, read_hits, write_qrels

    if denominator not in ("all", "found"):
        raise UsageError(f"--ap-denominator is all or found, not {denominator!r}")
    if (gnd is None) == (landmarks is None):
        raise UsageError("say what to judge against: either --gnd or --gldv2")
    systems: dict[str, Any] = {}
    if landmarks is not None:
        solution = read_landmarks(landmarks)
        for name, path in zip(names_of(ranks), ranks, strict=True):
            systems[name] = {"mAP@100": measures.landmarks(read_submission(path), solution)}
    else:
        assert gnd is not None
        truth = read_truth(gnd)
        for name, path in zip(names_of(ranks), ranks, strict=True):
            truth, hits = read_hits(path, truth)
            systems[name] = measures.per_query(
                hits, truth, denominator="all" if denominator == "all" else "found", name=str(path)
            )
            if plain or gnd.is_dir():
                systems[name] |= measures.classes(hits, truth)
        if qrels is not None:
            write_qrels(qrels, truth)
    print_rows(measures.table(systems, seed=seed), as_json)


# -- folders of pictures -------------------------------------------------------------------------------------------

BackboneOption = Annotated[str, typer.Option("--backbone", help="efficientnet-lite0, resnet50, resnet101, timm:NAME.")]
WeightsOption = Annotated[str | None, typer.Option("--weights", help="Checkpoint file of the backbone.")]


@app.command()
def index(
    folder: Annotated[Path, typer.Argument(help="Pictures, with subfolders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Index folder; an existing one is brought up to date.")],
    backbone: BackboneOption = "efficientnet-lite0",
    weights: WeightsOption = None,
    size: Annotated[int, typer.Option("--size", help="Longest side in pixels.")] = 256,
    scales: Annotated[int, typer.Option("--scales", help="1, 3 or 5.")] = 3,
    prep: Annotated[str, typer.Option("--prep", help="resize, or original (the released code's).")] = "resize",
    config: ConfigOption = None,
    threads: ThreadsOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Make an index of a folder; again, only new and changed pictures are read, and vanished ones leave it."""
    from rerank_image.extract import extract_config
    from rerank_image.library import build

    named = {"backbone": backbone, "weights": weights, "size": size, "scales": scales, "prep": prep}
    made = extract_config(named | settings(config))
    _finish(build(folder, out, made, threads=set_threads(threads), prune=True), out, as_json)


@app.command()
def add(
    index_folder: Annotated[Path, typer.Argument(metavar="INDEX")],
    folder: Annotated[Path, typer.Argument(help="More pictures.")],
    threads: ThreadsOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Add a folder's pictures to an index, with the extractor it was made by."""
    from rerank_image.library import build

    _finish(build(folder, index_folder, None, threads=set_threads(threads)), index_folder, as_json)


@app.command()
def remove(
    index_folder: Annotated[Path, typer.Argument(metavar="INDEX")],
    paths: Annotated[list[Path], typer.Argument(help="Pictures or folders, as they were indexed.")],
    as_json: JsonFlag = False,
) -> None:
    """Take pictures out of an index; the files stay."""
    from rerank_image.library import take_out

    gone = take_out(index_folder, paths)
    if as_json:
        print_json({"removed": gone})
    else:
        print(f"removed {gone} pictures from {index_folder}", file=sys.stderr)
    if not gone:
        raise UsageError(f"nothing of {', '.join(map(str, paths))} is in {index_folder}")


def _finish(report: Any, where: Path, as_json: bool) -> None:
    from rerank_image.pictures import one_line

    for path, reason in report.skipped:
        print(f"skipped: {one_line(path)}: {' '.join(reason.split())}", file=sys.stderr)
    print(
        f"{report.added} added, {report.changed} changed, {report.unchanged} unchanged, {len(report.skipped)} skipped -> {where}",
        file=sys.stderr,
    )
    if as_json:
        print_json(report.as_dict())


@app.command()
def info(index_folder: Annotated[Path, typer.Argument(metavar="INDEX")]) -> None:
    """Show what an index holds and how it was made."""
    from rerank_image.index import open_index

    opened = open_index(index_folder)
    print_json(
        {"pictures": len(opened), "dims": opened.dims, **{k: v for k, v in opened.config.items() if k != "dims"}}
    )


@app.command()
def search(
    index_folder: Annotated[Path, typer.Argument(metavar="INDEX")],
    pictures: Annotated[list[Path], typer.Argument(help="Query pictures.")],
    top: TopOption = 400,
    method: MethodOption = "superglobal",
    show: Annotated[int, typer.Option("--show", min=0, help="Results to print a query; 0 = all reranked ones.")] = 0,
    fast: Annotated[
        bool, typer.Option("--fast", help="Approximate first stage (faiss scalar quantiser), rescored exactly.")
    ] = False,
    box: Annotated[str | None, typer.Option("--box", help="Cut the query first: x0,y0,x1,y1 in pixels.")] = None,
    explain_: Annotated[bool, typer.Option("--explain", help="Say which neighbours moved each result.")] = False,
    config: ConfigOption = None,
    threads: ThreadsOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Search an index with pictures and rerank what is found."""
    from rerank_image.library import search_pictures

    found = search_pictures(
        index_folder, pictures, top=top, method=method, fast=fast, box=box, explain=explain_,
        settings=settings(config), threads=set_threads(threads),
    )  # fmt: skip
    for result in found:
        if show:
            result["results"] = result["results"][:show]
    if as_json:
        print_json(found)
        return
    for result in found:
        print(f"# {result['query']}")
        for r in result["results"][: show or 20]:
            print(f"{r['rank']:>4} {r['score']:8.4f}  was {r['was']:>4}  {r['path']}")


@app.command()
def explain(
    index_folder: Annotated[Path, typer.Argument(metavar="INDEX")],
    picture: Annotated[Path, typer.Argument(help="Query picture.")],
    result: Annotated[Path, typer.Argument(help="A picture of the index whose rank is to be explained.")],
    top: TopOption = 400,
    config: ConfigOption = None,
    threads: ThreadsOption = 0,
    as_json: JsonFlag = False,
) -> None:
    """Say which neighbours moved a picture in SuperGlobal's ranking, and by how much."""
    from rerank_image.library import explain_picture

    answer = explain_picture(
        index_folder, picture, result, top=top, settings=settings(config), threads=set_threads(threads)
    )
    if as_json:
        print_json(answer)
        return
    print(
        f"{answer['path']}: rank {answer['was']} -> {answer['rank']}, score {answer['before']:.4f} -> {answer['score']:.4f}"
    )
    for n in answer["neighbours"]:
        print(
            f"  {n['contribution']:+.5f}  weight {n['weight']:.4f}  similarity to query {n['similarity']:.4f}  {n['path']}"
        )


@app.command()
def sheet(
    index_folder: Annotated[Path, typer.Argument(metavar="INDEX")],
    queries: Annotated[Path, typer.Option("--queries", help="Folder of query pictures, or one picture.")],
    out: OutOption,
    method: MethodOption = "superglobal",
    top: TopOption = 400,
    show: Annotated[int, typer.Option("--show", min=1, help="Results in a row.")] = 10,
    gnd: Annotated[Path | None, typer.Option("--gnd", help="Ground truth, for colours and query boxes.")] = None,
    config: ConfigOption = None,
    threads: ThreadsOption = 0,
) -> None:
    """Write a contact sheet: each query's results before and after reranking, in one HTML file."""
    from rerank_image.library import write_sheet

    n = write_sheet(
        index_folder, queries, out, method=method, top=top, show=show, gnd=gnd, settings=settings(config),
        threads=set_threads(threads),
    )  # fmt: skip
    print(f"{n} queries -> {out}", file=sys.stderr)


def main() -> None:
    """Run the command."""
    run(app)
