"""Write figures of valentine 1.0.1 on random result sets, for the test that our measures equal them.

Run in an environment that has ``valentine==1.0.1``: ``python benchmarks/schema_valentine_oracle.py OUT.json``.
"""

import json
import random
import sys
from pathlib import Path

from valentine.algorithms.match import ColumnPair
from valentine.algorithms.matcher_results import MatcherResults
from valentine.metrics import F1Score, MeanReciprocalRank, Precision, Recall, RecallAtSizeofGroundTruth


def case(rng: random.Random) -> dict:
    sources, targets = [f"s{i}" for i in range(rng.randint(1, 7))], [f"t{i}" for i in range(rng.randint(1, 9))]
    pairs = [(s, t) for s in sources for t in targets if rng.random() < rng.choice([0.0, 0.2, 0.6, 1.0])]
    # Distinct scores: how equal scores are ordered is no part of a definition.
    scores = rng.sample(range(1, 10_000), len(pairs))
    rows = [(s, t, score / 10_000) for (s, t), score in zip(pairs, scores, strict=True)]
    gold = [(rng.choice(sources), rng.choice(targets)) for _ in range(rng.randint(1, 6))]
    gold = list(dict.fromkeys(gold))
    result = MatcherResults({ColumnPair("a", s, "b", t): score for s, t, score in rows})
    metrics = [MeanReciprocalRank(), RecallAtSizeofGroundTruth(), Precision(), Recall(), F1Score()]
    found = {k: v for m in metrics for k, v in m.apply(result, gold).items()}
    return {"scores": rows, "gold": gold, "valentine": found}


if __name__ == "__main__":
    rng = random.Random(0)
    Path(sys.argv[1]).write_text(json.dumps([case(rng) for _ in range(60)]), encoding="utf-8")
