"""Yes/no scoring against sentence-transformers on the same prompts, model and thread count; CPU seconds.

    python benchmarks/judges_speed.py TREC_FOLDER --pairs 40
    python benchmarks/judges_speed.py TREC_FOLDER --icr

``--icr``: peak extra memory of one in-context ranking of 100 passages of about 60 tokens instead.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
from judges import RENDERING, trec

from rerank_core.strategies import Group, Item, Pair


def icr(folder: Path) -> None:
    import torch

    from rerank_lm.backends.local import LocalBackEnd
    from rerank_lm.judges.icr import Icr

    torch.set_num_threads(1)
    [request] = trec(folder, "bm25.top100.trec.gz", 100)[:1]
    items = [Item(" ".join(str(c.content).split()[:45]), c.id) for c in request.candidates]
    judge = Icr(LocalBackEnd("smollm2-135m-instruct", dtype="float32"))
    judge.score_groups([Group("q", (Item("a b c"), Item("d")))])
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    start = judge.cost.prompt_tokens
    judge.score_groups([Group(str(request.query), tuple(items))])
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    tokens = judge.cost.prompt_tokens - start
    print(f"{len(items)} passages, {tokens} tokens: {extra:.2f} GB more, {time.process_time() - begun:.0f} CPU-s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--icr", action="store_true")
    args = parser.parse_args()
    if args.icr:
        return icr(args.folder)
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder.modules import LogitScore, Transformer

    from rerank_lm.backends.local import LocalBackEnd
    from rerank_lm.judges.pointwise import YesNo

    torch.set_num_threads(1)
    requests = trec(args.folder, "bm25.top100.trec.gz", args.depth)
    pairs = [
        Pair(str(r.query), Item(str(c.content), c.id), RENDERING.instruction) for r in requests for c in r.candidates
    ][: args.pairs]
    backend = LocalBackEnd("smollm2-135m-instruct", dtype="float32")
    judge = YesNo(backend)
    texts = [backend.render(judge._prompt(p)) for p in pairs]
    yes, no = backend.token_ids(texts[0], ["Yes", "No"]) or (0, 0)
    peer = CrossEncoder(
        modules=[Transformer(backend._folder, transformer_task="text-generation"), LogitScore(yes, no)], device="cpu"
    )
    peer.tokenizer.padding_side = "left"

    def theirs(size: int) -> np.ndarray:
        out = []
        for start in range(0, len(texts), size):  # what its predict() does, given finished prompts
            part = texts[start : start + size]
            batch = peer.tokenizer(part, add_special_tokens=False, padding=True, return_tensors="pt")
            with torch.inference_mode():
                out.append(peer(dict(batch))["scores"].squeeze(1).float().numpy())
        return np.concatenate(out)

    def timed(run):
        begun = time.process_time()
        return run(), time.process_time() - begun

    judge.score(pairs[:2])
    mine, t_mine = timed(lambda: judge.score(pairs))
    backend.share_prefix = False
    _, t_plain = timed(lambda: judge.score(pairs))
    n = len(pairs)
    print("| | pairs/CPU-s | worst difference |\n|---|---|---|")
    print(f"| ours, prefix shared ({backend.prefix_tokens_saved} tokens saved) | {n / t_mine:.2f} | |", flush=True)
    print(f"| ours, no prefix | {n / t_plain:.2f} | |", flush=True)
    for size in (1, 32):
        values, seconds = timed(lambda size=size: theirs(size))
        print(
            f"| sentence-transformers, batch {size} | {n / seconds:.2f} | {np.abs(values - mine).max():.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
