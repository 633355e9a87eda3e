"""Encoders against sentence-transformers on the same weights and texts: ``python benchmarks/encoders.py [--pairs 200]``.

Texts are the embedded documentation sample's. Both sides run in one process, turn by turn, in fp32 and in the format that
``auto`` chooses; CPU-seconds count, since they do not depend on what else the machine does. Scores are compared as well.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rerank_lm.encoders import BiEncoder, CrossEncoder
from rerank_lm.models import resolve_model
from rerank_passages.domain import sample


def seconds(work: Callable[[], Any], turns: int = 3) -> tuple[float, Any]:
    """Return the least CPU-seconds of some turns, and the result."""
    best, out = np.inf, None
    for _ in range(turns):
        start = time.process_time()
        out = work()
        best = min(best, time.process_time() - start)
    return float(best), out


def main() -> None:
    """Print throughput and ratio."""
    import sentence_transformers as st
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--turns", type=int, default=2)
    args = parser.parse_args()
    pairs = [(r.query, c.content) for r in sample().requests for c in r.candidates][: args.pairs]
    texts = [t for _, t in pairs]
    cross = str(resolve_model("ms-marco-minilm-l12").folder())
    bi = str(resolve_model("all-minilm-l6-v2").folder())
    peer_cross = st.CrossEncoder(cross, device="cpu", activation_fn=torch.nn.Identity())  # logits, as ours
    peer_bi = st.SentenceTransformer(bi, device="cpu")
    rows: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = []
    for precision in ("fp32", "auto"):
        ours = CrossEncoder.load(precision=precision)  # type: ignore[arg-type]
        rows.append((f"cross-encoder {precision}", lambda m=ours: m.score(pairs), lambda: peer_cross.predict(pairs)))  # type: ignore[misc]
        vectors = BiEncoder.load(precision=precision)  # type: ignore[arg-type]
        rows.append((f"bi-encoder {precision}", lambda m=vectors: m.encode(texts), lambda: peer_bi.encode(texts)))  # type: ignore[misc]
    for name, mine, theirs in rows:
        a, x = seconds(mine, args.turns)
        b, y = seconds(theirs, args.turns)
        y = np.asarray(y)
        gap = np.abs(x - y).max() if np.shape(x) == np.shape(y) else np.nan
        print(
            f"{name:<20} ours {len(pairs) / a:6.1f}/CPU-s  sentence-transformers {len(pairs) / b:6.1f}/CPU-s (fp32)"
            f"  ratio {b / a:.2f}  largest difference {gap:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
