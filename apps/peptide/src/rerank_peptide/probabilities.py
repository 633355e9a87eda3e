"""From scores to probabilities: what calibration sees of a list, and the fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rerank_core.calibration import Isotonic, ece
from rerank_core.types import FloatArray


def confidence(scores: FloatArray) -> FloatArray:
    """What calibration sees of a list: each candidate's score and its lead over the best other, shape (n,).

    LambdaRank scores mean nothing by themselves but differences do, and a list with a clear winner is surer.
    """
    n = scores.size
    if n == 0:
        return scores
    best = float(scores.max())
    second = float(np.partition(scores, -2)[-2]) if n > 1 else best - 3.0
    rival = np.where(scores == best, second, best)
    return 0.35 * scores + (scores - rival)


def posterior(logits: FloatArray) -> FloatArray:
    """Return each candidate's share against the others and "none of these" at logit 0, shape (n,)."""
    if not logits.size:
        return logits
    top = max(float(logits.max()), 0.0)
    weight = np.exp(logits - top)
    return weight / (weight.sum() + np.exp(-top))


def calibrate(
    scores: Sequence[FloatArray],
    gains: Sequence[FloatArray],
    confidence: Callable[[FloatArray], FloatArray] = confidence,
) -> tuple[Isotonic, dict[str, float]]:
    """Fit probabilities on the top candidates' confidence; also return recall and the (in-sample) error."""
    tops = [int(np.argmax(s)) for s in scores]
    x = np.array([confidence(s)[t] for s, t in zip(scores, tops, strict=True)])
    y = np.array([g[t] for g, t in zip(gains, tops, strict=True)])
    # Other candidates anchor the low end: they are seldom right, and say so.
    rest = [
        (confidence(s)[i], g[i]) for s, g, t in zip(scores, gains, tops, strict=True) for i in range(len(s)) if i != t
    ]
    model = Isotonic.fit(np.concatenate([x, [a for a, _ in rest]]), np.concatenate([y, [b for _, b in rest]]))
    return model, {"top1": float(y.mean()), "ece_in_sample": ece(model.predict(x), y)}
