"""DynamicRetriever's output layer before and after training, on the embedded documentation sample:
``python benchmarks/passages_docids.py``. Prints MRR@10 with n and interval; training sees pieces of the pages, no query."""

from __future__ import annotations

from rerank_core.measures import evaluate, parse
from rerank_core.statistics import paired_bootstrap
from rerank_core.types import Candidate, Ranking, Request
from rerank_lm.encoders import StaticEncoder
from rerank_passages.docids import DocidParams, DocidRetriever, pieces
from rerank_passages.sample import documentation


def main() -> None:
    """Print both rows."""
    pages = documentation()
    texts = {p.id: p.text for p in pages}
    asked = pages[:: max(1, len(pages) // 300)][:300]
    encoder = StaticEncoder.load()
    dense = DocidRetriever.over_dense(texts, encoder)
    cut, targets = pieces(texts)
    trained = dense.fit(encoder.encode(cut), targets, DocidParams())
    vectors = encoder.encode([p.sentence for p in asked])
    gold = {p.id: {p.id: 1.0} for p in asked}
    values = {}
    for name, model in (("dense (OverDense start)", dense), ("trained on pieces", trained)):
        found = model.search(vectors, 10)
        requests = [
            Request(p.id, p.sentence, tuple(Candidate(i, "") for i, _ in f)) for p, f in zip(asked, found, strict=True)
        ]
        rankings = [Ranking.from_order(r, r.ids) for r in requests]
        (row,) = evaluate([parse("MRR@10")], gold, rankings, requests, system=name)
        values[name] = {q: v[0] for q, v in parse("MRR@10").rows(gold, {r.id: r for r in rankings}, {}).items()}
        print(
            f"{name:<26} MRR@10 {row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}] n={row.n} of {len(texts)} pages"
        )
    a, b = values.values()
    print("trained over dense: {:+.3f} [{:+.3f}, {:+.3f}] p={:.3f}".format(*paired_bootstrap(b, a, seed=0)))


if __name__ == "__main__":
    main()
