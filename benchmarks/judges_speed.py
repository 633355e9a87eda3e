"""Yes/no scoring against sentence-transformers on the same prompts, model and thread count; CPU seconds.

python benchmarks/judges_speed.py TREC_FOLDER --pairs 40
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from judges import RENDERING, trec

from rerank_core.strategies import Item, Pair


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--depth", type=int, default=20)
    args = parser.parse_args()
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
